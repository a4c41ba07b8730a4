from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from db import alerts, audit
from db.alerts import Alert
from db.connect import Ledger
from dicom_node.alert.catalogue import ChannelError, Message, RuleChannel, failed
from dicom_node.alert.stage import AlertStage, RaiseStage
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from pipelines.reasons import Reason
from tests.conftest import MovableClock
from tests.ledger_rows import STUDY, Rows


@dataclass
class MadeChannel:
    """A channel in memory that fails as long as it is told to."""

    name: str
    is_down: bool = False
    got: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        if self.is_down:
            raise failed(self.name, "it is down")
        self.got.append(message)


@dataclass
class Node:
    """A ledger with the rule `oncall` and two channels."""

    rows: Rows
    clock: MovableClock
    settings: Settings
    phone: MadeChannel = field(default_factory=lambda: MadeChannel("phone"))
    mail: MadeChannel = field(default_factory=lambda: MadeChannel("mail"))

    def raise_all(self) -> None:
        stage = RaiseStage(self.rows.ledger, self.settings)
        while (work := stage.claim(self.clock())) is not None:
            stage.carry_out(work, self.clock())

    def stage(self) -> AlertStage:
        return AlertStage("oncall", self.settings, self.rows.ledger, self.clock)

    def send_all(self) -> None:
        stage = self.stage()
        while (work := stage.claim(self.clock())) is not None:
            stage.carry_out(work, self.clock())

    def alerts(self) -> list[Alert]:
        with self.rows.ledger.read() as connection:
            return sorted(alerts.list_alerts(connection), key=lambda one: one.alert_id)

    def only(self) -> Alert:
        [one] = self.alerts()
        return one

    def events(self) -> list[tuple[str, str]]:
        with self.rows.ledger.read() as connection:
            return [(one.event, one.channel) for one in alerts.events_of(connection, 1)]

    def told(self) -> list[str]:
        with self.rows.ledger.read() as connection:
            return [row.event for row in audit.rows(connection)]


@pytest.fixture
def make_node(
    ledger: Ledger, spool: Spool, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Node]:
    def make(**keys: object) -> Node:
        rule = {"channels": ["json://phone", "mailto://a:b@mail.org"], **keys}
        settings = Settings.model_validate({"node": {"spool": spool.root}, "alerts": {"oncall": rule}})
        node = Node(Rows(ledger, spool), clock, settings)
        opened = tuple(RuleChannel(one.name, one) for one in (node.phone, node.mail))
        monkeypatch.setattr("dicom_node.alert.stage.open_channels", lambda urls: opened)
        return node

    return make


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()


def test_a_finding_reaches_every_channel_once(node: Node) -> None:
    node.rows.add_result(at=node.clock())
    node.raise_all()
    assert (node.only().state, node.told()) == ("raised", ["alert.raised"])
    node.clock.advance(1)
    node.send_all()
    one = node.only()
    assert (one.state, one.delivered_at, one.next_attempt_at, one.reason) == ("delivered", node.clock(), None, None)
    assert len(node.phone.got) == len(node.mail.got) == 1
    assert sorted(node.events()) == [("sending", "mail"), ("sending", "phone"), ("taken", "mail"), ("taken", "phone")]
    assert node.told() == ["alert.raised", "alert.delivered", "alert.delivered"]
    assert node.stage().next_due(node.clock()) is None


def test_a_clean_study_disturbs_nobody_and_is_asked_about_once(node: Node) -> None:
    node.rows.add_result(at=node.clock(), status="clean", score=0.01)
    stage = RaiseStage(node.rows.ledger, node.settings)
    work = stage.claim(node.clock())
    assert work is not None
    stage.carry_out(work, node.clock())
    assert stage.claim(node.clock()) is None
    assert (node.alerts(), node.told()) == ([], [])


def test_several_series_and_reruns_raise_one_alert_and_say_why(node: Node) -> None:
    for _ in range(3):
        node.rows.add_result(at=node.clock())
    node.rows.add_result(at=node.clock(), study="2.25.999")
    node.raise_all()
    assert [one.study_instance_uid for one in node.alerts()] == [STUDY, "2.25.999"]
    assert node.told() == ["alert.raised", "alert.not_raised", "alert.not_raised", "alert.raised"]


def nodules_of(category: str) -> dict[str, object]:
    return {"findings": [{"label": "Nodule", "attributes": {"Lung-RADS assessment": f"Lung-RADS {category}"}}]}


def test_nodules_are_told_from_the_category_that_the_rule_says(make_node: Callable[..., Node]) -> None:
    node = make_node(lung_rads_from="4A")
    node.rows.add_result(at=node.clock(), pipeline="nodule", study="2.25.1", outcome=nodules_of("3"))
    node.rows.add_result(at=node.clock(), pipeline="nodule", study="2.25.2", outcome=nodules_of("4A"))
    node.raise_all()
    assert [one.study_instance_uid for one in node.alerts()] == ["2.25.2"]
    assert node.told() == ["alert.not_raised", "alert.raised"]


def test_a_rule_that_says_nothing_is_quiet_about_nodules_below_4b(node: Node) -> None:
    for category in ("4A", "4B", "4B", "4X"):
        node.rows.add_result(at=node.clock(), pipeline="nodule", outcome=nodules_of(category))
    node.raise_all()
    assert node.told() == ["alert.not_raised", "alert.raised", "alert.not_raised", "alert.raised"]


