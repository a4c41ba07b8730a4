"""The receiver as its own process, with DCMTK's senders; its storescp in bit-preserving mode says what was sent."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import generate_frames

from db import instances
from db.connect import Ledger, open_ledger
from db.quarantine import list_quarantined
from db.schema import instances as instance_table
from dicom_node.demonstration.pacs import free_port
from dicom_node.process import published
from dicom_node.receive import part10
from pipelines.reasons import TABLE
from tests.bench.receive import write_instances

pytestmark = [
    pytest.mark.dcmtk,
    pytest.mark.skipif(shutil.which("dcmsend") is None, reason="DCMTK's command line tools are not installed"),
]

UNMODIFIED = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}


@dataclass
class Receiver:
    """`triage-node serve --role receive` on a spool of its own."""

    folder: Path
    port: int
    tables: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "service.toml"
        config.write_text(
            f'[node]\nhost = "127.0.0.1"\nport = {self.port}\nspool = "{self.spool}"\n'
            f'database = "sqlite:///{self.folder / "ledger.sqlite3"}"\n[receive]\n'
            + "".join(f"{key} = {value}\n" for key, value in self.tables.items())
        )
        with (self.folder / "log").open("ab") as log:
            command = [
                sys.executable,
                "-m",
                "dicom_node.cli.main",
                "serve",
                "--role",
                "receive",
                "--config",
                str(config),
            ]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while self.process.poll() is None and not self.listens():
            time.sleep(0.05)

    def listens(self) -> bool:
        return (
            self.process is not None
            and published(self.spool).get("receive-0", {}).get("pid") == self.process.pid
            and self.process.poll() is None
        )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(30) == 0

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        ledger = open_ledger(f"sqlite:///{self.folder / 'ledger.sqlite3'}")
        yield ledger
        ledger.close()

    def held(self) -> dict[str, instances.Instance]:
        with self.ledger() as ledger, ledger.read() as connection:
            columns = [instance_table.c[name] for name in instances.Instance.__slots__]
            rows = connection.execute(instance_table.select().with_only_columns(*columns)).all()
        return {row.sop_instance_uid: instances.Instance(*row) for row in rows}

    def data_set(self, row: instances.Instance) -> bytes:
        return data_set_of(self.spool / row.file)


@contextmanager
def receiving(folder: Path, **tables: Any) -> Iterator[Receiver]:
    receiver = Receiver(folder, free_port(), {"free_disk_mb": 0, **tables})
    receiver.start()
    try:
        assert receiver.listens(), receiver.log
        yield receiver
    finally:
        receiver.stop()


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    with receiving(tmp_path_factory.mktemp("receiver")) as running:
        yield running


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_instances(tmp_path_factory.mktemp("pushed"), 60)


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A storescp that writes every bit as it comes."""
    folder, port = tmp_path_factory.mktemp("witness"), free_port()
    process = subprocess.Popen(["storescp", "+B", "-od", str(folder), str(port)])
    while subprocess.run(["echoscu", "127.0.0.1", str(port)], check=False, capture_output=True).returncode:
        time.sleep(0.05)
    yield port, folder
    process.terminate()
    process.wait()


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[part10.open_file(content).data_set_offset :]


def dcmsend(port: int, *files: Path) -> subprocess.CompletedProcess[str]:
    return run("dcmsend", "-d", "--decompress-never", "-aec", "TRIAGE", "127.0.0.1", str(port), *map(str, files))


def storescu(port: int, *files: Path, called: str = "TRIAGE") -> subprocess.CompletedProcess[str]:
    return run("storescu", "-d", "-aec", called, "127.0.0.1", str(port), *map(str, files))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=UNMODIFIED,
    )


def answers(ran: subprocess.CompletedProcess[str]) -> list[tuple[int, str]]:
    """Status and Error Comment of each C-STORE response that a sender of DCMTK prints."""
    found = []
    for block in ran.stdout.split("C-STORE RSP")[1:]:
        status = re.search(r"DIMSE Status\s*: 0x([0-9a-f]{4})", block)
        comment = re.search(r"\(0000,0902\) LO \[([^\]]*)\]", block)
        if status:
            found.append((int(status[1], 16), comment[1] if comment else ""))
    return found


