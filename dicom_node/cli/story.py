"""`triage-node story`: everything that happened to a study, series or instance, in order."""

from __future__ import annotations

import json

import click

from db import audit as trail
from db import studies as study_rows
from dicom_node.audit.events import EVENTS
from dicom_node.cli.common import ANSWER_IS_NO, errors, ledger_of, print_json, say, with_json, with_settings
from dicom_node.settings import Settings


@click.command()
@click.argument("uid")
@with_json
@with_settings
def story(*, settings: Settings, uid: str, as_json: bool) -> None:
    """Tell what happened to the study that UID (of a study, series or instance) belongs to."""
    with ledger_of(settings) as ledger, ledger.read() as connection:
        study_instance_uid = study_rows.study_of(connection, uid)
        events = list(trail.rows(connection, study_instance_uid=study_instance_uid)) if study_instance_uid else []
    if study_instance_uid is None:
        errors.print(f"The ledger knows no study, series or instance {uid}.")
        raise SystemExit(ANSWER_IS_NO)
    told = [
        {"at": row.at, "event": row.event, "meaning": EVENTS[row.event].meaning, "facts": json.loads(row.facts)}
        for row in events
    ]
    if as_json:
        print_json({"study_instance_uid": study_instance_uid, "events": told})
        return
    for line in told:
        moment = line["at"].astimezone().strftime("%H:%M:%S.%f")[:-3]
        say(f"{moment} {line['meaning']}", style="bold")
        for name, value in line["facts"].items():
            shown = value.get("text", value) if isinstance(value, dict) else value
            say(f"{name.replace('_', ' ')}: {shown}", indent=13)
