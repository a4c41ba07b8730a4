"""Takes jobs from the queue, has the engine read them, and records what came of it in one transaction.

One instance is one slot: it reads one series, or one study, at a time, and `drive` runs each in its own thread. An
answer that was superseded while it was read is recorded, but neither delivered nor made the state of a superseded
revision: the newer revision, or the study that has grown, is read next, and a PACS shall not hold two answers for one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection

from db import audit, deliveries, jobs, priors, results, revisions
from db.connect import Ledger
from db.jobs import Job
from db.priors import EarlierAnswer
from db.results import NewObject, NewResult, Object
from dicom_node.clock import Clock
from dicom_node.dispatch import policy
from dicom_node.dispatch.engine import EngineError
from dicom_node.dispatch.policy import Claimed, Finish, PutBack
from dicom_node.dispatch.priors import PriorSearch, day_of
from dicom_node.dispatch.run import ReadAnswer, ReadRequest
from dicom_node.identity import SOFTWARE_VERSION, equipment
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from dicom_node.telemetry import token
from pipelines.catalogue import Prior, catalogue
from pipelines.findings import Outcome
from pipelines.reasons import Reason
from reporting.build import BuiltObject

log = structlog.get_logger()

ACTOR = "dispatch"
RENEWALS = 3
"""A lease is renewed this many times in its length."""


class Reading(Protocol):
    """A reading that was handed to the engine."""

    def wait(self, timeout_s: float) -> ReadAnswer | None: ...

    def release(self) -> None: ...


class Reader(Protocol):
    """The engine, as the stage needs it."""

    def is_ready(self) -> bool: ...

    def submit(self, request: ReadRequest, *, key: str, time_limit_s: float) -> Reading: ...


class _ClaimLostError(Exception):
    """The lease ran out and another slot holds the job: what was read here is not recorded."""


class DispatchStage:
    """One slot of the dispatcher. `notify` is called when an answer was recorded: deliver and alert have work."""

    name = "dispatch"

    def __init__(
        self,
        *,
        ledger: Ledger,
        settings: Settings,
        spool: Spool,
        engine: Reader,
        clock: Clock,
        notify: Callable[[], None],
        slot: int = 0,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._spool = spool
        self._engine = engine
        self._clock = clock
        self._notify = notify
        self._owner = f"slot {slot}"

    def claim(self, now: datetime) -> Job | None:
        """The next job to read. Jobs that are not to be read are ended on the way."""
        if not self._engine.is_ready():
            return None
        while True:
            with self._ledger.write() as connection:
                job = jobs.claim(connection, owner=self._owner, now=now, lease_until=self._lease_until())
                if job is None:
                    return None
                decision = policy.begin(self._claimed(job))
                if isinstance(decision, policy.Read):
                    return job
                self._end_unread(connection, job, decision, None)
            self._notify()

    def carry_out(self, work: Job, now: datetime) -> None:  # noqa: ARG002  it asks the clock when it is done
        claimed = self._claimed(work)
        answer: ReadAnswer | None = None
        files: list[str] = []
        try:
            answer = self._read(work, claimed.time_limit_s + self._search_limit_s(work))
            files = [self._spool.write("objects", built.sha256, [built.content]) for built in answer.objects]
            decision = policy.after_answer(claimed, _reason(answer))
        except _ClaimLostError:
            log.warning("job.claim_lost", job=work.job_id, series=token(work.series_instance_uid))
            return
        except EngineError as error:
            log.warning("job.failed", job=work.job_id, series=token(work.series_instance_uid), how=error.failure)
            decision = policy.after_failure(claimed, error.failure)
        except OSError as error:
            decision = policy.after_storage_failure(claimed, _storage_reason(error))
        self._settle(work, decision, answer, files)

    def put_off(self, work: Job, reason: Reason, now: datetime) -> None:  # noqa: ARG002  it asks the clock when it is done
        self._settle(work, policy.after_answer(self._claimed(work), reason), None, ())

    def next_due(self, now: datetime) -> datetime | None:  # noqa: ARG002
        if not self._engine.is_ready():
            return None
        with self._ledger.read() as connection:
            return jobs.next_due(connection)

    def _claimed(self, job: Job) -> Claimed:
        is_installed = job.pipeline in catalogue()
        return Claimed(
            pipeline=job.pipeline,
            is_installed=is_installed,
            is_superseded=job.is_superseded,
            attempts=job.attempts,
            worker_deaths=job.worker_deaths,
            maximum_attempts=self._settings.work.maximum_attempts,
            time_limit_s=self._settings.pipeline(job.pipeline).time_limit_s if is_installed else 0.0,
            retry_s=self._settings.work.retry_s,
        )

    def _lease_until(self) -> datetime:
        return self._clock() + timedelta(seconds=self._settings.work.lease_s)

    def _read(self, job: Job, time_limit_s: float) -> ReadAnswer:
        """Wait for the engine's answer, and keep the lease meanwhile."""
        reading = self._engine.submit(
            self._request(job), key=f"read-{job.job_id}-{job.fencing_token}", time_limit_s=time_limit_s
        )
        try:
            while (answer := reading.wait(self._settings.work.lease_s / RENEWALS)) is None:
                with self._ledger.write() as connection:
                    if not jobs.renew(connection, job, lease_until=self._lease_until()):
                        raise _ClaimLostError
            return answer
        finally:
            reading.release()

    def _request(self, job: Job) -> ReadRequest:
        with self._ledger.read() as connection:
            members = jobs.members(connection, job.job_id)
            made_at = jobs.last_received_at(connection, job)
            earlier = priors.earlier_answers(connection, job) if _compares(job) else ()
        return ReadRequest(
            pipeline=job.pipeline,
            settings_json=self._settings.pipeline(job.pipeline).model_dump_json(),
            files=tuple(self._spool.path(member.file) for member in members),
            revision_digest=revisions.digest(members),
            configuration_hash=self._settings.hash_for(job.pipeline),
            made_at=made_at,
            equipment=equipment(self._settings),
            language=self._settings.node.language,
            search=self._search(earlier) if _compares(job) else None,
        )

    def _search(self, earlier: Sequence[EarlierAnswer]) -> PriorSearch:
        """Where the worker looks for an earlier study: what the ledger holds and the spool still has, then the PACS."""
        held = (_prior(one, [self._spool.path(member.file) for member in one.members]) for one in earlier)
        return PriorSearch(
            known=tuple(prior for prior in held if prior and all(path.is_file() for path in prior.paths)),
            archives=tuple(self._settings.priors.items()),
            ae_title=self._settings.node.ae_title,
            folder=self._spool.path("run"),
        )

    def _search_limit_s(self, job: Job) -> float:
        """What the search may take on top of the reading."""
        return sum(one.time_limit_s for one in self._settings.priors.values()) if _compares(job) else 0.0

    def _settle(self, job: Job, decision: Finish | PutBack, answer: ReadAnswer | None, files: Sequence[str]) -> None:
        """Record what became of a claimed job: all of it in one transaction, or nothing if the claim is lost."""
        with self._ledger.write() as connection:
            if isinstance(decision, PutBack):
                is_held = self._put_back(connection, job, decision)
            elif answer is None or decision.reason is not None:
                is_held = self._end_unread(connection, job, decision, answer)
            else:
                is_held = self._end_read(connection, job, decision, answer, files)
        if not is_held:
            log.warning("job.claim_lost", job=job.job_id, series=token(job.series_instance_uid))
            return
        log.info(
            "job.settled",
            job=job.job_id,
            series=token(job.series_instance_uid),
            pipeline=job.pipeline,
            decision=type(decision).__name__,
            status=answer.status if answer else None,
            reason=decision.reason.code if decision.reason else None,
        )
        self._notify()

    def _put_back(self, connection: Connection, job: Job, decision: PutBack) -> bool:
        return jobs.put_back(
            connection,
            job,
            state=policy.TRANSITIONS["running", "put_back"],
            reason=decision.reason.as_json(),
            worker_deaths=decision.worker_deaths,
            not_before=self._clock() + timedelta(seconds=decision.wait_s),
        )

    def _end(self, connection: Connection, job: Job, decision: Finish) -> bool:
        reason = decision.reason.as_json() if decision.reason else None
        state = policy.TRANSITIONS["running", decision.event]
        return jobs.end(connection, job, state=state, reason=reason, now=self._clock())

    def _end_unread(self, connection: Connection, job: Job, decision: Finish, answer: ReadAnswer | None) -> bool:
        if decision.reason is None:
            raise ValueError("a job that was not read needs a reason")
        if not self._end(connection, job, decision):
            return False
        if decision.event != "supersede":
            outcome = Outcome("not_read", reason=decision.reason).as_json() if answer is None else answer.outcome
            results.add(connection, self._result(job, "not_read", None, outcome), ())
            self._mark_read(connection, job)
        reason = decision.reason
        self._audit(connection, job, "reading.not_read", reason.row.audit_outcome, {"reason": reason.code})
        return True

    def _end_read(
        self, connection: Connection, job: Job, decision: Finish, answer: ReadAnswer, files: Sequence[str]
    ) -> bool:
        if not self._end(connection, job, decision):
            return False
        built = [_new_object(one, file) for one, file in zip(answer.objects, files, strict=True)]
        result_id, held = results.add(connection, self._result(job, answer.status, answer.score, answer.outcome), built)
        self._mark_read(connection, job)
        if not jobs.is_superseded(connection, job.job_id):
            self._ask_for_delivery(connection, result_id, held)
        facts: dict[str, object] = {"status": answer.status, "score": answer.score}
        if answer.model is not None:
            results.add_model(connection, **answer.model.as_json(), now=self._clock())
            facts["model"] = answer.model.as_json()
        if answer.outcome.get("impression"):
            facts["impression"] = answer.outcome["impression"]
        if prior := answer.outcome.get("prior"):
            facts["prior"] = prior
        refused: Any = answer.outcome.get("refused")
        if refused:
            facts["refused"] = {one["sop_instance_uid"]: one["reason"]["code"] for one in refused}
        facts["objects"] = {one.sop_instance_uid: one.sha256 for one in held}
        self._audit(connection, job, "reading.done", 0, facts)
        return True

    def _mark_read(self, connection: Connection, job: Job) -> None:
        for one in job.reads:
            revisions.mark_read(connection, one.revision_id)

    def _ask_for_delivery(self, connection: Connection, result_id: int, held: Sequence[Object]) -> None:
        """Of every object at every destination; what a destination does not take is for its stage to say."""
        for one in held:
            deliveries.add(
                connection,
                object_id=one.object_id,
                result_id=result_id,
                destinations=tuple(self._settings.destinations),
                created_at=self._clock(),
            )

    def _result(self, job: Job, status: str, score: float | None, outcome: Mapping[str, object]) -> NewResult:
        return NewResult(
            job_id=job.job_id,
            fencing_token=job.fencing_token,
            revision_id=job.revision_id,
            study_instance_uid=job.study_instance_uid,
            pipeline=job.pipeline,
            status=status,
            score=score,
            outcome=outcome,
            configuration_hash=self._settings.hash_for(job.pipeline) if job.pipeline in catalogue() else "",
            recorded_at=self._clock(),
        )

    def _audit(self, connection: Connection, job: Job, event: str, outcome: int, facts: Mapping[str, object]) -> None:
        audit.append(
            connection,
            at=self._clock(),
            event=event,
            actor=ACTOR,
            study_instance_uid=job.study_instance_uid,
            outcome=outcome,
            facts=jobs.told(job)
            | {
                "pipeline": job.pipeline,
                "attempts": job.attempts,
                "software_version": SOFTWARE_VERSION,
                "configuration_hash": self._settings.hash(),
                **facts,
            },
        )


def _compares(job: Job) -> bool:
    return catalogue()[job.pipeline].compares_with_prior


def _prior(earlier: EarlierAnswer, paths: Sequence[Path]) -> Prior | None:
    """None where the study's date is none, or its images are not known any more."""
    day = day_of(earlier.study_date)
    if day is None or not paths:
        return None
    return Prior(tuple(paths), tuple(earlier.outcome["findings"]), earlier.series_instance_uid, day)


def _reason(answer: ReadAnswer) -> Reason | None:
    """Why it was not read, or None."""
    reason: Any = answer.outcome["reason"]
    return None if reason is None else Reason(reason["code"], reason["facts"])


def _storage_reason(error: OSError) -> Reason:
    if error.errno == errno.ENOSPC:
        return Reason("receive.disk_full")
    return Reason("receive.storage_failed", {"detail": error.strerror or type(error).__name__})


def _new_object(built: BuiltObject, file: str) -> NewObject:
    return NewObject(
        kind=built.kind,
        sop_class_uid=built.sop_class_uid,
        sop_instance_uid=built.sop_instance_uid,
        series_instance_uid=built.series_instance_uid,
        file=file,
        sha256=built.sha256,
        size_bytes=len(built.content),
    )
