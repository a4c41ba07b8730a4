"""`triage-node studies|queue|deliveries|alerts|quarantine`: what the ledger holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import NoReturn

import click

from db import alerts as alert_rows
from db import deliveries as delivery_rows
from db import jobs as job_rows
from db import quarantine as quarantine_rows
from db import studies as study_rows
from db.schema import ALERT_STATES, DELIVERY_STATES, JOB_STATES
from dicom_node.alert.verbs import send_test
from dicom_node.cli.common import (
    ANSWER_IS_NO,
    console,
    errors,
    ledger_of,
    print_fields,
    print_json,
    print_rows,
    say,
    with_json,
    with_settings,
)
from dicom_node.clock import utc_now
from dicom_node.deliver import verbs as delivery_verbs
from dicom_node.deliver.policy import TransitionError
from dicom_node.service.wake import Notifier
from dicom_node.settings import Settings

limit_option = click.option("--limit", type=click.IntRange(min=1), help="At most so many.")


@click.group()
def studies() -> None:
    """Studies and the answer that each of their series got."""


@studies.command("list")
@limit_option
@with_json
@with_settings
def list_studies(*, settings: Settings, limit: int | None, as_json: bool) -> None:
    """List studies, the newest first."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        held = study_rows.list_studies(connection, limit=limit)
    if as_json:
        print_json([asdict(study) for study in held])
        return
    rows = [asdict(study) | {"series": len(study.series), "answer": _answers(study)} for study in held]
    columns = (
        "last_received_at",
        "state",
        "answer",
        "accession_number",
        "study_description",
        "series",
        "study_instance_uid",
    )
    print_rows(rows, columns, as_json=False, title="studies")


@studies.command("show")
@click.argument("uid")
@with_json
@with_settings
def show_study(*, settings: Settings, uid: str, as_json: bool) -> None:
    """Show the study that UID (of a study, series or instance) belongs to."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        study_instance_uid = study_rows.study_of(connection, uid)
        study = study_rows.find_study(connection, study_instance_uid) if study_instance_uid else None
    if study is None:
        _unknown("study, series or instance", uid)
    if as_json:
        print_json(asdict(study))
        return
    print_fields({name: value for name, value in asdict(study).items() if name != "series"}, as_json=False)
    columns = ("state", "modality", "series_description", "instance_count", "revision_number", "answer", "reason")
    rows = [asdict(series) | {"answer": _answer(series)} for series in study.series]
    print_rows(rows, columns, as_json=False, title="series")


@click.group()
def queue() -> None:
    """Readings: those that wait, run and ended."""


@queue.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(JOB_STATES), help="Only in this state; repeatable.")
@limit_option
@with_json
@with_settings
def list_jobs(*, settings: Settings, states: tuple[str, ...], limit: int | None, as_json: bool) -> None:
    """List jobs."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        held = job_rows.list_jobs(connection, states=states, limit=limit)
    columns = ("job_id", "state", "pipeline", "priority", "attempts", "created_at", "ended_at", "reason")
    print_rows(held, columns, as_json=as_json, title="jobs")


@queue.command("show")
@click.argument("job_id", type=int)
@with_json
@with_settings
def show_job(*, settings: Settings, job_id: int, as_json: bool) -> None:
    """Show one job."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        job = job_rows.find(connection, job_id)
    if job is None:
        _unknown("job", job_id)
    print_fields(job, as_json=as_json)


@queue.command("retry")
@click.argument("job_id", type=int)
@with_settings
def retry_job(*, settings: Settings, job_id: int) -> None:
    """Read again what was not read."""
    with ledger_of(settings) as ledger, ledger.write() as connection:
        asked = job_rows.retry(connection, job_id, now=utc_now())
    if not asked:
        errors.print(f"Job {job_id} does not stand in a state that can be tried again.")
        raise SystemExit(ANSWER_IS_NO)
    Notifier(settings.node.spool)()
    console.print(f"Job {job_id} waits to be read again.")


@click.group()
def deliveries() -> None:
    """Results on their way to the destinations."""


@deliveries.command("list")
@click.option("--study", default="", metavar="UID", help="Only of this study.")
@click.option("--state", default="", type=click.Choice(("", *DELIVERY_STATES)), help="Only in this state.")
@limit_option
@with_json
@with_settings
def list_deliveries(*, settings: Settings, study: str, state: str, limit: int | None, as_json: bool) -> None:
    """List deliveries, the newest first."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        held = delivery_rows.list_deliveries(connection, study_instance_uid=study, state=state, limit=limit)
    columns = (
        "delivery_id",
        "state",
        "destination",
        "kind",
        "attempts",
        "stored_at",
        "confirmed_at",
        "comment",
        "reason",
    )
    print_rows(held, columns, as_json=as_json, title="deliveries")


