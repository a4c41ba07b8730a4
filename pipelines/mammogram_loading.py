"""Files of one study to the mammograms in it, each read by itself: one bad view never loses the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset

from pipelines import codes
from pipelines.attributes import numbers, strings, uid
from pipelines.decoding import decode_each
from pipelines.foreign import refusing
from pipelines.geometry import Floats
from pipelines.grey import attenuation, modality_values, possible_values, presented
from pipelines.mammogram import Border, Mammogram, MammogramStudy, RefusedView
from pipelines.mammogram_header import ViewFacts, check_kind, read_header
from pipelines.part10 import encoding, is_lossy, padding, parse, shape
from pipelines.pixels import StoredPixels, StoredValues
from pipelines.reasons import Reason, Refusal, commonest, refuse

LARGEST_SIDE = 8192
SAMPLE = 3
"""Values are counted in every third row and column."""
FEWEST_PIXELS = 256
"""Of the shorter side: an icon is no mammogram."""
STANDARD = ("R CC", "L CC", "R MLO", "L MLO")
PARTICULAR = frozenset({codes.SPOT_COMPRESSION, codes.MAGNIFICATION})
"""What makes a view another than the standard one of its name."""
SAME_SESSION = timedelta(days=1)
"""A session may pass midnight."""
NOT_TELLING = frozenset({"input.not_an_image_to_read", "input.not_dicom", "input.file_unreadable"})

COARSE = 256
"""Content is looked at in about so many samples along the longer side."""
STRIP = 0.04
"""Part of the width that the strip along a border takes."""
EVEN = 0.1
"""A strip of air is as even as this, where the image reaches from 0 to 1."""
LEAST_BLANK, MOST_WHITE_BESIDE = 0.08, 0.7
"""A blank band is no narrower than this part of the image, and beside it no more than this part is white."""
BLOCK = 8
NOTHING, NOISE_RATIO = 0.03, 4.0
"""An image shows nothing where the means of its blocks spread no further, or hardly further than noise lets them."""
TISSUE = 0.15
"""What is brighter than air by this part of the brightest is tissue, as far as the side of the breast is concerned."""
CERTAIN = 0.1
"""By so much of the height must the strip at the chest wall show more tissue than the other."""


def load_study(paths: Sequence[Path]) -> MammogramStudy:
    """The views of one study in hanging order, and what is not read with its reason.

    Every file is looked at; the same instance twice counts once. Images of another day than the views that are read are
    refused one by one: of the days (sessions past midnight are one) that is read which has the most of the four
    standard views, the newer of equal ones, since views are compared with each other and must belong together. The
    same view For Processing is left out where it is there For Presentation, which is what readers look at.

    Raises `Refusal` when no view can be read, with the most telling reason, or when the images are of several patients:
    nobody could say whose findings they are. Raises `OSError` and `DecodersDiedError` as `decoding.decode` does.
    """
    images, refused = _open_all(paths)
    _check_one_patient(images)
    images, of_other_days, warnings = _of_one_day(images)
    refused += of_other_days
    stored, undecoded = decode_each([image.pixels for image in images]) if images else ([], {})
    views: list[Mammogram] = []
    for k, image in enumerate(images):
        try:
            if k in undecoded:
                raise Refusal(undecoded[k])
            views.append(_view(image, stored[k]))
        except Refusal as refusal:
            refused.append(RefusedView(image.instance_uid, refusal.reason, image.header))
    views, unneeded = _without_raw_twins(views)
    refused += unneeded
    if not views:
        raise Refusal(_most_telling([view.reason for view in refused]))
    return MammogramStudy(_hung(views), tuple(refused), (*warnings, *_study_warnings(views, refused)))


@dataclass(frozen=True, slots=True, eq=False)
class _Image:
    """A mammogram whose header can be read; its pixels are not yet decoded."""

    header: Dataset
    instance_uid: str
    facts: ViewFacts
    pixels: StoredPixels

    @property
    def name(self) -> str:
        return f"{self.facts.laterality} {self.facts.projection}"

    @property
    def is_standard(self) -> bool:
        return self.name in STANDARD and not self.facts.modifiers & PARTICULAR


def _open_all(paths: Sequence[Path]) -> tuple[list[_Image], list[RefusedView]]:
    images: dict[str, _Image] = {}
    refused: dict[str, RefusedView] = {}
    for number, path in enumerate(paths):
        header: Dataset | None = None
        instance_uid = ""
        try:
            header, data = parse(path)
            with refusing("input.malformed"):
                instance_uid = uid(header, "SOPInstanceUID")
                pixel_data = check_kind(header, data)
                rows, columns = shape(header, LARGEST_SIDE)
                if min(rows, columns) < FEWEST_PIXELS:
                    raise refuse("input.matrix_too_small", rows=rows, columns=columns)
                pixels = StoredPixels(**encoding(path, header, pixel_data, (rows, columns)))
                facts = read_header(header, (rows, columns))
            images.setdefault(instance_uid, _Image(header, instance_uid, facts, pixels))
        except Refusal as refusal:
            refused.setdefault(instance_uid or f"file {number}", RefusedView(instance_uid, refusal.reason, header))
    return list(images.values()), [view for view in refused.values() if view.instance_uid not in images]


def _check_one_patient(images: Sequence[_Image]) -> None:
    """Refuse images of several Patient IDs; a missing one says nothing."""
    patients = {tuple(strings(image.header, "PatientID")) for image in images} - {()}
    if len(patients) > 1:
        raise refuse("study.several_patients")


def _of_one_day(images: list[_Image]) -> tuple[list[_Image], list[RefusedView], list[Reason]]:
    """The images of the day to read, those of other days, and a warning where there are such.

    Images without a date go with the day that is read.
    """
    days = {image.instance_uid: _day(image.header) for image in images}
    sessions: list[list[date]] = []
    for day in sorted({day for day in days.values() if day is not None}):
        if sessions and day - sessions[-1][-1] <= SAME_SESSION:
            sessions[-1].append(day)
        else:
            sessions.append([day])
    if len(sessions) < 2:
        return images, [], []

    def standard_views(session: list[date]) -> int:
        return len({image.name for image in images if image.is_standard and days[image.instance_uid] in session})

    read = max(sessions, key=lambda session: (standard_views(session), session))
    kept = [image for image in images if days[image.instance_uid] in (None, *read)]
    left = [image for image in images if image not in kept]
    reason = Reason("view.another_day")
    return (
        kept,
        [RefusedView(image.instance_uid, reason, image.header) for image in left],
        [Reason("study.several_days", {"days": len(sessions)})],
    )


def _day(header: Dataset) -> date | None:
    """The day of the exposure; the study's date where the image has none of its own."""
    for keyword in ("AcquisitionDate", "ContentDate", "StudyDate"):
        digits = "".join(strings(header, keyword)).replace(".", "")
        try:
            return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
        except ValueError:
            continue
    return None


