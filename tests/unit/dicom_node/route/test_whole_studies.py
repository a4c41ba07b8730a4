"""Studies that are read as one: what is waited for, and what is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import (
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
    BreastTomosynthesisImageStorage,
    DigitalMammographyXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from db import audit, decisions, jobs, revisions
from db.connect import Ledger
from db.jobs import Job
from dicom_node.assemble.stage import AssembleStage
from dicom_node.route.policy import Evaluation
from dicom_node.route.series_selection import (
    Arrival,
    Candidate,
    Standing,
    describe,
    has_all_standard_views,
    select,
    typical,
)
from dicom_node.route.stage import RouteStage
from dicom_node.settings import Settings, parse
from dicom_node.spool import Spool
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.dummy_room import dummy_pipeline
from tests.unit.dicom_node.made import Sender, facts, settle, stack
from tests.unit.dicom_node.mammograms import VIEWS, four_views, magnified, view

RULE = (Evaluation("breast", "dummy_study", "routine", ()),)
OTHER = (Evaluation("head", "hemorrhage", "stat", ()),)
WHOLE = frozenset({"dummy_study"})
TOMOSYNTHESIS = (
    BreastTomosynthesisImageStorage,
    BreastProjectionXRayImageStorageForPresentation,
    BreastProjectionXRayImageStorageForProcessing,
)


def candidate(
    made: Dataset, standing: Standing = "undecided", rules: tuple[Evaluation, ...] = RULE, *more: Dataset
) -> Candidate:
    return Candidate(describe(typical(facts([made, *more])), is_own_result=False), rules, standing)


def decided(*study: Candidate, arrival: Arrival = "going_on") -> dict[int, Any]:
    """By series number: the numbers of the series that are read with it, or the code of its reason."""
    choices = select(study, whole_studies=WHOLE, arrival=arrival)
    return {
        choice.candidate.series.series_number or 0: choice.reason.code
        if choice.reason
        else sorted(other.series.series_number or 0 for other in choice.together)
        for choice in choices
    }


def views(*names: str, standing: Standing = "undecided") -> list[Candidate]:
    return [candidate(view(series, name), standing) for series, name in enumerate(names, start=1)]


# What is waited for.


def test_four_standard_views_are_read_together_at_once() -> None:
    assert decided(*views(*VIEWS)) == {1: [2, 3, 4], 2: [1, 3, 4], 3: [1, 2, 4], 4: [1, 2, 3]}


def test_four_views_may_stand_in_one_series() -> None:
    first, *others = (view(1, name, number=number) for number, name in enumerate(VIEWS, start=1))
    assert decided(candidate(first, "undecided", RULE, *others)) == {1: []}


@pytest.mark.parametrize("names", [("R CC",), ("R CC", "L CC"), ("R CC", "L CC", "R MLO"), ("R CC",) * 4])
def test_fewer_are_read_when_nothing_more_comes(names: tuple[str, ...]) -> None:
    assert decided(*views(*names)) == {}
    for arrival in ("quiet", "overdue"):
        assert sorted(decided(*views(*names), arrival=arrival)) == list(range(1, len(names) + 1))


def test_a_view_that_still_arrives_is_waited_for_however_quiet_it_is() -> None:
    arriving = candidate(view(5, "R CC"), "receiving")
    assert decided(*views(*VIEWS), arriving) == decided(*views(*VIEWS), arriving, arrival="quiet") == {}
    assert sorted(decided(*views(*VIEWS), arriving, arrival="overdue")) == [1, 2, 3, 4]


def test_what_another_pipeline_reads_is_not_waited_for() -> None:
    assert sorted(decided(*views(*VIEWS), candidate(stack(9, 1)[0], "receiving", OTHER))) == [1, 2, 3, 4]


def test_tomosynthesis_that_still_arrives_is_not_waited_for() -> None:
    arriving = candidate(view(5, "R CC", SOPClassUID=BreastTomosynthesisImageStorage), "receiving")
    assert sorted(decided(*views(*VIEWS), arriving)) == [1, 2, 3, 4]


def test_of_each_class_of_image_all_views_are_waited_for() -> None:
    processing = [
        candidate(view(10 + n, name, SOPClassUID=DigitalMammographyXRayImageStorageForProcessing))
        for n, name in enumerate(VIEWS, start=1)
    ]
    assert decided(*views(*VIEWS), *processing[:3]) == {}
    assert len(decided(*views(*VIEWS), *processing)) == 8


@pytest.mark.parametrize("changes", [{"BreastImplantPresent": "YES"}, {"ImageLaterality": None}])
def test_views_that_do_not_tell_the_study_is_whole(changes: dict[str, Any]) -> None:
    made = [candidate(one) for one in (*four_views()[:3], view(4, "L MLO", **changes))]
    assert decided(*made) == {}


def test_a_magnified_view_is_no_standard_one() -> None:
    assert decided(*(candidate(one) for one in (*four_views()[:3], magnified(view(4, "L MLO"))))) == {}


def test_no_study_at_all_is_not_whole() -> None:
    assert not has_all_standard_views([])


# What else is in the study.


def test_a_later_view_is_read_with_those_that_were_read_before() -> None:
    later = candidate(view(5, "R CC"))
    assert decided(*views(*VIEWS, standing="read"), later) == {5: [1, 2, 3, 4]}
    assert decided(*views("R CC", "L CC", standing="read"), later) == {}
    assert decided(*views("R CC", "L CC", standing="read"), later, arrival="quiet") == {5: [1, 2]}


@pytest.mark.parametrize("sop_class_uid", TOMOSYNTHESIS)
def test_tomosynthesis_is_not_read_and_loses_no_view(sop_class_uid: str) -> None:
    """Its description often has words that would make other images a projection."""
    tomosynthesis = candidate(view(5, "R CC", SOPClassUID=sop_class_uid, SeriesDescription="R CC 3D"))
    [choice] = [
        one
        for one in select([*views(*VIEWS), tomosynthesis], whole_studies=WHOLE, arrival="going_on")
        if one.candidate is tomosynthesis
    ]
    assert choice.reason is not None
    assert (choice.action, choice.reason.code) == ("not_read", "view.tomosynthesis")
    assert decided(*views(*VIEWS), tomosynthesis)[1] == [2, 3, 4]


def test_a_captured_screen_is_ignored_and_loses_no_view() -> None:
    capture = candidate(view(5, "R CC", SOPClassUID=SecondaryCaptureImageStorage))
    assert decided(*views(*VIEWS), capture)[5] == "selection.secondary_capture"
    assert decided(*views(*VIEWS), capture)[1] == [2, 3, 4]


def test_words_do_not_make_a_mammogram_something_else() -> None:
    made = [candidate(one) for one in four_views(SeriesDescription="3D MIP", ImageType=["ORIGINAL", "PRIMARY", "MAP"])]
    assert sorted(decided(*made)) == [1, 2, 3, 4]


def test_without_its_pipeline_each_series_stands_alone() -> None:
    choices = select(views("R CC", "L CC"), arrival="going_on")
    assert [(choice.reason, choice.together) for choice in choices] == [(None, ()), (None, ())]


@given(
    st.lists(st.tuples(st.sampled_from(VIEWS), st.sampled_from(["undecided", "read", "receiving"])), max_size=6),
    st.sampled_from(["going_on", "quiet", "overdue"]),
)
def test_either_all_new_series_are_read_together_or_none(study: list[tuple[str, Standing]], arrival: Arrival) -> None:
    made = [candidate(view(n, name), standing) for n, (name, standing) in enumerate(study, start=1)]
    of = {standing: {n for n, one in enumerate(made, start=1) if one.standing == standing} for _, standing in study}
    found = decided(*made, arrival=arrival)
    new, read = of.get("undecided", set()), of.get("read", set())
    assert set(found) in (set(), new)
    assert all({number, *together} == new | read for number, together in found.items())
    if arrival == "overdue":
        assert set(found) == new
    if of.get("receiving") and arrival != "overdue":
        assert found == {}


# The stage.


@pytest.fixture(autouse=True)
def dummy() -> Iterator[None]:
    with dummy_pipeline():
        yield


TOML = """
[assemble]
study_quiet_s = 60
hard_limit_s = 300
[routes.breast]
pipeline = "dummy_study"
when = { Modality = "MG" }
[routes.head]
pipeline = "hemorrhage"
when = { Modality = "CT" }
"""


class Node:
    """The way from receiving to the queue."""

    def __init__(self, ledger: Ledger, spool: Spool, settings: Settings | None = None) -> None:
        self.ledger = ledger
        self.settings = settings or parse(TOML)
        self.spool = spool
        self.sender = Sender(ledger, spool)
        self.start()

    def start(self) -> None:
        """As after a crash: only the ledger is left."""
        self.assemble = AssembleStage(self.ledger, self.spool, self.settings)
        self.route = RouteStage(self.ledger, self.spool, self.settings)

    def push(self, made: Dataset, at: datetime) -> None:
        """Over an association of its own."""
        self.sender.push([made], at)
        self.settle(at)

    def settle(self, now: datetime) -> None:
        settle(self.assemble, now)
        settle(self.route, now)

    def jobs(self) -> list[Job]:
        with self.ledger.read() as connection:
            return sorted(jobs.list_jobs(connection), key=lambda job: job.job_id)

    def read(self) -> list[tuple[bool, list[str]]]:
        """Of each job whether it is superseded, and the last part of the UIDs of the series that it reads."""
        return [
            (job.is_superseded, [one.series_instance_uid.rsplit(".", 1)[-1] for one in job.reads])
            for job in self.jobs()
        ]

    def decisions(self) -> dict[str, tuple[str, str | None, list[str]]]:
        """By the last part of the series' UID: action, code of the reason, and with what it is read."""
        with self.ledger.read() as connection:
            held = [
                decisions.decision_on(connection, one.revision_id) for one in revisions.newest(connection, "2.25.1")
            ]
            numbers = [one.series_instance_uid.rsplit(".", 1)[-1] for one in revisions.newest(connection, "2.25.1")]
        return {
            number: (one.action, one.reason["code"] if one.reason else None, one.facts.get("together_with", []))
            for number, one in zip(numbers, held, strict=True)
            if one is not None
        }


