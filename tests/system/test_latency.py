"""Nothing on the way from the last image to the alert waits for a clock.

How long the reading itself takes depends on the machine (`tests.bench.latency` prints both, against the bound); here
only what comes on top of it counts. A wake-up that got lost would cost a stage its poll interval.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from sqlalchemy import select

from db import alerts, studies
from db.connect import Ledger, open_ledger
from db.schema import associations, instances
from dicom_node.demonstration import sender
from dicom_node.demonstration.node import running_node
from dicom_node.demonstration.webhook import listening
from dicom_node.service.loop import POLL_S
from tests.system.conftest import free_port
from tests.unit.db.queued import slices
from tests.unit.dicom_node.made import encoded

STUDIES = 3
ALERT_WITHIN_S = 60.0


def write(folder: Path, number: int) -> list[Path]:
    """A series too short to be read: the way of its answer is the same, and no network has a part in it."""
    folder.mkdir()
    paths = []
    for index, made in enumerate(slices(1, 2)):
        made.StudyInstanceUID = f"2.25.77{number}"
        made.SeriesInstanceUID = f"2.25.77{number}.1"
        made.SOPInstanceUID = f"2.25.77{number}.1.{index + 1}"
        paths.append(folder / f"{index}.dcm")
        paths[-1].write_bytes(encoded(made))
    return paths


def overhead_s(ledger: Ledger, study: str) -> float:
    """From the end of the association to the alert's delivery, without what the worker took."""
    deadline = time.monotonic() + ALERT_WITHIN_S
    while True:
        with ledger.read() as connection:
            told = alerts.list_alerts(connection, study_instance_uid=study, state="delivered")
        if told:
            break
        assert time.monotonic() < deadline, "no alert came"
        time.sleep(0.05)
    with ledger.read() as connection:
        found = studies.find_study(connection, study)
        ended = connection.execute(
            select(associations.c.ended_at)
            .join(instances, instances.c.association_id == associations.c.association_id)
            .where(instances.c.study_instance_uid == study)
        ).scalars()
        last = max(ended)
    assert found is not None and found.series[0].outcome is not None
    assert told[0].delivered_at is not None
    return (told[0].delivered_at - last).total_seconds() - float(found.series[0].outcome["seconds"]["total"])


def test_nothing_between_image_and_alert_waits_for_a_clock(tmp_path: Path) -> None:
    with listening() as phone:
        toml = f"""
[node]
host = "127.0.0.1"
port = {free_port()}
spool = "{tmp_path / "spool"}"
[alerts.oncall]
channels = ["{phone.url}"]
statuses = ["not_read"]
"""
        with running_node(tmp_path, toml) as node:
            ledger = open_ledger(node.settings.node.database_url)
            found = []
            for number in range(STUDIES):
                files = write(tmp_path / str(number), number)
                sender.push(files, port=node.port, called_ae_title=node.settings.node.ae_title)
                found.append(overhead_s(ledger, f"2.25.77{number}"))
            ledger.close()
    print("overhead: " + ", ".join(f"{seconds:.2f} s" for seconds in found))
    assert statistics.median(found) < POLL_S
