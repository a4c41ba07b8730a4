from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from db import status, studies
from db.connect import Ledger
from db.schema import decisions, job_revisions, jobs, results, revisions
from db.schema import series as series_table
from db.schema import studies as study_table
from tests.conftest import MovableClock

AT = MovableClock().now
REASON = {"code": "series.too_few_slices", "text": "too few"}


def add_study(ledger: Ledger, uid: str = "2.25.1", minutes: int = 0) -> None:
    at = AT + timedelta(minutes=minutes)
    with ledger.write() as connection:
        connection.execute(
            insert(study_table).values(
                study_instance_uid=uid, patient_id="P", patient_name="N", accession_number="A", study_date="20260301",
                study_description="CT", first_received_at=at, last_received_at=at,
            )
        )  # fmt: skip


def add_series(
    ledger: Ledger,
    number: int = 1,
    *,
    revision: str,
    action: str | None = None,
    job: str | None = None,
    status: str | None = None,
    revision_number: int = 1,
) -> None:
    uid = f"2.25.1.{number}"
    with ledger.write() as connection:
        if revision_number == 1:
            row = {
                "series_instance_uid": uid,
                "study_instance_uid": "2.25.1",
                "modality": "CT",
                "series_description": "",
            }
            connection.execute(insert(series_table).values(row))
        new = insert(revisions).values(series_instance_uid=uid, number=revision_number, state=revision, opened_at=AT)
        revision_id = connection.execute(new.returning(revisions.c.revision_id)).scalar_one()
        if action is not None:
            reason = None if action == "read" else {"code": f"route.{action}", "text": action}
            row = {
                "revision_id": revision_id,
                "action": action,
                "pipeline": "hemorrhage",
                "reason": reason,
                "facts": {},
            }
            connection.execute(insert(decisions).values(row | {"configuration_hash": "0", "decided_at": AT}))
        if job is None:
            return
        row = {"revision_id": revision_id, "pipeline": "hemorrhage", "priority": 0, "state": job, "attempts": 1}
        row |= {"worker_deaths": 0, "fencing_token": 1, "not_before": AT, "created_at": AT}
        row |= {"reason": REASON if job in ("not_read", "quarantined") else None}
        job_id = connection.execute(insert(jobs).values(row).returning(jobs.c.job_id)).scalar_one()
        connection.execute(insert(job_revisions).values(job_id=job_id, revision_id=revision_id))
        if status is not None:
            row = {"job_id": job_id, "fencing_token": 1, "revision_id": revision_id, "study_instance_uid": "2.25.1"}
            row |= {"pipeline": "hemorrhage", "status": status, "score": 0.5, "outcome": {"findings": []}}
            connection.execute(insert(results).values(row | {"configuration_hash": "0", "recorded_at": AT}))


def look(ledger: Ledger, uid: str = "2.25.1") -> studies.Study:
    with ledger.read() as connection:
        found = studies.find_study(connection, uid)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        ({"revision": "receiving"}, "receiving"),
        ({"revision": "complete"}, "queued"),
        ({"revision": "complete", "action": "ignored"}, "ignored"),
        ({"revision": "complete", "action": "not_read"}, "not_read"),
        ({"revision": "complete", "action": "read", "job": "waiting"}, "queued"),
        ({"revision": "complete", "action": "read", "job": "running"}, "reading"),
        ({"revision": "complete", "action": "read", "job": "not_read"}, "not_read"),
        ({"revision": "complete", "action": "read", "job": "quarantined"}, "not_read"),
        ({"revision": "complete", "action": "read", "job": "cancelled"}, "not_read"),
        ({"revision": "read", "action": "read", "job": "done", "status": "finding"}, "finding"),
        ({"revision": "read", "action": "read", "job": "done", "status": "clean"}, "clean"),
        ({"revision": "read", "action": "read", "job": "done", "status": "unsure"}, "unsure"),
        ({"revision": "read", "action": "read", "job": "not_read", "status": "not_read"}, "not_read"),
    ],
)
def test_each_series_has_one_word_for_where_it_stands(ledger: Ledger, facts: dict[str, Any], state: str) -> None:
    add_study(ledger)
    add_series(ledger, **facts)
    study = look(ledger)
    assert (study.state, [one.state for one in study.series]) == (state, [state])


def test_the_reason_is_that_of_the_job_or_of_the_decision(ledger: Ledger) -> None:
    add_study(ledger)
    add_series(ledger, 1, revision="complete", action="read", job="not_read")
    add_series(ledger, 2, revision="complete", action="ignored")
    add_series(ledger, 3, revision="read", action="read", job="done", status="clean")
    reasons = [one.reason and one.reason["code"] for one in look(ledger).series]
    assert reasons == ["series.too_few_slices", "route.ignored", None]


@pytest.mark.parametrize(
    ("states", "most_urgent"),
    [(("clean", "finding", "unsure"), "finding"), (("clean", "unsure"), "unsure"), (("not_read", "clean"), "not_read")],
)
def test_a_study_stands_where_its_most_urgent_series_does(
    ledger: Ledger, states: tuple[str, ...], most_urgent: str
) -> None:
    add_study(ledger)
    for number, state in enumerate(states):
        add_series(ledger, number, revision="read", action="read", job="done", status=state)
    assert look(ledger).state == most_urgent


def test_only_the_newest_revision_speaks(ledger: Ledger) -> None:
    add_study(ledger)
    add_series(ledger, revision="superseded", action="read", job="done", status="finding")
    add_series(ledger, revision="receiving", revision_number=2)
    [series] = look(ledger).series
    assert (series.state, series.revision_number, series.score) == ("receiving", 2, None)


def test_studies_are_listed_newest_first_and_found_by_any_uid(ledger: Ledger) -> None:
    add_study(ledger)
    add_study(ledger, "2.25.2", minutes=5)
    add_series(ledger, revision="complete")
    with ledger.read() as connection:
        assert [one.study_instance_uid for one in studies.list_studies(connection)] == ["2.25.2", "2.25.1"]
        assert [one.study_instance_uid for one in studies.list_studies(connection, limit=1)] == ["2.25.2"]
        assert studies.study_of(connection, "2.25.2") == "2.25.2"
        assert studies.study_of(connection, "2.25.1.1") == "2.25.1"
        assert studies.study_of(connection, "2.25.9") is None
        assert studies.find_study(connection, "2.25.9") is None
    assert look(ledger, "2.25.2").state == "receiving"


def test_the_status_counts_rows_by_state(ledger: Ledger) -> None:
    add_study(ledger)
    add_series(ledger, 1, revision="read", action="read", job="done", status="clean")
    add_series(ledger, 2, revision="complete", action="read", job="waiting")
    with ledger.read() as connection:
        counted = status.counts(connection)
    assert counted == {
        "studies": {"total": 1},
        "instances": {"total": 0},
        "quarantine": {"total": 0},
        "revisions": {"complete": 1, "read": 1},
        "jobs": {"done": 1, "waiting": 1},
        "results": {"clean": 1},
        "deliveries": {},
        "alerts": {},
    }
