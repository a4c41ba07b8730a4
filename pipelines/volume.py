"""Instances to `Volume`: CT numbers in a stack of slices, each on its own true plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.decoding import decode
from pipelines.geometry import Floats, Plane, local_thicknesses_mm, positions_mm, tilt_degrees
from pipelines.instance import Frame, read_frames
from pipelines.reasons import Reason, Refusal, commonest, refuse

FEWEST_SLICES = 3
MOST_VOXELS = 1 << 30
DUPLICATE_MM = 0.05
# More than these are the phases of a perfusion study, or slices that each have a time of their own.
MOST_ACQUISITIONS = 4
# A gap above this many times what its surroundings lead one to expect has slices missing in it.
GAP_RATIO = 1.6
# Slices may be missing as long as no gap could hide a large bleed and little of the whole is lost: a reader would
# rather look at such a series, and be told, than not see it.
LARGEST_GAP_MM = 20.0
LARGEST_MISSING_PART = 0.2
TILT_DEGREES = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """A stack of parallel CT slices in ascending order along their normal.

    `hu` is int16 or float32 `[slice, row, column]` in Hounsfield units; what lies outside the field of view is -1024.
    `plane[k]` is the true plane of slice k: tilted and unevenly spaced stacks are normal input, no single affine is
    assumed. `instance_uid[k]` and `frame[k]` (from 1) say where slice k came from.
    """

    hu: NDArray[np.int16] | NDArray[np.float32]
    plane: tuple[Plane, ...]
    instance_uid: tuple[str, ...]
    frame: tuple[int, ...]

    @property
    def position_mm(self) -> Floats:
        """Position of each slice along the common normal, mm, ascending."""
        return positions_mm(self.plane)

    @property
    def local_thickness_mm(self) -> Floats:
        """The extent along the normal that each slice stands for, mm."""
        return local_thicknesses_mm(self.plane)

    def patient_from_voxel(self, slice_: int, row: float, column: float) -> tuple[float, float, float]:
        """Patient coordinates (LPS, mm) of a voxel's centre."""
        x, y, z = self.plane[slice_].patient_from_pixel(row, column)
        return (float(x), float(y), float(z))


@dataclass(frozen=True, slots=True, eq=False)
class LoadedSeries:
    """A series as it was read: `headers[k]` is the data set of slice k without its pixel data."""

    volume: Volume
    headers: tuple[Dataset, ...]
    warnings: tuple[Reason, ...]


def load(paths: Sequence[Path]) -> LoadedSeries:
    """Read one CT series from its files, each file once.

    Files that are not to be read (a localizer among the slices) are passed over; unreadable ones are left out, with a
    warning, as long as what remains is a whole stack. The geometry is checked before a pixel is decoded. Raises
    `Refusal` with the reason when no stack can be made: nothing readable, fewer than three slices, mixed orientation,
    matrix or frame of reference, several slices at one position that are not of several acquisitions, or too much
    missing. Of acquisitions that lie over each other the most complete one is read, with a warning.
    """
    frames, failures = _read(paths)
    stack = _stack(frames, failures)
    left_out = len(frames) - len(stack)
    hu, undecoded = decode([frame.pixels for frame in stack])
    if undecoded:
        failures += undecoded.values()
        kept = [k for k in range(len(stack)) if k not in undecoded]
        stack = _stack([stack[k] for k in kept], failures)
        for k, decoded in enumerate(kept):  # slices move up within the array, which is as large as memory may allow
            hu[k] = hu[decoded]
        hu = hu[: len(kept)]
    volume = Volume(hu, _planes(stack), tuple(f.instance_uid for f in stack), tuple(f.number for f in stack))
    warnings = _warnings(volume, stack, failures)
    if left_out:
        facts = {"left_out": left_out, "instances": len(frames)}
        warnings = (Reason("series.overlapping_acquisitions", facts), *warnings)
    return LoadedSeries(volume, tuple(f.dataset for f in stack), warnings)


def _read(paths: Sequence[Path]) -> tuple[list[Frame], list[Reason]]:
    frames: dict[tuple[str, int], Frame] = {}
    failures = []
    for path in paths:
        try:
            for frame in read_frames(path):
                frames.setdefault((frame.instance_uid, frame.number), frame)
        except Refusal as refusal:
            failures.append(refusal.reason)
    return list(frames.values()), failures


def _stack(frames: Sequence[Frame], failures: Sequence[Reason]) -> list[Frame]:
    """The frames in ascending order along their normal, when they are a stack that can be read."""
    if len(frames) < FEWEST_SLICES:
        if len(failures) > len(frames):
            raise Refusal(commonest(failures))
        raise refuse("series.too_few_slices", slices=len(frames), needed=FEWEST_SLICES)
    _check_alike(frames)
    normal = np.asarray(frames[0].plane.normal)
    ordered = sorted(frames, key=lambda frame: float(np.dot(frame.plane.origin, normal)))
    gaps = np.diff(positions_mm([frame.plane for frame in ordered]))
    if gaps.min() < DUPLICATE_MM or _are_interleaved(ordered):
        return _stack(_most_complete_acquisition(frames), failures)
    gap, expected, missing_part = _worst_gap(ordered)
    if gap > GAP_RATIO * expected and (gap > LARGEST_GAP_MM or missing_part > LARGEST_MISSING_PART):
        raise Refusal(_missing_slices(gap, expected))
    return ordered


