"""Receiving on loopback: this node's receiver beside pynetdicom's own SCP and DCMTK's storescp, in one run.

    python -m tests.bench.receive [--instances 300] [--rounds 3]

Each row is the median of the rounds, each round from an empty folder. Compare rows only within one run. Only the
first receiver synchronises file and ledger before it answers; the others leave the data to the operating system.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, StoragePresentationContexts, VerificationPresentationContexts, _config, evt

from dicom_node.service.roles import receive
from dicom_node.settings import Settings
from dicom_node.telemetry import configure_logging

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDIES = 10
Start = Callable[[int, Path], subprocess.Popen[bytes]]


def write_instances(folder: Path, count: int) -> list[Path]:
    """CT instances of 0.5 MB in `STUDIES` studies."""
    noise = np.random.default_rng(1).normal(40, 18, (512, 512)).astype(np.int16)
    paths = []
    for number in range(count):
        study = f"1.2.3.{1 + number % STUDIES}"
        dataset = Dataset()
        dataset.SOPClassUID = CT_IMAGE_STORAGE
        dataset.SOPInstanceUID = f"{study}.1.{1 + number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
        dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Bench", "1"
        dataset.Rows, dataset.Columns, dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 512, 512, 16, 16, 15
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 1
        dataset.PixelData = (noise + number % 7).tobytes()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        paths.append(folder / f"{number:04}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def ours(port: int, folder: Path) -> subprocess.Popen[bytes]:
    return _python("serve", port, folder)


def pynetdicom_itself(port: int, folder: Path) -> subprocess.Popen[bytes]:
    return _python("serve-pynetdicom", port, folder)


def storescp(port: int, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["storescp", "-pdu", "131072", "--fork", "+B", "-od", str(folder), str(port)])


def _python(verb: str, port: int, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.bench.receive", verb, str(port), str(folder)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


RECEIVERS: dict[str, Start] = {"triage-node": ours, "pynetdicom": pynetdicom_itself, "storescp --fork": storescp}


@dataclass(frozen=True)
class Round:
    instances_per_s: float
    cpu_ms_per_instance: float


@contextmanager
def running(start: Start) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        process = start(port, Path(folder))
        try:
            _wait_for(port)
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int) -> None:
    command = ["echoscu", "-aec", "TRIAGE", "127.0.0.1", str(port)]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not subprocess.run(command, check=False, capture_output=True).returncode:
            return
        time.sleep(0.1)
    raise RuntimeError("the receiver did not start")


def measure(start: Start, paths: list[Path], associations: int, *, no_delay: bool) -> Round:
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if no_delay:
        environment["TCP_NODELAY"] = "1"
    with running(start) as (port, process):
        command = ["dcmsend", "-aec", "TRIAGE", "--max-send-pdu", "131072", "127.0.0.1", str(port)]
        cpu, began = _cpu_s(process), time.perf_counter()
        senders = [
            subprocess.Popen([*command, *map(str, paths[first::associations])], env=environment)
            for first in range(associations)
        ]
        if any(sender.wait() for sender in senders):
            raise RuntimeError("not every instance was stored")
        elapsed = time.perf_counter() - began
        return Round(len(paths) / elapsed, 1000 * (_cpu_s(process) - cpu) / len(paths))


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def bench(instances: int, rounds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_instances(Path(folder), instances)
        receivers = {name: start for name, start in RECEIVERS.items() if name != "storescp --fork" or _has("storescp")}
        print(f"{instances} CT instances of 0.5 MB; instances/s (server CPU ms each), median of {rounds}")
        print(f"{'associations, sender':32}" + "".join(f"{name:>24}" for name in receivers))
        for associations in (1, 4, 10):
            for no_delay in (True, False):
                cells: dict[str, list[Round]] = {name: [] for name in receivers}
                for _ in range(rounds):
                    for name, start in receivers.items():
                        cells[name].append(measure(start, paths, associations, no_delay=no_delay))
                label = f"{associations}, {'TCP_NODELAY' if no_delay else 'unmodified'}"
                print(f"{label:32}" + "".join(f"{_cell(held):>24}" for held in cells.values()), flush=True)


def _cell(held: list[Round]) -> str:
    rate = statistics.median(one.instances_per_s for one in held)
    return f"{rate:.0f} ({statistics.median(one.cpu_ms_per_instance for one in held):.2f})"


def _has(program: str) -> bool:
    return shutil.which(program) is not None


def serve(port: int, folder: Path) -> None:
    """Run this node's receiver alone."""
    configure_logging("receive")
    node = {"port": port, "host": "127.0.0.1", "spool": folder}
    sys.exit(receive.run(Settings.model_validate({"node": node}), 0))


def serve_pynetdicom(port: int, folder: Path) -> None:
    """Run pynetdicom's SCP with the least that stores the bytes: no ledger, nothing synchronised."""

    def store(event: evt.Event) -> int:
        path = folder / event.request.AffectedSOPInstanceUID
        path.with_suffix(".part").write_bytes(event.encoded_dataset())
        path.with_suffix(".part").rename(path)
        return 0

    _config.LOG_HANDLER_LEVEL = "none"
    entity = AE("TRIAGE")
    entity.maximum_pdu_size, entity.maximum_associations = 131072, 64
    entity.supported_contexts = StoragePresentationContexts + VerificationPresentationContexts
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


def main() -> None:
    if len(sys.argv) == 4 and sys.argv[1].startswith("serve"):
        {"serve": serve, "serve-pynetdicom": serve_pynetdicom}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not _has("dcmsend"):
        sys.exit("this bench sends with DCMTK's dcmsend, which is not installed")
    bench(given.instances, given.rounds)


if __name__ == "__main__":
    main()
