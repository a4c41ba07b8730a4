"""Records what became of deliveries to one destination: state, words of the destination, audit, next attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog
from sqlalchemy import Connection

from db import audit, deliveries
from db.connect import Ledger
from db.deliveries import Delivery
from dicom_node.backoff import Patience
from dicom_node.clock import Clock
from dicom_node.deliver.catalogue import Answer
from dicom_node.deliver.policy import Event, GiveUp, after_declined, after_failure, follow, not_asked_for
from dicom_node.settings import Destination
from dicom_node.telemetry import token
from pipelines.reasons import Reason

log = structlog.get_logger()


class Outbox:
    """The rows of one destination. Every method is one transaction and tells the audit trail what is final in it."""

    def __init__(self, destination: str, settings: Destination, ledger: Ledger, clock: Clock) -> None:
        self._destination = destination
        self._confirms = settings.confirm == "find"
        self._accepts = settings.accepts
        self._patience = Patience(settings.retry_s, settings.retry_limit_s, settings.give_up_after_h)
        self._ledger = ledger
        self._clock = clock

    def first(self, now: datetime) -> tuple[Delivery, ...]:
        """What is due of the one result that goes first."""
        with self._ledger.read() as connection:
            return deliveries.due_of_first_result(connection, self._destination, now)

    def next_due(self) -> datetime | None:
        with self._ledger.read() as connection:
            return deliveries.next_due(connection, self._destination)

    def take_out_unasked(self, due: Iterable[Delivery]) -> list[Delivery]:
        """What is left to deliver; what the destination is configured to do without is recorded as not sent."""
        left: list[Delivery] = []
        unasked: list[tuple[Delivery, Reason]] = []
        for one in due:
            reason = not_asked_for(self._destination, self._accepts, one.kind) if one.state == "pending" else None
            if reason is None:
                left.append(one)
            else:
                unasked.append((one, reason))
        if unasked:
            now = self._clock()
            with self._ledger.write() as connection:
                for one, reason in unasked:
                    self._follow(connection, one, "declined", now, values={"comment": reason.text}, reason=reason)
        return left

    def sending(self, leaving: Iterable[Delivery]) -> list[Delivery]:
        """These are about to leave. The destination answers, so that what waited for that is due as well."""
        now = self._clock()
        with self._ledger.write() as connection:
            deliveries.bring_forward(connection, self._destination, now)
            return [self._follow(connection, one, "sending", now) for one in leaving]

    def answered(self, answers: Iterable[tuple[Delivery, Answer]], not_tried: Iterable[Delivery]) -> list[Delivery]:
        """What the destination said, and what was not handed to it after all. Gives what it accepted."""
        now = self._clock()
        with self._ledger.write() as connection:
            after = [self._answer(connection, one, answer, now) for one, answer in answers]
            for one in not_tried:
                self._follow(connection, one, "put_back", now)
        return [one for one in after if one.state == "stored"]

    def found(self, seen: Iterable[Delivery]) -> None:
        """The destination shows these."""
        now = self._clock()
        with self._ledger.write() as connection:
            for one in seen:
                values = {"confirmed_at": now, "stored_at": one.stored_at or now, "reason": None}
                self._follow(connection, one, "found", now, values=values)

    def cannot_tell(self, stored: Iterable[Delivery]) -> None:
        """The destination accepted these and answers no queries: they stay `stored`."""
        with self._ledger.write() as connection:
            for one in stored:
                comment = one.comment or "accepted; it answers no queries, so it is not confirmed"
                deliveries.change(connection, one.delivery_id, next_attempt_at=None, comment=comment, reason=None)

    def not_shown(self, stored: Iterable[Delivery]) -> None:
        """The destination accepted these but does not show them yet."""
        now = self._clock()
        comment = "accepted, but not found when it was asked"
        with self._ledger.write() as connection:
            for one in stored:
                self._fail(connection, one, None, now, {"attempts": one.attempts + 1, "comment": comment})

    def lost(self, without_file: Iterable[Delivery]) -> None:
        """The files of these are gone or were changed."""
        now = self._clock()
        with self._ledger.write() as connection:
            for one in without_file:
                reason = Reason("engine.source_file_lost")
                self._follow(connection, one, "refused", now, values={"comment": reason.text}, reason=reason)

    def unreachable(self, reason: Reason) -> None:
        """Everything that would be tried before the next attempt waits for it: one dead destination, one attempt."""
        now = self._clock()
        with self._ledger.write() as connection:
            attempts = _attempts_of(deliveries.due(connection, self._destination, now))
            wait = self._patience.wait_after(attempts)
            held_up = deliveries.due(connection, self._destination, now + wait)
            self._fail_all(connection, held_up, reason, attempts, now)
        log.warning("deliver.unreachable", destination=self._destination, reason=reason.code, text=reason.text)

    def interrupted(self, delivery_ids: Collection[int], reason: Reason) -> None:
        """These failed in a way that may concern only them."""
        now = self._clock()
        with self._ledger.write() as connection:
            due = deliveries.due(connection, self._destination, now)
            still_open = [one for one in due if one.delivery_id in delivery_ids]
            self._fail_all(connection, still_open, reason, _attempts_of(still_open), now)
        log.warning("deliver.interrupted", destination=self._destination, reason=reason.code, text=reason.text)

    def _answer(self, connection: Connection, one: Delivery, answer: Answer, now: datetime) -> Delivery:
        words = {"status": answer.status, "comment": answer.comment, "attempts": one.attempts + 1}
        if answer.verdict == "accepted":
            due = now if self._confirms else None
            values = words | {"stored_at": now, "next_attempt_at": due, "reason": None}
            return self._follow(connection, one, "accepted", now, values=values)
        if answer.verdict == "declined":
            event, reason = after_declined(self._destination, self._accepts, one.kind)
            return self._follow(connection, one, event, now, values=words, reason=reason)
        reason = self._reason(one, answer)
        if answer.verdict == "refused":
            return self._follow(connection, one, "refused", now, values=words, reason=reason)
        return self._fail(connection, self._follow(connection, one, "put_back", now), reason, now, words)

    def _reason(self, one: Delivery, answer: Answer) -> Reason:
        if answer.status is None:
            return Reason("deliver.class_not_accepted", {"destination": self._destination, "kind": one.kind})
        code = "deliver.busy" if answer.verdict == "busy" else "deliver.refused"
        status, comment = f"{answer.status:04X}", answer.comment or "no comment"
        return Reason(code, {"destination": self._destination, "status": status, "comment": comment})

    def _fail_all(
        self, connection: Connection, failed: Iterable[Delivery], reason: Reason, attempts: int, now: datetime
    ) -> None:
        for one in failed:
            status = one.status if one.state == "stored" else None
            values = {"attempts": attempts, "status": status, "comment": reason.text}
            self._fail(connection, one, reason, now, values)

    def _fail(
        self, connection: Connection, one: Delivery, reason: Reason | None, now: datetime, values: Mapping[str, Any]
    ) -> Delivery:
        decision = after_failure(
            destination=self._destination,
            accepted=one.state == "stored",
            attempts=values["attempts"],
            created_at=one.created_at,
            now=now,
            patience=self._patience,
        )
        if isinstance(decision, GiveUp):
            return self._follow(connection, one, "expired", now, values=values, reason=decision.reason)
        told = None if reason is None else reason.as_json()
        deliveries.change(connection, one.delivery_id, **values, reason=told, next_attempt_at=decision.at)
        return one

    def _follow(
        self,
        connection: Connection,
        one: Delivery,
        event: Event,
        now: datetime,
        *,
        values: Mapping[str, Any] = MappingProxyType({}),
        reason: Reason | None = None,
    ) -> Delivery:
        state = follow(one.state, event)
        changed: dict[str, Any] = {**values, "state": state}
        if reason is not None:
            changed["reason"] = reason.as_json()
        if state in ("confirmed", "refused", "given_up", "not_sent"):
            changed["next_attempt_at"] = None
        deliveries.change(connection, one.delivery_id, **changed)
        after = replace(one, **changed)
        if state not in ("pending", "sent"):
            self._tell(connection, after, reason, now)
        return after

    def _tell(self, connection: Connection, one: Delivery, reason: Reason | None, now: datetime) -> None:
        facts = {
            "destination": self._destination,
            "kind": one.kind,
            "sop_class_uid": one.sop_class_uid,
            "sop_instance_uid": one.sop_instance_uid,
            "sha256": one.sha256,
            "status": one.status,
            "reason": None if reason is None else reason.code,
        }
        audit.append(
            connection,
            at=now,
            event=f"delivery.{one.state}",
            actor=f"deliver.{self._destination}",
            study_instance_uid=one.study_instance_uid,
            outcome=0 if reason is None else reason.row.audit_outcome,
            facts={key: value for key, value in facts.items() if value is not None},
        )
        study = token(one.study_instance_uid)
        tell = log.info if reason is None or one.state == "not_sent" else log.warning
        tell(f"delivery.{one.state}", destination=self._destination, kind=one.kind, study=study)


def _attempts_of(failed: Sequence[Delivery]) -> int:
    """What fails together is counted together, so that it comes due together."""
    return 1 + max((one.attempts for one in failed), default=0)
