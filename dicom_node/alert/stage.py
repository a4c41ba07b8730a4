"""Raises an alert for each result that a rule asks for, and sends it until every channel of the rule has taken it.

A message leaves before it can be recorded as taken: a crash in between may repeat it, but never lose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection

from db import alerts, audit
from db.alerts import Alert, NewResult
from db.connect import Ledger
from dicom_node.alert.catalogue import ChannelError, Message, RuleChannel, open_channels
from dicom_node.alert.message import Patient, Told, compose
from dicom_node.alert.policy import (
    EarlierAlert,
    Facts,
    Raise,
    Rule,
    decide,
    follow,
    lung_rads_of,
)
from dicom_node.backoff import Patience
from dicom_node.clock import Clock
from dicom_node.settings import PRIORITIES, Settings
from dicom_node.telemetry import token
from pipelines.reasons import Reason

log = structlog.get_logger()

CONSIDER_AGAIN_AFTER = timedelta(seconds=10)


class RaiseStage:
    """Asks every rule about each new result."""

    name = "alert.raise"

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._rules = {
            name: Rule(rule.pipelines, rule.statuses, rule.minimum_score, rule.lung_rads_from)
            for name, rule in settings.alerts.items()
        }
        self._ledger = ledger
        self._held: dict[int, datetime] = {}

    def claim(self, now: datetime) -> NewResult | None:
        with self._ledger.read() as connection:
            new = alerts.not_considered(connection)
        return next((one for one in new if self._held.get(one.result_id, now) <= now), None)

    def carry_out(self, work: NewResult, now: datetime) -> None:
        with self._ledger.write() as connection:
            for rule in self._rules:
                self._consider(connection, work, rule, now)
            alerts.mark_considered(connection, work.result_id, now)
        self._held.pop(work.result_id, None)

    def put_off(self, work: NewResult, reason: Reason, now: datetime) -> None:
        """Only this process remembers: after a restart the result is simply asked about again."""
        self._held[work.result_id] = now + CONSIDER_AGAIN_AFTER
        log.error("alert.not_considered", study=token(work.study_instance_uid), reason=reason.code)

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002
        return min(self._held.values(), default=None)

    def _consider(self, connection: Connection, result: NewResult, rule: str, now: datetime) -> None:
        study = result.study_instance_uid
        before = alerts.earlier(connection, study_instance_uid=study, rule=rule, pipeline=result.pipeline)
        earlier = tuple(EarlierAlert(one.state, one.status, lung_rads_of(one.outcome)) for one in before)
        facts = Facts(
            result.pipeline, result.status, result.score, result.is_superseded, earlier, lung_rads_of(result.outcome)
        )
        decision = decide(facts, self._rules[rule])
        told = {"rule": rule, "result_id": result.result_id, "pipeline": result.pipeline, "status": result.status}
        if isinstance(decision, Raise):
            alert_id = alerts.add(
                connection, result_id=result.result_id, study_instance_uid=study, rule=rule, raised_at=now
            )
            self._tell(connection, "alert.raised", study, now, told | {"alert_id": alert_id, "score": result.score})
        elif decision.is_for_rule:
            self._tell(connection, "alert.not_raised", study, now, told | {"reason": decision.reason.code})

    def _tell(self, connection: Connection, event: str, study: str, now: datetime, facts: dict[str, object]) -> None:
        audit.append(connection, at=now, event=event, actor=self.name, study_instance_uid=study, facts=facts)
        log.info(event, study=token(study), rule=facts["rule"])


class AlertStage:
    """Sends the alerts of one rule; one instance each, so that a channel that hangs delays no other rule."""

    def __init__(self, rule: str, settings: Settings, ledger: Ledger, clock: Clock) -> None:
        self.name = f"alert.{rule}"
        self._rule = rule
        self._settings = settings.alerts[rule]
        self._ae_title = settings.node.ae_title
        self._ledger = ledger
        self._spool = settings.node.spool
        self._clock = clock
        self._channels = open_channels(url.get_secret_value() for url in self._settings.channels)
        self._patience = Patience(self._settings.retry_s, self._settings.retry_limit_s, self._settings.give_up_after_h)

    def claim(self, now: datetime) -> Alert | None:
        with self._ledger.read() as connection:
            return alerts.first_due(connection, self._rule, now)

    def carry_out(self, work: Alert, now: datetime) -> None:
        with self._ledger.write() as connection:
            taken = {one.channel for one in alerts.events_of(connection, work.alert_id) if one.event == "taken"}
            missing = [channel for channel in self._channels if channel.name not in taken]
            for channel in missing:
                alerts.add_event(connection, work.alert_id, at=now, event="sending", channel=channel.name)
        failures = self._send(missing, self._message(work), work) if missing else []
        if failures:
            self.put_off(work, failures[0], self._clock())
            return
        with self._ledger.write() as connection:
            alerts.change(connection, work.alert_id, next_attempt_at=None, reason=None, attempts=work.attempts + 1)

    def put_off(self, work: Alert, reason: Reason, now: datetime) -> None:
        attempts = work.attempts + 1
        due = self._patience.next_attempt(attempts=attempts, since=work.raised_at, now=now)
        with self._ledger.write() as connection:
            if due is None:
                self._give_up(connection, work, reason, now)
            told = reason.as_json()
            alerts.change(connection, work.alert_id, attempts=attempts, next_attempt_at=due, reason=told)
        log.warning("alert.not_taken", rule=self._rule, attempts=attempts, reason=reason.code, text=reason.text)

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002
        with self._ledger.read() as connection:
            return alerts.next_due(connection, self._rule)

    def _send(self, missing: Sequence[RuleChannel], message: Message, alert: Alert) -> list[Reason]:
        """All at once: an urgent message does not queue behind a channel that hangs. Gives the failures."""
        with ThreadPoolExecutor(len(missing), thread_name_prefix=self.name) as pool:
            sending = {pool.submit(channel.send, message): channel.name for channel in missing}
            reasons = [self._record(alert, sending[sent], sent) for sent in as_completed(sending)]
        return [reason for reason in reasons if reason is not None]

    def _record(self, alert: Alert, channel: str, sent: Future[None]) -> Reason | None:
        try:
            sent.result()
        except ChannelError as error:
            self._failed(alert, channel, error.reason)
            return error.reason
        self._taken(alert, channel)
        return None

    def _taken(self, alert: Alert, channel: str) -> None:
        now = self._clock()
        with self._ledger.write() as connection:
            current = alerts.find_alert(connection, alert.alert_id) or alert
            state = follow(current.state, "taken")
            alerts.add_event(connection, alert.alert_id, at=now, event="taken", channel=channel)
            alerts.change(connection, alert.alert_id, state=state, delivered_at=current.delivered_at or now)
            self._tell(connection, "alert.delivered", alert, now, {"channel": channel})
        log.info("alert.delivered", study=token(alert.study_instance_uid), rule=self._rule, channel=channel)

    def _failed(self, alert: Alert, channel: str, reason: Reason) -> None:
        now = self._clock()
        with self._ledger.write() as connection:
            alerts.add_event(connection, alert.alert_id, at=now, event="failed", channel=channel, detail=reason.text)

    def _give_up(self, connection: Connection, alert: Alert, reason: Reason, now: datetime) -> None:
        current = alerts.find_alert(connection, alert.alert_id) or alert
        state = follow(current.state, "expired")
        alerts.change(connection, alert.alert_id, state=state)
        facts = {"state": state, "reason": reason.code, "text": reason.text}
        self._tell(connection, "alert.failed", alert, now, facts, outcome=reason.row.audit_outcome)

    def _tell(
        self,
        connection: Connection,
        event: str,
        alert: Alert,
        now: datetime,
        facts: Mapping[str, object],
        *,
        outcome: int = 0,
    ) -> None:
        audit.append(
            connection,
            at=now,
            event=event,
            actor=self.name,
            study_instance_uid=alert.study_instance_uid,
            outcome=outcome,
            facts={"alert_id": alert.alert_id, "rule": self._rule, **facts},
        )

    def _message(self, alert: Alert) -> Message:
        patient = Patient(alert.patient_name, alert.patient_id, alert.accession_number)
        told = Told(
            study_token=token(alert.study_instance_uid),
            pipeline=alert.pipeline,
            priority=PRIORITIES[alert.priority],
            status=alert.status,
            score=alert.score,
            outcome=alert.outcome,
            key_slices=dict(self._key_slices(alert)),
            recorded_at=alert.recorded_at,
            ae_title=self._ae_title,
            patient=patient if self._settings.patient_data else None,
        )
        return compose(told)

    def _key_slices(self, alert: Alert) -> Iterator[tuple[str, int]]:
        """The InstanceNumber of each key image, which is what a reader sees beside it."""
        uids = [finding["key_instance_uid"] for finding in alert.outcome.get("findings", ())]
        with self._ledger.read() as connection:
            files = {uid: alerts.file_of_instance(connection, uid) for uid in uids}
        for uid, file in files.items():
            if file is not None and (number := _instance_number(self._spool / file)) is not None:
                yield uid, number


def _instance_number(path: Path) -> int | None:
    """None where the file does not say: an alert goes out without it rather than not at all."""
    try:
        number = dcmread(path, stop_before_pixels=True, specific_tags=["InstanceNumber"]).get("InstanceNumber")
        return None if number is None else int(number)
    except (OSError, InvalidDicomError, ValueError):
        return None
