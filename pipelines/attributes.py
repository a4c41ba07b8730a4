"""Attributes of a data set as the plain values that are reckoned with; what is missing or useless is refused.

A `Refusal` names the attribute, never its value, which may be a patient's.
"""

from __future__ import annotations

import re
from functools import cache
from math import isfinite

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from pipelines.foreign import refusing
from pipelines.reasons import refuse

# Value representations whose value is its text; the others need the parser's knowledge.
PLAIN_TEXT = frozenset({"CS", "DS", "IS", "LO", "UI"})


def items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence, none where it is absent."""
    return list(dataset.get(keyword) or [])


def text(dataset: Dataset, keyword: str) -> str:
    """All values of an attribute as one text. Raises `Refusal` where there is none."""
    value = "\\".join(strings(dataset, keyword))
    if not value:
        raise refuse("input.missing_attribute", keyword=keyword)
    return value


def uid(dataset: Dataset, keyword: str) -> str:
    """A UID that can be handed on. Letters are let through (some anonymizers write them), paths are not."""
    value = text(dataset, keyword)
    if re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.]{0,63}", value) is None:
        raise refuse("input.invalid_attribute", keyword=keyword)
    return value


def whole(dataset: Dataset, keyword: str, absent: int | None = None) -> int:
    """A whole number; without a value for when it is absent, that raises `ValueError`."""
    values = strings(dataset, keyword)
    if not values and absent is not None:
        return absent
    (value,) = values
    return int(value)


def numbers(dataset: Dataset, keyword: str, count: int) -> list[float]:
    """So many numbers. Raises `Refusal` for more, fewer, none, and for what is no number of any use."""
    with refusing("input.invalid_attribute", keyword=keyword):
        found = [float(value) for value in strings(dataset, keyword)]
        if not found:
            raise refuse("input.missing_attribute", keyword=keyword)
        if len(found) != count or not all(isfinite(number) and abs(number) < 1e7 for number in found):
            raise refuse("input.invalid_attribute", keyword=keyword)
        return found


def strings(dataset: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as text, none where it is absent or empty.

    Plain text and numbers of 16 bits are taken from the encoded element. To have the parser convert each of them costs
    as much as reading the pixels.
    """
    tag, usual_vr = _tag_and_vr(keyword)
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement) and element.value:
        vr = element.VR or usual_vr
        if vr in PLAIN_TEXT and element.value.isascii() and b"\x1b" not in element.value:
            return _split(element.value.decode("ascii"))
        if vr == "US" and len(element.value) == 2:
            return [str(int.from_bytes(element.value, "little" if element.is_little_endian else "big"))]
    value = dataset.get(tag)
    value = value.value if isinstance(value, DataElement) else value
    if value is None:
        return []
    return [str(item).strip() for item in value] if isinstance(value, MultiValue) else _split(str(value))


def _split(text: str) -> list[str]:
    stripped = text.rstrip("\0 ")
    return [value.strip() for value in stripped.split("\\")] if stripped.strip() else []


@cache
def _tag_and_vr(keyword: str) -> tuple[BaseTag, str]:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return BaseTag(tag), dictionary_VR(tag)
