"""BINARY Segmentation (PS3.3, A.51): a segment for each finding, on the planes of the source's slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import highdicom as hd
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage
from pydicom.valuerep import DSfloat

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Region
from pipelines.geometry import Plane, Point
from reporting import uids
from reporting.document import LONGEST_LO, code_item, concept, finish, identity, stand_in
from reporting.narrative.narrative import Narrative
from reporting.source import ReportCase, body_part

RED = hd.color.CIELabColor(53.2, 80.1, 67.2)
OKABE_ITO = tuple(
    hd.color.CIELabColor(*lab)
    for lab in (
        (70.6, 16.5, 74.7),
        (69.8, -12.0, -34.8),
        (57.7, -45.7, 12.8),
        (89.1, -13.3, 75.5),
        (54.2, 43.3, 63.3),
        (61.0, 38.5, -10.6),
        (46.0, -2.7, -41.4),
    )
)
"""Orange, sky blue, green, yellow, vermilion, purple, blue: distinct with any color vision."""
COLORS = {codes.NODULE: OKABE_ITO}
"""Of kinds that a study may hold many of, which are told apart; others are all red."""
BITS = 8
CONTENT_LABEL = "FINDINGS"
LATERALITY = {"left": codes.LEFT, "right": codes.RIGHT, "bilateral": codes.BILATERAL}
PROPERTY_TYPES = {codes.INTRACRANIAL_HEMORRHAGE: codes.HEMORRHAGE}
"""A segment is of a morphology (CID 7151), a finding may be a disorder."""


class Segmentation:
    """One segment for each finding that is a region, numbered in the findings' order, never merged.

    A segment and its measurement group share the tracking identifiers, which a merged one could not. Frames are stored
    only for slices that hold voxels of the segment; each names its source image and lies on that image's plane.
    """

    kind = "segmentation"
    sop_class_uid = SegmentationStorage
    series_number = 9801

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
        findings = case.segmented
        if not findings:
            return ()
        regions = [cast("Region", finding.region) for finding in findings]
        slices = sorted({k for region in regions for k in region.slice_index})
        dataset = hd.seg.Segmentation(
            **identity(case, self.kind, self.series_number),
            source_images=[_sized(source, len(regions)) for source in _sources(case, slices)],
            pixel_array=_stand_in_pixels(regions, slices),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _described(case, number, finding, narrative) for number, finding in enumerate(findings, start=1)
            ],
            manufacturer_model_name=case.equipment.model_name,
            software_versions=case.equipment.software_version,
            device_serial_number=case.equipment.device_serial_number,
            content_label=CONTENT_LABEL,
            content_description=_description(narrative.impression(case.outcome, case.looked_for)),
            transfer_syntax_uid=ExplicitVRLittleEndian,
            omit_empty_frames=True,
        )
        _set_pixels(dataset, regions, _drawn_on(dataset, case, slices), case.pixels.shape[1:])
        if case.multi_frame:
            _name_source_frames(dataset, [case.frames[k] for k in slices])
        # Where slices differ in thickness the thinnest stands for all. Pixel measures of each frame would be truer,
        # but many readers look for the pixel spacing only among what frames share, and would misplace the overlay.
        spanned = case.planes[slices[0] : slices[-1] + 1]
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.SliceThickness = _decimals((min(plane.thickness_mm for plane in spanned),))[0]
        _replace_spacing(measures, spanned)
        _replace_dimension_uid(dataset, uids.dimension_uid(case, self.kind))
        dataset.BodyPartExamined = body_part(case)
        dataset.ContentCreatorName = ""
        return (finish(dataset, case, narrative.term("segmentation"), narrative),)


OBJECT = Segmentation()


def _description(impression: str) -> str:
    """As a long string (LO). Only whole clauses: "Lung-RADS 4A" must not become "Lung-RADS 4"."""
    while len(impression) > LONGEST_LO and "; " in impression:
        impression = impression.rpartition("; ")[0]
    return impression[:LONGEST_LO]


def _described(case: ReportCase, number: int, finding: Finding, narrative: Narrative) -> hd.seg.SegmentDescription:
    model = case.model
    tracking_id = narrative.tracking(number, finding)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=tracking_id[:LONGEST_LO],
        segmented_property_category=concept(codes.MORPHOLOGICALLY_ABNORMAL),
        segmented_property_type=concept(PROPERTY_TYPES.get(finding.kind, finding.kind)),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=model.name,
            family=concept(codes.ARTIFICIAL_INTELLIGENCE),
            version=model.version,
            source=case.equipment.manufacturer,
            parameters={"weights_sha256": model.sha256},
        ),
        tracking_uid=finding.tracking_uid,
        tracking_id=tracking_id,
        anatomic_regions=[concept(case.site)],
        display_color=_color(finding, number),
    )
    laterality: Code | None = LATERALITY.get(finding.side or "")
    if laterality is not None:
        description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [code_item(laterality)]
    return description


def _color(finding: Finding, number: int) -> hd.color.CIELabColor:
    colors = COLORS.get(finding.kind, (RED,))
    return colors[(number - 1) % len(colors)]


def _replace_spacing(measures: Dataset, planes: Sequence[Plane]) -> None:
    """The spacing of all slices between the first and the last that hold voxels, by which a reader lays out a volume.

    The library saw only those that hold some.
    """
    measures.pop("SpacingBetweenSlices", None)
    spacing, _ = hd.spatial.get_volume_positions(
        [_decimals(plane.origin) for plane in planes],
        _decimals((*planes[0].row_direction, *planes[0].column_direction)),
    )
    if spacing is not None:
        measures.SpacingBetweenSlices = _decimals((spacing,))[0]


def _stand_in_pixels(regions: Sequence[Region], slices: Sequence[int]) -> NDArray[np.uint8]:
    """Labels `[slice, 1, region]`: one pixel for each region, set on the slices that it lies on.

    By them the library lays out the frames. Whole masks would take it a byte for each pixel of each slice, and for
    each segment besides where two overlap.
    """
    labels = np.zeros((len(slices), 1, len(regions)), np.uint8 if len(regions) < 256 else np.uint16)
    for n, region in enumerate(regions):
        labels[np.isin(slices, region.slice_index), 0, n] = n + 1
    return labels


def _drawn_on(dataset: Dataset, case: ReportCase, slices: Sequence[int]) -> list[tuple[int, int]]:
    """For each frame the number of its region, from 0, and the slice that it was drawn on."""
    place = {str(case.headers[k].SOPInstanceUID): k for k in slices}
    shared = dataset.SharedFunctionalGroupsSequence[0]
    drawn = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        identified = group if "SegmentIdentificationSequence" in group else shared
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        k = (
            slices[int(source.ReferencedFrameNumber) - 1]
            if case.multi_frame
            else place[str(source.ReferencedSOPInstanceUID)]
        )
        drawn.append((int(identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber) - 1, k))
    return drawn


def _set_pixels(
    dataset: Dataset, regions: Sequence[Region], frames: Sequence[tuple[int, int]], shape: tuple[int, ...]
) -> None:
    """Put the masks in the place of the stand-in's pixels, one bit each without gaps between frames (PS3.5, 8.1.1).

    Eight frames always fill whole bytes, so that no more of them than these are held unpacked.
    """
    packed = bytearray()
    for first in range(0, len(frames), BITS):
        bits = [regions[n].mask[regions[n].slice_index.index(k)] for n, k in frames[first : first + BITS]]
        packed += np.packbits(np.stack(bits), bitorder="little").tobytes()
    dataset.Rows, dataset.Columns = shape
    dataset.PixelData = bytes(packed) + b"\0" * (len(packed) % 2)
    dataset.SegmentsOverlap = "YES" if _overlap(regions, frames) else "NO"


def _overlap(regions: Sequence[Region], frames: Sequence[tuple[int, int]]) -> bool:
    """Whether two regions share a pixel."""
    seen: dict[int, NDArray[np.bool_]] = {}
    for n, k in sorted(frames, key=lambda frame: frame[1]):
        mask = regions[n].mask[regions[n].slice_index.index(k)]
        if k in seen and (seen[k] & mask).any():
            return True
        seen = {k: seen[k] | mask if k in seen else mask}
    return False


def _sources(case: ReportCase, slices: Sequence[int]) -> list[Dataset]:
    return _multi_frame(case, slices) if case.multi_frame else _single_frames(case, slices)


def _sized(source: Dataset, regions: int) -> Dataset:
    """The source with the size of the pixels that stand in."""
    source.Rows, source.Columns = 1, regions
    return source


def _single_frames(case: ReportCase, slices: Sequence[int]) -> list[Dataset]:
    sources = []
    for k in slices:
        source = stand_in(case, k)
        plane = case.planes[k]
        source.FrameOfReferenceUID = case.frame_of_reference_uid
        source.PositionReferenceIndicator = case.headers[k].get("PositionReferenceIndicator")
        source.ImagePositionPatient = _decimals(plane.origin)
        source.ImageOrientationPatient = _decimals((*plane.row_direction, *plane.column_direction))
        source.PixelSpacing = _decimals((plane.row_spacing_mm, plane.column_spacing_mm))
        source.SliceThickness = _decimals((plane.thickness_mm,))[0]
        sources.append(source)
    return sources


def _multi_frame(case: ReportCase, slices: Sequence[int]) -> list[Dataset]:
    """One stand-in whose frames are the slices alone, with the planes they truly have."""
    source = stand_in(case, slices[0])
    source.FrameOfReferenceUID = case.frame_of_reference_uid
    source.PositionReferenceIndicator = case.headers[slices[0]].get("PositionReferenceIndicator")
    source.NumberOfFrames = len(slices)
    plane = case.planes[slices[0]]
    shared, orientation = Dataset(), Dataset()
    orientation.ImageOrientationPatient = _decimals((*plane.row_direction, *plane.column_direction))
    shared.PlaneOrientationSequence = [orientation]
    shared.PixelMeasuresSequence = [_measures(plane)]
    source.SharedFunctionalGroupsSequence = [shared]
    source.PerFrameFunctionalGroupsSequence = []
    for k in slices:
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = _decimals(case.planes[k].origin)
        frame.PlanePositionSequence = [position]
        source.PerFrameFunctionalGroupsSequence.append(frame)
    return [source]


def _name_source_frames(dataset: Dataset, frames: Sequence[int]) -> None:
    """Turn frame numbers of the stand-in into those of the source; segments share the items of a slice."""
    items = [
        group.DerivationImageSequence[0].SourceImageSequence[0] for group in dataset.PerFrameFunctionalGroupsSequence
    ]
    for item in {id(item): item for item in items}.values():
        item.ReferencedFrameNumber = frames[int(item.ReferencedFrameNumber) - 1]


def _replace_dimension_uid(dataset: Dataset, uid: str) -> None:
    """The library draws this UID at random."""
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _measures(plane: Plane) -> Dataset:
    item = Dataset()
    item.PixelSpacing = _decimals((plane.row_spacing_mm, plane.column_spacing_mm))
    item.SliceThickness = _decimals((plane.thickness_mm,))[0]
    return item


def _decimals(values: Point | Sequence[float]) -> list[DSfloat]:
    """Decimal strings of at most 16 characters (PS3.5, 6.2)."""
    return [DSfloat(float(value), auto_format=True) for value in values]
