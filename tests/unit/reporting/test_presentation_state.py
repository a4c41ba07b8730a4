"""Presentation states: every finding marked on its view, nothing hidden, grey values as without them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from pipelines.findings import Outline
from reporting.catalogue import narratives, objects
from reporting.check.presentation import presentation_faults
from reporting.projections import closed, mark_around
from reporting.source import ReportCase
from tests.unit.reporting.cases import made_case
from tests.unit.reporting.conftest import Tool
from tests.unit.reporting.mammogram_cases import ALONE, GROUPS, PAIR, Look, mammogram, mammography_case

KIND = "presentation_state"


def states(case: ReportCase) -> tuple[Dataset, ...]:
    return objects()[KIND].build(case, narratives()["en"])


def lines(state: Dataset) -> list[np.ndarray]:
    [annotation] = state.GraphicAnnotationSequence
    return [np.asarray(item.GraphicData).reshape(-1, 2) for item in annotation.GraphicObjectSequence]


def boxes(state: Dataset) -> list[tuple[str, np.ndarray]]:
    [annotation] = state.GraphicAnnotationSequence
    return [
        (
            item.UnformattedTextValue,
            np.array([item.BoundingBoxTopLeftHandCorner, item.BoundingBoxBottomRightHandCorner]),
        )
        for item in annotation.TextObjectSequence
    ]


def test_there_is_one_for_each_view_with_findings() -> None:
    assert states(made_case()) == ()
    assert states(mammography_case(groups=(), status="clean")) == ()
    case = mammography_case()
    made = states(case)
    referred = [state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID for state in made]
    assert referred == [case.headers[0].SOPInstanceUID, case.headers[2].SOPInstanceUID]
    assert len({state.SOPInstanceUID for state in made}) == 2


def test_each_breast_has_a_series_of_its_own() -> None:
    made = states(mammography_case(groups=GROUPS))
    assert [state.Laterality for state in made] == ["R", "L", "R", "L"]
    series = {(state.Laterality, state.SeriesInstanceUID, state.SeriesNumber) for state in made}
    assert len(series) == 2


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mark_surrounds_its_finding_at_a_distance_and_its_number_stands_outside(mirrored: bool) -> None:
    case = mammography_case(groups=GROUPS, look=Look(mirrored=mirrored))
    assert case.study is not None
    for state in states(case):
        uid = state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID
        view = case.study.view_of(uid)
        found = [finding for finding in case.outcome.findings if finding.key_instance_uid == uid]
        for finding, line, (_, box) in zip(found, lines(state), boxes(state), strict=True):
            outline = np.asarray(finding.region.points)
            nearest = np.hypot(*(line[:, None] - outline).reshape(-1, 2).T).min() * view.spacing.object_mm
            assert nearest >= 0.95
            assert (line[0] == line[-1]).all()
            apart = (box[1] <= line.min(axis=0)) | (box[0] >= line.max(axis=0))
            assert apart.any()
            assert (box >= 0).all() and (box <= view.pixels.shape[::-1]).all()


@pytest.mark.parametrize("center", [(0.02, 0.02), (0.98, 0.02), (0.02, 0.98), (0.98, 0.98)])
def test_marks_and_numbers_stay_on_the_image(center: tuple[float, float]) -> None:
    view = mammogram("L MLO")
    height, width = view.pixels.shape
    x, y = center[0] * width, center[1] * height
    around = Outline(view.instance_uid, ((x - 3, y - 2), (x + 3, y - 2), (x, y + 3)))
    case = mammography_case(("L MLO",), (replace(ALONE, view="L MLO"),))
    case = replace(case, outcome=replace(case.outcome, findings=(replace(case.outcome.findings[0], region=around),)))
    [state] = states(case)
    assert list(presentation_faults(case, state)) == []
    for _, box in boxes(state):
        assert (box >= 0).all() and (box <= (width, height)).all()


def test_a_line_of_grains_has_room_on_both_sides() -> None:
    view = mammogram("L MLO")
    thin = Outline(view.instance_uid, ((50.0, 100.0), (120.0, 100.0), (120.0, 100.4), (50.0, 100.4)))
    mark = np.asarray(mark_around(thin, view))
    assert np.ptp(mark[:, 1]) * view.spacing.object_mm >= 2.0


def test_numbers_are_those_of_the_report() -> None:
    made = states(mammography_case(groups=GROUPS))
    assert [[text for text, _ in boxes(state)] for state in made] == [["1"], ["2"], ["1"], ["3"]]


@pytest.mark.parametrize(("inverted", "shape"), [(False, "IDENTITY"), (True, "INVERSE")])
def test_grey_values_are_those_of_the_image(inverted: bool, shape: str) -> None:
    for state in states(mammography_case(look=Look(inverted=inverted))):
        [voi] = state.SoftcopyVOILUTSequence
        assert (voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction) == (2048, 4096, "SIGMOID")
        assert voi.WindowCenterWidthExplanation == "NORMAL"
        assert (state.RescaleSlope, state.RescaleIntercept, state.RescaleType) == (1, 0, "US")
        assert state.PresentationLUTShape == shape


def test_the_first_voi_lut_goes_before_windows_and_gets_whole_words() -> None:
    case = mammography_case(look=Look(voi_lut=True))
    case.headers[0].WindowCenter, case.headers[0].WindowWidth = "1", "2"
    [lut] = states(case)[0].SoftcopyVOILUTSequence[0].VOILUTSequence
    assert list(lut.LUTDescriptor) == [4096, 0, 16]
    assert lut.LUTExplanation == "NORMAL"
    entries = np.frombuffer(lut.LUTData, "<u2")
    assert (entries[0], entries[-1]) == (0, 65535)
    assert np.abs(entries / 65535 - np.arange(4096) / 4095).max() < 1e-4
    assert "WindowCenter" not in states(case)[0].SoftcopyVOILUTSequence[0]


def test_an_image_without_a_window_gets_none() -> None:
    case = mammography_case()
    for header in case.headers:
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept"):
            del header[keyword]
    for state in states(case):
        assert "SoftcopyVOILUTSequence" not in state
        assert "RescaleSlope" not in state
        assert list(presentation_faults(case, state)) == []


def test_dcmtk_finds_them_consistent(tmp_path: Path, run_tool: Tool) -> None:
    for k, state in enumerate(states(mammography_case(groups=GROUPS, look=Look(voi_lut=True)))):
        # The tool's pattern for dates with times does not match them.
        del state.ContributingEquipmentSequence
        path = tmp_path / f"{k}.dcm"
        state.save_as(path, enforce_file_format=True)
        result = run_tool("dcmpschk", path)
        assert "Test passed" in result.stdout + result.stderr, result.stderr


def test_a_line_is_closed_once() -> None:
    assert closed([(0, 0), (1, 0), (1, 1)]) == ((0, 0), (1, 0), (1, 1), (0, 0))
    assert closed([(0, 0), (1, 0), (1, 1), (0, 0)]) == ((0, 0), (1, 0), (1, 1), (0, 0))


def graphics(state: Dataset) -> Sequence:
    return state.GraphicAnnotationSequence[0].GraphicObjectSequence


BROKEN: list[tuple[str, Callable[[Dataset], object]]] = [
    ("does not refer to one view", lambda d: setattr(
        d.ReferencedSeriesSequence[0].ReferencedImageSequence[0], "ReferencedSOPInstanceUID", "2.25.9")),
    ("another series", lambda d: setattr(d.ReferencedSeriesSequence[0], "SeriesInstanceUID", "2.25.9")),
    ("not the whole view", lambda d: setattr(
        d.DisplayedAreaSelectionSequence[0], "DisplayedAreaBottomRightHandCorner", [10, 10])),
    ("a layer that it does not have", lambda d: setattr(d.GraphicLayerSequence[0], "GraphicLayer", "OTHER")),
    ("RescaleSlope is not the view's", lambda d: d.__delitem__("RescaleSlope")),
    ("lacks the view's window", lambda d: d.__delitem__("SoftcopyVOILUTSequence")),
    ("polarity", lambda d: setattr(d, "PresentationLUTShape", "INVERSE")),
    ("its numbers", lambda d: setattr(
        d.GraphicAnnotationSequence[0].TextObjectSequence[0], "UnformattedTextValue", "7")),
    ("does not mark every finding", lambda d: graphics(d).pop()),
    ("lies outside its view", lambda d: setattr(
        graphics(d)[0], "GraphicData", [v + 900 for v in graphics(d)[0].GraphicData])),
    ("does not surround its finding", lambda d: setattr(
        graphics(d)[0], "GraphicData", [v - 20 for v in graphics(d)[0].GraphicData])),
]  # fmt: skip


@pytest.mark.parametrize(("detail", "mutate"), BROKEN)
def test_what_is_broken_is_found(detail: str, mutate: Callable[[Dataset], object]) -> None:
    case = mammography_case(groups=PAIR)
    state = states(case)[0]
    assert list(presentation_faults(case, state)) == []
    broken = deepcopy(state)
    mutate(broken)
    found = list(presentation_faults(case, broken))
    assert any(detail in message for message in found), found