@pytest.fixture
def node(ledger: Ledger, spool: Spool) -> Node:
    return Node(ledger, spool)


def test_four_views_over_four_associations_make_one_job(node: Node, clock: MovableClock) -> None:
    for made in four_views():
        assert node.jobs() == []
        node.push(made, clock())
        clock.advance(40)
    assert node.read() == [(False, ["1", "2", "3", "4"])]
    uids = [f"2.25.1.{n}" for n in range(1, 5)]
    assert node.decisions() == {
        str(n): ("read", None, [uid for uid in uids if uid != f"2.25.1.{n}"]) for n in range(1, 5)
    }
    with node.ledger.read() as connection:
        told = [json.loads(row.facts)["together_with"] for row in audit.rows(connection, event="decision.made")]
        members = jobs.members(connection, node.jobs()[0].job_id)
    assert sorted(map(len, told)) == [3] * 4
    assert [one.sop_instance_uid for one in members] == [f"2.25.1.{n}.1" for n in range(1, 5)]


def test_two_views_are_read_when_it_was_quiet_long_enough(node: Node, clock: MovableClock) -> None:
    began = clock()
    node.push(view(1, "R CC"), clock())
    clock.advance(30)
    node.push(view(2, "L CC"), clock())
    assert node.route.next_due(clock()) == began + timedelta(seconds=90)
    clock.advance(59)
    node.settle(clock())
    assert node.jobs() == []
    clock.advance(1)
    node.settle(clock())
    assert node.read() == [(False, ["1", "2"])]
    assert node.route.next_due(clock()) is None


