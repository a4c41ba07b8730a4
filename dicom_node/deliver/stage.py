"""Brings the objects of results to one destination and proves that they are there.

`sent` is recorded before the first byte leaves, the answer after it. Whoever finds `sent` after a crash asks the
destination first, where it can be asked, and sends only what is not there. Where it cannot be asked the object goes
out again: UIDs and bytes are the same, so that the destination still holds it once. Nothing is lost either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog

from db.connect import Ledger
from db.deliveries import Delivery
from dicom_node.clock import Clock
from dicom_node.deliver.catalogue import Answer, Parcel, Session, UnreachableError, catalogue
from dicom_node.deliver.outbox import Outbox
from dicom_node.deliver.policy import sending_rank
from dicom_node.settings import Settings
from dicom_node.spool import Spool, sha256_of
from pipelines.reasons import Reason

log = structlog.get_logger()


class DeliverStage:
    """All deliveries to one destination; one instance each, so that a dead destination holds up no other."""

    def __init__(self, destination: str, settings: Settings, ledger: Ledger, spool: Spool, clock: Clock) -> None:
        self.name = f"deliver.{destination}"
        self._destination = destination
        self._settings = settings.destinations[destination]
        self._ae_title = settings.node.ae_title
        self._spool = spool
        self._outbox = Outbox(destination, self._settings, ledger, clock)
        self._kind = catalogue()[self._settings.kind]
        self._told_that_it_cannot_be_asked = False

    def claim(self, now: datetime) -> tuple[Delivery, ...] | None:
        """What is due of one result; nobody else delivers to this destination."""
        return self._outbox.first(now) or None

    def carry_out(self, work: Sequence[Delivery], now: datetime) -> None:  # noqa: ARG002  sending takes time of its own
        work = self._outbox.take_out_unasked(work)
        lost = [one for one in work if one.state != "stored" and not self._is_whole(one)]
        if lost:
            self._outbox.lost(lost)
        work = [one for one in work if one not in lost]
        if not work:
            return
        parcels = [self._parcel(one) for one in work if one.state != "stored"]
        try:
            with self._kind.connect(self._destination, self._settings, self._ae_title, parcels) as session:
                self._exchange(session, work)
        except UnreachableError as error:
            self._outbox.unreachable(error.reason)

    def put_off(self, work: Sequence[Delivery], reason: Reason, now: datetime) -> None:  # noqa: ARG002
        self._outbox.interrupted({one.delivery_id for one in work}, reason)

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002
        return self._outbox.next_due()

    def _exchange(self, session: Session, work: Sequence[Delivery]) -> None:
        """Failures from here on are of this result only."""
        try:
            taken = self._send(session, self._not_there(session, work))
            self._confirm(session, [*(one for one in work if one.state == "stored"), *taken])
        except UnreachableError as error:
            self._outbox.interrupted({one.delivery_id for one in work}, error.reason)

    def _not_there(self, session: Session, work: Sequence[Delivery]) -> list[Delivery]:
        """What never left, and what left without an answer, unless the destination shows it."""
        seen = [one for one in work if one.state == "sent" and session.find(self._parcel(one)) == "found"]
        if seen:
            self._outbox.found(seen)
        return [one for one in work if one.state != "stored" and one not in seen]

    def _send(self, session: Session, to_send: Sequence[Delivery]) -> list[Delivery]:
        """Give what was accepted. What it broke off at before goes last, and so keeps back nothing else."""
        ordered = sorted(to_send, key=lambda one: (one.state == "sent", sending_rank(one.sop_class_uid)))
        if not ordered:
            return []
        leaving = self._outbox.sending(ordered)
        answers: list[tuple[Delivery, Answer]] = []
        try:
            for one in leaving:
                answers.append((one, session.store(self._parcel(one))))  # noqa: PERF401  each must stand when the next raises
        finally:
            accepted = self._outbox.answered(answers, not_tried=leaving[len(answers) + 1 :])
        return accepted

    def _confirm(self, session: Session, stored: Sequence[Delivery]) -> None:
        """Ask for what was accepted and is to be confirmed."""
        asked = [one for one in stored if one.next_attempt_at is not None]
        presence = [(one, session.find(self._parcel(one))) for one in asked]
        for answer, record in (
            ("found", self._outbox.found),
            ("absent", self._outbox.not_shown),
            ("cannot_tell", self._outbox.cannot_tell),
        ):
            if answered := [one for one, seen in presence if seen == answer]:
                record(answered)
        self._tell_once(any(seen == "cannot_tell" for _, seen in presence))

    def _tell_once(self, cannot_be_asked: bool) -> None:
        if cannot_be_asked and not self._told_that_it_cannot_be_asked:
            self._told_that_it_cannot_be_asked = True
            log.warning("deliver.cannot_confirm", destination=self._destination)

    def _is_whole(self, one: Delivery) -> bool:
        try:
            return sha256_of(self._spool.path(one.file)) == one.sha256
        except OSError:
            return False

    def _parcel(self, one: Delivery) -> Parcel:
        return Parcel(
            self._spool.path(one.file),
            one.sop_class_uid,
            one.sop_instance_uid,
            one.series_instance_uid,
            one.study_instance_uid,
        )
