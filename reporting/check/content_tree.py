"""Content trees of our documents: relations, values, and the rows of TID 1500, 1410, 1411, 1501, 4019 and 2010."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage

CONTAINER = "CONTAINER"
OBSERVER = ("121005", "121012", "121013", "121014", "121015", "121016")
REPORT_ROWS = ("121049", *OBSERVER, "121058", "111028", "126010", "126011", "C0034375")
REPORT_MANDATORY = ("121049", "121005", "121012", "121058", "126010")
GROUP_ROWS = (
    "112039", "112040", "276214006", "121071", "370129005", "363698007",
    "111001", "111003", "111002", "111000", "NUM", "CODE", "111030", "121191", "121233", "121112",
)  # fmt: skip
GROUP_MANDATORY = ("112039", "112040", "121071", "111001", "111003")
# CID 7010, those that say nothing of rejection.
SELECTION_TITLES = frozenset({"113000", "113002", "113006", "113009", "113020", "128182"})
# Relations of PS3.3, Table A.35.13-2 that our documents use: parent, relation, child.
RELATIONS = frozenset({
    *((CONTAINER, "CONTAINS", child) for child in ("CONTAINER", "CODE", "TEXT", "NUM", "IMAGE", "UIDREF", "SCOORD")),
    *((CONTAINER, "HAS OBS CONTEXT", child) for child in ("CODE", "TEXT", "UIDREF")),
    *((CONTAINER, "HAS CONCEPT MOD", child) for child in ("CODE", "TEXT")),
    *((parent, "HAS CONCEPT MOD", child) for parent in ("CODE", "NUM") for child in ("CODE", "TEXT")),
    ("SCOORD", "SELECTED FROM", "IMAGE"),
})  # fmt: skip
VALUES = {
    "CODE": "ConceptCodeSequence",
    "TEXT": "TextValue",
    "NUM": "MeasuredValueSequence",
    "IMAGE": "ReferencedSOPSequence",
    "UIDREF": "UID",
    "CONTAINER": "ContinuityOfContent",
    "SCOORD": "GraphicData",
}


def content_tree_faults(dataset: Dataset) -> Iterator[str]:
    """What is wrong with the tree of a document; nothing for other objects."""
    if dataset.SOPClassUID == Comprehensive3DSRStorage:
        yield from _relation_faults(dataset)
        yield from _report_faults(dataset)
    elif dataset.SOPClassUID == KeyObjectSelectionDocumentStorage:
        yield from _relation_faults(dataset, unnamed=("IMAGE",))
        yield from _selection_faults(dataset)


def _relation_faults(item: Dataset, unnamed: Sequence[str] = ()) -> Iterator[str]:
    """Items without value or name, and relations that the IOD does not allow."""
    for child in item.get("ContentSequence") or ():
        value_type = child.get("ValueType", "")
        relation = (item.ValueType, child.get("RelationshipType", ""), value_type)
        if relation not in RELATIONS:
            yield f"the relation {' '.join(relation)} is not allowed"
            continue
        if value_type not in unnamed and not child.get("ConceptNameCodeSequence"):
            yield f"an item of type {value_type} has no name"
        if not child.get(VALUES[value_type]):
            yield f"an item of type {value_type} has no value"
        yield from _relation_faults(child, unnamed)


def _report_faults(dataset: Dataset) -> Iterator[str]:
    """TID 1500: its rows, and those of the measurement groups in row 6."""
    yield from _template_faults(dataset, "1500")
    names = [_name(item) for item in dataset.get("ContentSequence") or ()]
    yield from _row_faults("TID 1500", names, REPORT_ROWS, REPORT_MANDATORY)
    groups = [
        group
        for item in dataset.get("ContentSequence") or ()
        if _name(item) == "126010"
        for group in item.get("ContentSequence") or ()
    ]
    if not groups:
        yield "TID 1500 has no measurement group"
    for group in groups:
        yield from _group_faults(group)


def _group_faults(group: Dataset) -> Iterator[str]:
    if _name(group) != "125007":
        yield "row 6 of TID 1500 holds something else than measurement groups"
        return
    children = list(group.get("ContentSequence") or ())
    names = [_name(child) for child in children]
    rows = [
        child.ValueType if child.ValueType == "NUM" or name not in GROUP_ROWS else name
        for child, name in zip(children, names, strict=True)
    ]
    template = group.ContentTemplateSequence[0].TemplateIdentifier if group.get("ContentTemplateSequence") else ""
    yield from _row_faults(f"TID {template}", rows, GROUP_ROWS, GROUP_MANDATORY)
    if template not in ("1410", "1411", "1501"):
        yield "a measurement group is of no template that is allowed"
    if template == "1410" and (names.count("111030") != 1 or "121191" in names):
        yield "TID 1410 needs one region on an image"
    if template != "1410" and "111030" in names:
        yield f"TID {template} holds a region, which is not one of its rows"
    if template == "1411" and (names.count("121191") != 1 or "121233" not in names):
        yield "TID 1411 needs one segment and the images it was drawn on"
    for child in children:
        if child.ValueType == "NUM" and not child.MeasuredValueSequence[0].get("MeasurementUnitsCodeSequence"):
            yield "a measurement has no unit"


def _selection_faults(dataset: Dataset) -> Iterator[str]:
    """TID 2010: an allowed title, unnamed images (row 8), one description at most (row 7)."""
    yield from _template_faults(dataset, "2010")
    if _name(dataset) not in SELECTION_TITLES:
        yield "the title of the key object selection is not one of those that are used"
    images = [item for item in dataset.ContentSequence if item.ValueType == "IMAGE"]
    if not images:
        yield "TID 2010 references no image"
    if any(item.get("ConceptNameCodeSequence") for item in images):
        yield "TID 2010, row 8: an image has a name"
    if sum(_name(item) == "113012" for item in dataset.ContentSequence) > 1:
        yield "TID 2010, row 7: there are several descriptions"


def _template_faults(dataset: Dataset, template: str) -> Iterator[str]:
    templates = dataset.get("ContentTemplateSequence") or ()
    if [(item.MappingResource, item.TemplateIdentifier) for item in templates] != [("DCMR", template)]:
        yield f"the root is not of TID {template}"


def _row_faults(template: str, rows: Sequence[str], order: Sequence[str], mandatory: Sequence[str]) -> Iterator[str]:
    for row in mandatory:
        if row not in rows:
            yield f"{template} lacks {row}"
    if unknown := [row for row in rows if row not in order]:
        yield f"{template} holds {unknown[0]}, which is not one of its rows"
        return
    places = [order.index(row) for row in rows]
    if places != sorted(places):
        yield f"the rows of {template} are out of order"


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