def test_the_quiet_time_is_kept_over_a_restart(node: Node, clock: MovableClock) -> None:
    node.push(view(1, "R CC"), clock())
    clock.advance(30)
    node.start()
    node.settle(clock())
    assert node.jobs() == []
    clock.advance(30)
    node.start()
    node.settle(clock())
    assert node.read() == [(False, ["1"])]


@pytest.mark.parametrize("in_one_series", [True, False])
def test_a_study_that_is_never_quiet_is_read_at_the_limit(node: Node, clock: MovableClock, in_one_series: bool) -> None:
    for number in range(1, 11):
        node.push(view(1 if in_one_series else number, "R CC", number=number), clock())
        assert node.jobs() == []
        clock.advance(30)
    node.push(view(1 if in_one_series else 11, "R CC", number=11), clock())
    [job] = node.jobs()
    assert len(job.reads) == (1 if in_one_series else 11)
    assert node.route.next_due(clock()) is None


def test_the_limit_begins_anew_after_a_reading(node: Node, clock: MovableClock) -> None:
    node.push(view(1, "R CC"), clock())
    clock.advance(60)
    node.settle(clock())
    assert len(node.jobs()) == 1
    clock.advance(3600)
    node.push(view(1, "R CC", number=2), clock())
    assert len(node.jobs()) == 1
    clock.advance(60)
    node.settle(clock())
    assert len(node.jobs()) == 2


