"""What is known of an instance without its pixels: the header of a file, and the facts that decisions rest on.

Files come from the network and may be hostile: whatever the parser raises leaves `read_header` as a `Refusal`, and an
attribute that cannot be read counts as missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydicom import DataElement, Dataset, Sequence, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from pipelines.foreign import FOREIGN_ERRORS
from pipelines.instance import MULTI_FRAME
from pipelines.mammogram_header import plain_view
from pipelines.part10 import LARGEST_FILE_BYTES
from pipelines.reasons import Refusal, refuse

Value = str | float
KEPT_FACTS = 20_000
"""Instances whose facts are kept in memory, so that a file is read once although several stages ask for it."""
STANDARD_VIEWS = frozenset({"R CC", "L CC", "R MLO", "L MLO"})
"""What a screening study is made of."""
UNLIKELY = 1e7
"""Numbers from here on (mm, counts) are mistakes, and so are those that are none."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one frame lies: its first pixel's centre and its row and column directions (LPS, mm; PS3.3, C.7.6.2)."""

    origin: tuple[float, ...]
    directions: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What assembling and series selection ask of an instance. Text is empty and numbers None where it says nothing.

    `image_type` is in capitals; `places` has one entry for each frame whose position and orientation are given;
    `acquired` is date and time of the acquisition as one sortable text. `standard_view` is which of `STANDARD_VIEWS` it
    is, if any: magnified, compressed and otherwise modified ones are none, nor are breasts with implants, of which
    there are two of each.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    image_type: tuple[str, ...]
    places: tuple[Place, ...]
    is_multi_frame: bool
    thickness_mm: float | None
    instance_number: int | None
    series_number: int | None
    samples_per_pixel: int | None
    series_description: str
    manufacturer: str
    kernel: str
    contrast: str
    acquired: str
    standard_view: str


def read_header(path: Path) -> Dataset:
    """The data set of a file up to its pixel data. Raises `Refusal` for what is no DICOM or cannot be parsed."""
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise refuse("input.too_large", detail="a file of more than 2 GiB")
        return dcmread(path, stop_before_pixels=True)
    except InvalidDicomError as error:
        raise refuse("input.not_dicom") from error
    except EOFError as error:
        raise refuse("input.truncated") from error
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise refuse("input.file_unreadable", detail=type(error).__name__) from error
    except FOREIGN_ERRORS as error:
        raise refuse("input.malformed", detail=type(error).__name__) from error


def facts_of(header: Dataset) -> InstanceFacts:
    """The facts of one instance. Raises `Refusal` when it does not say what series it belongs to."""
    is_multi_frame = first_text(header, "SOPClassUID") in MULTI_FRAME
    return InstanceFacts(
        study_instance_uid=_required(header, "StudyInstanceUID"),
        series_instance_uid=_required(header, "SeriesInstanceUID"),
        sop_instance_uid=_required(header, "SOPInstanceUID"),
        sop_class_uid=_required(header, "SOPClassUID"),
        modality=first_text(header, "Modality"),
        image_type=tuple(str(value).upper() for value in values(header, "ImageType")),
        places=_places_of_frames(header) if is_multi_frame else _place(header),
        is_multi_frame=is_multi_frame,
        thickness_mm=_number(_measures(header) if is_multi_frame else header, "SliceThickness"),
        instance_number=_whole(header, "InstanceNumber"),
        series_number=_whole(header, "SeriesNumber"),
        samples_per_pixel=_whole(header, "SamplesPerPixel"),
        series_description=first_text(header, "SeriesDescription"),
        manufacturer=first_text(header, "Manufacturer"),
        kernel=first_text(header, "ConvolutionKernel"),
        contrast=first_text(header, "ContrastBolusAgent"),
        acquired=first_text(header, "AcquisitionDate") + first_text(header, "AcquisitionTime")
        or first_text(header, "AcquisitionDateTime"),
        standard_view=_standard_view(header),
    )


