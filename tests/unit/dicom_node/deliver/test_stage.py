from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
from pydicom.uid import ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage

from db import audit, deliveries
from db.connect import Ledger
from db.deliveries import Delivery
from dicom_node.deliver import catalogue, verbs
from dicom_node.deliver.catalogue import Answer, Parcel, Presence, UnreachableError
from dicom_node.deliver.policy import TransitionError
from dicom_node.deliver.stage import DeliverStage
from dicom_node.settings import Destination, Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.ledger_rows import STUDY, Rows, made_object

OK = Answer("accepted", 0x0000, "")


class MadePacs:
    """A destination in memory. `answers` gives one answer for each store; an exception in it is raised."""

    name = "dimse"

    def __init__(self) -> None:
        self.held: list[str] = []
        self.stores: list[str] = []
        self.answers: dict[str, list[Answer | Exception]] = {}
        self.answers_queries = True
        self.shows = True
        self.down = False
        self.connections = 0

    @contextmanager
    def connect(self, name: str, settings: Destination, ae_title: str, parcels: Sequence[Parcel]) -> Iterator[MadePacs]:
        self.connections += 1
        if self.down:
            raise gone()
        yield self

    def store(self, parcel: Parcel) -> Answer:
        self.stores.append(parcel.sop_instance_uid)
        waiting = self.answers.get(parcel.sop_instance_uid, [])
        answer = waiting.pop(0) if waiting else OK
        if isinstance(answer, Exception):
            raise answer
        if answer.verdict == "accepted" and parcel.sop_instance_uid not in self.held:
            self.held.append(parcel.sop_instance_uid)
        return answer

    def find(self, parcel: Parcel) -> Presence:
        if not self.answers_queries:
            return "cannot_tell"
        return "found" if self.shows and parcel.sop_instance_uid in self.held else "absent"

    def check(self, name: str, settings: Destination, ae_title: str) -> str:
        return "it answers"


def gone() -> UnreachableError:
    return UnreachableError(Reason("deliver.unreachable", {"destination": "pacs", "detail": "gone"}))


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> MadePacs:
    made = MadePacs()
    monkeypatch.setattr("dicom_node.deliver.stage.catalogue", lambda: {"dimse": made})
    return made


@pytest.fixture
def rows(ledger: Ledger, spool: Spool) -> Rows:
    return Rows(ledger, spool)


def stage_of(rows: Rows, clock: MovableClock, **keys: object) -> DeliverStage:
    table = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104, **keys}
    settings = Settings.model_validate({"destinations": {"pacs": table}})
    return DeliverStage("pacs", settings, rows.ledger, rows.spool, clock)


def work_off(stage: DeliverStage, clock: MovableClock) -> int:
    """As the loop does until nothing is due. Gives the number of pieces of work."""
    count = 0
    while (work := stage.claim(clock())) is not None:
        stage.carry_out(work, clock())
        count += 1
        assert count < 50, "the same work is claimed for ever"
    return count


def all_of(rows: Rows) -> list[Delivery]:
    with rows.ledger.read() as connection:
        return sorted(deliveries.list_deliveries(connection), key=lambda one: one.delivery_id)


def told(rows: Rows) -> list[str]:
    with rows.ledger.read() as connection:
        return [row.event for row in audit.rows(connection)]


def one_object(rows: Rows, clock: MovableClock) -> str:
    made = made_object(1)
    rows.add_deliveries(rows.add_result(at=clock()), [made], ["pacs"], clock())
    return str(made.SOPInstanceUID)


