"""Completes revisions: reads headers while a series still arrives, and fixes its instances when it is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from db import audit, revisions
from db.connect import Ledger
from db.revisions import Member, Receiving
from dicom_node.assemble.policy import TRANSITIONS, Complete, CompletedBy, RevisionFacts, decide
from dicom_node.headers import InstanceFacts, read_facts
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from dicom_node.stack import is_slice, stack_of
from dicom_node.telemetry import token
from pipelines.reasons import Reason, Refusal

AGAIN_AFTER_S = 30.0
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A revision as it was looked at, and when to look again if it has not changed by then."""

    revision: Receiving
    until: datetime


class AssembleStage:
    """Fits `loop.Stage`. What it remembers between calls only saves work: the ledger alone says what is to be done."""

    name = "assemble"

    def __init__(self, ledger: Ledger, spool: Spool, settings: Settings) -> None:
        self._ledger = ledger
        self._spool = spool
        self._settings = settings.assemble
        self._seen: dict[int, _Seen] = {}

    def claim(self, now: datetime) -> Receiving | None:
        """A revision that has changed since it was looked at, or whose time has come."""
        with self._ledger.read() as connection:
            receiving = revisions.receiving(connection)
        seen = {revision.revision_id: self._seen.get(revision.revision_id) for revision in receiving}
        self._seen = {revision_id: one for revision_id, one in seen.items() if one is not None}
        return next((revision for revision in receiving if _is_due(revision, seen[revision.revision_id], now)), None)

    def carry_out(self, work: Receiving, now: datetime) -> None:
        with self._ledger.read() as connection:
            held = revisions.members(connection, work.series_instance_uid, work.number)
        facts = _facts(work, self._read(held))
        limits = self._settings
        decision = decide(facts, now=now, quiet_time_s=limits.quiet_time_s, hard_limit_s=limits.hard_limit_s)
        if isinstance(decision, Complete):
            self._complete(work, held, decision.by, now)
        else:
            self._seen[work.revision_id] = _Seen(work, decision.until)

    def put_off(self, work: Receiving, reason: Reason, now: datetime) -> None:
        """It stays as it is and is tried again: images that are held must not be lost to a fault of the program."""
        log.error("assemble.put_off", series=token(work.series_instance_uid), reason=reason.code)
        self._seen[work.revision_id] = _Seen(work, now + timedelta(seconds=AGAIN_AFTER_S))

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002  the signature is the loop's
        return min((seen.until for seen in self._seen.values()), default=None)

    def _read(self, held: tuple[Member, ...]) -> list[InstanceFacts]:
        found = []
        for member in held:
            with suppress(Refusal):  # routing says what becomes of a series with unreadable instances
                found.append(read_facts(self._spool.path(member.file)))
        return found

    def _complete(self, work: Receiving, held: tuple[Member, ...], by: CompletedBy, now: datetime) -> None:
        with self._ledger.write() as connection:
            if len(revisions.members(connection, work.series_instance_uid, work.number)) != len(held):
                return  # more came meanwhile: it is looked at again at once
            state = TRANSITIONS[revisions.state_of(connection, work.revision_id), "complete"]
            revisions.complete(connection, work.revision_id, state=state, at=now, by=by, held=held)
            audit.append(
                connection,
                at=now,
                event="series.received",
                actor=self.name,
                study_instance_uid=work.study_instance_uid,
                facts={
                    "series_instance_uid": work.series_instance_uid,
                    "revision": work.number,
                    "instances": len(held),
                    "bytes": sum(member.size_bytes for member in held),
                    "digest": revisions.digest(held),
                    "calling_ae_titles": sorted({share.calling_ae_title for share in work.shares}),
                    "completed_by": by,
                },
            )
            for older_id, older_state in revisions.older(connection, work.series_instance_uid, work.number):
                superseded = TRANSITIONS[older_state, "supersede"]
                revisions.supersede(connection, older_id, state=superseded, by=work.revision_id)
                audit.append(
                    connection,
                    at=now,
                    event="series.superseded",
                    actor=self.name,
                    study_instance_uid=work.study_instance_uid,
                    facts={"series_instance_uid": work.series_instance_uid, "by_revision": work.number},
                )
        log.info("series.complete", series=token(work.series_instance_uid), instances=len(held), by=by)


def _is_due(revision: Receiving, seen: _Seen | None, now: datetime) -> bool:
    return seen is None or now >= seen.until or revision != seen.revision


def _facts(revision: Receiving, instances: list[InstanceFacts]) -> RevisionFacts:
    ends = [share.ended_at for share in revision.shares]
    last = None if None in ends else max(revision.shares, key=lambda share: share.ended_at or share.last_received_at)
    stack = stack_of(instances)
    sliced = any(is_slice(instance) and not instance.is_multi_frame for instance in instances)
    return RevisionFacts(
        first_received_at=min(share.first_received_at for share in revision.shares),
        last_received_at=max(share.last_received_at for share in revision.shares),
        ended_by=None if last is None else last.ended_by,
        is_whole=not sliced or stack is None or stack.is_whole,
        may_come_one_by_one=sliced and any(share.instance_count == 1 for share in revision.shares),
    )
