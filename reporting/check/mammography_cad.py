"""Mammography CAD SR: the content tree held against TID 4000 and the templates it includes, row by row.

The table has the rows that are made, in the order of PS3.16. None of these templates is extensible, and the order of
their rows is significant: what is not in the table, or not in its place, is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import MammographyCADSRStorage

from pipelines import codes
from pipelines.codes import Code
from reporting.projections import SIDES, VIEWS
from reporting.source import ReportCase

INFINITY = 10**9
TIMES: Mapping[str, tuple[int, int]] = {"1": (1, 1), "0-1": (0, 1), "0-n": (0, INFINITY), "1-n": (1, INFINITY)}
VALUES = {
    "CODE": "ConceptCodeSequence",
    "TEXT": "TextValue",
    "NUM": "MeasuredValueSequence",
    "IMAGE": "ReferencedSOPSequence",
    "UIDREF": "UID",
    "DATE": "Date",
    "TIME": "Time",
    "SCOORD": "GraphicData",
    "CONTAINER": "ContinuityOfContent",
}
Codes = frozenset[Code]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a template (PS3.16, 6.1).

    `values` is the context group of a coded answer, or the units of a number. A row with `when` is there as often as
    `times` says if the answer above it is one of these, and not at all if it is another. `below` names the rows of its
    children. `referenced` stands for an item elsewhere in the tree, of that value type.
    """

    relation: str
    value_type: str
    concept: Code | None
    times: str
    values: Codes | None = None
    when: Codes | None = None
    below: str | None = None
    referenced: bool = False


@dataclass(frozen=True, slots=True)
class Together:
    """So many items at least, of several rows together, that a template wants."""

    concepts: Codes
    least: int
    when: Codes | None = None