def _without_raw_twins(views: Sequence[Mammogram]) -> tuple[list[Mammogram], list[RefusedView]]:
    """The views without those For Processing that are there For Presentation too."""
    presented_views = {(view.name, view.modifiers) for view in views if view.scale == "presented"}
    twins = [v for v in views if v.scale == "attenuation" and (v.name, v.modifiers) in presented_views]
    reason = Reason("view.read_as_presented")
    return (
        [view for view in views if view not in twins],
        [RefusedView(view.instance_uid, reason, view.header) for view in twins],
    )


def _most_telling(reasons: Sequence[Reason]) -> Reason:
    """That of the mammograms which could not be read, rather than what other objects are."""
    if not reasons:
        return Reason("study.no_mammograms")
    return commonest([reason for reason in reasons if reason.code not in NOT_TELLING] or list(reasons))


def _hung(views: Sequence[Mammogram]) -> tuple[Mammogram, ...]:
    """In hanging order; those of one name by number of modifiers and instance number."""

    def place(view: Mammogram) -> tuple[int, str, int, int, str]:
        known = STANDARD.index(view.name) if view.name in STANDARD else len(STANDARD)
        number = "".join(strings(view.header, "InstanceNumber"))
        return (known, view.name, len(view.modifiers), int(number) if number.isdecimal() else 0, view.instance_uid)

    return tuple(sorted(views, key=place))


def _study_warnings(views: Sequence[Mammogram], refused: Sequence[RefusedView]) -> list[Reason]:
    warnings = []
    there = {view.name for view in views if not view.modifiers & PARTICULAR}
    if missing := [name for name in STANDARD if name not in there]:
        warnings.append(Reason("study.views_missing", {"views": ", ".join(missing)}))
    if unreadable := sum(view.reason.row.severity != "info" for view in refused):
        facts = {"unreadable": unreadable, "instances": len(views) + unreadable}
        warnings.append(Reason("series.partly_unreadable", facts))
    return warnings