@deliveries.command("show")
@click.argument("delivery_id", type=int)
@with_json
@with_settings
def show_delivery(*, settings: Settings, delivery_id: int, as_json: bool) -> None:
    """Show one delivery."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        delivery = delivery_rows.find_delivery(connection, delivery_id)
    if delivery is None:
        _unknown("delivery", delivery_id)
    print_fields(delivery, as_json=as_json)


@deliveries.command("retry")
@click.argument("delivery_id", type=int)
@with_settings
def retry_delivery(*, settings: Settings, delivery_id: int) -> None:
    """Send again what a destination refused or was given up."""
    with ledger_of(settings) as ledger:
        try:
            delivery = delivery_verbs.retry(ledger, delivery_id, utc_now())
        except TransitionError:
            errors.print(f"Delivery {delivery_id} does not stand in a state that can be tried again.")
            raise SystemExit(ANSWER_IS_NO) from None
    if delivery is None:
        _unknown("delivery", delivery_id)
    Notifier(settings.node.spool)()
    console.print(f"Delivery {delivery_id} waits to be sent again.")


@click.group()
def alerts() -> None:
    """Alerts, and what happened to them."""


@alerts.command("list")
@click.option("--study", default="", metavar="UID", help="Only of this study.")
@click.option("--state", default="", type=click.Choice(("", *ALERT_STATES)), help="Only in this state.")
@limit_option
@with_json
@with_settings
def list_alerts(*, settings: Settings, study: str, state: str, limit: int | None, as_json: bool) -> None:
    """List alerts, the newest first."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        held = alert_rows.list_alerts(connection, study_instance_uid=study, state=state, limit=limit)
    columns = ("alert_id", "state", "rule", "pipeline", "status", "score", "raised_at", "delivered_at", "reason")
    print_rows(held, columns, as_json=as_json, title="alerts")


@alerts.command("show")
@click.argument("alert_id", type=int)
@with_json
@with_settings
def show_alert(*, settings: Settings, alert_id: int, as_json: bool) -> None:
    """Show one alert and each attempt to deliver it."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        alert = alert_rows.find_alert(connection, alert_id)
        events = alert_rows.events_of(connection, alert_id)
    if alert is None:
        _unknown("alert", alert_id)
    if as_json:
        print_json(asdict(alert) | {"events": [asdict(event) for event in events]})
        return
    print_fields({name: value for name, value in asdict(alert).items() if name != "outcome"}, as_json=False)
    print_rows(events, ("at", "event", "channel", "detail"), as_json=False, title="events")


@alerts.command("test")
@click.argument("rule")
@with_settings
def test_alert(*, settings: Settings, rule: str) -> None:
    """Send a message that says it is a test through every channel of a rule; exit 1 where one does not take it."""
    if rule not in settings.alerts:
        raise click.UsageError(f"There is no alert rule {rule}; there are: {', '.join(settings.alerts) or 'none'}.")
    answers = send_test(rule, settings, utc_now())
    for answer in answers:
        if answer.reason is None:
            say(f"{answer.channel}: took the message", "ok")
        else:
            say(f"{answer.channel}: {answer.reason.text}", "failed")
    if any(answer.reason is not None for answer in answers):
        raise SystemExit(ANSWER_IS_NO)


@click.group()
def quarantine() -> None:
    """What senders pushed and the node refused, kept for an administrator to look at."""


@quarantine.command("list")
@limit_option
@with_json
@with_settings
def list_quarantine(*, settings: Settings, limit: int | None, as_json: bool) -> None:
    """List what is in quarantine, the newest first."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        held = quarantine_rows.list_quarantined(connection, limit)
    print_rows(held, ("at", "reason", "sop_class_uid", "file"), as_json=as_json, title="refused objects")


def _answers(study: study_rows.Study) -> str | None:
    """What was answered for the series of the study that are as urgent as it is."""
    answers = (_answer(series) for series in study.series if series.state == study.state)
    return "; ".join(dict.fromkeys(answer for answer in answers if answer)) or None


def _answer(series: study_rows.SeriesState) -> str | None:
    """The impression in words; the score alone of a result that was recorded without one."""
    impression = (series.outcome or {}).get("impression")
    return impression or (None if series.score is None else f"score {series.score:.3g}")


def _unknown(what: str, which: object) -> NoReturn:
    errors.print(f"The ledger knows no {what} {which}.")
    raise SystemExit(ANSWER_IS_NO)
