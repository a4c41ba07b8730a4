"""Decides which series of a study are read, study by study, and asks for the readings in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from db import audit, decisions, jobs, revisions, studies
from db.connect import Ledger
from db.revisions import NewestRevision
from dicom_node.route.look import look
from dicom_node.route.policy import priority_number
from dicom_node.route.series_selection import Arrival, Candidate, Choice, Standing, select
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from dicom_node.telemetry import token
from pipelines.catalogue import study_pipelines
from pipelines.reasons import Reason, Refusal

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Study:
    """A study with something to decide on, the newest revision of each of its series, and when its last image came."""

    study_instance_uid: str
    newest: tuple[NewestRevision, ...]
    last_received_at: datetime


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A study of which nothing could be decided, and when time alone may change that."""

    newest: tuple[NewestRevision, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What is to be recorded on one revision; a `choice` without a reason is read, `together` with other revisions."""

    revision: NewestRevision
    choice: Choice | None
    reason: Reason | None
    together: tuple[NewestRevision, ...] = ()


class RouteStage:
    """Fits `loop.Stage`. It waits for a series that still arrives and may turn out to be the better one, and for the
    rest of a study that is read as one.
    """

    name = "route"

    def __init__(self, ledger: Ledger, spool: Spool, settings: Settings) -> None:
        self._ledger = ledger
        self._spool = spool
        self._settings = settings
        self._waiting: dict[str, _Waiting] = {}

    def claim(self, now: datetime) -> Study | None:
        """A study with an undecided revision that has changed, or waited long enough, since it could not be decided."""
        with self._ledger.read() as connection:
            undecided = revisions.studies_to_route(connection)
            self._waiting = {uid: seen for uid, seen in self._waiting.items() if uid in undecided}
            for uid in undecided:
                newest = revisions.newest(connection, uid)
                seen = self._waiting.get(uid)
                if seen is None or seen.newest != newest or (seen.until is not None and now >= seen.until):
                    return Study(uid, newest, studies.last_received_at(connection, uid))
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
        arrival, until = self._arrival(work, now)
        choices = select(tuple(candidates.values()), whole_studies=study_pipelines(), arrival=arrival)
        verdicts += [
            _Verdict(
                by_candidate[id(choice.candidate)],
                choice,
                choice.reason,
                tuple(by_candidate[id(other)] for other in choice.together),
            )
            for choice in choices
        ]
        if verdicts:
            self._record(work.study_instance_uid, verdicts, now)
        else:
            self._waiting[work.study_instance_uid] = _Waiting(work.newest, until)

    def put_off(self, work: Study, reason: Reason, now: datetime) -> None:
        """What cannot be decided is not read, and says so: it would fail again, and nobody would hear of it."""
        self._waiting[work.study_instance_uid] = _Waiting(work.newest, None)
        undecided = [revision for revision in work.newest if _standing(revision) == "undecided"]
        self._record(work.study_instance_uid, [_Verdict(revision, None, reason) for revision in undecided], now)

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002  the signature is the loop's
        return min((seen.until for seen in self._waiting.values() if seen.until is not None), default=None)

    def _arrival(self, work: Study, now: datetime) -> tuple[Arrival, datetime | None]:
        """Whether more of the study is to be expected, and when that will be looked at otherwise."""
        limits = self._settings.assemble
        since = min(one.undecided_since for one in work.newest if one.undecided_since)
        quiet_at = work.last_received_at + timedelta(seconds=limits.study_quiet_s)
        overdue_at = since + timedelta(seconds=limits.hard_limit_s)
        if now >= overdue_at:
            return "overdue", None
        return ("quiet", overdue_at) if now >= quiet_at else ("going_on", min(quiet_at, overdue_at))

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
            verdicts = [verdict for verdict in verdicts if _stands(connection, verdict)]
            for verdict in verdicts:
                self._enter(connection, study_instance_uid, verdict, now)
            self._ask_for_readings(connection, [verdict for verdict in verdicts if verdict.reason is None], now)
        for verdict in verdicts:
            told = verdict.reason.code if verdict.reason else "read"
            log.info("series.decided", series=token(verdict.revision.series_instance_uid), decision=told)

    def _enter(self, connection: Connection, study_instance_uid: str, verdict: _Verdict, now: datetime) -> None:
        revision, choice, reason = verdict.revision, verdict.choice, verdict.reason
        route = choice.candidate.route if choice else None
        action = choice.action if choice else "not_read"
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
                "together_with": choice.together_with if choice else (),
            },
        )

    def _ask_for_readings(self, connection: Connection, read: Iterable[_Verdict], now: datetime) -> None:
        """One reading for each series, or for all that are read together, with the highest priority of the new ones."""
        readings: dict[frozenset[int], list[_Verdict]] = {}
        for verdict in read:
            own = {verdict.revision.revision_id, *(other.revision_id for other in verdict.together)}
            readings.setdefault(frozenset(own), []).append(verdict)
        for ids, together in readings.items():
            asking = together[0].revision.revision_id
            routes = [route for one in together if one.choice and (route := one.choice.candidate.route)]
            jobs.enqueue(
                connection,
                revision_id=asking,
                together_with=sorted(ids - {asking}),
                pipeline=routes[0].pipeline,
                priority=min(priority_number(route.priority) for route in routes),
                now=now,
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
        "together_with": choice.together_with,
    }


def _stands(connection: Connection, verdict: _Verdict) -> bool:
    """Whether nothing that it rests on was superseded since it was looked at."""
    with_it = (revisions.state_of(connection, one.revision_id) for one in verdict.together)
    return revisions.state_of(connection, verdict.revision.revision_id) == "complete" and "superseded" not in with_it
