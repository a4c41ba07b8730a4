"""A PACS for the demonstration: Orthanc where it is installed, else a small receiving AE of our own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, build_context, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicom_node.process import end_with_parent
from dicom_node.reactor import stand_still_while_asking

AE_TITLE = "PACS"
START_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Pacs:
    """A running PACS on this machine. `product` is its name for people."""

    product: str
    port: int

    def echo(self) -> bool:
        """Whether it answers a C-ECHO."""
        ae = AE(ae_title="DEMO")
        ae.connection_timeout = ae.acse_timeout = 2
        association = ae.associate("127.0.0.1", self.port, [build_context(Verification)], ae_title=AE_TITLE)
        if not association.is_established:
            return False
        stand_still_while_asking(association)
        status = association.send_c_echo()
        association.release()
        return bool(status) and status.Status == 0

    def find(self, study_instance_uid: str) -> list[Dataset]:
        """What it holds of a study, an instance each: SOPInstanceUID, SOPClassUID, SeriesInstanceUID, Modality."""
        found = []
        for series in self._query("SERIES", study_instance_uid, "", ["Modality"]):
            for instance in self._query("IMAGE", study_instance_uid, series.SeriesInstanceUID, ["SOPClassUID"]):
                instance.Modality = series.Modality
                found.append(instance)
        return found

    def _query(self, level: str, study_uid: str, series_uid: str, asked: list[str]) -> list[Dataset]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        identifier.StudyInstanceUID = study_uid
        identifier.SeriesInstanceUID = series_uid
        if level == "IMAGE":
            identifier.SOPInstanceUID = ""
        for keyword in asked:
            setattr(identifier, keyword, "")
        ae = AE(ae_title="DEMO")
        contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]
        association = ae.associate("127.0.0.1", self.port, contexts, ae_title=AE_TITLE)
        if not association.is_established:
            return []
        stand_still_while_asking(association)
        answers = [
            answer
            for status, answer in association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
            if status and status.Status in (0xFF00, 0xFF01) and answer is not None
        ]
        association.release()
        return answers


def free_port() -> int:
    """A TCP port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_pacs(folder: Path) -> Iterator[Pacs]:
    """Start a PACS that keeps what it gets in `folder`, and stop it at the end."""
    orthanc = shutil.which("Orthanc", path=f"{Path('/usr/sbin')}:{Path('/usr/local/sbin')}") or shutil.which("Orthanc")
    port = free_port()
    if orthanc is None:
        with _own_receiving_ae(port):
            yield Pacs("a small receiving AE of ours (Orthanc is not installed)", port)
        return
    with _orthanc(orthanc, folder, port) as pacs:
        yield pacs


@contextmanager
def _orthanc(binary: str, folder: Path, port: int) -> Iterator[Pacs]:
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": AE_TITLE,
        "DicomAet": AE_TITLE,
        "DicomPort": port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowFind": True,
        "HttpServerEnabled": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([binary, str(file)], stdout=log, stderr=log, preexec_fn=end_with_parent)  # noqa: PLW1509
    pacs = Pacs("Orthanc", port)
    try:
        deadline = time.monotonic() + START_WITHIN_S
        while not _listens(port) or not pacs.echo():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Orthanc did not start; see {folder / 'orthanc.log'}")
            time.sleep(0.1)
        yield pacs
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _own_receiving_ae(port: int) -> Iterator[None]:
    """Keeps headers in memory and answers C-FIND: enough to prove that results arrived."""
    held: dict[str, Dataset] = {}

    def store(event: evt.Event) -> int:
        instance = event.dataset
        held[instance.SOPInstanceUID] = instance
        return 0x0000

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = asked.QueryRetrieveLevel
        key = {"SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}.get(level, "StudyInstanceUID")
        told = set()
        for instance in list(held.values()):
            if not _matches(instance, asked) or instance[key].value in told:
                continue
            told.add(instance[key].value)
            answer = Dataset()
            answer.QueryRetrieveLevel = level
            for element in asked:
                if element.keyword and element.keyword != "QueryRetrieveLevel":
                    setattr(answer, element.keyword, instance.get(element.keyword, ""))
            yield 0xFF00, answer

    ae = AE(ae_title=AE_TITLE)
    ae.supported_contexts = [
        *AllStoragePresentationContexts,
        build_context(Verification),
        build_context(StudyRootQueryRetrieveInformationModelFind),
    ]
    ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, find)])
    try:
        yield
    finally:
        ae.shutdown()


def _matches(instance: Dataset, asked: Dataset) -> bool:
    uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    return all(not asked.get(uid) or instance.get(uid) == asked.get(uid) for uid in uids)
