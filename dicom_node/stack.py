"""Whether the instances of a series lie in space as one stack of slices, as far as headers tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_node.headers import InstanceFacts, Place

GAP_RATIO = 1.6
"""A gap this many times the larger of the gaps beside it has slices missing in it (as `pipelines.volume` has it)."""
SAME_PLACE_MM = 0.05
SAME_DIRECTION = 1e-3
LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW", "SCANOGRAM"})


@dataclass(frozen=True, slots=True)
class Stack:
    """The slices of a series that have the direction most of them share.

    `slices` counts different positions; `extent_mm` goes from the first slice to the last, both whole;
    `degrees_from_axial` is the angle between the slices' normal and the patient's long axis. `is_whole` says that
    nothing speaks of a missing slice: one direction, no gap, every position as often as the others, and no gap in the
    instance numbers where they are of use.
    """

    slices: int
    thickness_mm: float
    extent_mm: float
    degrees_from_axial: float
    has_gap: bool
    is_whole: bool


def is_localizer(instance: InstanceFacts) -> bool:
    """Whether Image Type calls it a localizer (PS3.3, C.8.2.1.1.1), under the name of any maker."""
    return not LOCALIZERS.isdisjoint(instance.image_type)


def is_slice(instance: InstanceFacts) -> bool:
    """Whether it lies in space as a slice, or several, of a stack."""
    return bool(instance.places) and not is_localizer(instance)


def stack_of(instances: Sequence[InstanceFacts]) -> Stack | None:
    """The stack that the slices among `instances` make; None where there is no slice."""
    slices = [instance for instance in instances if is_slice(instance)]
    places = [place for instance in slices for place in instance.places]
    if not places:
        return None
    directions = np.array([place.directions for place in places])
    alike = _commonest_direction(directions)
    normal = _normal(directions[alike][0])
    positions, times = _positions([place for place, chosen in zip(places, alike, strict=True) if chosen], normal)
    gaps = np.diff(positions)
    has_gap = _has_gap(gaps)
    thickness = next(
        (t for instance in slices if (t := instance.thickness_mm)), float(np.median(gaps)) if len(gaps) else 0
    )
    return Stack(
        slices=len(positions),
        thickness_mm=thickness,
        extent_mm=float(positions[-1] - positions[0]) + thickness,
        degrees_from_axial=float(np.degrees(np.arccos(min(1.0, abs(float(normal[2])))))),
        has_gap=has_gap,
        is_whole=not has_gap and bool(alike.all()) and len(set(times)) == 1 and not _lacks_numbers(instances),
    )


def _commonest_direction(directions: NDArray[np.float64]) -> NDArray[np.bool_]:
    rounded = [tuple(row) for row in np.round(directions / SAME_DIRECTION).astype(np.int64).tolist()]
    commonest = np.array(Counter(rounded).most_common(1)[0][0])
    found: NDArray[np.bool_] = (np.abs(directions / SAME_DIRECTION - commonest) <= 1).all(axis=1)
    return found


def _normal(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    normal = np.cross(directions[:3], directions[3:])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else np.array([0.0, 0.0, 1.0])


def _positions(places: Sequence[Place], normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
    """The different positions along `normal` in ascending order, mm, and how many slices lie at each."""
    along = np.sort(np.array([place.origin for place in places]) @ normal)
    starts = np.concatenate([[True], np.diff(along) > SAME_PLACE_MM])
    return along[starts], np.bincount(np.cumsum(starts) - 1).tolist()


def _has_gap(gaps: NDArray[np.float64]) -> bool:
    """Spacing may change within a stack, so a gap is compared with the larger of its neighbours, not with the rest."""
    if len(gaps) < 2:
        return False
    beside = np.maximum(np.concatenate([[0.0], gaps[:-1]]), np.concatenate([gaps[1:], [0.0]]))
    return bool((gaps > GAP_RATIO * beside).any())


def _lacks_numbers(instances: Sequence[InstanceFacts]) -> bool:
    """Whether the instance numbers have a hole. Numbers that are missing or given twice say nothing."""
    numbers = {instance.instance_number for instance in instances}
    if None in numbers or len(numbers) < len(instances):
        return False
    known = [number for number in numbers if number is not None]
    return max(known) - min(known) + 1 != len(known)
