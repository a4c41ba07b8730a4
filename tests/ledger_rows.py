"""Rows and files as the stages before `deliver` and `alert` leave them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from sqlalchemy import insert

from db import deliveries
from db.connect import Ledger
from db.insert import insert_if_new
from db.schema import associations, instances, job_revisions, jobs, objects, results, revisions, series, studies
from dicom_node.spool import Spool

STUDY = "2.25.100"
KEY_INSTANCE = "2.25.103.7"
FINDING = {
    "label": "Subdural hemorrhage",
    "side": "left",
    "certainty": 0.93,
    "volume_ml": 12.34,
    "key_instance_uid": KEY_INSTANCE,
}


def made_object(number: int, *, sop_class_uid: str = SecondaryCaptureImageStorage, study: str = STUDY) -> Dataset:
    """A small object of a study; objects of different numbers stand in series of their own."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.SOPClassUID = UID(sop_class_uid)
    made.SOPInstanceUID = f"{study}.{number}.1"
    made.StudyInstanceUID = study
    made.SeriesInstanceUID = f"{study}.{number}"
    made.PatientName = "Test^Jörg"
    made.PatientID = "T1"
    made.Modality = "OT"
    made.SeriesNumber = number
    made.InstanceNumber = 1
    made.Rows = made.Columns = 8
    made.SamplesPerPixel = 1
    made.PhotometricInterpretation = "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit = 7
    made.PixelRepresentation = 0
    made.PixelData = bytes(range(64))
    return made


def encoded(made: Dataset) -> bytes:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()


class Rows:
    """Writes rows, one study, series, revision, job and result after the other."""

    def __init__(self, ledger: Ledger, spool: Spool) -> None:
        self.ledger = ledger
        self.spool = spool
        self._count = 0

    def add_result(
        self,
        *,
        at: datetime,
        study: str = STUDY,
        pipeline: str = "hemorrhage",
        status: str = "finding",
        score: float | None = 0.93,
        outcome: Mapping[str, Any] | None = None,
        priority: int = 0,
        revision_state: str = "read",
    ) -> int:
        self._count += 1
        with self.ledger.write() as connection:
            insert_if_new(
                connection,
                studies,
                {
                    "study_instance_uid": study,
                    "patient_id": "T1",
                    "patient_name": "Test^Jörg",
                    "accession_number": "A77",
                    "study_date": "20260301",
                    "study_description": "CT HEAD",
                    "first_received_at": at,
                    "last_received_at": at,
                },
            )
            uid = f"{study}.{1000 + self._count}"
            connection.execute(
                insert(series).values(
                    series_instance_uid=uid, study_instance_uid=study, modality="CT", series_description=""
                )
            )
            revision_id = connection.execute(
                insert(revisions)
                .values(series_instance_uid=uid, number=1, state=revision_state, opened_at=at)
                .returning(revisions.c.revision_id)
            ).scalar_one()
            job_id = connection.execute(
                insert(jobs)
                .values(
                    revision_id=revision_id,
                    pipeline=pipeline,
                    priority=priority,
                    state="done",
                    attempts=1,
                    worker_deaths=0,
                    fencing_token=1,
                    not_before=at,
                    created_at=at,
                )
                .returning(jobs.c.job_id)
            ).scalar_one()
            connection.execute(insert(job_revisions).values(job_id=job_id, revision_id=revision_id))
            added = insert(results).values(
                job_id=job_id,
                fencing_token=1,
                revision_id=revision_id,
                study_instance_uid=study,
                pipeline=pipeline,
                status=status,
                score=score,
                outcome={"findings": [FINDING], "warnings": [], "reason": None} if outcome is None else outcome,
                configuration_hash="0" * 16,
                recorded_at=at,
            )
            return int(connection.execute(added.returning(results.c.result_id)).scalar_one())

    def add_deliveries(
        self,
        result_id: int,
        made: Sequence[Dataset],
        destinations: Sequence[str],
        at: datetime,
        kinds: Sequence[str] = (),
    ) -> None:
        for number, one in enumerate(made):
            content = encoded(one)
            digest = hashlib.sha256(content).hexdigest()
            file = self.spool.write("objects", digest, [content])
            with self.ledger.write() as connection:
                object_id = connection.execute(
                    insert(objects)
                    .values(
                        result_id=result_id,
                        kind=kinds[number] if kinds else f"kind{one.SeriesNumber}",
                        sop_class_uid=one.SOPClassUID,
                        sop_instance_uid=one.SOPInstanceUID,
                        series_instance_uid=one.SeriesInstanceUID,
                        file=file,
                        sha256=digest,
                        size_bytes=len(content),
                    )
                    .returning(objects.c.object_id)
                ).scalar_one()
                deliveries.add(
                    connection, object_id=object_id, result_id=result_id, destinations=destinations, created_at=at
                )

    def add_key_instance(self, at: datetime, instance_number: int) -> None:
        """The image that `FINDING` points at."""
        made = made_object(3)
        made.SOPInstanceUID = KEY_INSTANCE
        made.InstanceNumber = instance_number
        content = encoded(made)
        digest = hashlib.sha256(content).hexdigest()
        file = self.spool.write("instances", digest, [content])
        with self.ledger.write() as connection:
            connection.execute(
                insert(associations).values(
                    association_id="a1",
                    receiver="r",
                    calling_ae_title="CT1",
                    called_ae_title="TRIAGE",
                    peer_address="127.0.0.1",
                    opened_at=at,
                )
            )
            connection.execute(
                insert(instances).values(
                    sop_instance_uid=KEY_INSTANCE,
                    sop_class_uid=made.SOPClassUID,
                    series_instance_uid=f"{STUDY}.1001",
                    study_instance_uid=STUDY,
                    revision_number=1,
                    association_id="a1",
                    file=file,
                    sha256=digest,
                    size_bytes=len(content),
                    transfer_syntax_uid=ExplicitVRLittleEndian,
                    received_at=at,
                )
            )
