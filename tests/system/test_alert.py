"""Alerts through real sockets: a webhook and an e-mail on the loopback."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from db import alerts
from db.connect import Ledger
from dicom_node.alert.stage import AlertStage, RaiseStage
from dicom_node.alert.verbs import check_channels, send_test
from dicom_node.clock import utc_now
from dicom_node.settings import Settings
from dicom_node.spool import Spool
from tests.ledger_rows import STUDY, Rows
from tests.system.conftest import free_port

SECRETS = ("Test", "Jörg", "T1", "A77", STUDY)


@dataclass
class Webhook:
    """Keeps what is posted to it; answers with `status`, or not at all while `hangs`."""

    status: int = 200
    hangs: bool = False
    got: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.hangs:
                hook.released.wait(20)
                return
            if hook.status == 200:
                hook.got.append(body)
            self.send_response(hook.status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hook.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield hook
    hook.released.set()
    server.shutdown()
    server.server_close()


@dataclass
class Mailbox:
    """An SMTP server that takes what it gets (RFC 5321, as little of it as a sender needs)."""

    got: list[bytes] = field(default_factory=list)
    port: int = 0


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.answer(b"220 made.test")
            for line in self.rfile:
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.answer(b"354 go on")
                    box.got.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                    self.answer(b"250 taken")
                elif verb == b"QUIT":
                    self.answer(b"221 bye")
                    return
                else:
                    self.answer(b"250 made.test")

        def answer(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    box.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield box
    server.shutdown()
    server.server_close()


def settings_of(spool: Spool, *channels: str, **keys: object) -> Settings:
    rule = {"channels": channels, "retry_s": 0.01, **keys}
    return Settings.model_validate({"node": {"spool": spool.root}, "alerts": {"oncall": rule}})


def hook_url(hook: Webhook) -> str:
    return f"json://user:secret@127.0.0.1:{hook.port}/hooks/token"


def mail_url(box: Mailbox) -> str:
    return f"mailto://127.0.0.1:{box.port}/?from=triage@node.test&to=oncall@hospital.test&mode=insecure"


def raise_one(rows: Rows, settings: Settings) -> None:
    rows.add_result(at=utc_now())
    rows.add_key_instance(utc_now(), instance_number=21)
    stage = RaiseStage(rows.ledger, settings)
    work = stage.claim(utc_now())
    assert work is not None
    stage.carry_out(work, utc_now())


def attempt(stage: AlertStage) -> None:
    deadline = time.monotonic() + 10
    while (work := stage.claim(utc_now())) is None:
        assert time.monotonic() < deadline, "nothing came due"
        time.sleep(0.005)
    stage.carry_out(work, utc_now())


def only(ledger: Ledger) -> alerts.Alert:
    with ledger.read() as connection:
        [one] = alerts.list_alerts(connection)
        return one


def test_a_webhook_and_an_email_tell_of_the_finding_without_the_patient(
    ledger: Ledger, spool: Spool, webhook: Webhook, mailbox: Mailbox
) -> None:
    settings = settings_of(spool, hook_url(webhook), mail_url(mailbox))
    rows = Rows(ledger, spool)
    stage = AlertStage("oncall", settings, ledger, utc_now)
    raise_one(rows, settings)
    began = time.monotonic()
    attempt(stage)
    print(f"delivered by webhook and e-mail in {time.monotonic() - began:.3f} s")
    one = only(ledger)
    assert (one.state, one.next_attempt_at) == ("delivered", None)
    [posted] = webhook.got
    assert posted["title"] == "STAT hemorrhage: finding, 93 %"
    assert "Subdural hemorrhage, left, 12.3 mL, slice 21" in posted["message"]
    [raw] = mailbox.got
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Subject"] == posted["title"]
    assert "oncall@hospital.test" in mail["To"]
    text = mail.get_body(("plain",))
    assert text is not None
    assert text.get_content().strip().splitlines() == posted["message"].splitlines()
    assert mail.defects == []
    assert not any(secret in json.dumps(posted) + text.get_content() for secret in SECRETS)
    with ledger.read() as connection:
        told = str(alerts.events_of(connection, one.alert_id))
    assert "json://127.0.0.1" in told and "secret" not in told and "token" not in told


def test_a_webhook_that_fails_gets_it_when_it_recovers_and_the_email_once(
    ledger: Ledger, spool: Spool, webhook: Webhook, mailbox: Mailbox
) -> None:
    webhook.status = 503
    settings = settings_of(spool, hook_url(webhook), mail_url(mailbox))
    stage = AlertStage("oncall", settings, ledger, utc_now)
    raise_one(Rows(ledger, spool), settings)
    attempt(stage)
    one = only(ledger)
    assert one.state == "delivered" and one.next_attempt_at is not None
    assert one.reason is not None and "503" in str(one.reason["text"]) and "secret" not in str(one.reason["text"])
    webhook.status = 200
    attempt(stage)
    assert (len(webhook.got), len(mailbox.got)) == (1, 1)
    assert only(ledger).next_attempt_at is None


def test_a_channel_without_anybody_behind_it_says_so(ledger: Ledger, spool: Spool) -> None:
    settings = settings_of(spool, f"json://127.0.0.1:{free_port()}/x")
    raise_one(Rows(ledger, spool), settings)
    attempt(AlertStage("oncall", settings, ledger, utc_now))
    one = only(ledger)
    assert one.state == "raised"
    assert one.reason is not None and "Connection error" in str(one.reason["text"])


def test_a_webhook_that_hangs_costs_its_time_limit_only(
    ledger: Ledger, spool: Spool, webhook: Webhook, mailbox: Mailbox
) -> None:
    webhook.hangs = True
    settings = settings_of(spool, hook_url(webhook) + "?rto=0.3", mail_url(mailbox))
    raise_one(Rows(ledger, spool), settings)
    attempt(AlertStage("oncall", settings, ledger, utc_now))
    with ledger.read() as connection:
        events = [(one.event, one.channel) for one in alerts.events_of(connection, 1)]
    assert events[-2:] == [("taken", "mailto://127.0.0.1"), ("failed", "json://127.0.0.1")]


def test_no_redirection_is_followed(ledger: Ledger, spool: Spool, webhook: Webhook) -> None:
    webhook.status = 307
    settings = settings_of(spool, hook_url(webhook))
    raise_one(Rows(ledger, spool), settings)
    attempt(AlertStage("oncall", settings, ledger, utc_now))
    one = only(ledger)
    assert one.state == "raised" and one.reason is not None and "307" in str(one.reason["text"])


def test_the_patient_is_named_where_the_rule_allows_it(ledger: Ledger, spool: Spool, webhook: Webhook) -> None:
    settings = settings_of(spool, hook_url(webhook), patient_data=True)
    raise_one(Rows(ledger, spool), settings)
    attempt(AlertStage("oncall", settings, ledger, utc_now))
    assert "Test^Jörg" in webhook.got[0]["message"]


def test_a_test_message_and_the_check(spool: Spool, webhook: Webhook) -> None:
    settings = settings_of(spool, hook_url(webhook), f"json://127.0.0.1:{free_port()}/x", "nosuch://x")
    assert [answer.reason is None for answer in check_channels(settings.alerts["oncall"])] == [True, True, False]
    assert webhook.got == []
    answers = send_test("oncall", settings, utc_now())
    assert [None if answer.reason is None else answer.reason.code for answer in answers] == [
        None,
        "alert.channel_failed",
        "alert.channel_unusable",
    ]
    assert webhook.got[0]["title"].startswith("TEST")
