"""Decides what becomes of a job: whether it is read now, and what follows from how its reading went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from pipelines.reasons import Reason

State = Literal["waiting", "running", "done", "not_read", "quarantined", "cancelled"]
Event = Literal["claim", "read", "give_up", "put_back", "supersede", "retry"]
Failure = Literal["worker_died", "interrupted", "time_limit"]

TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        ("waiting", "claim"): "running",
        ("running", "claim"): "running",  # its lease ran out: whoever held it may no longer record
        ("running", "read"): "done",
        ("running", "give_up"): "not_read",
        ("running", "put_back"): "waiting",
        ("running", "supersede"): "cancelled",
        ("not_read", "retry"): "waiting",
    }
)
"""Every change of state a job may make. What is not here does not happen."""

MOST_DEATHS = 2
"""A series that brought down this many workers is poison and is not tried again."""

MOST_READINGS = 3
"""Attempts up to which a reading that failed for a passing reason is tried again."""

STORAGE_WAIT_S = 60.0
"""Until a disk that took no file is tried again."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that was just claimed. `attempts` counts this claim; `worker_deaths` are those of the claims before."""

    pipeline: str
    is_installed: bool
    is_superseded: bool
    attempts: int
    worker_deaths: int
    maximum_attempts: int
    time_limit_s: float
    retry_s: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose study it is, and of when; text as in the data set, empty where it says nothing."""

    patient_id: str
    issuer: str
    birth_date: str
    sex: str
    study_instance_uid: str
    study_date: str


def is_earlier(then: Identity, now: Identity) -> bool:
    """Whether `then` is of an earlier study of the same patient.

    The Patient ID must be there and be the same; nothing else that both tell (issuer, birth date, sex) may differ: a
    comparison with somebody else does more harm than none. Studies of one day are not compared.
    """
    if not now.patient_id or then.patient_id != now.patient_id:
        return False
    told = ((then.issuer, now.issuer), (then.birth_date, now.birth_date), (then.sex, now.sex))
    if any(one and other and one != other for one, other in told):
        return False
    dates = then.study_date, now.study_date
    return all(len(one) == 8 and one.isdecimal() for one in dates) and dates[0] < dates[1]


@dataclass(frozen=True, slots=True)
class Read:
    """The job is read now."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The job ends; `reason` says why it was not read, and is None when it was."""

    event: Event
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class PutBack:
    """The job is tried again, `wait_s` from now."""

    reason: Reason
    worker_deaths: int
    wait_s: float


def begin(job: Claimed) -> Read | Finish:
    """Whether a claimed job is read. A newer revision of its series, if there is one, is read in its place."""
    if job.is_superseded:
        return Finish("supersede", Reason("revision.superseded"))
    if not job.is_installed:
        return Finish("give_up", Reason("pipeline.not_configured", {"pipeline": job.pipeline}))
    if job.attempts > job.maximum_attempts:
        return Finish("give_up", Reason("engine.attempts_exhausted", {"attempts": job.attempts - 1}))
    return Read()


def after_answer(job: Claimed, reason: Reason | None) -> Finish | PutBack:
    """What follows an answer; `reason` is why it is `not_read`, None when it was read."""
    if reason is None:
        return Finish("read", None)
    if reason.row.retry == "later" and job.attempts < min(MOST_READINGS, job.maximum_attempts):
        return PutBack(reason, job.worker_deaths, job.retry_s)
    return Finish("give_up", reason)


def after_storage_failure(job: Claimed, reason: Reason) -> Finish | PutBack:
    """What follows when the objects of an answer could not be written."""
    if job.attempts < job.maximum_attempts:
        return PutBack(reason, job.worker_deaths, STORAGE_WAIT_S)
    return Finish("give_up", reason)


def after_failure(job: Claimed, failure: Failure) -> Finish | PutBack:
    """What follows when no answer came."""
    if failure == "time_limit":
        return Finish("give_up", Reason("engine.time_limit", {"seconds": job.time_limit_s}))
    deaths = job.worker_deaths + (failure == "worker_died")
    if deaths >= MOST_DEATHS:
        return Finish("give_up", Reason("engine.worker_died_twice", {"deaths": deaths}))
    if job.attempts >= job.maximum_attempts:
        return Finish("give_up", Reason("engine.attempts_exhausted", {"attempts": job.attempts}))
    code = "engine.worker_died" if failure == "worker_died" else "engine.interrupted"
    return PutBack(Reason(code), deaths, 0.0 if failure == "worker_died" else job.retry_s)