def test_what_is_stored_is_looked_for_and_confirmed(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    one_object(rows, clock)
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert (one.state, one.status, one.attempts, one.next_attempt_at) == ("confirmed", 0, 1, None)
    assert one.stored_at == one.confirmed_at == clock()
    assert told(rows) == ["delivery.stored", "delivery.confirmed"]
    assert stage.next_due(clock()) is None


def test_reports_go_last(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    classes = [ComprehensiveSRStorage, KeyObjectSelectionDocumentStorage, SegmentationStorage]
    made = [made_object(number, sop_class_uid=uid) for number, uid in enumerate(classes)]
    rows.add_deliveries(rows.add_result(at=clock()), made, ["pacs"], clock())
    work_off(stage_of(rows, clock), clock)
    assert pacs.stores == [one.SOPInstanceUID for one in reversed(made)]
    assert pacs.connections == 1


def test_the_most_urgent_result_goes_first(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    for number, priority in enumerate((2, 0, 1)):
        result_id = rows.add_result(at=clock(), priority=priority)
        rows.add_deliveries(result_id, [made_object(number)], ["pacs"], clock())
    work_off(stage_of(rows, clock), clock)
    assert pacs.stores == [f"{STUDY}.{number}.1" for number in (1, 2, 0)]


def test_another_destination_is_left_alone(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    rows.add_deliveries(rows.add_result(at=clock()), [made_object(1)], ["pacs", "archive"], clock())
    work_off(stage_of(rows, clock), clock)
    assert {one.destination: one.state for one in all_of(rows)} == {"pacs": "confirmed", "archive": "pending"}


def test_a_refusal_is_final_and_keeps_the_words(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    pacs.answers[uid] = [Answer("refused", 0xC000, "cannot understand this")]
    work_off(stage_of(rows, clock), clock)
    [one] = all_of(rows)
    assert (one.state, one.status, one.comment, one.next_attempt_at) == (
        "refused",
        0xC000,
        "cannot understand this",
        None,
    )
    assert one.reason is not None and one.reason["code"] == "deliver.refused"
    assert "C000" in str(one.reason["text"])
    with rows.ledger.read() as connection:
        [event] = audit.rows(connection)
    assert (event.event, event.outcome) == ("delivery.refused", 8)


def test_a_class_that_is_not_taken_is_told_as_such(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    pacs.answers[uid] = [Answer("refused", None, "no presentation context")]
    work_off(stage_of(rows, clock), clock)
    [one] = all_of(rows)
    assert one.reason is not None and one.reason["code"] == "deliver.class_not_accepted"


KINDS = (
    "mammography_cad_report",
    "measurement_report",
    "presentation_state",
    "segmentation",
    "summary_image",
)
OPTIONAL = {"mammography_cad_report", "presentation_state", "segmentation"}


def one_of_each_kind(rows: Rows, clock: MovableClock) -> dict[str, str]:
    """The SOP Instance UID by the kind of object."""
    made = [made_object(number) for number in range(1, len(KINDS) + 1)]
    rows.add_deliveries(rows.add_result(at=clock()), made, ["pacs"], clock(), KINDS)
    return {kind: str(one.SOPInstanceUID) for kind, one in zip(KINDS, made, strict=True)}


def states(rows: Rows) -> dict[str, tuple[str, str | None]]:
    """State and code of the reason by kind."""
    return {one.kind: (one.state, str(one.reason["code"]) if one.reason else None) for one in all_of(rows)}


def test_whoever_is_probed_gets_every_kind_that_it_takes(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    one_of_each_kind(rows, clock)
    work_off(stage_of(rows, clock), clock)
    assert states(rows) == dict.fromkeys(KINDS, ("confirmed", None))


def test_whoever_is_probed_does_without_optional_kinds_but_not_without_a_report(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    for uid in one_of_each_kind(rows, clock).values():
        pacs.answers[uid] = [Answer("declined", None, "no presentation context")]
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    assert states(rows) == {
        kind: ("not_sent", "deliver.kind_not_taken") if kind in OPTIONAL else ("refused", "deliver.class_not_accepted")
        for kind in KINDS
    }
    assert stage.next_due(clock()) is None
    assert sorted(told(rows)) == ["delivery.not_sent"] * 3 + ["delivery.refused"] * 2


def test_only_the_kinds_that_are_listed_are_offered(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uids = one_of_each_kind(rows, clock)
    wanted = ("measurement_report", "mammography_cad_report")
    work_off(stage_of(rows, clock, accepts=wanted), clock)
    assert set(pacs.stores) == {uids[kind] for kind in wanted}
    assert states(rows) == {
        kind: ("confirmed", None) if kind in wanted else ("not_sent", "deliver.kind_not_listed") for kind in KINDS
    }
    assert told(rows).count("delivery.not_sent") == 3
    assert all("accepts" in one.comment for one in all_of(rows) if one.state == "not_sent")


def test_whoever_is_said_to_take_a_kind_and_does_not_is_a_failure(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    uid = one_of_each_kind(rows, clock)["mammography_cad_report"]
    pacs.answers[uid] = [Answer("declined", None, "no presentation context")]
    work_off(stage_of(rows, clock, accepts=KINDS), clock)
    assert states(rows)["mammography_cad_report"] == ("refused", "deliver.class_not_accepted")


def test_a_dead_destination_is_not_called_for_what_it_does_without(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    one_of_each_kind(rows, clock)
    pacs.down = True
    work_off(stage_of(rows, clock, accepts=()), clock)
    assert {state for state, _ in states(rows).values()} == {"not_sent"}
    assert pacs.connections == 0


def test_what_was_not_sent_is_sent_when_it_is_asked_for_after_all(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    uid = one_of_each_kind(rows, clock)["segmentation"]
    pacs.answers[uid] = [Answer("declined", None, "no presentation context")]
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    [left] = [one for one in all_of(rows) if one.state == "not_sent"]
    verbs.retry(rows.ledger, left.delivery_id, clock())
    work_off(stage, clock)
    assert states(rows)["segmentation"] == ("confirmed", None)


def test_short_resources_are_waited_for(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    pacs.answers[uid] = [Answer("busy", 0xA700, "disk full"), Answer("busy", 0xA700, "disk full")]
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert (one.state, one.status, one.comment) == ("pending", 0xA700, "disk full")
    assert one.next_attempt_at == stage.next_due(clock()) == clock() + timedelta(seconds=5)
    clock.advance(5)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert one.next_attempt_at == clock() + timedelta(seconds=10)
    clock.advance(10)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert (one.state, one.attempts, one.reason) == ("confirmed", 3, None)


def test_a_dead_destination_is_tried_once_for_everything(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    pacs.down = True
    for number in range(5):
        rows.add_deliveries(rows.add_result(at=clock()), [made_object(number)], ["pacs"], clock())
    stage = stage_of(rows, clock)
    assert work_off(stage, clock) == 1
    assert {(one.state, one.attempts) for one in all_of(rows)} == {("pending", 1)}
    assert {one.reason["code"] for one in all_of(rows) if one.reason} == {"deliver.unreachable"}
    clock.advance(5)
    assert work_off(stage, clock) == 1
    assert pacs.connections == 2


def test_when_it_is_back_everything_goes_at_once(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    pacs.down = True
    for number in range(3):
        rows.add_deliveries(rows.add_result(at=clock()), [made_object(number)], ["pacs"], clock())
    stage = stage_of(rows, clock)
    for _ in range(8):
        work_off(stage, clock)
        clock.advance(600)
    pacs.down = False
    rows.add_deliveries(rows.add_result(at=clock()), [made_object(9)], ["pacs"], clock())
    work_off(stage, clock)
    assert [one.state for one in all_of(rows)] == ["confirmed"] * 4


def test_it_gives_up_after_its_time_and_not_before(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    pacs.down = True
    one_object(rows, clock)
    stage = stage_of(rows, clock, give_up_after_h=1)
    began = clock()
    while (due := stage.next_due(clock())) is not None:
        clock.now = max(clock.now, due)
        work_off(stage, clock)
    assert clock() == began + timedelta(hours=1)
    [one] = all_of(rows)
    assert one.state == "given_up"
    assert one.reason is not None and one.reason["code"] == "deliver.given_up"
    assert "gone" in one.comment
    assert told(rows) == ["delivery.given_up"]


def test_a_crash_after_sending_does_not_send_again(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    with rows.ledger.write() as connection:
        deliveries.change(connection, 1, state="sent")
    pacs.held.append(uid)
    work_off(stage_of(rows, clock), clock)
    [one] = all_of(rows)
    assert (one.state, pacs.stores, pacs.held) == ("confirmed", [], [uid])
    assert one.stored_at == clock()


def test_a_crash_before_sending_loses_nothing(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    with rows.ledger.write() as connection:
        deliveries.change(connection, 1, state="sent")
    work_off(stage_of(rows, clock), clock)
    assert ([one.state for one in all_of(rows)], pacs.held) == (["confirmed"], [uid])


def test_a_crash_between_stored_and_confirmed_only_asks(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    with rows.ledger.write() as connection:
        deliveries.change(connection, 1, state="stored", stored_at=clock())
    pacs.held.append(uid)
    work_off(stage_of(rows, clock), clock)
    assert ([one.state for one in all_of(rows)], pacs.stores) == (["confirmed"], [])


def test_without_queries_it_stays_stored(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    pacs.answers_queries = False
    one_object(rows, clock)
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert (one.state, one.next_attempt_at) == ("stored", None)
    assert "no queries" in one.comment
    assert told(rows) == ["delivery.stored"]


def test_where_confirming_is_off_nothing_is_asked(
    rows: Rows, clock: MovableClock, pacs: MadePacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacs, "find", lambda parcel: pytest.fail("it was asked"))
    one_object(rows, clock)
    work_off(stage_of(rows, clock, confirm="none"), clock)
    [one] = all_of(rows)
    assert (one.state, one.next_attempt_at, one.comment) == ("stored", None, "")


def test_what_does_not_appear_is_asked_for_again_and_never_sent_again(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    pacs.shows = False
    uid = one_object(rows, clock)
    stage = stage_of(rows, clock, give_up_after_h=1)
    work_off(stage, clock)
    [one] = all_of(rows)
    assert one.state == "stored" and one.next_attempt_at is not None and one.next_attempt_at > clock()
    while (due := stage.next_due(clock())) is not None:
        clock.now = max(clock.now, due)
        work_off(stage, clock)
    [one] = all_of(rows)
    assert one.state == "given_up"
    assert one.reason is not None and one.reason["code"] == "deliver.not_confirmed"
    assert pacs.stores == [uid]


def test_what_appears_late_is_confirmed(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    pacs.shows = False
    one_object(rows, clock)
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    pacs.shows = True
    clock.advance(10)
    work_off(stage, clock)
    assert all_of(rows)[0].state == "confirmed"


def test_an_object_that_breaks_the_association_keeps_back_no_other(
    rows: Rows, clock: MovableClock, pacs: MadePacs
) -> None:
    poison, harmless = made_object(1), made_object(2)
    rows.add_deliveries(rows.add_result(at=clock()), [poison, harmless], ["pacs"], clock())
    rows.add_deliveries(rows.add_result(at=clock()), [made_object(3)], ["pacs"], clock())
    pacs.answers[str(poison.SOPInstanceUID)] = [gone() for _ in range(100)]
    stage = stage_of(rows, clock, give_up_after_h=1)
    work_off(stage, clock)
    clock.advance(5)
    work_off(stage, clock)
    assert [one.state for one in all_of(rows)] == ["sent", "confirmed", "confirmed"]
    while (due := stage.next_due(clock())) is not None:
        clock.now = max(clock.now, due)
        work_off(stage, clock)
    assert [one.state for one in all_of(rows)] == ["given_up", "confirmed", "confirmed"]


def test_a_changed_file_is_never_sent(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    rows.add_deliveries(rows.add_result(at=clock()), [made_object(1), made_object(2)], ["pacs"], clock())
    rows.spool.path(all_of(rows)[0].file).write_bytes(b"changed")
    work_off(stage_of(rows, clock), clock)
    first, second = all_of(rows)
    assert (first.state, second.state) == ("refused", "confirmed")
    assert first.reason is not None and first.reason["code"] == "engine.source_file_lost"
    assert pacs.stores == [second.sop_instance_uid]


def test_put_off_work_is_not_claimed_again_at_once(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    one_object(rows, clock)
    stage = stage_of(rows, clock)
    work = stage.claim(clock())
    assert work is not None
    stage.put_off(work, Reason("service.unexpected", {"stage": stage.name, "error": "KeyError"}), clock())
    assert stage.claim(clock()) is None
    clock.advance(5)
    assert stage.claim(clock()) is not None


def test_a_retry_by_hand_starts_anew(rows: Rows, clock: MovableClock, pacs: MadePacs) -> None:
    uid = one_object(rows, clock)
    pacs.answers[uid] = [Answer("refused", 0xC000, "no")]
    stage = stage_of(rows, clock)
    work_off(stage, clock)
    clock.advance(1e6)
    asked = verbs.retry(rows.ledger, 1, clock())
    assert asked is not None and (asked.state, asked.attempts, asked.created_at) == ("pending", 0, clock())
    work_off(stage, clock)
    assert all_of(rows)[0].state == "confirmed"
    with pytest.raises(TransitionError):
        verbs.retry(rows.ledger, 1, clock())
    assert verbs.retry(rows.ledger, 99, clock()) is None


def test_the_kinds_are_found_by_scanning() -> None:
    assert set(catalogue.catalogue()) == {"dimse"}