def test_ten_associations_at_once_are_stored_byte_for_byte(
    receiver: Receiver, pushed: list[Path], witness: tuple[int, Path]
) -> None:
    command = ["dcmsend", "-aec", "TRIAGE", "127.0.0.1", str(receiver.port)]
    senders = [subprocess.Popen([*command, *map(str, pushed[first::10])], env=UNMODIFIED) for first in range(10)]
    assert [sender.wait() for sender in senders] == [0] * 10
    assert dcmsend(witness[0], *pushed).returncode == 0
    held = receiver.held()
    for path in pushed:
        uid = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        [sent] = witness[1].glob(f"*{uid}")
        assert receiver.data_set(held[uid]) == data_set_of(sent)
        assert held[uid].sha256 == hashlib.sha256(data_set_of(sent)).hexdigest()


COMPRESSED = {
    "pyd_MR_small_jp2klossless.dcm",
    "csw_CT_JPEGLSLossless.dcm",
    "pyd_JPEGLSNearLossless_16.dcm",
    "csw_CT_JPEGProcess14.dcm",
    "d4c_CT-JPEGLosslessSV1.dcm",
    "pyd_JPGExtended.dcm",
    "pyd_SC_rgb_rle_16bit.dcm",
    "pyd_image_dfl.dcm",
}


@pytest.mark.parametrize("name", sorted(COMPRESSED))
def test_compressed_images_are_stored_as_they_came(
    tmp_path: Path, receiver: Receiver, triage_data: Path, name: str
) -> None:
    whole = pydicom.dcmread(triage_data / "odd" / name)
    uid = f"2.25.{int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])}"
    whole.SOPInstanceUID, whole.StudyInstanceUID, whole.SeriesInstanceUID = f"{uid}.1", f"{uid}.2", f"{uid}.3"
    whole.file_meta.MediaStorageSOPInstanceUID = whole.SOPInstanceUID
    whole.file_meta.MediaStorageSOPClassUID = whole.SOPClassUID
    whole.save_as(tmp_path / name)
    assert answers(dcmsend(receiver.port, tmp_path / name)) == [(0, "")]
    row = receiver.held()[whole.SOPInstanceUID]
    stored = pydicom.dcmread(receiver.spool / row.file)
    assert row.transfer_syntax_uid == stored.file_meta.TransferSyntaxUID == whole.file_meta.TransferSyntaxUID
    assert frame_of(stored) == frame_of(whole)