# One view ---------------------------------------------------------------------------------------------------------


def _view(image: _Image, stored: StoredValues) -> Mammogram:
    """The view with its pixels as greys. Raises `Refusal` for an image whose content cannot be that of its header."""
    with refusing("input.pixel_data_unreadable"):
        unsigned = stored.view(f"u{stored.dtype.itemsize}")
        step = max(1, max(stored.shape) // COARSE)
        warnings = list(image.facts.warnings)
        if is_lossy(image.header):
            warnings.append(Reason("input.lossy"))
        padded = _padded(image.header, stored)
        outside = padded | _collimated(image.header, stored, padded, step, warnings)
        values = modality_values(image.header, possible_values(image.pixels))
        counts = np.bincount(unsigned[::SAMPLE, ::SAMPLE][~outside[::SAMPLE, ::SAMPLE]], minlength=len(values))
        if not counts.any():
            raise refuse("view.empty")
        greys, suits = _greys(image, values, counts)
        coarse, beyond = unsigned[::step, ::step], outside[::step, ::step]
        _check_content(np.where(beyond & ~padded[::step, ::step], 0, greys[coarse]))
        if _is_inverted(greys[coarse], beyond):
            greys, suits = _greys(image, values, counts, against_header=True)
            warnings.append(Reason("view.inverted"))
        if not suits:
            warnings.append(Reason("view.no_window"))
        chest_wall = _chest_wall(np.where(beyond, 0, greys[coarse]), image.facts, warnings)
        pixels = np.take(greys.astype(np.float32), unsigned)
        pixels[outside] = 0
    facts = image.facts
    return Mammogram(
        instance_uid=image.instance_uid,
        laterality=facts.laterality,
        projection=facts.projection,
        modifiers=facts.modifiers,
        pixels=pixels,
        outside=outside,
        scale="attenuation" if facts.is_raw else "presented",
        spacing=facts.spacing,
        chest_wall=chest_wall,
        has_implant=facts.has_implant,
        header=image.header,
        warnings=tuple(warnings),
    )


def _greys(
    image: _Image, values: Floats, counts: NDArray[np.integer], *, against_header: bool = False
) -> tuple[Floats, bool]:
    """Greys from 0 to 1 for each value that can be stored, dense bright; and whether the image said how to show it.

    MONOCHROME1 and the shape INVERSE say the same: that the greys are to be turned (PS3.3, C.8.11.7.1.3).
    """
    header = image.header
    is_inverse = image.pixels.photometric_interpretation == "MONOCHROME1" or strings(
        header, "PresentationLUTShape"
    ) == ["INVERSE"]
    if not image.facts.is_raw:
        greys, suits = presented(header, values, counts)
        return (1 - greys if is_inverse != against_header else greys), suits
    relation = "".join(strings(header, "PixelIntensityRelationship")).upper()
    sign = "".join(strings(header, "PixelIntensityRelationshipSign"))
    grows = sign != "-1" if sign else is_inverse
    greys = attenuation(values, counts, is_log=relation.startswith("LOG"), grows_with_exposure=grows != against_header)
    return greys, True


def _padded(header: Dataset, stored: StoredValues) -> NDArray[np.bool_]:
    """Where the stored value is that of padding (PS3.3, C.7.5.1.1.2)."""
    limits = padding(header)
    if limits is None:
        return np.zeros(stored.shape, np.bool_)
    low, high = limits
    is_padded: NDArray[np.bool_] = (stored >= low) & (stored <= high)
    return is_padded


def _collimated(
    header: Dataset, stored: StoredValues, padded: NDArray[np.bool_], step: int, warnings: list[Reason]
) -> NDArray[np.bool_]:
    """What lies outside the collimator's shapes (PS3.3, C.8.7.3), unless the image shows something there."""
    inside = np.ones(stored.shape, np.bool_)
    kinds = strings(header, "CollimatorShape")
    try:
        for kind, within in (("RECTANGULAR", _rectangle), ("CIRCULAR", _circle), ("POLYGONAL", _polygon)):
            if kind in kinds:
                inside &= within(header, stored.shape)
    except (Refusal, ValueError):
        warnings.append(Reason("view.collimation_doubted"))
        return np.zeros_like(inside)
    hidden = stored[::step, ::step][~(inside | padded)[::step, ::step]].astype(np.float64)
    if hidden.size:
        low, high = np.percentile(stored[::step, ::step], [1, 99])
        if np.subtract(*np.percentile(hidden, [95, 5])) > EVEN * max(high - low, 1.0):
            warnings.append(Reason("view.collimation_doubted"))
            return np.zeros_like(inside)
    return ~inside


def _rectangle(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    left, right, upper, lower = (
        numbers(header, keyword, 1)[0]
        for keyword in (
            "CollimatorLeftVerticalEdge", "CollimatorRightVerticalEdge", "CollimatorUpperHorizontalEdge",
            "CollimatorLowerHorizontalEdge",
        )
    )  # fmt: skip
    rows, columns = (np.arange(1, size + 1) for size in shape)
    inside: NDArray[np.bool_] = ((rows >= upper) & (rows <= lower))[:, None] & ((columns >= left) & (columns <= right))
    return inside


def _circle(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    row, column = numbers(header, "CenterOfCircularCollimator", 2)
    (radius,) = numbers(header, "RadiusOfCircularCollimator", 1)
    rows, columns = (np.arange(1, size + 1) for size in shape)
    inside: NDArray[np.bool_] = ((rows - row) ** 2)[:, None] + (columns - column) ** 2 <= radius**2
    return inside


def _polygon(header: Dataset, shape: tuple[int, int]) -> NDArray[np.bool_]:
    vertices = np.array([float(value) for value in strings(header, "VerticesOfThePolygonalCollimator")]).reshape(-1, 2)
    picture = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(picture).polygon([(column - 1, row - 1) for row, column in vertices], fill=1)
    return np.array(picture)


def _check_content(greys: Floats) -> None:
    """Refuse an image that shows nothing, or of which a band is blank white."""
    rows, columns = (size // BLOCK for size in greys.shape)
    blocks = greys[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    means = blocks.mean(axis=(1, 3))
    noise = float(blocks.var(axis=(1, 3)).mean()) / BLOCK**2
    if np.subtract(*np.percentile(means, [98, 2])) < NOTHING or float(means.var()) < NOISE_RATIO * noise:
        raise refuse("view.empty")
    white = greys >= greys.max()
    for axis in (0, 1):
        for share in (white.mean(axis=axis), white.mean(axis=axis)[::-1]):
            blank = int(np.argmin(share == 1))
            # Beside the air of a turned image comes more air; beside a blank band the image.
            if blank >= LEAST_BLANK * len(share) and share[blank : blank + 3].mean() < MOST_WHITE_BESIDE:
                raise refuse("view.partly_blank", percent=round(100 * blank / len(share)))


def _is_inverted(greys: Floats, beyond: NDArray[np.bool_]) -> bool:
    """Whether the air beside the breast is brighter than what differs from it.

    Air is what is even in a strip along the left or right border of what was exposed. Where neither strip is even, or
    both are and contradict each other, it cannot be told. Some makers write padding where they found air: where there
    is nothing else, the grey of the padding counts.
    """
    columns = np.flatnonzero(~beyond.all(axis=0))
    width = max(2, round(STRIP * greys.shape[1]))
    answers = set()
    for at in (columns[:width], columns[-width:]):
        strip, unknown = greys[:, at], beyond[:, at]
        low, air, high = np.percentile(strip if unknown.mean() > 0.5 else strip[~unknown], [15, 50, 85])
        other = greys[~beyond & (np.abs(greys - air) > EVEN)]
        if high - low <= EVEN and other.size >= 0.02 * greys.size:
            answers.add(bool(air > np.median(other)))
    return answers == {True}


def _chest_wall(greys: Floats, facts: ViewFacts, warnings: list[Reason]) -> Border:
    """The border with more tissue; Patient Orientation where that is not certain."""
    width = max(2, round(STRIP * greys.shape[1]))
    air, brightest = np.percentile(greys, [1, 99])
    tissue = greys > air + TISSUE * (brightest - air)
    left, right = float(tissue[:, :width].mean()), float(tissue[:, -width:].mean())
    upper, lower = float(tissue[:width].mean()), float(tissue[-width:].mean())
    if facts.is_turned and abs(upper - lower) > abs(left - right):
        raise refuse("view.turned")
    seen: Border = "left" if left > right else "right"
    said = facts.towards_chest_wall
    if abs(left - right) >= CERTAIN:
        if facts.is_turned or said not in {None, seen}:
            warnings.append(Reason("view.orientation_disagrees"))
        return seen
    if said is None:
        warnings.append(Reason("view.chest_wall_unsure", {"border": seen}))
    return said or seen
