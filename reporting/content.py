"""Content items (PS3.3, C.17.3) for trees that are put together by hand, where no library has the template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydicom import Dataset
from pydicom.valuerep import DSfloat

from pipelines.codes import Code
from reporting.document import code_item

Relation = Literal[
    "CONTAINS", "HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD", "HAS PROPERTIES", "INFERRED FROM",
    "SELECTED FROM",
]  # fmt: skip
Points = Sequence[tuple[float, float]]


def container(relation: Relation | None, name: Code, *children: Dataset) -> Dataset:
    """A container whose items stand apart; without a relation the root of a tree."""
    item = _item(relation, "CONTAINER", name)
    item.ContinuityOfContent = "SEPARATE"
    return _with(item, children)


def code(relation: Relation, name: Code, value: Code, *children: Dataset) -> Dataset:
    """A coded answer."""
    item = _item(relation, "CODE", name)
    item.ConceptCodeSequence = [code_item(value)]
    return _with(item, children)


def text(relation: Relation, name: Code, value: str) -> Dataset:
    """Words."""
    item = _item(relation, "TEXT", name)
    item.TextValue = value
    return item


def uid(relation: Relation, name: Code, value: str) -> Dataset:
    """A UID."""
    item = _item(relation, "UIDREF", name)
    item.UID = value
    return item


def date(relation: Relation, name: Code, value: str) -> Dataset:
    """A date (DA)."""
    item = _item(relation, "DATE", name)
    item.Date = value
    return item


def time(relation: Relation, name: Code, value: str) -> Dataset:
    """A time of day (TM)."""
    item = _item(relation, "TIME", name)
    item.Time = value
    return item


def number(relation: Relation, name: Code, value: float, unit: Code) -> Dataset:
    """A number with its unit."""
    measured = Dataset()
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    measured.NumericValue = DSfloat(f"{value:.0f}" if value == round(value) else float(value), auto_format=True)
    item = _item(relation, "NUM", name)
    item.MeasuredValueSequence = [measured]
    return item


def image(relation: Relation, header: Dataset, *children: Dataset) -> Dataset:
    """An unnamed reference to a whole image."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = str(header.SOPClassUID)
    reference.ReferencedSOPInstanceUID = str(header.SOPInstanceUID)
    item = _item(relation, "IMAGE", None)
    item.ReferencedSOPSequence = [reference]
    return _with(item, children)


def coordinates(
    relation: Relation, name: Code, graphic: Literal["POINT", "POLYLINE"], points: Points, *children: Dataset
) -> Dataset:
    """Places on an image as (column, row), origin at the first pixel's outer corner (PS3.3, C.18.6)."""
    item = _item(relation, "SCOORD", name)
    item.GraphicType = graphic
    item.GraphicData = [float(value) for point in points for value in point]
    return _with(item, children)


def reference(relation: Relation, path: Sequence[int]) -> Dataset:
    """An item that stands elsewhere in the tree: places from 1 among the children, from the root on (PS3.3, C.17.3)."""
    item = Dataset()
    item.RelationshipType = relation
    item.ReferencedContentItemIdentifier = list(path)
    return item


def _item(relation: Relation | None, value_type: str, name: Code | None) -> Dataset:
    item = Dataset()
    if relation is not None:
        item.RelationshipType = relation
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _with(item: Dataset, children: Iterable[Dataset]) -> Dataset:
    held = list(children)
    if held:
        item.ContentSequence = held
    return item
