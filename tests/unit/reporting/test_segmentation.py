"""A segmentation lies on its source: read back through its own functional groups, voxel by voxel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from reporting.source import ReportCase
from tests.unit.reporting.cases import Shape, made_case
from tests.unit.reporting.conftest import build_once, overlapping_findings


def segmentation_of(case: ReportCase) -> Dataset:
    content = next(built.content for built in build_once(case) if built.kind == "segmentation")
    return dcmread(BytesIO(content))


def points_of(dataset: Dataset, segment: int) -> np.ndarray:
    """Patient coordinates of the segment's voxels, by nothing but the segmentation object (PS3.3, C.7.6.2.1.1)."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    row_spacing, column_spacing = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    points = []
    frames = dataset.pixel_array.reshape(dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    for pixels, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        identified = group if "SegmentIdentificationSequence" in group else shared
        if identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber != segment:
            continue
        origin = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(pixels)
        points.append(
            origin + columns[:, None] * column_spacing * orientation[:3] + rows[:, None] * row_spacing * orientation[3:]
        )
    return np.concatenate(points)


def source_points(case: ReportCase, finding: int) -> np.ndarray:
    """The same from the source's own headers, where it has single frames."""
    region = case.outcome.findings[finding].region
    points = []
    for k, mask in zip(region.slice_index, region.mask, strict=True):
        header = case.headers[k]
        row_spacing, column_spacing = map(float, header.PixelSpacing)
        orientation = np.array(header.ImageOrientationPatient, float)
        rows, columns = np.nonzero(mask)
        points.append(
            np.array(header.ImagePositionPatient, float)
            + columns[:, None] * column_spacing * orientation[:3]
            + rows[:, None] * row_spacing * orientation[3:]
        )
    return np.concatenate(points)


def in_order(points: np.ndarray) -> np.ndarray:
    rounded = points.round(3)
    return points[np.lexsort(rounded.T)]


@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(tilt_degrees=18.5),
        Shape(tilt_degrees=-12.0, variable=True),
        Shape(flipped=True),
        Shape(anisotropic=True),
    ],
)
def test_overlays_a_made_series(shape: Shape):
    case = made_case(shape, findings=2)
    dataset = segmentation_of(case)
    for number in (1, 2):
        expected = source_points(case, number - 1)
        assert np.abs(in_order(points_of(dataset, number)) - in_order(expected)).max() < 1e-3


def test_overlays_a_real_tilted_head_of_uneven_slices(real_case: ReportCase):
    found = in_order(points_of(segmentation_of(real_case), 1))
    assert np.abs(found - in_order(source_points(real_case, 0))).max() < 1e-3
    spans = len({round(float(plane.thickness_mm), 3) for plane in real_case.planes})
    assert spans > 1  # else the test says less than its name


def test_names_the_source_frames_of_a_multi_frame_image():
    case = made_case(Shape(multi_frame=True), findings=2)
    dataset = segmentation_of(case)
    plane_of = dict(zip(case.frames, case.planes, strict=True))
    for group in dataset.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == case.headers[0].SOPInstanceUID
        origin = plane_of[source.ReferencedFrameNumber].origin
        assert np.allclose(group.PlanePositionSequence[0].ImagePositionPatient, origin, atol=1e-3)


def test_holds_only_slices_with_voxels():
    case = made_case(findings=3)
    dataset = segmentation_of(case)
    assert dataset.NumberOfFrames == sum(len(finding.region.slice_index) for finding in case.outcome.findings)
    frames = dataset.pixel_array.reshape(dataset.NumberOfFrames, -1)
    assert frames.any(axis=1).all()


def test_overlapping_findings_keep_their_own_voxels():
    case = overlapping_findings()
    dataset = segmentation_of(case)
    assert dataset.SegmentsOverlap == "YES"
    for number, finding in enumerate(case.outcome.findings, start=1):
        assert len(points_of(dataset, number)) == finding.region.mask.sum()


def test_segments_are_tracked_as_their_measurements_are():
    case = made_case(findings=2)
    segments = segmentation_of(case).SegmentSequence
    assert [segment.TrackingUID for segment in segments] == [f.tracking_uid for f in case.outcome.findings]
    report = dcmread(BytesIO(next(b.content for b in build_once(case) if b.kind == "measurement_report")))
    groups = next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == "126010")
    tracked = [
        {item.ConceptNameCodeSequence[0].CodeValue: item for item in group.ContentSequence}
        for group in groups.ContentSequence[1:]
    ]
    assert [group["112039"].TextValue for group in tracked] == [segment.TrackingID for segment in segments]
    assert [group["112040"].UID for group in tracked] == [segment.TrackingUID for segment in segments]


def test_spacing_is_not_that_of_the_slices_that_hold_voxels():
    """Slices without voxels between those with some must not make a reader think of thicker slices."""
    case = made_case()
    finding = case.outcome.findings[0]
    kept = [i for i in range(len(finding.region.slice_index)) if i % 2 == 0]
    region = type(finding.region)(tuple(finding.region.slice_index[i] for i in kept), finding.region.mask[kept])
    thinned = replace(case, outcome=replace(case.outcome, findings=(replace(finding, region=region),)))
    measures = segmentation_of(thinned).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(5.0)