def test_a_superseded_result_raises_nothing(node: Node) -> None:
    node.rows.add_result(at=node.clock(), revision_state="superseded")
    node.raise_all()
    assert (node.alerts(), node.told()) == ([], ["alert.not_raised"])


def test_a_failing_channel_is_tried_again_without_the_others(node: Node) -> None:
    node.mail.is_down = True
    node.rows.add_result(at=node.clock())
    node.raise_all()
    node.send_all()
    one = node.only()
    assert (one.state, one.attempts, one.next_attempt_at) == ("delivered", 1, node.clock() + timedelta(seconds=5))
    assert one.reason is not None and one.reason["code"] == "alert.channel_failed"
    node.clock.advance(5)
    node.send_all()
    node.mail.is_down = False
    node.clock.advance(10)
    node.send_all()
    assert (len(node.phone.got), len(node.mail.got)) == (1, 1)
    assert (node.only().next_attempt_at, node.only().reason, node.only().attempts) == (None, None, 3)
    assert node.events().count(("failed", "mail")) == 2


def test_an_alert_that_nobody_takes_is_given_up_at_its_time(make_node: Callable[..., Node]) -> None:
    node = make_node(give_up_after_h=1)
    node.phone.is_down = node.mail.is_down = True
    node.rows.add_result(at=node.clock())
    node.raise_all()
    began, stage = node.clock(), node.stage()
    while (due := stage.next_due(node.clock())) is not None:
        node.clock.now = max(node.clock.now, due)
        node.send_all()
    assert node.clock() == began + timedelta(hours=1)
    one = node.only()
    assert one.state == "given_up"
    assert one.reason is not None and one.reason["code"] == "alert.channel_failed"
    assert node.told() == ["alert.raised", "alert.failed"]


def test_a_channel_that_never_works_leaves_the_alert_delivered_by_the_other(make_node: Callable[..., Node]) -> None:
    node = make_node(give_up_after_h=0.001)
    node.mail.is_down = True
    node.rows.add_result(at=node.clock())
    node.raise_all()
    for _ in range(3):
        node.send_all()
        node.clock.advance(10)
    assert (node.only().state, node.only().next_attempt_at) == ("delivered", None)
    assert node.told() == ["alert.raised", "alert.delivered", "alert.failed"]
    assert len(node.phone.got) == 1


def test_a_crash_after_sending_repeats_but_never_loses(node: Node) -> None:
    node.rows.add_result(at=node.clock())
    node.raise_all()
    with node.rows.ledger.write() as connection:  # killed before it was recorded that the phone took it
        alerts.add_event(connection, 1, at=node.clock(), event="sending", channel="phone")
        alerts.add_event(connection, 1, at=node.clock(), event="sending", channel="mail")
        alerts.add_event(connection, 1, at=node.clock(), event="taken", channel="mail")
        alerts.change(connection, 1, state="delivered", delivered_at=node.clock())
    node.send_all()
    assert (len(node.phone.got), len(node.mail.got)) == (1, 0)


def test_a_channel_that_hangs_holds_up_no_other(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    mail_took_it = threading.Event()

    def waits_for_the_other(message: Message) -> None:
        if not mail_took_it.wait(10):
            raise failed("phone", "the mail never came")

    def takes(message: Message) -> None:
        mail_took_it.set()

    monkeypatch.setattr(node.phone, "send", waits_for_the_other)
    monkeypatch.setattr(node.mail, "send", takes)
    node.rows.add_result(at=node.clock())
    node.raise_all()
    node.send_all()
    assert ("failed", "phone") not in node.events()


def test_urgent_alerts_go_first(node: Node) -> None:
    node.rows.add_result(at=node.clock(), study="2.25.1", priority=2)
    node.rows.add_result(at=node.clock(), study="2.25.2", priority=0)
    node.raise_all()
    node.send_all()
    assert [message.title.split()[0] for message in node.phone.got] == ["STAT", "ROUTINE"]


def test_the_message_names_no_patient_but_the_slice(node: Node) -> None:
    node.rows.add_result(at=node.clock())
    node.rows.add_key_instance(node.clock(), instance_number=21)
    node.raise_all()
    node.send_all()
    [message] = node.phone.got
    assert "slice 21" in message.text
    assert not any(secret in message.title + message.text for secret in ("Test", "Jörg", "T1", "A77", STUDY))


def test_the_patient_is_named_where_the_rule_allows_it(make_node: Callable[..., Node]) -> None:
    node = make_node(patient_data=True)
    node.rows.add_result(at=node.clock())
    node.raise_all()
    node.send_all()
    assert "Patient Test^Jörg, ID T1, accession number A77" in node.phone.got[0].text


def test_a_result_that_cannot_be_considered_holds_up_no_other(node: Node) -> None:
    for study in ("2.25.1", "2.25.2"):
        node.rows.add_result(at=node.clock(), study=study)
    stage = RaiseStage(node.rows.ledger, node.settings)
    first = stage.claim(node.clock())
    assert first is not None
    stage.put_off(first, Reason("service.unexpected", {"stage": stage.name, "error": "KeyError"}), node.clock())
    second = stage.claim(node.clock())
    assert second is not None and second.result_id != first.result_id
    stage.carry_out(second, node.clock())
    assert stage.claim(node.clock()) is None
    assert stage.next_due(node.clock()) == node.clock() + timedelta(seconds=10)
    node.clock.advance(10)
    assert stage.claim(node.clock()) == first


def test_a_failed_channel_carries_its_reason() -> None:
    with pytest.raises(ChannelError, match="it is down"):
        MadeChannel("phone", is_down=True).send(Message("", "", "urgent"))
