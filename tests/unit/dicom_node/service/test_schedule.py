from __future__ import annotations

import pytest
import structlog
from sqlalchemy import text, update

from db import audit
from db.connect import Ledger
from db.schema import audit as table
from dicom_node.service import schedule
from dicom_node.settings import parse
from dicom_node.spool import Spool
from tests.conftest import MovableClock


@pytest.mark.parametrize(("free_mb", "warnings"), [(999, 1), (1001, 0), (5, 1)])
def test_a_disk_that_fills_up_is_told(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, free_mb: int, warnings: int
) -> None:
    monkeypatch.setattr(Spool, "free_bytes", lambda _self: free_mb * 2**20)
    with structlog.testing.capture_logs() as logs:
        schedule.check_disk(parse("[receive]\nfree_disk_mb = 500"), spool)
    assert [(line["event"], line["free_mb"]) for line in logs] == [("disk.low", free_mb)] * warnings


def test_the_trail_is_walked_and_the_walk_is_in_it(ledger: Ledger, clock: MovableClock) -> None:
    with ledger.write() as connection:
        audit.append(connection, at=clock(), event="service.started", actor="coordinate")
    with structlog.testing.capture_logs() as logs:
        schedule.check_audit(ledger, clock)
    with ledger.read() as connection:
        rows = list(audit.rows(connection))
    assert [(row.event, row.outcome) for row in rows] == [("service.started", 0), ("audit.verified", 0)]
    [line] = logs
    assert (line["log_level"], line["events"], line["last_hash"]) == ("info", 1, rows[0].hash)


def test_a_trail_that_does_not_hold_is_an_error(ledger: Ledger, clock: MovableClock) -> None:
    with ledger.write() as connection:
        audit.append(connection, at=clock(), event="service.started", actor="coordinate")
        for name in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
            connection.execute(text(f"DROP TRIGGER {name}"))
        connection.execute(update(table).values(actor="nobody"))
    with structlog.testing.capture_logs() as logs:
        schedule.check_audit(ledger, clock)
    assert (logs[0]["log_level"], logs[0]["problem"]) == ("error", "event 1: its content was changed")
    with ledger.read() as connection:
        assert list(audit.rows(connection))[-1].outcome == 12


def test_the_jobs_run_by_the_clock(ledger: Ledger, spool: Spool, clock: MovableClock) -> None:
    scheduler = schedule.start(parse(""), ledger, spool, clock)
    try:
        assert {job.func for job in scheduler.get_jobs()} == {schedule.check_disk, schedule.check_audit}
    finally:
        scheduler.shutdown(wait=False)