def test_a_revision_that_waits_while_the_next_arrives_is_not_decided(node: Node, clock: MovableClock) -> None:
    node.push(view(1, "R CC"), clock())
    association = node.sender.open(clock())
    node.sender.send(association, [view(1, "R CC", number=2)], clock())
    node.settle(clock())
    clock.advance(1)
    node.sender.end(association, clock())
    node.settle(clock())
    clock.advance(60)
    node.settle(clock())
    [job] = node.jobs()
    assert [one.number for one in job.reads] == [2]


def test_a_fifth_view_makes_a_second_job_in_place_of_the_first(node: Node, clock: MovableClock) -> None:
    for made in four_views():
        node.push(made, clock())
    clock.advance(3600)
    node.push(view(5, "R CC"), clock())
    assert node.read() == [(True, ["1", "2", "3", "4"]), (False, ["1", "2", "3", "4", "5"])]
    assert node.decisions()["5"] == ("read", None, [f"2.25.1.{n}" for n in range(1, 5)])


def test_an_image_that_comes_later_into_a_series_makes_a_second_job_too(node: Node, clock: MovableClock) -> None:
    for made in four_views():
        node.push(made, clock())
    node.push(view(2, "L CC", number=2), clock())
    assert node.read() == [(True, ["1", "2", "3", "4"]), (False, ["1", "2", "3", "4"])]
    first, second = ([one.number for one in job.reads] for job in node.jobs())
    assert (first, second) == ([1, 1, 1, 1], [1, 2, 1, 1])


def test_what_was_superseded_while_it_was_decided_is_decided_anew(node: Node, clock: MovableClock) -> None:
    for made in four_views():
        node.sender.push([made], clock())
    settle(node.assemble, clock())
    work = node.route.claim(clock())
    assert work is not None
    node.sender.push([view(4, "L MLO", number=2)], clock())
    settle(node.assemble, clock())
    node.route.carry_out(work, clock())
    assert node.jobs() == [] and node.decisions() == {}
    settle(node.route, clock())
    assert node.read() == [(False, ["1", "2", "3", "4"])]


def test_other_series_are_decided_while_the_views_wait(node: Node, clock: MovableClock) -> None:
    node.sender.push([view(1, "R CC"), view(2, "R CC", SOPClassUID=BreastTomosynthesisImageStorage)], clock())
    node.sender.push(stack(3, 20), clock())
    node.settle(clock())
    assert node.decisions() == {
        "2": ("not_read", "view.tomosynthesis", []),
        "3": ("read", None, []),
    }
    clock.advance(60)
    node.settle(clock())
    assert node.read() == [(False, ["3"]), (False, ["1"])]


def test_a_view_without_a_header_does_not_keep_the_others(node: Node, clock: MovableClock) -> None:
    for made in four_views():
        node.push(made, clock())
    association = node.sender.open(clock())
    node.sender.send(association, [view(5, "R CC")], clock(), content=b"no DICOM")
    node.sender.end(association, clock())
    node.settle(clock())
    assert node.read() == [(False, ["1", "2", "3", "4"])]
    assert node.decisions()["5"] == ("not_read", "input.not_dicom", [])


def test_a_study_that_cannot_be_decided_is_not_read(node: Node, clock: MovableClock) -> None:
    node.sender.push([view(1, "R CC")], clock())
    settle(node.assemble, clock())
    work = node.route.claim(clock())
    assert work is not None
    node.route.put_off(work, Reason("service.unexpected", {"stage": "route", "error": "KeyError"}), clock())
    assert node.decisions() == {"1": ("not_read", "service.unexpected", [])}
    clock.advance(3600)
    assert node.route.claim(clock()) is None


def test_the_most_urgent_rule_of_the_views_counts(ledger: Ledger, spool: Spool, clock: MovableClock) -> None:
    urgent = '[routes.right]\npipeline = "dummy_study"\npriority = "urgent"\nwhen = { ImageLaterality = "R" }\n'
    node = Node(ledger, spool, parse(urgent + TOML))
    for made in four_views():
        node.push(made, clock())
    assert [job.priority for job in node.jobs()] == [1]


def test_views_for_a_pipeline_that_is_not_installed_stand_alone(
    ledger: Ledger, spool: Spool, clock: MovableClock
) -> None:
    node = Node(ledger, spool, parse('[routes.breast]\npipeline = "never_made"\nwhen = { Modality = "MG" }\n'))
    for made in four_views():
        node.push(made, clock())
    assert node.read() == [(False, [str(n)]) for n in range(1, 5)]
