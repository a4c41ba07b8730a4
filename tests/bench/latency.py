"""Time from the last C-STORE response to the alert, beside what reading the same files takes in the warm worker.

`python -m tests.bench.latency [--studies N]`. The bound of both is 1.5 times the reading plus one second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import pydicom
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage

from db import studies
from db.connect import Ledger, opened_ledger
from dicom_node.clock import utc_now
from dicom_node.demonstration.node import Node, running_node, service_toml
from dicom_node.demonstration.pacs import running_pacs
from dicom_node.demonstration.webhook import Phone, listening
from dicom_node.reactor import stand_still_while_asking
from pipelines.phantom.head.study import PhantomOptions, make_study

ALERT_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Latency:
    """One study. `reading_s` is load, network and measuring as the worker timed them; `ratio` counts off the second."""

    to_alert_s: float
    reading_s: float

    @property
    def ratio(self) -> float:
        return (self.to_alert_s - 1.0) / self.reading_s


def measure(folder: Path, count: int) -> list[Latency]:
    """Push `count` made studies with a bleed, one after another, through a node and a PACS."""
    with (
        running_pacs(folder / "pacs") as pacs,
        listening() as phone,
        running_node(folder, service_toml(folder, pacs, phone.url)) as node,
        opened_ledger(node.settings.node.database_url) as ledger,
    ):
        return [_one(folder / str(seed), seed, node, ledger, phone) for seed in range(count)]


def _one(folder: Path, seed: int, node: Node, ledger: Ledger, phone: Phone) -> Latency:
    made = make_study(folder, PhantomOptions(seed=seed, bleed="intraparenchymal", volume_ml=40.0))
    before = len(phone.received)
    last_response = _push(made.files, node)
    deadline = time.monotonic() + ALERT_WITHIN_S
    while len(phone.received) == before:
        if time.monotonic() > deadline:
            raise RuntimeError("no alert came")
        time.sleep(0.002)
    study_instance_uid = str(pydicom.dcmread(made.files[0], stop_before_pixels=True).StudyInstanceUID)
    with ledger.read() as connection:
        study = studies.find_study(connection, study_instance_uid)
    assert study is not None
    seconds = (study.series[0].outcome or {})["seconds"]
    return Latency((phone.received[before][0] - last_response).total_seconds(), seconds["read"])


def _push(files: tuple[Path, ...], node: Node) -> datetime:
    association = AE(ae_title="BENCH").associate(
        "127.0.0.1", node.port, [build_context(CTImageStorage)], ae_title=node.settings.node.ae_title
    )
    stand_still_while_asking(association)
    for file in files:
        status = association.send_c_store(file)
        if not status or status.Status != 0:
            raise RuntimeError("not stored")
    last_response = utc_now()
    association.release()
    return last_response


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triage-node-bench-") as folder:
        latencies = measure(Path(folder), asked.studies)
    if asked.json:
        print(json.dumps([asdict(one) for one in latencies]))
        return
    print("last response to alert   reading   (alert - 1 s) / reading")
    for one in latencies:
        print(f"{one.to_alert_s:20.2f} s {one.reading_s:8.2f} s {one.ratio:12.2f}")
    median = statistics.median(one.ratio for one in latencies)
    print(f"median ratio {median:.2f}; the bound is 1.5")


if __name__ == "__main__":
    main()
