"""The kill test: SIGKILL of any process of the node at random moments while studies are pushed.

After each kill, and whatever restarts, every acknowledged instance must be there byte for byte, every series must get
its answer, and the destination must hold each result once. `tests/system/torture --kills N` runs it by hand.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pydicom
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage

from db import audit, studies
from db import deliveries as delivery_rows
from db import instances as instance_rows
from db.connect import Ledger, open_ledger
from dicom_node.demonstration.node import Node, running_node, service_toml
from dicom_node.demonstration.pacs import Pacs, running_pacs
from dicom_node.reactor import stand_still_while_asking
from pipelines.phantom.head.study import PhantomOptions, make_study

STUDIES = 3
SETTLE_WITHIN_S = 240.0
LATEST_KILL_S = 6.0
ANSWERS = ("finding", "clean", "unsure")


@dataclass(slots=True)
class Push:
    """One study on its way: what the node acknowledged, as the data set's bytes by SOP Instance UID."""

    files: tuple[Path, ...]
    study_instance_uid: str
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    finished: threading.Event = field(default_factory=threading.Event)

    def run(self, port: int) -> None:
        """Send as a PACS does: what was not acknowledged is sent again over a new association until all is."""
        while left := [file for file in self.files if _uid(file) not in self.acknowledged]:
            try:
                self._send(left, port)
            except (OSError, RuntimeError, ValueError):
                time.sleep(0.2)
        self.finished.set()

    def _send(self, files: Sequence[Path], port: int) -> None:
        ae = AE(ae_title="TORTURE")
        ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 10
        association = ae.associate("127.0.0.1", port, [build_context(CTImageStorage)], ae_title="TRIAGE")
        if not association.is_established:
            raise RuntimeError("no association")
        stand_still_while_asking(association)
        try:
            for file in files:
                status = association.send_c_store(file)
                if not status or status.Status != 0:
                    raise RuntimeError("not stored")
                self.acknowledged[_uid(file)] = _data_set_bytes(file)
        finally:
            association.release()


def _uid(file: Path) -> str:
    return file.stem


def _data_set_bytes(file: Path) -> bytes:
    """What follows the file meta information."""
    content = file.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def made_studies(folder: Path, base: Sequence[Path], round_: int) -> list[Push]:
    """Studies of their own identity out of one made series; files are named by their SOP Instance UID."""
    pushes = []
    for number in range(STUDIES):
        root = f"2.25.{10**30 + round_ * 1000 + number}"
        target = folder / f"round{round_}" / str(number)
        target.mkdir(parents=True)
        files = []
        for index, file in enumerate(base):
            instance = pydicom.dcmread(file)
            instance.StudyInstanceUID, instance.SeriesInstanceUID = f"{root}.1", f"{root}.2"
            instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = f"{root}.3.{index + 1}"
            files.append(target / f"{instance.SOPInstanceUID}.dcm")
            instance.save_as(files[-1], enforce_file_format=True)
        pushes.append(Push(tuple(files), f"{root}.1"))
    return pushes


def victims(node: Node) -> dict[str, int]:
    """Every process of the node by name: the supervisor, the roles, and what the engine started."""
    found = {}
    if node.process is not None and node.process.poll() is None:
        found["supervisor"] = node.process.pid
        for child in psutil.Process(node.process.pid).children(recursive=True):
            if child.status() == psutil.STATUS_ZOMBIE:
                continue
            words = child.cmdline()
            role = words[words.index("--role") + 1] if "--role" in words else "engine"
            found[f"{role}-{child.pid}"] = child.pid
    return found


def kill_one(node: Node, chance: random.Random) -> str:
    """SIGKILL a process chosen at random; when it was the supervisor the node is started again."""
    name, pid = chance.choice(sorted(victims(node).items()))
    psutil.Process(pid).kill()
    if name == "supervisor":
        assert node.process is not None
        node.process.wait()
        node.start()
    return name.split("-")[0]