@lru_cache(maxsize=KEPT_FACTS)
def read_facts(path: Path) -> InstanceFacts:
    """The facts of a file that does not change any more. Raises `Refusal`."""
    return facts_of(read_header(path))


def values(header: Dataset, keyword: str) -> tuple[Value, ...]:
    """An element's values as text or numbers, without empty ones; an item of a sequence counts as the text `item`."""
    with suppress(*FOREIGN_ERRORS):
        element = header.get_item(keyword) and header[keyword]
        if isinstance(element, DataElement):
            return tuple(plain for value in _each(element.value) if (plain := _plain(value)) != "")
    return ()


def attributes(header: Dataset, keywords: Iterable[str]) -> Mapping[str, tuple[Value, ...]]:
    """The values of the elements that rules ask for."""
    return {keyword: values(header, keyword) for keyword in keywords}


def first_text(header: Dataset, keyword: str) -> str:
    """The first value of an element as text; empty where there is none."""
    return next((str(value) for value in values(header, keyword)), "")


def _each(value: object) -> Iterable[object]:
    if isinstance(value, Sequence):
        return ["item"] * len(value)
    return value if isinstance(value, MultiValue | list | tuple) else [value]


def _plain(value: object) -> Value:
    if isinstance(value, int | float):
        return float(value)
    return "" if value is None else str(value).strip()


def _required(header: Dataset, keyword: str) -> str:
    text = first_text(header, keyword)
    if not text:
        raise refuse("input.missing_attribute", keyword=keyword)
    return text


def _numbers(header: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    with suppress(*FOREIGN_ERRORS):
        numbers = tuple(float(value) for value in values(header, keyword))
        if len(numbers) == count and all(abs(number) < UNLIKELY for number in numbers):
            return numbers
    return None


def _number(header: Dataset, keyword: str) -> float | None:
    numbers = _numbers(header, keyword, 1)
    return None if numbers is None else numbers[0]


def _whole(header: Dataset, keyword: str) -> int | None:
    number = _number(header, keyword)
    return None if number is None else int(number)


def _standard_view(header: Dataset) -> str:
    with suppress(Refusal, *FOREIGN_ERRORS):
        return name if (name := plain_view(header)) in STANDARD_VIEWS else ""
    return ""


def _place(*holders: Dataset) -> tuple[Place, ...]:
    """The place that the first of `holders` with a position and the first with an orientation give."""
    origin = next((found for held in holders if (found := _numbers(held, "ImagePositionPatient", 3))), None)
    directions = next((found for held in holders if (found := _numbers(held, "ImageOrientationPatient", 6))), None)
    return () if origin is None or directions is None else (Place(origin, directions),)


def _places_of_frames(header: Dataset) -> tuple[Place, ...]:
    """Places of the frames of an enhanced object, from its functional groups (PS3.3, C.7.6.16.2.3 and 2.4)."""
    shared = _items(header, "SharedFunctionalGroupsSequence")
    places: list[Place] = []
    for frame in _items(header, "PerFrameFunctionalGroupsSequence"):
        groups = (frame, *shared)
        keywords = ("PlanePositionSequence", "PlaneOrientationSequence")
        places += _place(*(item for group in groups for keyword in keywords for item in _items(group, keyword)))
    return tuple(places)


def _measures(header: Dataset) -> Dataset:
    """Pixel Measures of an enhanced object: the shared ones, else those of its first frame; empty without either."""
    groups = _items(header, "SharedFunctionalGroupsSequence") + _items(header, "PerFrameFunctionalGroupsSequence")[:1]
    return next((item for group in groups for item in _items(group, "PixelMeasuresSequence")), Dataset())


def _items(header: Dataset, keyword: str) -> list[Dataset]:
    with suppress(*FOREIGN_ERRORS):
        element = header.get(keyword)
        if isinstance(element, Sequence):
            return list(element)
    return []
