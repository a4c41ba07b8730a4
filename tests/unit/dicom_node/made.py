"""Made headers, and a sender that enters them into the ledger as the receiver does."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlalchemy import Connection

from db.associations import Association, End, end_association, enter_association
from db.connect import Ledger
from db.instances import Instance, enter_instance, held_content
from db.series import Series, Study, enter_series, enter_study, open_revision
from dicom_node.headers import InstanceFacts, facts_of
from dicom_node.spool import Spool

AXIAL = [1, 0, 0, 0, 1, 0]
SAGITTAL = [0, 1, 0, 0, 0, -1]


def header(series: int, number: int, *, study: int = 1, **changes: Any) -> Dataset:
    """One axial 5 mm CT slice, without pixel data; `number` counts slices from 1. A change to None removes."""
    made = Dataset()
    made.SOPClassUID = CTImageStorage
    made.StudyInstanceUID = f"2.25.{study}"
    made.SeriesInstanceUID = f"2.25.{study}.{series}"
    made.SOPInstanceUID = f"2.25.{study}.{series}.{number}"
    made.Modality = "CT"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.BodyPartExamined = "HEAD"
    made.Manufacturer = "SIEMENS"
    made.ConvolutionKernel = "H30s"
    made.SeriesNumber = series
    made.InstanceNumber = number
    made.SamplesPerPixel = 1
    made.SliceThickness = thickness = changes.pop("SliceThickness", 5)
    made.ImageOrientationPatient = AXIAL
    made.ImagePositionPatient = [-120, -120, float(number * (thickness or 0))]
    for keyword, value in changes.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def stack(series: int, slices: int = 28, **changes: Any) -> list[Dataset]:
    """A whole series of slices."""
    return [header(series, number, **changes) for number in range(1, slices + 1)]


def facts(headers: Iterable[Dataset]) -> list[InstanceFacts]:
    return [facts_of(one) for one in headers]


def encoded(made: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    buffer = io.BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Sender:
    """Enters instances into the ledger, each with its file, on associations that a test opens and ends."""

    ledger: Ledger
    spool: Spool
    _names: Iterable[int] = field(default_factory=itertools.count)

    def open(self, at: datetime, calling_ae_title: str = "CT1") -> str:
        name = f"association-{next(iter(self._names))}"
        with self.ledger.write() as connection:
            enter_association(connection, Association(name, "receive-0", calling_ae_title, "TRIAGE", "127.0.0.1", at))
        return name

    def send(self, association: str, headers: Iterable[Dataset], at: datetime, *, content: bytes | None = None) -> None:
        with self.ledger.write() as connection:
            for made in headers:
                self._enter(connection, association, made, encoded(made) if content is None else content, at)

    def end(self, association: str, at: datetime, how: End = "released") -> None:
        with self.ledger.write() as connection:
            end_association(connection, association, how, at)

    def push(self, headers: Iterable[Dataset], at: datetime) -> None:
        """Everything on one association, which is released."""
        association = self.open(at)
        self.send(association, headers, at)
        self.end(association, at)

    def _enter(self, connection: Connection, association: str, made: Dataset, content: bytes, at: datetime) -> None:
        if held_content(connection, made.SOPInstanceUID) is not None:
            return
        sha256 = made.SOPInstanceUID.replace(".", "").rjust(64, "0")
        file = self.spool.path("instances") / f"{sha256}.dcm"
        file.write_bytes(content)
        study, series = str(made.StudyInstanceUID), str(made.SeriesInstanceUID)
        patient_id, study_date = str(made.get("PatientID", "")), str(made.get("StudyDate", ""))
        enter_study(connection, Study(study, patient_id, "", "", study_date, ""), at)
        enter_series(connection, Series(series, study, str(made.get("Modality", "")), ""))
        revision = open_revision(connection, series, at)
        row = Instance(
            made.SOPInstanceUID, made.SOPClassUID, series, study, revision.number, association,
            f"instances/{file.name}", sha256, len(content), ExplicitVRLittleEndian, at,
        )  # fmt: skip
        enter_instance(connection, row)


def settle(stage: Any, now: datetime) -> int:
    """Let a stage do all it can do now. Gives the number of pieces of work."""
    for count in itertools.count():
        work = stage.claim(now)
        if work is None:
            return count
        stage.carry_out(work, now)
    raise AssertionError
