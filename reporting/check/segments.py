"""Segmentations: numbers, frames and bits agree, and every frame lies on the plane of the slice it was drawn on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from reporting.source import ReportCase

TOLERANCE_MM = 1e-3
TOLERANCE_DIRECTION = 1e-5


def segment_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    """What is wrong with a segmentation; nothing for other objects."""
    if dataset.SOPClassUID != SegmentationStorage:
        return
    if dataset.get("FrameOfReferenceUID") != case.frame_of_reference_uid:
        yield "FrameOfReferenceUID is not the source's"
    segments = dataset.get("SegmentSequence") or ()
    if [item.get("SegmentNumber") for item in segments] != list(range(1, len(case.segmented) + 1)):
        yield "segments are not numbered as the findings are"
    elif [item.get("TrackingUID") for item in segments] != [finding.tracking_uid for finding in case.segmented]:
        yield "a segment's TrackingUID is not its finding's"
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    if len(frames) != dataset.get("NumberOfFrames"):
        yield "NumberOfFrames is not the number of functional groups"
    bits = len(frames) * dataset.Rows * dataset.Columns
    if len(dataset.get("PixelData") or b"") != (bits + 15) // 16 * 2:
        yield "PixelData is not as long as its frames"
    yield from _plane_faults(case, dataset)


def _plane_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    planes = {
        (str(header.SOPInstanceUID), frame): plane
        for header, frame, plane in zip(case.headers, case.frames, case.planes, strict=True)
    }
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        plane = planes.get((str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)))
        if plane is None:
            yield f"frame {number} has no source slice"
            continue
        position = group.PlanePositionSequence[0].ImagePositionPatient
        orientation = (shared if "PlaneOrientationSequence" in shared else group).PlaneOrientationSequence[0]
        directions = (*plane.row_direction, *plane.column_direction)
        spacing = (shared if "PixelMeasuresSequence" in shared else group).PixelMeasuresSequence[0].PixelSpacing
        if (
            np.abs(np.subtract(position, plane.origin)).max() > TOLERANCE_MM
            or np.abs(np.subtract(orientation.ImageOrientationPatient, directions)).max() > TOLERANCE_DIRECTION
            or np.abs(np.subtract(spacing, (plane.row_spacing_mm, plane.column_spacing_mm))).max() > TOLERANCE_MM
        ):
            yield f"frame {number} does not lie on the plane of its source slice"