CLUSTER, SINGLE = frozenset({codes.CALCIFICATION_CLUSTER}), frozenset({codes.INDIVIDUAL_CALCIFICATION})
CID_4014 = frozenset((*VIEWS.values(), codes.SPECIMEN))
CID_6010 = frozenset({
    codes.ROUND, codes.PUNCTATE, codes.AMORPHOUS, codes.COARSE_HETEROGENEOUS, codes.FINE_PLEOMORPHIC,
    codes.FINE_LINEAR, codes.VASCULAR, codes.SKIN_CALCIFICATION, codes.RIM, codes.POPCORN, codes.MICROCALCIFICATIONS,
})  # fmt: skip
CID_6012 = frozenset({codes.GROUPED, codes.LINEAR, codes.SEGMENTAL, codes.REGIONAL, codes.DIFFUSE})
CID_6014 = CLUSTER | SINGLE
CID_6022 = frozenset({*SIDES.values(), codes.BOTH_BREASTS})
CID_6026 = frozenset(codes.BI_RADS_ORDER)
CID_6034 = frozenset({codes.PRESENTATION_REQUIRED, codes.PRESENTATION_OPTIONAL})
CID_6042 = frozenset({codes.SUCCEEDED, codes.PARTIALLY_SUCCEEDED, codes.NOT_ATTEMPTED})
CID_6043 = frozenset(
    {codes.SPATIAL_COLLOCATION, codes.INDIVIDUAL_IMPRESSION_ANALYSIS, codes.OVERALL_IMPRESSION_ANALYSIS}
)
WITH_FINDINGS = frozenset({codes.ALL_SUCCEEDED_FINDINGS, codes.PARTLY_SUCCEEDED_FINDINGS})
CID_6047 = WITH_FINDINGS | {codes.ALL_SUCCEEDED_CLEAN, codes.PARTLY_SUCCEEDED_CLEAN}
ANY_SUCCEEDED = frozenset({codes.SUCCEEDED, codes.PARTIALLY_SUCCEEDED})
ANY_FAILED = frozenset({codes.PARTIALLY_SUCCEEDED})
PERCENT, LENGTH, AREA = (frozenset({unit}) for unit in (codes.PERCENT, codes.MILLIMETER, codes.SQUARE_MILLIMETER))
TID_4019 = (
    Row("HAS PROPERTIES", "TEXT", codes.ALGORITHM_NAME, "1"),
    Row("HAS PROPERTIES", "TEXT", codes.ALGORITHM_VERSION, "1"),
    Row("HAS PROPERTIES", "TEXT", codes.ALGORITHM_PARAMETERS, "0-n"),
    Row("HAS PROPERTIES", "CODE", codes.ALGORITHM_FAMILY, "0-1", frozenset({codes.ARTIFICIAL_INTELLIGENCE})),
)
TID_4108 = (
    Row("HAS OBS CONTEXT", "TEXT", codes.TRACKING_IDENTIFIER, "0-1"),
    Row("HAS OBS CONTEXT", "UIDREF", codes.TRACKING_UID, "0-1"),
)
INTENT = Row("HAS CONCEPT MOD", "CODE", codes.RENDERING_INTENT, "1", CID_6034)
TID_4006 = (
    INTENT,
    *TID_4108,
    *TID_4019,
    Row("HAS PROPERTIES", "NUM", codes.CERTAINTY, "0-1", PERCENT),
    # TID 4021
    Row("HAS PROPERTIES", "SCOORD", codes.CENTER, "1", below="selected"),
    Row("HAS PROPERTIES", "SCOORD", codes.OUTLINE, "0-1", below="selected"),
    # TID 4009 of a single calcification, TID 4010 of a cluster
    Row("HAS PROPERTIES", "CODE", codes.CALCIFICATION_TYPE, "0-n", CID_6010),
    Row("HAS PROPERTIES", "CODE", codes.CALCIFICATION_DISTRIBUTION, "0-1", CID_6012, when=CLUSTER),
    Row("HAS PROPERTIES", "NUM", codes.NUMBER_OF_CALCIFICATIONS, "0-1", frozenset({codes.NO_UNITS}), when=CLUSTER),
    # TID 1400, TID 1401
    Row("HAS PROPERTIES", "NUM", codes.LONG_AXIS, "0-1", LENGTH),
    Row("HAS PROPERTIES", "NUM", codes.SHORT_AXIS, "0-1", LENGTH),
    Row("HAS PROPERTIES", "NUM", codes.AREA, "0-1", AREA),
    Row("INFERRED FROM", "CODE", codes.SINGLE_IMAGE_FINDING, "0-n", SINGLE, when=CLUSTER, below="TID 4006"),
)
DONE_ON = Row("HAS PROPERTIES", "IMAGE", None, "1-n", referenced=True)
ROWS: Mapping[str, tuple[Row, ...]] = {
    "TID 4000": (
        Row("HAS CONCEPT MOD", "CODE", codes.LANGUAGE, "1"),
        Row("CONTAINS", "CONTAINER", codes.IMAGE_LIBRARY, "1", below="image library"),
        Row("CONTAINS", "CODE", codes.CAD_SUMMARY, "1", CID_6047, below="TID 4001"),
        Row("CONTAINS", "CODE", codes.SUMMARY_OF_DETECTIONS, "1", CID_6042, below="TID 4015"),
        Row("CONTAINS", "CODE", codes.SUMMARY_OF_ANALYSES, "1", CID_6042, below="TID 4016"),
    ),
    "image library": (Row("CONTAINS", "IMAGE", None, "1-n", below="TID 4020"),),
    "TID 4020": (
        Row("HAS ACQ CONTEXT", "CODE", codes.IMAGE_LATERALITY, "0-1", CID_6022),
        Row("HAS ACQ CONTEXT", "CODE", codes.IMAGE_VIEW, "0-1", CID_4014, below="view"),
        Row("HAS ACQ CONTEXT", "TEXT", codes.PATIENT_ORIENTATION_ROW, "0-1"),
        Row("HAS ACQ CONTEXT", "TEXT", codes.PATIENT_ORIENTATION_COLUMN, "0-1"),
        Row("HAS ACQ CONTEXT", "DATE", codes.STUDY_DATE, "0-1"),
        Row("HAS ACQ CONTEXT", "TIME", codes.STUDY_TIME, "0-1"),
        Row("HAS ACQ CONTEXT", "DATE", codes.CONTENT_DATE, "0-1"),
        Row("HAS ACQ CONTEXT", "TIME", codes.CONTENT_TIME, "0-1"),
        Row("HAS ACQ CONTEXT", "NUM", codes.HORIZONTAL_PIXEL_SPACING, "0-1", LENGTH),
        Row("HAS ACQ CONTEXT", "NUM", codes.VERTICAL_PIXEL_SPACING, "0-1", LENGTH),
        Row("HAS ACQ CONTEXT", "NUM", codes.POSITIONER_PRIMARY_ANGLE, "0-1", frozenset({codes.DEGREE})),
        Row("HAS ACQ CONTEXT", "NUM", codes.POSITIONER_SECONDARY_ANGLE, "0-1", frozenset({codes.DEGREE})),
    ),
    "view": (Row("HAS CONCEPT MOD", "CODE", codes.IMAGE_VIEW_MODIFIER, "0-n"),),
    "TID 4001": (
        # TID 4002
        Row("HAS PROPERTIES", "CODE", codes.BI_RADS, "0-1", CID_6026, below="of which side"),
        Row("HAS PROPERTIES", "TEXT", codes.IMPRESSION_DESCRIPTION, "0-1"),
        *TID_4019,
        Row("INFERRED FROM", "CONTAINER", codes.INDIVIDUAL_IMPRESSION, "1-n", when=WITH_FINDINGS, below="TID 4003"),
    ),
    "of which side": (Row("HAS CONCEPT MOD", "CODE", codes.LATERALITY, "0-1", CID_6022),),
    "TID 4003": (
        INTENT,
        Row("CONTAINS", "CODE", codes.COMPOSITE_FEATURE, "0-n", CLUSTER, below="TID 4004"),
        Row("CONTAINS", "CODE", codes.SINGLE_IMAGE_FINDING, "0-n", CLUSTER, below="TID 4006"),
    ),
    "TID 4004": (
        INTENT,
        *TID_4108,
        # TID 4005
        Row("HAS PROPERTIES", "CODE", codes.COMPOSITE_TYPE, "1", frozenset({codes.RELATED_SPATIALLY})),
        Row("HAS PROPERTIES", "CODE", codes.SCOPE_OF_FEATURE, "1", frozenset({codes.ON_MULTIPLE_IMAGES})),
        *TID_4019,
        Row("HAS PROPERTIES", "NUM", codes.CERTAINTY_OF_FEATURE, "0-1", PERCENT),
        Row("INFERRED FROM", "CODE", codes.SINGLE_IMAGE_FINDING, "1-n", CLUSTER, below="TID 4006"),
    ),
    "TID 4006": TID_4006,
    "selected": (Row("SELECTED FROM", "IMAGE", None, "1", referenced=True),),
    "TID 4015": (
        Row("INFERRED FROM", "CONTAINER", codes.SUCCESSFUL_DETECTIONS, "1", when=ANY_SUCCEEDED, below="detections"),
        Row("INFERRED FROM", "CONTAINER", codes.FAILED_DETECTIONS, "1", when=ANY_FAILED, below="detections"),
    ),
    "detections": (Row("CONTAINS", "CODE", codes.DETECTION_PERFORMED, "1-n", CID_6014, below="TID 4017"),),
    "TID 4017": (*TID_4019, DONE_ON),
    "TID 4016": (
        Row("INFERRED FROM", "CONTAINER", codes.SUCCESSFUL_ANALYSES, "1", when=ANY_SUCCEEDED, below="analyses"),
    ),
    "analyses": (Row("CONTAINS", "CODE", codes.ANALYSIS_PERFORMED, "1-n", CID_6043, below="TID 4018"),),
    "TID 4018": (*TID_4019, DONE_ON),
}
TOGETHER: Mapping[str, tuple[Together, ...]] = {
    "TID 4001": (Together(frozenset({codes.BI_RADS, codes.IMPRESSION_DESCRIPTION}), 1),),
    "TID 4003": (Together(frozenset({codes.COMPOSITE_FEATURE, codes.SINGLE_IMAGE_FINDING}), 1),),
    "TID 4004": (Together(frozenset({codes.SINGLE_IMAGE_FINDING}), 2),),
    "TID 4006": (
        Together(frozenset({codes.CALCIFICATION_TYPE, codes.LONG_AXIS, codes.AREA}), 1, when=SINGLE),
        Together(
            frozenset({
                codes.CALCIFICATION_TYPE, codes.CALCIFICATION_DISTRIBUTION, codes.NUMBER_OF_CALCIFICATIONS,
                codes.LONG_AXIS, codes.AREA,
            }),
            1,
            when=CLUSTER,
        ),
    ),
}  # fmt: skip


