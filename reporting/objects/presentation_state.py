"""Grayscale Softcopy Presentation State (PS3.3, A.33.1): each view with findings as it is stored, the findings marked.

One object for each view: one may refer to several images, but has one modality LUT and one presentation LUT for all of
them, and views of one study may differ in both; displays and libraries expect images of one size. A series for each
breast, because laterality is of the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import highdicom as hd
import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, GrayscaleSoftcopyPresentationStateStorage

from pipelines.mammogram import Mammogram
from reporting import uids
from reporting.document import LONGEST_LO, finish
from reporting.narrative.narrative import Narrative
from reporting.projections import Points, mark_around, on_view
from reporting.source import ReportCase, body_part

LAYER = "FINDINGS"
LATERALITIES = ("R", "L")
AMBER = hd.color.CIELabColor(76.5, 16.0, 78.6)
AMBER_P_VALUE = 0xFFFF
LABEL_MM = 5.0
"""Height of the box of a number; a display writes as large as the box lets it."""
LABEL_GAP_MM = 0.5
MODALITY_LUT = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType")
WORDS = (8, 16)
WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")


class PresentationState:
    """A line around each finding, clear of what it surrounds, and beside it the finding's number.

    Grey values are those that the image is shown in without this object: its rescaling, its first VOI LUT or window,
    its polarity. Whatever of them a presentation state leaves out is not applied (PS3.4, N.2).
    """

    kind = "presentation_state"
    sop_class_uid = GrayscaleSoftcopyPresentationStateStorage
    series_number = 9806

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        views = () if case.study is None else case.study.views
        marked = [view for view in views if on_view(case, view)]
        return tuple(
            self._of_view(case, narrative, view, instance_number) for instance_number, view in enumerate(marked, 1)
        )

    def _of_view(self, case: ReportCase, narrative: Narrative, view: Mammogram, instance_number: int) -> Dataset:
        header = view.header
        dataset = Dataset()
        dataset.SOPClassUID = self.sop_class_uid
        dataset.SOPInstanceUID = UID(uids.object_uid(case, self.kind, view.instance_uid))
        dataset.SeriesInstanceUID = UID(uids.series_uid(case, self.kind, view.laterality))
        dataset.SeriesNumber = self.series_number + LATERALITIES.index(view.laterality)
        dataset.InstanceNumber = instance_number
        dataset.Modality = "PR"
        dataset.BodyPartExamined = body_part(case)
        dataset.Laterality = view.laterality
        dataset.ContentLabel = LAYER
        dataset.ContentDescription = f"{view.name}: {narrative.impression(case.outcome, case.looked_for)}"[:LONGEST_LO]
        dataset.ContentCreatorName = ""
        dataset.ReferencedSeriesSequence = [_series(header)]
        dataset.DisplayedAreaSelectionSequence = [_whole(header)]
        dataset.GraphicAnnotationSequence = [_annotation(case, view)]
        dataset.GraphicLayerSequence = [_layer()]
        _take_grey_values(dataset, header)
        finish(dataset, case, narrative.term("marks"), narrative)
        # This IOD has a name of its own for them.
        dataset.PresentationCreationDate, dataset.PresentationCreationTime = dataset.ContentDate, dataset.ContentTime
        del dataset.ContentDate, dataset.ContentTime
        return dataset


OBJECT = PresentationState()


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = str(header.SOPClassUID)
    item.ReferencedSOPInstanceUID = str(header.SOPInstanceUID)
    return item


def _series(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedImageSequence = [_reference(header)]
    item.SeriesInstanceUID = str(header.SeriesInstanceUID)
    return item


def _whole(header: Dataset) -> Dataset:
    """The whole image, as large as the display has room for (PS3.3, C.10.4)."""
    item = Dataset()
    item.ReferencedImageSequence = [_reference(header)]
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [int(header.Columns), int(header.Rows)]
    item.PresentationSizeMode = "SCALE TO FIT"
    item.PresentationPixelAspectRatio = [1, 1]
    return item


def _layer() -> Dataset:
    item = Dataset()
    item.GraphicLayer = LAYER
    item.GraphicLayerOrder = 1
    item.GraphicLayerRecommendedDisplayGrayscaleValue = AMBER_P_VALUE
    item.GraphicLayerRecommendedDisplayCIELabValue = list(AMBER.value)
    return item


def _annotation(case: ReportCase, view: Mammogram) -> Dataset:
    marks = [(placed.number, mark_around(placed.outline, view)) for placed in on_view(case, view)]
    item = Dataset()
    item.ReferencedImageSequence = [_reference(view.header)]
    item.GraphicLayer = LAYER
    item.TextObjectSequence = [_number(number, mark, view) for number, mark in marks]
    item.GraphicObjectSequence = [_line(mark) for _, mark in marks]
    return item


def _line(mark: Points) -> Dataset:
    item = Dataset()
    item.GraphicAnnotationUnits = "PIXEL"
    item.GraphicDimensions = 2
    item.NumberOfGraphicPoints = len(mark)
    item.GraphicData = [value for point in mark for value in point]
    item.GraphicType = "POLYLINE"
    item.GraphicFilled = "N"
    return item


def _number(number: int, mark: Points, view: Mammogram) -> Dataset:
    """The number in a box beside the upper end of the mark, on the side where the image has room."""
    height, width = view.pixels.shape
    side, gap = LABEL_MM / view.spacing.object_mm, LABEL_GAP_MM / view.spacing.object_mm
    columns, rows = [x for x, _ in mark], [y for _, y in mark]
    right = max(columns) + gap
    fits = right + side <= width
    left = right if fits else max(0.0, min(columns) - gap - side)
    top = min(max(0.0, min(rows)), height - side)
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = str(number)
    item.BoundingBoxTopLeftHandCorner = [left, top]
    item.BoundingBoxBottomRightHandCorner = [left + side, top + side]
    item.BoundingBoxTextHorizontalJustification = "LEFT" if fits else "RIGHT"
    return item


def _take_grey_values(dataset: Dataset, header: Dataset) -> None:
    for keyword in MODALITY_LUT:
        if _has(header, keyword):
            dataset[keyword] = deepcopy(header[keyword])
    voi = Dataset()
    if _has(header, "VOILUTSequence"):
        voi.VOILUTSequence = [_whole_words(header.VOILUTSequence[0])]
    elif _has(header, "WindowCenter") and _has(header, "WindowWidth"):
        for keyword in WINDOW:
            if _has(header, keyword):
                setattr(voi, keyword, _first(header[keyword].value))
        if _has(header, "VOILUTFunction"):
            voi.VOILUTFunction = header.VOILUTFunction
    if len(voi):
        voi.ReferencedImageSequence = [_reference(header)]
        dataset.SoftcopyVOILUTSequence = [voi]
    # P-values: 0 is black. The lowest value of a MONOCHROME1 image is to be white (PS3.3, C.11.6.1.2.1).
    dataset.PresentationLUTShape = "INVERSE" if header.get("PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"


def _whole_words(lut: Dataset) -> Dataset:
    """A VOI LUT with entries of 8 or 16 bits, as a presentation state has them; those of images may have 10 to 16."""
    copy = deepcopy(lut)
    first, mapped, bits = copy.LUTDescriptor
    if bits not in WORDS:
        data = copy.LUTData
        entries = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data)
        widened = np.round(entries.astype(np.float64) * (2**16 - 1) / (2**bits - 1))
        copy.add_new("LUTData", "OW", widened.astype("<u2").tobytes())
        copy.LUTDescriptor = [first, mapped, 16]
    return copy


def _has(header: Dataset, keyword: str) -> bool:
    return keyword in header and not header[keyword].is_empty


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value