def problems_of(pushes: Sequence[Push], ledger: Ledger, node: Node, pacs: Pacs) -> list[str]:
    """What is not as promised; empty when all is well."""
    return [problem for push in pushes for problem in _problems_of(push, ledger, node, pacs)]


def _problems_of(push: Push, ledger: Ledger, node: Node, pacs: Pacs) -> list[str]:
    problems = []
    with ledger.read() as connection:
        held = {row.sop_instance_uid: row for row in instance_rows.of_study(connection, push.study_instance_uid)}
        study = studies.find_study(connection, push.study_instance_uid)
        expected = {
            one.sop_instance_uid
            for one in delivery_rows.list_deliveries(connection, study_instance_uid=push.study_instance_uid)
        }
    for uid, sent in push.acknowledged.items():
        if uid not in held:
            problems.append("an acknowledged instance is not in the ledger")
        elif _data_set_bytes(node.settings.node.spool / held[uid].file) != sent:
            problems.append("an acknowledged instance is not what was sent")
    if study is None or any(series.state not in ANSWERS for series in study.series):
        problems.append(f"not read: {[(s.state, s.reason) for s in study.series] if study else 'no study'}")
    stored = pacs.find(push.study_instance_uid)
    by_class = Counter(str(instance.SOPClassUID) for instance in stored)
    if {str(instance.SOPInstanceUID) for instance in stored} != expected or not expected:
        problems.append(f"the PACS holds {len(stored)} results, the ledger {len(expected)}")
    if duplicates := [name for name, count in by_class.items() if count > 1]:
        problems.append(f"the PACS holds several results of one kind: {duplicates}")
    return problems


def wait_until_settled(pushes: Sequence[Push], ledger: Ledger) -> bool:
    """Wait for every push to end and every result to be delivered."""
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while time.monotonic() < deadline:
        if all(push.finished.is_set() for push in pushes) and all(_is_settled(push, ledger) for push in pushes):
            return True
        time.sleep(0.2)
    return False


def _is_settled(push: Push, ledger: Ledger) -> bool:
    with ledger.read() as connection:
        study = studies.find_study(connection, push.study_instance_uid)
        rows = delivery_rows.list_deliveries(connection, study_instance_uid=push.study_instance_uid)
    settled = study is not None and all(series.state in (*ANSWERS, "not_read", "ignored") for series in study.series)
    return settled and bool(rows) and all(row.next_attempt_at is None for row in rows)


def torture(folder: Path, kills: int, seed: int) -> list[str]:
    """Kill `kills` times, each time during a push of three studies. Gives the problems found."""
    chance = random.Random(seed)
    base = make_study(
        folder / "base", PhantomOptions(seed=3, bleed="intraparenchymal", volume_ml=40.0, slice_mm=8.0, pixels=256)
    ).files
    with running_pacs(folder / "pacs") as pacs, running_node(folder, service_toml(folder, pacs)) as node:
        ledger = open_ledger(node.settings.node.database_url)
        problems: list[str] = []
        for round_ in range(kills):
            pushes = made_studies(folder, base, round_)
            for push in pushes:
                threading.Thread(target=push.run, args=(node.port,), daemon=True).start()
            moment = chance.uniform(0, LATEST_KILL_S)
            time.sleep(moment)
            killed = kill_one(node, chance)
            settled = wait_until_settled(pushes, ledger)
            found = problems_of(pushes, ledger, node, pacs) if settled else ["not settled in time"]
            print(
                f"kill {round_ + 1:3} of {kills}: {killed:10} at {moment:4.1f} s: {'; '.join(found) or 'well'}",
                flush=True,
            )
            problems += found
        with ledger.read() as connection:
            count, _, broken = audit.verify(connection)
        print(f"audit trail: {count} events, {'holds' if broken is None else broken}")
        ledger.close()
        return [*problems, *([] if broken is None else ["the audit trail does not hold"])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triage-node-torture-") as folder:
        problems = torture(Path(folder), asked.kills, asked.seed)
    print(f"{asked.kills} kills, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