def mammography_cad_faults(case: ReportCase, dataset: Dataset) -> Iterator[str]:
    """What is wrong with the tree of a Mammography CAD SR; nothing for other objects."""
    if dataset.SOPClassUID != MammographyCADSRStorage:
        return
    templates = dataset.get("ContentTemplateSequence") or ()
    if [(item.MappingResource, item.TemplateIdentifier) for item in templates] != [("DCMR", "4000")]:
        yield "the root is not of TID 4000"
    if dataset.get("ValueType") != "CONTAINER" or not _is(dataset, codes.MAMMOGRAPHY_CAD_REPORT):
        yield "the root is no container for a Mammography CAD Report"
    yield from _faults_below(dataset, dataset, "TID 4000")
    for item in _every(dataset):
        if item.get("ValueType") == "SCOORD":
            yield from _place_faults(case, dataset, item)


def _faults_below(root: Dataset, parent: Dataset, rows_of: str) -> Iterator[str]:
    """The children of one item against its rows: none but these, in their order, as often as they say."""
    rows, answer = ROWS[rows_of], _code(parent, "ConceptCodeSequence")
    counts, reached = [0] * len(rows), 0
    for child in parent.get("ContentSequence") or ():
        place = _row_of(child, rows)
        if place is None:
            yield f"{rows_of} holds {_called(child)}, which is not one of its rows"
            continue
        if place < reached:
            yield f"the rows of {rows_of} are out of order"
        reached, counts[place] = max(reached, place), counts[place] + 1
        yield from _item_faults(root, child, rows[place], rows_of)
    for row, count in zip(rows, counts, strict=True):
        least, most = TIMES[row.times] if row.when is None or answer in row.when else (0, 0)
        if not least <= count <= most:
            name = row.value_type if row.concept is None else row.concept.meaning
            yield f"{rows_of} {'lacks' if count < least else 'may not hold'} {name}"
    held = [_code(child, "ConceptNameCodeSequence") for child in parent.get("ContentSequence") or ()]
    for together in TOGETHER.get(rows_of, ()):
        applies = together.when is None or answer in together.when
        if applies and sum(name in together.concepts for name in held) < together.least:
            names = " or ".join(sorted(code.meaning for code in together.concepts))
            yield f"{rows_of} needs {together.least} of {names}"


