"""Presentation states: each refers to one view, lies on it, and marks every finding on it without hiding one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram
from reporting.projections import on_view
from reporting.source import ReportCase

TOLERANCE = 1e-2
"""Square pixels; coordinates are stored in single precision."""


def presentation_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    """What is wrong with a presentation state; nothing for other objects."""
    if dataset.SOPClassUID != GrayscaleSoftcopyPresentationStateStorage:
        return
    referred = {
        str(image.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for image in series.get("ReferencedImageSequence") or ()
    }
    views = () if case.study is None else case.study.views
    view = next((view for view in views if {view.instance_uid} == referred), None)
    if view is None:
        yield "it does not refer to one view that was read"
        return
    yield from _reference_faults(dataset, view)
    yield from _grey_faults(dataset, view)
    yield from _mark_faults(case, dataset, view)


def _reference_faults(dataset: Dataset, view: Mammogram) -> Iterator[str]:
    [series] = dataset.ReferencedSeriesSequence
    if series.SeriesInstanceUID != view.header.SeriesInstanceUID:
        yield "it names another series than its view's"
    height, width = view.pixels.shape
    for area in dataset.get("DisplayedAreaSelectionSequence") or ():
        corners = (area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner)
        if [list(corner) for corner in corners] != [[1, 1], [width, height]]:
            yield "its displayed area is not the whole view"
    layers = {layer.GraphicLayer for layer in dataset.get("GraphicLayerSequence") or ()}
    if not {item.GraphicLayer for item in dataset.get("GraphicAnnotationSequence") or ()} <= layers:
        yield "it draws on a layer that it does not have"


def _grey_faults(dataset: Dataset, view: Mammogram) -> Iterator[str]:
    """Whatever of the image's own grey scale the presentation state lacks would not be applied."""
    header = view.header
    for keyword in ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"):
        if (header.get(keyword) or None) != (dataset.get(keyword) or None):
            yield f"{keyword} is not the view's"
    if (header.get("VOILUTSequence") or header.get("WindowCenter")) and not dataset.get("SoftcopyVOILUTSequence"):
        yield "it lacks the view's window"
    if (dataset.get("PresentationLUTShape") == "INVERSE") != (header.get("PhotometricInterpretation") == "MONOCHROME1"):
        yield "its polarity is not the view's"


def _mark_faults(case: ReportCase, dataset: Dataset, view: Mammogram) -> Iterator[str]:
    height, width = view.pixels.shape
    items = dataset.get("GraphicAnnotationSequence") or ()
    lines = [line for item in items for line in item.get("GraphicObjectSequence") or ()]
    labels = [label for item in items for label in item.get("TextObjectSequence") or ()]
    found = on_view(case, view)
    if sorted(label.UnformattedTextValue for label in labels) != sorted(str(placed.number) for placed in found):
        yield "its numbers are not those of the findings on its view"
    if len(lines) != len(found):
        yield "it does not mark every finding on its view"
        return
    for line, placed in zip(lines, found, strict=True):
        points = np.asarray(line.GraphicData, np.float64).reshape(-1, 2)
        if points.min() < 0 or (points > (width, height)).any():
            yield "a mark lies outside its view"
        elif not _surrounds(points, np.clip(np.asarray(placed.outline.points, np.float64), 0, (width, height))):
            yield "a mark does not surround its finding"


def _surrounds(line: Floats, points: Floats) -> bool:
    """Whether all points lie within a closed convex line, whichever way round it runs."""
    along = np.diff(line, axis=0)
    to = points[:, None] - line[:-1]
    turns = along[:, 0] * to[..., 1] - along[:, 1] * to[..., 0]
    return bool((turns >= -TOLERANCE).all() or (turns <= TOLERANCE).all())