def frame_of(dataset: pydicom.Dataset) -> bytes:
    """The compressed frame as it stands in the file, without the byte that a sender adds to an odd length."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return bytes(dataset.PixelData)
    return next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0")


def test_every_odd_file_is_stored_or_refused_and_the_node_lives_on(receiver: Receiver, triage_data: Path) -> None:
    known = {row.dimse_status for code, row in TABLE.items() if code.startswith("receive.")} | {0}
    stored = refused = 0
    for file in sorted((triage_data / "odd").iterdir()):
        for status, comment in answers(dcmsend(receiver.port, file)):
            assert status in known, file.name
            assert bool(comment) == (status != 0), file.name
            stored, refused = stored + (status == 0), refused + (status != 0)
    assert receiver.listens()
    assert stored > 40
    assert refused > 0
    with receiver.ledger() as ledger, ledger.read() as connection:
        kept = list_quarantined(connection)
    assert kept
    assert all((receiver.spool / row.file).is_file() for row in kept)
    assert not list((receiver.spool / "tmp").iterdir())


def test_a_wrong_called_ae_title_is_told_to_the_sender(receiver: Receiver, pushed: list[Path]) -> None:
    ran = storescu(receiver.port, pushed[0], called="WRONG")
    assert ran.returncode != 0
    assert "Called AE Title Not Recognized" in ran.stdout
    assert "access.called_ae_title_wrong" in receiver.log


def test_duplicates_same_and_changed(tmp_path: Path, receiver: Receiver, pushed: list[Path]) -> None:
    file = Path(shutil.copy(pushed[0], tmp_path))
    assert storescu(receiver.port, file).returncode == 0
    before = receiver.held()
    [(status, _)] = answers(storescu(receiver.port, file))
    assert status == 0
    subprocess.run(["dcmodify", "-nb", "-m", "PatientName=Other", str(file)], check=True)
    [(status, comment)] = answers(storescu(receiver.port, file))
    assert status == 0x0111
    assert comment.strip() == "Other content is held under this SOP Instance UID."
    assert receiver.held() == before


def test_a_busy_port_is_named_and_ends_the_program(tmp_path: Path, receiver: Receiver) -> None:
    second = Receiver(tmp_path / "second", receiver.port, {})
    second.start()
    assert second.process is not None
    assert second.process.wait(30) == 2
    assert f"Port {receiver.port} is in use" in second.log
    assert receiver.listens()


def test_sigkill_while_images_come_loses_nothing_that_was_acknowledged(tmp_path: Path, pushed: list[Path]) -> None:
    with receiving(tmp_path / "killed") as receiver:
        acknowledged: set[str] = set()
        for awaited in (1, len(pushed) // 4, len(pushed) // 2):
            command = ["storescu", "-v", "-aec", "TRIAGE", "127.0.0.1", str(receiver.port), *map(str, pushed)]
            # With a pipe this short the sender waits until its words are read: it cannot end before the kill.
            sender = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=UNMODIFIED, pipesize=4096
            )
            assert sender.stdout is not None
            lines: list[str] = []
            while sum("Store Response (Success)" in line for line in lines) < awaited:
                lines.append(sender.stdout.readline())
                assert lines[-1], "the sender ended before its turn"
            receiver.kill()
            lines += sender.stdout.readlines()
            sender.wait()
            acknowledged |= acknowledged_in(lines)
            receiver.start()
            assert receiver.listens(), receiver.log
        held = receiver.held()
        for name in acknowledged:
            whole = pydicom.dcmread(name)
            row = held[whole.SOPInstanceUID]
            assert hashlib.sha256(receiver.data_set(row)).hexdigest() == row.sha256
            assert pydicom.dcmread(receiver.spool / row.file) == whole
        assert storescu(receiver.port, *pushed).returncode == 0
        assert len(receiver.held()) == len(pushed)
        with receiver.ledger() as ledger, ledger.read() as connection:
            ends = connection.exec_driver_sql("SELECT ended_by, count(*) FROM associations GROUP BY ended_by").all()
    assert dict(tuple(row) for row in ends) == {"lost": 3, "released": 1}


def acknowledged_in(lines: list[str]) -> set[str]:
    """The files that storescu saw stored."""
    found, file = set(), ""
    for line in lines:
        if "Sending file: " in line:
            file = line.partition("Sending file: ")[2].strip()
        elif "Received Store Response (Success)" in line:
            found.add(file)
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "small"
    (folder / "spool").mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder / "spool")], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder / "spool")], check=True)


def test_a_full_disk_is_told_to_the_sender_and_harms_nothing(small_disk: Path, pushed: list[Path]) -> None:
    with receiving(small_disk) as receiver:
        statuses = [answers(storescu(receiver.port, file)) for file in pushed[:20]]
        flat = [one for answer in statuses for one in answer]
        stored = sum(status == 0 for status, _ in flat)
        assert 0 < stored < len(flat) == 20
        assert {status for status, _ in flat} == {0, 0xA700}
        assert {comment.strip() for status, comment in flat if status} == {"The disk of the spool is full."}
        held = receiver.held()
        assert len(held) == stored
        for row in held.values():
            assert hashlib.sha256(receiver.data_set(row)).hexdigest() == row.sha256
            (receiver.spool / row.file).unlink()  # room again
        assert answers(storescu(receiver.port, pushed[-1])) == [(0, "")]
        assert receiver.log.count("receive.disk_full") == 1


def test_sigterm_ends_cleanly_while_a_sender_holds_its_association(tmp_path: Path, pushed: list[Path]) -> None:
    with receiving(tmp_path / "stopped") as receiver:
        assert storescu(receiver.port, pushed[0]).returncode == 0
        assert receiver.process is not None
        receiver.process.send_signal(signal.SIGTERM)
        assert receiver.process.wait(30) == 0
