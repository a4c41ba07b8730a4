from __future__ import annotations

import multiprocessing
import threading
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text

from db import audit, connect
from db.connect import Ledger, LedgerError, LedgerRuleError, open_ledger
from db.migrate import MIGRATIONS
from db.schema import audit as audit_table
from db.schema import job_revisions, metadata
from tests.conftest import MovableClock

AT = MovableClock().now


def append(ledger: Ledger, actor: str) -> None:
    with ledger.write() as connection:
        audit.append(connection, at=AT, event="service.started", actor=actor)


def actors(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.execute(select(audit_table.c.actor).order_by(audit_table.c.sequence)).scalars())


def test_a_transaction_that_raises_leaves_no_trace(ledger: Ledger) -> None:
    append(ledger, "first")

    def fail() -> None:
        with ledger.write() as connection:
            audit.append(connection, at=AT, event="service.started", actor="lost")
            raise KeyError("a mistake of the caller")

    with pytest.raises(KeyError):
        fail()
    assert actors(ledger) == ["first"]


def test_a_reader_sees_one_moment_and_holds_up_nobody(ledger: Ledger) -> None:
    append(ledger, "before")
    with ledger.read() as connection:
        count = select(audit_table.c.sequence)
        assert len(connection.execute(count).all()) == 1
        append(ledger, "meanwhile")
        assert len(connection.execute(count).all()) == 1
    assert actors(ledger) == ["before", "meanwhile"]


def test_the_second_writer_waits_for_the_first(ledger: Ledger) -> None:
    began, waited = threading.Event(), threading.Event()

    def second() -> None:
        began.set()
        append(ledger, "second")
        waited.set()

    thread = threading.Thread(target=second)
    with ledger.write() as connection:
        thread.start()
        assert began.wait(10)
        assert not waited.wait(0.2)
        audit.append(connection, at=AT, event="service.started", actor="first")
    thread.join(10)
    assert actors(ledger) == ["first", "second"]


def test_a_locked_ledger_is_a_ledger_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_S", 0.05)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    one, other = open_ledger(url), open_ledger(url)
    with one.write(), pytest.raises(LedgerError, match="locked"), other.write():
        pass
    append(other, "afterwards")
    assert actors(one) == ["afterwards"]
    one.close()
    other.close()


def test_what_the_schema_forbids_will_not_help_later(ledger: Ledger) -> None:
    statement = "INSERT INTO series VALUES ('2.25.1', 'no such study', 'CT', '')"
    with pytest.raises(LedgerRuleError, match="FOREIGN KEY"), ledger.write() as connection:
        connection.execute(text(statement))


def test_times_without_a_zone_are_not_taken(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="aware times only"), ledger.write() as connection:
        audit.append(connection, at=datetime(2026, 3, 1), event="service.started", actor="route")


@pytest.mark.parametrize("content", [b"this is no database at all, but long enough to be one" * 40, b"\0" * 4096])
def test_a_file_that_is_no_database_is_a_ledger_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ledger.sqlite3"
    file.write_bytes(content)
    with pytest.raises(LedgerError):
        open_ledger(f"sqlite:///{file}")


@pytest.mark.parametrize("url", ["postgresql+nodriver://host/triage", "postgresql://host:port/triage", "no url"])
def test_a_database_that_cannot_be_used_is_a_ledger_error(url: str) -> None:
    with pytest.raises(LedgerError):
        open_ledger(url)


def test_an_empty_ledger_becomes_what_the_schema_says(ledger: Ledger, tmp_path: Path) -> None:
    with ledger.read() as connection:
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, "alembic_version"}
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        checks = {
            table.name: {str(check["name"]) for check in inspect(connection).get_check_constraints(table.name)}
            for table in metadata.tables.values()
        }
    assert {"state", "completed_by"} <= {name.removeprefix("ck_revisions_") for name in checks["revisions"]}
    again = open_ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    append(again, "second opening")
    assert actors(ledger) == ["second opening"]
    again.close()


def test_a_ledger_of_before_keeps_its_jobs_and_deliveries(ledger: Ledger, tmp_path: Path) -> None:
    """Studies became jobs in 0003: each job that stood reads its one revision, and deliveries may end as not sent."""
    url = f"sqlite:///{tmp_path / 'before.sqlite3'}"
    to("0002", url)
    old = create_engine(url)
    with old.begin() as connection:
        for statement in ROWS_OF_0002:
            connection.execute(text(statement))
    old.dispose()
    upgraded = open_ledger(url)
    with upgraded.write() as connection:
        assert connection.execute(select(job_revisions)).all() == [(7, 3)]
        assert connection.execute(text("SELECT delivery_id, state, comment FROM deliveries")).all() == [
            (2, "sent", "x")
        ]
        connection.execute(text("UPDATE deliveries SET state = 'not_sent'"))
    with pytest.raises(LedgerRuleError, match="ck_deliveries_state"), upgraded.write() as connection:
        connection.execute(text("UPDATE deliveries SET state = 'nowhere'"))
    with upgraded.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert list(connection.execute(text("PRAGMA foreign_key_check"))) == []
    upgraded.close()


def to(revision: str, url: str) -> None:
    """Bring a new ledger up to a migration and no further."""
    engine = create_engine(url)
    with engine.connect() as connection, connection.begin():
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


ROWS_OF_0002 = (
    "INSERT INTO studies VALUES ('2.25.1', '', '', '', '', '', '2026-03-01', '2026-03-01')",
    "INSERT INTO series VALUES ('2.25.1.1', '2.25.1', 'CT', '')",
    "INSERT INTO revisions (revision_id, series_instance_uid, number, state, opened_at) "
    "VALUES (3, '2.25.1.1', 1, 'read', '2026-03-01')",
    "INSERT INTO jobs (job_id, revision_id, pipeline, priority, state, attempts, worker_deaths, fencing_token, "
    "not_before, created_at) VALUES (7, 3, 'hemorrhage', 0, 'done', 1, 0, 1, '2026-03-01', '2026-03-01')",
    "INSERT INTO results (result_id, job_id, fencing_token, revision_id, study_instance_uid, pipeline, status, "
    "outcome, configuration_hash, recorded_at) "
    "VALUES (1, 7, 1, 3, '2.25.1', 'hemorrhage', 'clean', '{}', '', '2026-03-01')",
    "INSERT INTO objects VALUES (1, 1, 'summary_image', '1.2', '1.2.3', '1.2.4', '', '', 0)",
    "INSERT INTO deliveries (delivery_id, object_id, result_id, destination, state, attempts, comment, created_at) "
    "VALUES (2, 1, 1, 'pacs', 'sent', 1, 'x', '2026-03-01')",
)


def _open_and_append(url: str, actor: str, count: int, go: threading.Barrier) -> None:
    go.wait(60)
    ledger = open_ledger(url)
    for _ in range(count):
        append(ledger, actor)
    ledger.close()


def test_two_processes_open_upgrade_and_write_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    go = spawn.Barrier(2)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
    processes = [spawn.Process(target=_open_and_append, args=(url, name, 20, go)) for name in ("a", "b")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    ledger = open_ledger(url)
    assert sorted(actors(ledger)) == ["a"] * 20 + ["b"] * 20
    with ledger.read() as connection:
        count, _, broken = audit.verify(connection)
    assert (count, broken) == (40, None)
    ledger.close()
