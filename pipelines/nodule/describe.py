"""From outlined regions to findings: measured, characterised, placed in the lung, and categorised."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from pipelines import codes
from pipelines.codes import Code
from pipelines.findings import Finding, Measurement, Region, Side
from pipelines.measuring import points_of
from pipelines.nodule.character import Character, Characterizer
from pipelines.nodule.growth import Before
from pipelines.nodule.lung_rads import (
    CODES,
    Calcification,
    Category,
    CategoryName,
    Composition,
    Earlier,
    NoduleFacts,
    Position,
    categorize,
    mean_diameter,
)
from pipelines.nodule.lungs import LEFT, Lungs, Third
from pipelines.nodule.measure import Measures, measure
from pipelines.nodule.position import Place, place_of
from pipelines.uids import derived_uid
from pipelines.volume import Volume

Name = TypeVar("Name")

COMPOSITIONS: Mapping[Composition, Code] = {
    "solid": codes.SOLID,
    "part_solid": codes.PART_SOLID,
    "ground_glass": codes.GROUND_GLASS,
}
CALCIFICATIONS: Mapping[Calcification, Code] = {
    "none": codes.NON_CALCIFIED,
    "diffuse": codes.CALCIFIED_DIFFUSE,
    "central": codes.CALCIFIED_CENTRAL,
    "laminated": codes.CALCIFIED_LAMINATED,
    "popcorn": codes.CALCIFIED_POPCORN,
    "eccentric": codes.CALCIFIED_ECCENTRIC,
}
POSITIONS: Mapping[Position, Code] = {
    "intrapulmonary": codes.INTRAPULMONARY,
    "juxtapleural": codes.JUXTAPLEURAL,
    "perifissural": codes.PERIFISSURAL,
}
THIRDS: Mapping[Third, Code] = {
    "upper": codes.UPPER_THIRD,
    "middle": codes.MIDDLE_THIRD,
    "lower": codes.LOWER_THIRD,
}
SUSPECTED = 0.5
"""From this likelihood on that readers would suspect malignancy, no shape is called benign: spicules are thinner than
what outlines of nodules hold."""
DAYS_A_MONTH = 30.44
LEAST_IN_LUNG, BESIDE_LUNG_MM = 0.3, 4.0
"""Masses at the pleura keep a crust outside the mask of the lungs, and may grow into the wall."""
SAME_NODULE = 0.3
"""Part of the smaller of two regions from which on they are one nodule."""


def describe(
    volume: Volume,
    lungs: Lungs,
    regions: Sequence[Region],
    certainties: Sequence[float],
    characterizer: Characterizer,
    *,
    model_sha256: str,
) -> tuple[Finding, ...]:
    """A finding for each region (with its certainty), without those that outline a nodule a second time, or mostly
    what is no lung: then the outline ran out into chest wall, neck or mediastinum, and is worth nothing.
    """
    series_key = "\n".join((*volume.instance_uid, model_sha256))
    return tuple(
        _finding(volume, lungs, region, certainty, characterizer=characterizer, series_key=series_key)
        for region, certainty in _distinct(regions, certainties)
        if _share_in_lung(volume, lungs, region) >= LEAST_IN_LUNG
    )


def category_of(finding: Finding, before: Before | None, days: int) -> Category:
    """The Lung-RADS category that a finding suggests; `before` is what the same nodule was `days` ago, if known."""
    if finding.attributes.get(codes.CHANGE) == codes.NEW:
        return categorize(_facts(finding, is_new=True))
    facts_before = None if before is None else _facts_before(before, finding)
    if facts_before is None or days <= 0:
        return categorize(_facts(finding))
    told = before.told if before is not None else None
    return categorize(_facts(finding, prior=Earlier(facts_before, days / DAYS_A_MONTH, _category_before(told))))


def _distinct(regions: Sequence[Region], certainties: Sequence[float]) -> list[tuple[Region, float]]:
    kept: list[tuple[Region, float]] = []
    for region, certainty in zip(regions, certainties, strict=True):
        if not any(_overlap(region, other) > SAME_NODULE for other, _ in kept):
            kept.append((region, certainty))
    return kept


def _share_in_lung(volume: Volume, lungs: Lungs, region: Region) -> float:
    """The part of a region that lies in a lung, or just beside one."""
    points, weights = points_of(volume, region)
    return float(np.average(lungs.inside_mm(points) > -BESIDE_LUNG_MM, weights=weights))


def _overlap(one: Region, other: Region) -> float:
    """Voxels in common as a part of the smaller region."""
    shared = sum(
        int((one.mask[k] & other.mask[other.slice_index.index(number)]).sum())
        for k, number in enumerate(one.slice_index)
        if number in other.slice_index
    )
    return shared / max(1, min(int(one.mask.sum()), int(other.mask.sum())))


def _finding(
    volume: Volume,
    lungs: Lungs,
    region: Region,
    certainty: float,
    *,
    characterizer: Characterizer,
    series_key: str,
) -> Finding:
    measures = measure(volume, region)
    character = characterizer.characterize(volume, region, measures)
    digest = hashlib.sha256(np.packbits(region.mask).tobytes() + str(region.slice_index).encode()).hexdigest()
    third = lungs.third_at(measures.center_mm)
    return Finding(
        kind=codes.NODULE,
        label=codes.NODULE.meaning,
        certainty=round(certainty, 4),
        region=region,
        center_mm=measures.center_mm,
        measurements=_measurements(measures, character),
        key_instance_uid=volume.instance_uid[measures.key_slice],
        key_frame=volume.frame[measures.key_slice],
        tracking_uid=derived_uid("nodule", series_key, digest),
        side=_side(lungs, measures),
        attributes={
            codes.COMPOSITION: COMPOSITIONS[character.composition],
            codes.CALCIFICATION_PATTERN: CALCIFICATIONS[character.calcification],
            **_placed(place_of(volume, lungs, region, measures), character),
            codes.LUNG_THIRD: THIRDS[third],
        },
    )


def _measurements(measures: Measures, character: Character) -> tuple[Measurement, ...]:
    made = [
        Measurement("long_axis_mm", codes.LONG_AXIS, round(measures.long_axis_mm, 1), codes.MILLIMETER),
        Measurement("short_axis_mm", codes.SHORT_AXIS, round(measures.short_axis_mm, 1), codes.MILLIMETER),
        Measurement("volume_ml", codes.VOLUME, round(measures.volume_mm3 / 1000, 4), codes.CUBIC_CENTIMETER),
        Measurement("mean_hu", codes.MEAN_ATTENUATION, round(measures.mean_hu, 1), codes.HOUNSFIELD),
        Measurement(
            "longest_diameter_mm", codes.LONGEST_DIAMETER, round(measures.longest_diameter_mm, 1), codes.MILLIMETER
        ),
        Measurement("mass_mg", codes.MASS_OF_NODULE, round(measures.mass_mg, 1), codes.MILLIGRAM),
    ]
    if character.composition == "part_solid":
        made.append(
            Measurement(
                "solid_long_axis_mm", codes.SOLID_LONG_AXIS, round(measures.solid_long_axis_mm, 1), codes.MILLIMETER
            )
        )
    likelihood = round(100 * character.malignancy, 1)
    made.append(Measurement("malignancy", codes.MALIGNANCY_IMPRESSION, likelihood, codes.PERCENT))
    return tuple(made)


def _side(lungs: Lungs, measures: Measures) -> Side:
    """The lung that the nodule lies in, or next to."""
    side = int(lungs.side_at(measures.center_mm))
    if side:
        return "left" if side == LEFT else "right"
    offsets = np.argwhere(lungs.side > 0) - lungs.grid.indices(measures.center_mm)
    nearest = np.argwhere(lungs.side > 0)[int(np.argmin((offsets**2).sum(axis=1)))]
    return "left" if lungs.side[tuple(nearest)] == LEFT else "right"


def _placed(place: Place, character: Character) -> dict[Code, Code]:
    """The position, and the shape where it is a benign one there."""
    is_benign = place.benign_shape and character.malignancy < SUSPECTED
    shape = {codes.NODULE_SHAPE: codes.BENIGN_SHAPE} if is_benign else {}
    return {codes.NODULE_POSITION: POSITIONS[place.position], **shape}


def _facts(finding: Finding, *, prior: Earlier | None = None, is_new: bool = False) -> NoduleFacts:
    long_axis, short_axis = finding.measured("long_axis_mm") or 0.0, finding.measured("short_axis_mm") or 0.0
    composition = _name_of(COMPOSITIONS, finding.attributes[codes.COMPOSITION])
    return NoduleFacts(
        composition,
        mean_diameter(long_axis, short_axis),
        _solid_diameter(composition, finding.measured("solid_long_axis_mm"), long_axis, short_axis),
        calcification=_name_of(CALCIFICATIONS, finding.attributes[codes.CALCIFICATION_PATTERN]),
        position=_name_of(POSITIONS, finding.attributes[codes.NODULE_POSITION]),
        prior=prior,
        is_new=is_new,
        benign_shape=finding.attributes.get(codes.NODULE_SHAPE) == codes.BENIGN_SHAPE,
    )


def _facts_before(before: Before, finding: Finding) -> NoduleFacts | None:
    """The facts of then: as measured now on the images of then, else as they were told."""
    words = {question.meaning: answer.meaning for question, answer in finding.attributes.items()}
    words |= _words(before.told)
    composition = _named(COMPOSITIONS, words[codes.COMPOSITION.meaning])
    position = _named(POSITIONS, words[codes.NODULE_POSITION.meaning])
    told = before.told or {}
    if before.measures is not None:
        axes: tuple[object, ...] = (before.measures.long_axis_mm, before.measures.short_axis_mm)
        solid: object = before.measures.solid_long_axis_mm
    else:
        axes, solid = (told.get("long_axis_mm"), told.get("short_axis_mm")), told.get("solid_long_axis_mm")
    lengths = [float(axis) for axis in axes if isinstance(axis, float | int)]
    if len(lengths) < len(axes) or min(lengths) <= 0 or composition is None or position is None:
        return None
    long_axis, short_axis = lengths
    return NoduleFacts(
        composition,
        mean_diameter(long_axis, short_axis),
        _solid_diameter(composition, float(solid) if isinstance(solid, float | int) else None, long_axis, short_axis),
        position=position,
        benign_shape=words.get(codes.NODULE_SHAPE.meaning) == codes.BENIGN_SHAPE.meaning,
    )


def _category_before(told: Mapping[str, object] | None) -> CategoryName | None:
    """The category that was suggested then."""
    meaning = _words(told).get(codes.LUNG_RADS.meaning)
    return next((name for name, code in CODES.items() if code.meaning == meaning), None)


def _words(told: Mapping[str, object] | None) -> Mapping[str, str]:
    """The attributes of a finding's JSON."""
    attributes = {} if told is None else told.get("attributes")
    return {str(key): str(value) for key, value in attributes.items()} if isinstance(attributes, Mapping) else {}


def _solid_diameter(
    composition: Composition, solid_mm: float | None, long_axis: float, short_axis: float
) -> float | None:
    """Mean diameter of the solid part, taken to be as long for its width as the whole nodule is."""
    if composition != "part_solid":
        return None
    return (solid_mm or 0.0) * (1 + short_axis / max(long_axis, 0.1)) / 2


def _named(table: Mapping[Name, Code], meaning: str) -> Name | None:
    """The name under which a code with this meaning stands in a table."""
    return next((name for name, code in table.items() if code.meaning == meaning), None)


def _name_of(table: Mapping[Name, Code], code: Code) -> Name:
    """The name under which a code stands in a table that holds it."""
    return next(name for name, held in table.items() if held == code)
