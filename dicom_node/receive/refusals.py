"""Says in log and audit trail who was turned away and what was not taken; a flood of one kind once a minute."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from db import audit
from db.associations import Association
from db.connect import LedgerError
from dicom_node.clock import Clock
from dicom_node.receive.group_commit import GroupCommit
from pipelines.reasons import Reason

log = structlog.get_logger()

SAY_AGAIN_AFTER = timedelta(minutes=1)


class Refusals:
    """The refusals of one receiving process."""

    def __init__(self, commits: GroupCommit, receiver: str, clock: Clock) -> None:
        self._commits = commits
        self._receiver = receiver
        self._clock = clock
        self._said: dict[str, datetime] = {}
        self._mutex = threading.Lock()

    def rejected(self, calling_ae_title: str, peer_address: str, reason: Reason) -> None:
        """A caller was turned away."""
        facts = {"reason": reason.code, "calling_ae_title": calling_ae_title, "peer_address": peer_address}
        self._say("association.rejected", reason, facts, f"{calling_ae_title} {peer_address}")

    def refused(self, association: Association, reason: Reason) -> None:
        """An instance was not taken, and nothing of it was kept."""
        self._say("instance.refused", reason, self._facts(association, reason), association.calling_ae_title)

    def record_kept(self, connection: Connection, association: Association, reason: Reason) -> None:
        """An instance was put in quarantine: say so, in the transaction that enters it there."""
        facts = self._facts(association, reason)
        log.warning("instance.refused", **facts)
        self._append(connection, "instance.refused", reason, facts)

    @staticmethod
    def _facts(association: Association, reason: Reason) -> Mapping[str, str]:
        return {
            "reason": reason.code,
            "calling_ae_title": association.calling_ae_title,
            "association_id": association.association_id,
        }

    def _say(self, event: str, reason: Reason, facts: Mapping[str, str], source: str) -> None:
        if not self._is_news(f"{reason.code} {source}"):
            return
        log.warning(event, **facts)
        try:
            self._commits.submit(lambda connection: self._append(connection, event, reason, facts))
        except LedgerError as error:
            log.error("ledger.unavailable", error=str(error))

    def _append(self, connection: Connection, event: str, reason: Reason, facts: Mapping[str, str]) -> None:
        outcome = reason.row.audit_outcome
        audit.append(connection, at=self._clock(), event=event, actor=self._receiver, outcome=outcome, facts=facts)

    def _is_news(self, subject: str) -> bool:
        now = self._clock()
        with self._mutex:
            self._said = {known: at for known, at in self._said.items() if now - at < SAY_AGAIN_AFTER}
            if subject in self._said:
                return False
            self._said[subject] = now
            return True
