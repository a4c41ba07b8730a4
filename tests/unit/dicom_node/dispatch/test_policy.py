from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from db.schema import JOB_STATES
from dicom_node.dispatch import policy
from dicom_node.dispatch.policy import Claimed, Failure, Finish, PutBack, Read, State
from pipelines.reasons import Reason

FIRST = Claimed(
    pipeline="hemorrhage",
    is_installed=True,
    is_superseded=False,
    attempts=1,
    worker_deaths=0,
    maximum_attempts=5,
    time_limit_s=300.0,
    retry_s=2.0,
)
FAILED = Reason("pipeline.failed", {"step": "read", "error": "ValueError"})
REFUSED = Reason("geometry.mixed_orientation")


def test_states_are_those_of_the_ledger() -> None:
    assert get_args(State) == JOB_STATES


def test_what_ended_stays_ended_unless_a_person_asks() -> None:
    out_of = {source for source, event in policy.TRANSITIONS if event != "retry"}
    assert out_of == {"waiting", "running"}
    assert [to for (source, event), to in policy.TRANSITIONS.items() if event == "retry"] == ["waiting"]


@pytest.mark.parametrize(
    ("job", "decision"),
    [
        (FIRST, Read()),
        (replace(FIRST, attempts=5), Read()),
        (
            replace(FIRST, attempts=6),
            Finish("give_up", Reason("engine.attempts_exhausted", {"attempts": 5})),
        ),
        (
            replace(FIRST, is_installed=False),
            Finish("give_up", Reason("pipeline.not_configured", {"pipeline": "hemorrhage"})),
        ),
        (replace(FIRST, is_superseded=True), Finish("supersede", Reason("revision.superseded"))),
        (replace(FIRST, is_superseded=True, attempts=9), Finish("supersede", Reason("revision.superseded"))),
    ],
)
def test_begin(job: Claimed, decision: Read | Finish) -> None:
    assert policy.begin(job) == decision


@pytest.mark.parametrize(
    ("job", "reason", "decision"),
    [
        (FIRST, None, Finish("read", None)),
        (FIRST, REFUSED, Finish("give_up", REFUSED)),
        (FIRST, FAILED, PutBack(FAILED, 0, 2.0)),
        (replace(FIRST, attempts=2, worker_deaths=1), FAILED, PutBack(FAILED, 1, 2.0)),
        (replace(FIRST, attempts=3), FAILED, Finish("give_up", FAILED)),
        (replace(FIRST, maximum_attempts=1), FAILED, Finish("give_up", FAILED)),
    ],
)
def test_after_answer(job: Claimed, reason: Reason | None, decision: Finish | PutBack) -> None:
    assert policy.after_answer(job, reason) == decision


@pytest.mark.parametrize(
    ("job", "failure", "decision"),
    [
        (FIRST, "worker_died", PutBack(Reason("engine.worker_died"), 1, 0.0)),
        (FIRST, "interrupted", PutBack(Reason("engine.interrupted"), 0, 2.0)),
        (
            replace(FIRST, attempts=2, worker_deaths=1),
            "worker_died",
            Finish("give_up", Reason("engine.worker_died_twice", {"deaths": 2})),
        ),
        (replace(FIRST, attempts=2, worker_deaths=1), "interrupted", PutBack(Reason("engine.interrupted"), 1, 2.0)),
        (
            replace(FIRST, attempts=5),
            "interrupted",
            Finish("give_up", Reason("engine.attempts_exhausted", {"attempts": 5})),
        ),
        (FIRST, "time_limit", Finish("give_up", Reason("engine.time_limit", {"seconds": 300.0}))),
    ],
)
def test_after_failure(job: Claimed, failure: Failure, decision: Finish | PutBack) -> None:
    assert policy.after_failure(job, failure) == decision


def test_full_disk_is_waited_for_while_attempts_remain() -> None:
    full = Reason("receive.disk_full")
    assert policy.after_storage_failure(FIRST, full) == PutBack(full, 0, policy.STORAGE_WAIT_S)
    assert policy.after_storage_failure(replace(FIRST, attempts=5), full) == Finish("give_up", full)
