from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydicom.uid import BasicTextSRStorage
from sqlalchemy import select

from db import audit
from db.connect import Ledger, open_ledger
from db.schema import revisions
from dicom_node.assemble.stage import AssembleStage
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.unit.dicom_node.made import Sender, header, settle, stack


@pytest.fixture
def sender(ledger: Ledger, spool: Spool) -> Sender:
    return Sender(ledger, spool)


@pytest.fixture
def stage(ledger: Ledger, spool: Spool) -> AssembleStage:
    return AssembleStage(ledger, spool, Settings())


def states(ledger: Ledger, series: str = "2.25.1.1") -> list[tuple[int, str, str | None, int | None]]:
    query = select(revisions.c.number, revisions.c.state, revisions.c.completed_by, revisions.c.instance_count)
    with ledger.read() as connection:
        rows = connection.execute(query.where(revisions.c.series_instance_uid == series).order_by(revisions.c.number))
        return [tuple(row) for row in rows]


def test_whole_series_is_complete_when_its_association_is_released(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    association = sender.open(clock())
    for made in stack(1, slices=12):
        sender.send(association, [made], clock())
        settle(stage, clock())
    assert states(ledger) == [(1, "receiving", None, None)]
    sender.end(association, clock())
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "association_end", 12)]
    assert stage.claim(clock()) is None
    assert stage.next_due(clock()) is None


def test_completion_is_audited_with_what_was_received(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    sender.push(stack(1, slices=4), clock())
    settle(stage, clock())
    with ledger.read() as connection:
        (event,) = audit.rows(connection)
        digest = connection.execute(select(revisions.c.digest)).scalar_one()
    told = json.loads(event.facts)
    assert (event.event, event.study_instance_uid, event.at) == ("series.received", "2.25.1", clock())
    assert (told["instances"], told["calling_ae_titles"], told["digest"]) == (4, ["CT1"], digest)
    assert told["bytes"] > 4 * 500


@pytest.mark.parametrize("missing", [[5], [2, 4, 6, 8, 10]], ids=["one slice", "every second slice"])
def test_series_with_missing_slices_waits_for_silence(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock, missing: list[int]
) -> None:
    sender.push([made for made in stack(1, slices=11) if made.InstanceNumber not in missing], clock())
    settle(stage, clock())
    due = stage.next_due(clock())
    assert due is not None
    assert (due - clock()).total_seconds() == 20
    clock.advance(19.9)
    assert settle(stage, clock()) == 0
    clock.advance(0.1)
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "quiet_time", 11 - len(missing))]


def test_sender_that_opens_an_association_for_each_image_makes_one_revision(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    for made in stack(1, slices=8):
        sender.push([made], clock())
        settle(stage, clock())
        clock.advance(2)
    clock.advance(20)
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "quiet_time", 8)]


@pytest.mark.parametrize(
    "made",
    [
        header(1, 1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        header(1, 1, SOPClassUID=BasicTextSRStorage, ImagePositionPatient=None, SamplesPerPixel=None),
    ],
    ids=["localizer", "report"],
)
def test_what_is_no_stack_is_whole_at_once(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock, made: object
) -> None:
    sender.push([made], clock())  # type: ignore[list-item]
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "association_end", 1)]


def test_late_slices_make_a_new_revision_that_supersedes(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    slices = stack(1, slices=10)
    cut_off = sender.open(clock())
    sender.send(cut_off, slices[:6], clock())
    sender.end(cut_off, clock(), "aborted")
    settle(stage, clock())
    clock.advance(20)
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "quiet_time", 6)]
    sender.push(slices, clock())  # the sender tries again, from the start
    settle(stage, clock())
    assert states(ledger) == [(1, "superseded", "quiet_time", 6), (2, "complete", "association_end", 10)]
    with ledger.read() as connection:
        assert [row.event for row in audit.rows(connection)] == [
            "series.received",
            "series.received",
            "series.superseded",
        ]


def test_sender_that_tries_again_at_once_need_not_wait(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    slices = stack(1, slices=10)
    cut_off = sender.open(clock())
    sender.send(cut_off, slices[:6], clock())
    sender.end(cut_off, clock(), "aborted")
    clock.advance(5)
    sender.push(slices, clock())
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "association_end", 10)]


def test_unreadable_instances_do_not_keep_a_series_from_being_complete(
    ledger: Ledger, sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    association = sender.open(clock())
    sender.send(association, stack(1, slices=3), clock(), content=b"no DICOM")
    sender.end(association, clock())
    settle(stage, clock())
    assert states(ledger) == [(1, "complete", "association_end", 3)]


def test_revision_that_failed_is_left_alone_for_a_while(
    sender: Sender, stage: AssembleStage, clock: MovableClock
) -> None:
    sender.push(stack(1, slices=3), clock())
    work = stage.claim(clock())
    assert work is not None
    stage.put_off(work, Reason("service.unexpected", {"stage": "assemble", "error": "X"}), clock())
    assert stage.claim(clock()) is None
    clock.advance(30)
    assert stage.claim(clock()) == work


SERIES = itertools.count(100)


@pytest.fixture(scope="module")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ledger, Path]:
    folder = tmp_path_factory.mktemp("assemble")
    return open_ledger(f"sqlite:///{folder / 'ledger.sqlite3'}"), folder


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(8)),
    duplicates=st.lists(st.integers(0, 7), max_size=4),
    cuts=st.lists(st.tuples(st.integers(1, 12), st.sampled_from(["released", "aborted", "lost"])), max_size=3),
    pauses=st.lists(st.sampled_from([0.0, 1.0, 25.0]), min_size=12, max_size=12),
)
def test_any_order_of_arrival_ends_in_one_revision_that_holds_everything(
    shared_ledger: tuple[Ledger, Path],
    order: list[int],
    duplicates: list[int],
    cuts: list[tuple[int, str]],
    pauses: list[float],
) -> None:
    ledger, folder = shared_ledger
    series, clock = next(SERIES), MovableClock()
    sender = Sender(ledger, Spool(folder / "spool"), itertools.count(series * 1000))
    stage = AssembleStage(ledger, sender.spool, Settings())
    slices, ends = stack(series, slices=8, study=series), dict(cuts)
    association = sender.open(clock())
    for step, index in enumerate([*order, *duplicates], start=1):
        sender.send(association, [slices[index]], clock())
        settle(stage, clock())
        clock.advance(pauses[step - 1])
        if step in ends:
            sender.end(association, clock(), ends[step])  # type: ignore[arg-type]
            association = sender.open(clock())
    sender.end(association, clock())
    settle(stage, clock())
    clock.advance(20)
    settle(stage, clock())
    found = states(ledger, slices[0].SeriesInstanceUID)
    assert [state for _, state, _, _ in found] == ["superseded"] * (len(found) - 1) + ["complete"]
    counts = [count or 0 for _, _, _, count in found]
    assert counts == sorted(set(counts))
    assert counts[-1] == 8
