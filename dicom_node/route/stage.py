"""Decides which series of a study are read, study by study, and asks for the reading in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection

from db import audit, decisions, jobs, revisions
from db.connect import Ledger
from db.revisions import NewestRevision
from dicom_node.route.look import look
from dicom_node.route.policy import priority_number
from dicom_node.route.series_selection import Candidate, Choice, Standing, select
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from dicom_node.telemetry import token
from pipelines.reasons import Reason, Refusal

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Study:
    """A study with something to decide on, and the newest revision of each of its series."""

    study_instance_uid: str
    newest: tuple[NewestRevision, ...]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is to be recorded on one revision; a `choice` without a reason is read."""

    revision: NewestRevision
    choice: Choice | None
    reason: Reason | None


class RouteStage:
    """Fits `loop.Stage`. It waits only for a series that still arrives and may turn out to be the better one."""

    name = "route"

    def __init__(self, ledger: Ledger, spool: Spool, settings: Settings) -> None:
        self._ledger = ledger
        self._spool = spool
        self._settings = settings
        self._waiting: dict[str, tuple[NewestRevision, ...]] = {}

    def claim(self, now: datetime) -> Study | None:  # noqa: ARG002  the signature is the loop's
        """A study with an undecided revision that has changed since nothing could be decided on it."""
        with self._ledger.read() as connection:
            studies = revisions.studies_to_route(connection)
            self._waiting = {uid: seen for uid, seen in self._waiting.items() if uid in studies}
            for uid in studies:
                newest = revisions.newest(connection, uid)
                if self._waiting.get(uid) != newest:
                    return Study(uid, newest)
        return None

    def carry_out(self, work: Study, now: datetime) -> None:
        candidates: dict[str, Candidate] = {}
        verdicts: list[_Verdict] = []
        for revision in work.newest:
            standing = _standing(revision)
            if standing is None:
                continue
            try:
                candidates[revision.series_instance_uid] = self._look(revision, standing)
            except Refusal as refusal:
                if standing == "undecided":
                    verdicts.append(_Verdict(revision, None, refusal.reason))
        of_series = {revision.series_instance_uid: revision for revision in work.newest}
        by_candidate = {id(candidate): of_series[uid] for uid, candidate in candidates.items()}
        verdicts += [
            _Verdict(by_candidate[id(choice.candidate)], choice, choice.reason)
            for choice in select(tuple(candidates.values()))
        ]
        if verdicts:
            self._record(work.study_instance_uid, verdicts, now)
        else:
            self._waiting[work.study_instance_uid] = work.newest

    def put_off(self, work: Study, reason: Reason, now: datetime) -> None:
        """What cannot be decided is not read, and says so: it would fail again, and nobody would hear of it."""
        self._waiting[work.study_instance_uid] = work.newest
        undecided = [revision for revision in work.newest if _standing(revision) == "undecided"]
        self._record(work.study_instance_uid, [_Verdict(revision, None, reason) for revision in undecided], now)

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002  the signature is the loop's
        return None  # it waits for other series, never for time: assembling bounds how long they take

    def _look(self, revision: NewestRevision, standing: Standing) -> Candidate:
        with self._ledger.read() as connection:
            held = revisions.members(connection, revision.series_instance_uid, revision.number)
            is_own_result = decisions.holds_own_results(connection, revision.series_instance_uid)
        if standing == "receiving":
            held = (min(held, key=lambda member: member.instance_id),)
        paths = [self._spool.path(member.file) for member in held]
        return look(paths, self._settings.routes, standing, is_own_result=is_own_result)

    def _record(self, study_instance_uid: str, verdicts: list[_Verdict], now: datetime) -> None:
        with self._ledger.write() as connection:
            for verdict in verdicts:
                if revisions.state_of(connection, verdict.revision.revision_id) == "complete":  # not superseded since
                    self._enter(connection, study_instance_uid, verdict, now)
        for verdict in verdicts:
            told = verdict.reason.code if verdict.reason else "read"
            log.info("series.decided", series=token(verdict.revision.series_instance_uid), decision=told)

    def _enter(self, connection: Connection, study_instance_uid: str, verdict: _Verdict, now: datetime) -> None:
        revision, choice, reason = verdict.revision, verdict.choice, verdict.reason
        route = choice.candidate.route if choice else None
        action = "read" if reason is None else "ignored" if choice else "not_read"
        rule, pipeline = (route.rule, route.pipeline) if route else (None, None)
        decisions.enter_decision(
            connection,
            revision_id=revision.revision_id,
            action=action,
            rule=rule,
            pipeline=pipeline,
            reason=reason.as_json() if reason else None,
            facts=_facts(choice),
            configuration_hash=self._settings.hash(),
            decided_at=now,
        )
        if action == "read" and route is not None:
            number = priority_number(route.priority)
            jobs.enqueue(
                connection, revision_id=revision.revision_id, pipeline=route.pipeline, priority=number, now=now
            )
        audit.append(
            connection,
            at=now,
            event="decision.made",
            actor=self.name,
            study_instance_uid=study_instance_uid,
            outcome=reason.row.audit_outcome if reason else 0,
            facts={
                "series_instance_uid": revision.series_instance_uid,
                "revision": revision.number,
                "action": action,
                "rule": rule,
                "pipeline": pipeline,
                "reason": reason.code if reason else None,
                "instead_of": choice.instead_of if choice else (),
            },
        )


def _standing(revision: NewestRevision) -> Standing | None:
    """Where the series stands; None when it is settled and competes with nothing."""
    if revision.state == "receiving":
        return "receiving"
    if revision.action is None:
        return "undecided"
    return "read" if revision.action == "read" else None


def _facts(choice: Choice | None) -> Mapping[str, object]:
    if choice is None:
        return {}
    return {
        "series": asdict(choice.candidate.series),
        "rules": [asdict(evaluation) for evaluation in choice.candidate.evaluations],
        "instead_of": choice.instead_of,
    }
