"""Jobs as the stages before `dispatch` leave them: a complete revision of small CT slices, routed."""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydicom import Dataset
from sqlalchemy import func, select

from db import jobs
from db.connect import Ledger
from db.schema import revisions
from dicom_node.assemble.stage import AssembleStage
from dicom_node.settings import Settings
from tests.unit.dicom_node.made import Sender, settle, stack


def slices(series: int, count: int = 4) -> list[Dataset]:
    """A series with pixels that can be read and reported on."""
    made = stack(series, count)
    for number, one in enumerate(made):
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Test^Case", "T1", "", "O"
        one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber = "20260301", "120000", "1", "A1"
        one.ReferringPhysicianName = ""
        one.SeriesDate, one.SeriesTime, one.ContentDate, one.ContentTime = ("20260301", "120000") * 2
        one.FrameOfReferenceUID = "2.25.9"
        one.PositionReferenceIndicator = ""
        one.Rows = one.Columns = 64
        one.PixelSpacing = [3.0, 3.0]
        one.PhotometricInterpretation = "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleIntercept, one.RescaleSlope = 0, 1
        hu = np.full((64, 64), -1000, np.int16)
        hu[16:48, 16:48] = 30 + number
        hu[16, 16:48] = 1000
        one.PixelData = hu.tobytes()
    return made


def receive(ledger: Ledger, sender: Sender, series: int, at: datetime, count: int = 4) -> int:
    """Receive a series until its revision is complete; gives that revision. More slices make a newer one."""
    sender.push(slices(series, count), at)
    settle(AssembleStage(ledger, sender.spool, Settings()), at)
    query = select(func.max(revisions.c.revision_id)).where(revisions.c.series_instance_uid == f"2.25.1.{series}")
    with ledger.read() as connection:
        return int(connection.execute(query.where(revisions.c.state == "complete")).scalar_one())


def enqueue(
    ledger: Ledger, sender: Sender, series: int, at: datetime, *, priority: int = 1, pipeline: str = "dummy"
) -> int:
    """Receive a series and ask for it to be read; gives the job."""
    revision_id = receive(ledger, sender, series, at)
    with ledger.write() as connection:
        return jobs.enqueue(connection, revision_id=revision_id, pipeline=pipeline, priority=priority, now=at)