def _are_interleaved(ordered: Sequence[Frame]) -> bool:
    """Whether slices of one acquisition lie between those of another: not each on its own stretch of the body."""
    numbers = [str(frame.dataset.get("AcquisitionNumber") or "") for frame in ordered]
    changes = sum(one != other for one, other in pairwise(numbers))
    return changes > 2 * len(set(numbers))


def _most_complete_acquisition(frames: Sequence[Frame]) -> list[Frame]:
    """The acquisition with the most slices, where several lie over each other in one series.

    Acquisitions are told apart by their number (PS3.3, C.7.6.1) or, without it, by their time.
    """
    for keyword in ("AcquisitionNumber", "AcquisitionTime"):
        found: dict[str, list[Frame]] = {}
        for frame in frames:
            found.setdefault(str(frame.dataset.get(keyword) or ""), []).append(frame)
        largest = max(found.values(), key=len)
        if FEWEST_SLICES <= len(largest) < len(frames) and len(found) <= MOST_ACQUISITIONS:
            return largest
    raise refuse("geometry.duplicate_position")


def _check_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    rows, columns = first.shape
    if len(frames) * rows * columns > MOST_VOXELS:
        raise refuse("input.too_large", detail=f"{len(frames)} slices of {rows} x {columns} pixels")
    directions = np.array([(*frame.plane.row_direction, *frame.plane.column_direction) for frame in frames])
    if np.abs(directions - directions[0]).max() > 1e-4:
        raise refuse("geometry.mixed_orientation")
    spacings = np.array([(frame.plane.row_spacing_mm, frame.plane.column_spacing_mm) for frame in frames])
    if any(frame.shape != first.shape for frame in frames) or np.abs(spacings / spacings[0] - 1).max() > 1e-3:
        raise refuse("geometry.mixed_matrix")
    if len({frame.frame_of_reference_uid for frame in frames} - {""}) > 1:
        raise refuse("geometry.several_frames_of_reference")


def _worst_gap(ordered: Sequence[Frame]) -> tuple[float, float, float]:
    """The gap that most exceeds what is expected there, what is expected, and the part of the extent that is missing.

    Spacing may change within a series (thin slices at the base, thick ones above), so what is expected of a gap is the
    largest of its neighbouring gaps, the nominal thickness of the slices beside it and the median gap.
    """
    gaps = np.diff(positions_mm([frame.plane for frame in ordered]))
    thickness = np.array([frame.plane.thickness_mm for frame in ordered])
    beside = np.maximum(np.concatenate([[0.0], gaps[:-1]]), np.concatenate([gaps[1:], [0.0]]))
    beside = np.where(beside > LARGEST_GAP_MM, 0.0, beside)
    expected = np.maximum.reduce([beside, thickness[:-1], thickness[1:], np.full_like(gaps, np.median(gaps))])
    excess = np.where(gaps > GAP_RATIO * expected, gaps - expected, 0.0)
    worst = int(np.argmax(gaps / expected))
    return float(gaps[worst]), float(expected[worst]), float(excess.sum() / gaps.sum())


def _missing_slices(gap_mm: float, usual_mm: float) -> Reason:
    return Reason("series.incomplete", {"gap_mm": round(gap_mm, 1), "usual_mm": round(usual_mm, 1)})


def _planes(stack: Sequence[Frame]) -> tuple[Plane, ...]:
    """The planes; a slice whose thickness is not said gets the extent that it stands for."""
    planes = [frame.plane for frame in stack]
    extents = local_thicknesses_mm(planes)
    return tuple(
        plane if plane.thickness_mm > 0 else replace(plane, thickness_mm=float(extent))
        for plane, extent in zip(planes, extents, strict=True)
    )


def _warnings(volume: Volume, stack: Sequence[Frame], failures: Sequence[Reason]) -> tuple[Reason, ...]:
    warnings = []
    unreadable = sum(reason.code != "input.not_an_image_to_read" for reason in failures)
    if unreadable:
        facts = {"unreadable": unreadable, "instances": len(stack) + unreadable}
        warnings.append(Reason("series.partly_unreadable", facts))
    gap, expected, _ = _worst_gap(stack)
    if gap > GAP_RATIO * expected:
        warnings.append(_missing_slices(gap, expected))
    gaps = np.diff(volume.position_mm)
    if gaps.max() > 1.1 * gaps.min():
        facts_mm = {"smallest_mm": round(float(gaps.min()), 2), "largest_mm": round(float(gaps.max()), 2)}
        warnings.append(Reason("geometry.variable_spacing", facts_mm))
    if (tilt := tilt_degrees(volume.plane)) > TILT_DEGREES:
        warnings.append(Reason("geometry.tilted", {"degrees": round(tilt, 1)}))
    if not all(frame.frame_of_reference_uid for frame in stack):
        warnings.append(Reason("geometry.no_frame_of_reference"))
    if any(frame.is_lossy for frame in stack):
        warnings.append(Reason("input.lossy"))
    lowest, highest = float(volume.hu.min()), float(volume.hu.max())
    if lowest > -500 or highest < 300:
        warnings.append(Reason("input.clipped_values", {"lowest": round(lowest), "highest": round(highest)}))
    return tuple(warnings)
