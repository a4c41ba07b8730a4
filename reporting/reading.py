"""Our own results read back: what an earlier report says, and where its segmentation says that it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from pipelines import codes
from pipelines.codes import Code
from pipelines.geometry import Point
from pipelines.reasons import Reason, Refusal
from reporting import reasons as _rows  # noqa: F401 -- enters the reports' rows into the table
from reporting.projections import VIEWS
from reporting.source import UNREADABLE
from reporting.uids import made_by_us

KEYS = {
    codes.LONG_AXIS: "long_axis_mm",
    codes.SHORT_AXIS: "short_axis_mm",
    codes.VOLUME: "volume_ml",
    codes.MEAN_ATTENUATION: "mean_hu",
    codes.LONGEST_DIAMETER: "longest_diameter_mm",
    codes.MASS_OF_NODULE: "mass_mg",
    codes.SOLID_LONG_AXIS: "solid_long_axis_mm",
    codes.MALIGNANCY_IMPRESSION: "malignancy",
    codes.VOLUME_CHANGE: "volume_change_percent",
    codes.DOUBLING_TIME: "doubling_time_d",
    codes.DOUBLING_TIME_LOWEST: "doubling_time_lowest_d",
    codes.DOUBLING_TIME_HIGHEST: "doubling_time_highest_d",
    codes.NUMBER_OF_CALCIFICATIONS: "count",
    codes.AREA: "area_mm2",
}
"""The keys in JSON of the measurements that reports hold."""
SIDES = {codes.RIGHT: "right", codes.LEFT: "left", codes.BILATERAL: "bilateral"}
PROJECTIONS = {code: projection for projection, code in VIEWS.items()}


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """What one of our measurement reports says.

    `looked_for` is the code value of what the whole study was read for. `findings` are as `Finding.as_json` gives them,
    but for what a report does not hold (`center_mm`, see `centers`; on projections `center_px` and `partner_uid`).
    `images` are the SOP Instance UIDs of the images that were read, by their series; `segmentation_series_uid` is None
    where there is no segmentation.
    """

    looked_for: str
    study_instance_uid: str
    study_date: date
    made_at: str
    findings: tuple[Mapping[str, object], ...]
    images: Mapping[str, tuple[str, ...]]
    segmentation_series_uid: str | None


def read_report(dataset: Dataset) -> EarlierReport:
    """What a report says. Raises `Refusal` (`report.not_ours`) for what is not one of ours, or is damaged."""
    if dataset.get("SOPClassUID") != Comprehensive3DSRStorage or not made_by_us(dataset):
        raise Refusal(Reason("report.not_ours", {"detail": "it is not a measurement report of this software"}))
    try:
        return _report(dataset)
    except UNREADABLE as error:
        raise Refusal(Reason("report.not_ours", {"detail": f"it is damaged, {type(error).__name__}"})) from error


def centers(segmentation: Dataset) -> dict[str, Point]:
    """The centre of gravity of each segment (LPS, mm), by its Tracking UID; pixel data is decoded.

    Raises `Refusal` (`report.not_ours`) for what is not a segmentation of ours, or is damaged.
    """
    if segmentation.get("SOPClassUID") != SegmentationStorage or not made_by_us(segmentation):
        raise Refusal(Reason("report.not_ours", {"detail": "it is not a segmentation of this software"}))
    try:
        return _centers(segmentation)
    except (*UNREADABLE, RuntimeError) as error:  # the latter from decoders of pixel data
        raise Refusal(Reason("report.not_ours", {"detail": f"it is damaged, {type(error).__name__}"})) from error


def _report(dataset: Dataset) -> EarlierReport:
    groups = [item for item in _below(dataset) if _name(item) == codes.MEASUREMENT_GROUP]
    [study] = dataset.CurrentRequestedProcedureEvidenceSequence
    images: dict[str, tuple[str, ...]] = {}
    segmentation = None
    for series in study.ReferencedSeriesSequence:
        if series.ReferencedSOPSequence[0].ReferencedSOPClassUID == SegmentationStorage:
            segmentation = str(series.SeriesInstanceUID)
        else:
            instances = tuple(str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence)
            images[str(series.SeriesInstanceUID)] = instances
    return EarlierReport(
        looked_for=_coded(groups[0])[codes.FINDING].value,
        study_instance_uid=str(study.StudyInstanceUID),
        study_date=datetime.strptime(str(dataset.StudyDate), "%Y%m%d").date(),
        made_at=f"{dataset.ContentDate}{dataset.ContentTime}",
        findings=tuple(_finding(group) for group in groups if codes.FINDING_CATEGORY in _coded(group)),
        images=images,
        segmentation_series_uid=segmentation,
    )


def _finding(group: Dataset) -> dict[str, object]:
    coded, numbers = _coded(group), _numbers(group)
    kind = coded.pop(codes.FINDING)
    site, tracking = (_only(group, name) for name in (codes.FINDING_SITE, codes.TRACKING_UID))
    side = _coded(site).get(codes.LATERALITY)
    view, side_name = coded.pop(codes.IMAGE_VIEW, None), None if side is None else SIDES.get(side)
    left_out = (codes.FINDING_SITE, codes.FINDING_CATEGORY, codes.ALGORITHM_FAMILY, kind)
    return {
        "kind": kind.value,
        "label": kind.meaning,
        "certainty": numbers.pop(codes.CERTAINTY) / 100,
        "side": side_name,
        **({} if view is None else {"view": f"{(side_name or '')[:1].upper()} {PROJECTIONS[view]}"}),
        **{KEYS[name]: value for name, value in numbers.items() if name in KEYS},
        "tracking_uid": str(tracking.UID),
        "attributes": {name.meaning: value.meaning for name, value in coded.items() if name not in left_out},
    }


def _coded(group: Dataset) -> dict[Code, Code]:
    """The coded answers directly below an item, by their questions."""
    return {_name(item): _code(item.ConceptCodeSequence[0]) for item in _children(group) if item.ValueType == "CODE"}


def _numbers(group: Dataset) -> dict[Code, float]:
    return {
        _name(item): float(item.MeasuredValueSequence[0].NumericValue)
        for item in _children(group)
        if item.ValueType == "NUM" and item.get("MeasuredValueSequence")
    }


def _only(group: Dataset, name: Code) -> Dataset:
    """The one item of this name directly below; `ValueError` where there is not one."""
    [item] = (item for item in _children(group) if _name(item) == name)
    return item


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def _below(item: Dataset) -> Iterator[Dataset]:
    for child in _children(item):
        yield child
        yield from _below(child)


def _name(item: Dataset) -> Code:
    names = item.get("ConceptNameCodeSequence")
    return _code(names[0]) if names else Code("", "", "")


def _code(item: Dataset) -> Code:
    """A code with the meaning of our own table, where it is in there: archives may have changed the wording."""
    value, scheme = str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))
    return _OURS.get((value, scheme), Code(value, scheme, str(item.get("CodeMeaning", ""))))


_OURS = {(code.value, code.scheme): code for code in vars(codes).values() if isinstance(code, Code)}


def _centers(segmentation: Dataset) -> dict[str, Point]:
    names = {int(segment.SegmentNumber): str(segment.TrackingUID) for segment in segmentation.SegmentSequence}
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    held: dict[str, list[Any]] = {}
    for frame, groups in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        rows, columns = np.nonzero(frame)
        if len(rows) == 0:
            continue
        orientation = _either(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient
        spacing = _either(groups, shared, "PixelMeasuresSequence").PixelSpacing
        origin = _either(groups, shared, "PlanePositionSequence").ImagePositionPatient
        along, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
        points = rows[:, None] * float(spacing[0]) * down + columns[:, None] * float(spacing[1]) * along
        number = int(_either(groups, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        held.setdefault(names[number], []).append(np.array(origin, float) + points)
    return {name: _mean(points) for name, points in held.items()}


def _either(own: Dataset, shared: Dataset, keyword: str) -> Dataset:
    """The item of a functional group that stands with the frame, or with all frames."""
    item: Dataset = (own if keyword in own else shared)[keyword].value[0]
    return item


def _mean(points: list[Any]) -> Point:
    x, y, z = (float(v) for v in np.concatenate(points).mean(axis=0))
    return (x, y, z)