def _row_of(child: Dataset, rows: Sequence[Row]) -> int | None:
    """The row that an item is of, by its name and value type; items elsewhere have neither."""
    name = _code(child, "ConceptNameCodeSequence")
    elsewhere = "ReferencedContentItemIdentifier" in child
    for place, row in enumerate(rows):
        if row.referenced == elsewhere and (elsewhere or (row.concept == name and row.value_type == child.ValueType)):
            return place
    return None


def _item_faults(root: Dataset, item: Dataset, row: Row, rows_of: str) -> Iterator[str]:
    if item.get("RelationshipType") != row.relation:
        yield f"{_called(item)} of {rows_of} is related by {item.get('RelationshipType')}, not {row.relation}"
    if row.referenced:
        yield from _reference_faults(root, item, row)
        return
    if not item.get(VALUES[row.value_type]):
        yield f"{_called(item)} of {rows_of} has no value"
        return
    if row.value_type == "CODE" and row.values is not None and _code(item, "ConceptCodeSequence") not in row.values:
        yield f"{_called(item)} of {rows_of} has an answer that is not of its context group"
    if row.value_type == "NUM" and row.values is not None:
        yield from _number_faults(item, row.values)
    if row.value_type == "SCOORD":
        yield from _graphic_faults(item)
    if row.below is not None:
        yield from _faults_below(root, item, row.below)
    elif item.get("ContentSequence"):
        yield f"{_called(item)} of {rows_of} has items below it"


def _number_faults(item: Dataset, units: Codes) -> Iterator[str]:
    measured = item.MeasuredValueSequence[0]
    if _code(measured, "MeasurementUnitsCodeSequence") not in units:
        yield f"{_called(item)} has the wrong unit"
    if "NumericValue" not in measured:
        yield f"{_called(item)} has no number"
    elif units == PERCENT and not 0 <= float(measured.NumericValue) <= 100:
        yield f"{_called(item)} is not from 0 to 100 %"


def _graphic_faults(item: Dataset) -> Iterator[str]:
    """A centre is one point (TID 4021, row 1), an outline a line that ends where it began (row 3)."""
    data = list(item.GraphicData)
    if _is(item, codes.CENTER):
        if item.get("GraphicType") != "POINT" or len(data) != 2:
            yield "a centre is not one point"
    elif item.get("GraphicType") != "POLYLINE" or len(data) < 8 or len(data) % 2 or data[:2] != data[-2:]:
        yield "an outline is not a closed line"


def _reference_faults(root: Dataset, item: Dataset, row: Row) -> Iterator[str]:
    """What stands elsewhere is an image of the library."""
    library = [place for place, child in enumerate(_children(root), 1) if _is(child, codes.IMAGE_LIBRARY)]
    path = _path(item)
    target = _target(root, path)
    if target is None:
        yield f"a reference by {row.relation} leads nowhere"
    elif target.get("ValueType") != row.value_type or path[1:2] != library or len(path) != 3:
        yield f"a reference by {row.relation} does not lead to an image of the library"


def _place_faults(case: ReportCase, root: Dataset, item: Dataset) -> Iterator[str]:
    """Coordinates lie on the image they are selected from."""
    sizes = {
        str(header.SOPInstanceUID): (header.get("Columns"), header.get("Rows"))
        for header in (*case.headers, *case.refused_headers)
    }
    for child in _children(item):
        target = _target(root, _path(child))
        images = () if target is None else target.get("ReferencedSOPSequence") or ()
        for image in images:
            columns, rows = sizes.get(str(image.ReferencedSOPInstanceUID), (None, None))
            data = list(item.get("GraphicData") or ())
            inside = (0 <= x <= columns and 0 <= y <= rows for x, y in zip(data[::2], data[1::2], strict=False))
            if columns is not None and rows is not None and not all(inside):
                yield f"{_called(item)} lies outside its image"


def _path(item: Dataset) -> list[int]:
    """Places from 1 among the children, the root's own first."""
    held = item.get("ReferencedContentItemIdentifier")
    if held is None:
        return []
    return [int(place) for place in held] if isinstance(held, Sequence) else [int(held)]


def _target(root: Dataset, path: Sequence[int]) -> Dataset | None:
    """The item that a path leads to, or None."""
    if not path or path[0] != 1:
        return None
    item = root
    for place in path[1:]:
        children = _children(item)
        if not 1 <= place <= len(children):
            return None
        item = children[place - 1]
    return item


def _children(item: Dataset) -> list[Dataset]:
    return list(item.get("ContentSequence") or ())


def _every(item: Dataset) -> Iterator[Dataset]:
    for child in _children(item):
        yield child
        yield from _every(child)


def _is(item: Dataset, name: Code) -> bool:
    return _code(item, "ConceptNameCodeSequence") == name


def _called(item: Dataset) -> str:
    """An item's name for a message."""
    name = _code(item, "ConceptNameCodeSequence")
    return str(item.get("ValueType", "a reference")) if name is None else name.meaning


KNOWN = {(code.value, code.scheme): code for code in vars(codes).values() if isinstance(code, Code)}


def _code(item: Dataset, keyword: str) -> Code | None:
    """The code of a sequence, as the table of codes has it; its meaning is checked elsewhere."""
    held = item.get(keyword)
    if not held:
        return None
    value, scheme = str(held[0].get("CodeValue", "")), str(held[0].get("CodingSchemeDesignator", ""))
    return KNOWN.get((value, scheme), Code(value, scheme, str(held[0].get("CodeMeaning", ""))))
