"""How well the networks find nodules in made scans of patients' nodules, and chests, that they have not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.evaluation.froc import Annotation, FrocCurve, Mark, froc
from pipelines.geometry import Floats, Plane
from pipelines.nodule import examples, implant
from pipelines.nodule.detect import Calibration, Detector
from pipelines.nodule.examples import Scanner
from pipelines.nodule.implant import Patch
from pipelines.nodule.prepare import prepare
from pipelines.nodule.views import cut
from pipelines.phantom.chest.nodules import PaintedNodule
from pipelines.volume import Volume

REAL = 0.6
EMPTY = 0.15
MEAN_NODULES = 4.0
MARGIN = 8
SIZES_MM = {"3 to 6 mm": (3.0, 6.0), "6 to 10 mm": (6.0, 10.0), "over 10 mm": (10.0, np.inf)}
SMALLEST_MM = 3.0
LEAST_HIT_MM = 1.5
PICTURE, PICTURED = 48, 64
_CHEST_ORIGIN = (-170.0, -130.0, -280.0)


@dataclass(frozen=True, slots=True, eq=False)
class MadeScan:
    """A whole made scan and the nodules in it; their centres are patient points (LPS, mm) `[n, 3]`."""

    name: str
    volume: Volume
    nodules: tuple[PaintedNodule, ...]
    center_mm: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ScanReading:
    """What both networks say of a scan's places, and what is in it; with axial pictures `[n, 48, 48]` of 1 mm (HU)."""

    name: str
    center_mm: Floats
    first: Floats
    second: Floats
    nodules: tuple[PaintedNodule, ...]
    nodule_mm: Floats
    place_pictures: NDArray[np.int16]
    nodule_pictures: NDArray[np.int16]

    @property
    def is_hit(self) -> NDArray[np.bool_]:
        """Which places lie within a nodule."""
        reach = np.array([max(LEAST_HIT_MM, nodule.diameter_mm / 2) for nodule in self.nodules])
        apart = np.linalg.norm(self.center_mm[:, None] - self.nodule_mm[None], axis=2)
        return np.asarray((apart < reach).any(axis=1))


def made_scans(folder: Path, patches: Sequence[Patch], seed: int, numbers: Sequence[int]) -> Iterator[MadeScan]:
    """Scans of the chests in `folder`, taken in turn, with nodules of `patches` and simulated ones."""
    chests = sorted(folder.glob("*.json"))
    for number in numbers:
        generator = np.random.default_rng((seed, 5, number))
        background = examples.open_background(chests[number % len(chests)])
        canvas = examples.canvas_of(background, tuple(slice(None) for _ in range(3)))
        made: list[PaintedNodule] = []
        if generator.random() >= EMPTY:
            for _ in range(1 + generator.poisson(MEAN_NODULES - 1)):
                examples.add_nodule(canvas, patches, generator, made, real=REAL, margin=MARGIN, evenly=False)
        for _ in range(generator.integers(0, 8)):
            examples.add_piece(canvas, patches, generator, made)
        acquired = examples.acquire(canvas, Scanner.random(generator), generator)
        volume = _volume(acquired, f"scan{number}")
        z, y, x = np.array([nodule.center for nodule in made]).reshape(-1, 3).T
        centers = np.stack([x, y, z], axis=1) + np.array(_CHEST_ORIGIN)
        yield MadeScan(f"scan{number}", volume, tuple(made), centers)


def _volume(acquired: examples.Acquired, name: str) -> Volume:
    step = float(np.diff(acquired.height[:2])[0])
    x, y, z = _CHEST_ORIGIN
    planes = tuple(
        Plane((x, y, z + float(height)), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), 1.0, 1.0, step) for height in acquired.height
    )
    hu = np.rint(np.clip(acquired.hu, -1024, 3071)).astype(np.int16)
    return Volume(hu, planes, tuple(f"{name}.{k}" for k in range(len(planes))), (1,) * len(planes))


def read_scan(detector: Detector, scan: MadeScan) -> ScanReading:
    """What the detector's networks say of a scan."""
    prepared = prepare(scan.volume)
    proposals = detector.propose(prepared.hu, prepared)
    second = detector.look_again(prepared.hu, proposals.index)
    points = prepared.grid.points(proposals.index)
    nodules = prepared.grid.indices(scan.center_mm)
    pictures = [_pictures(prepared.hu, places) for places in (proposals.index[:PICTURED], nodules)]
    return ScanReading(scan.name, points, proposals.odds, second, scan.nodules, scan.center_mm, *pictures)


def _pictures(hu: NDArray[np.int16], places: Floats) -> NDArray[np.int16]:
    corner = np.rint(places).astype(int) - np.array([0, PICTURE // 2, PICTURE // 2])
    shape = (1, PICTURE, PICTURE)
    made = [cut(hu, (int(k), int(j), int(i)), shape)[0] for k, j, i in corner]
    return np.array(made, np.int16).reshape(-1, PICTURE, PICTURE)


def calibrate(readings: Sequence[ScanReading]) -> Calibration:
    """Weights of both networks' log odds, and an offset, by logistic regression on hits and false places."""
    first = np.concatenate([reading.first for reading in readings])
    second = np.clip(np.concatenate([reading.second for reading in readings]), -12, 12)
    hit = np.concatenate([reading.is_hit for reading in readings]).astype(float)

    def surprise(weights: Floats) -> float:
        odds = weights[0] * first + weights[1] * second + weights[2]
        return float(np.mean(np.logaddexp(0, odds) - hit * odds) + 1e-3 * (weights[0] ** 2 + weights[1] ** 2))

    found = minimize(surprise, np.array([0.5, 0.5, 0.0]), method="BFGS").x
    return Calibration(*(round(float(value), 4) for value in found))


def curve(
    readings: Sequence[ScanReading],
    calibrations: Sequence[Calibration],
    wanted: Callable[[PaintedNodule], bool] = lambda _nodule: True,
) -> FrocCurve:
    """FROC by LUNA16's rules over scans; nodules under 3 mm, and those not `wanted`, are excluded findings."""
    marks: list[Mark] = []
    nodules: list[Annotation] = []
    excluded: list[Annotation] = []
    for reading, calibration in zip(readings, calibrations, strict=True):
        certainty = calibration.certainty(reading.first, np.clip(reading.second, -12, 12))
        marks += [_mark(reading.name, point, score) for point, score in zip(reading.center_mm, certainty, strict=True)]
        for nodule, point in zip(reading.nodules, reading.nodule_mm, strict=True):
            entry = Annotation(reading.name, _point(point), max(2 * LEAST_HIT_MM, nodule.diameter_mm))
            counts = nodule.diameter_mm >= SMALLEST_MM and wanted(nodule)
            (nodules if counts else excluded).append(entry)
    return froc([reading.name for reading in readings], nodules, excluded, marks)


def figures(readings: Sequence[ScanReading], calibrations: Sequence[Calibration]) -> dict[str, Any]:
    """Curve and CPM over all nodules, by size, by kind, by where they lie, and by where they come from."""
    whole = curve(readings, calibrations)
    groups: dict[str, Callable[[PaintedNodule], bool]] = {
        **{name: _between(low, high) for name, (low, high) in SIZES_MM.items()},
        **{kind: _of("kind", kind) for kind in ("solid", "part_solid", "ground_glass", "calcified")},
        **{place: _of("position", place) for place in ("juxtapleural", "juxtavascular", "perifissural")},
        "real": lambda nodule: nodule.source != "made",
        "simulated": _of("source", "made"),
    }
    parts = {}
    for name, wanted in groups.items():
        part = curve(readings, calibrations, wanted)
        parts[name] = {"cpm": part.cpm, "interval": part.cpm_interval, "nodules": part.counts.nodules}
    return {
        "scans": whole.counts.scans,
        "nodules": whole.counts.nodules,
        "cpm": whole.cpm,
        "cpm_interval": whole.cpm_interval,
        "sensitivity": whole.at_seven,
        "by": parts,
    }


def certainty_at(readings: Sequence[ScanReading], calibrations: Sequence[Calibration], false_per_scan: float) -> float:
    """The certainty from which so many places per scan are false."""
    false = np.concatenate(
        [
            calibration.certainty(reading.first, np.clip(reading.second, -12, 12))[~reading.is_hit]
            for reading, calibration in zip(readings, calibrations, strict=True)
        ]
    )
    rank = int(false_per_scan * len(readings))
    ordered = np.sort(false)[::-1]
    return float(ordered[rank]) if rank < len(ordered) else 0.01


def held_back(patches: Sequence[Patch], fold: int, folds: int) -> list[Patch]:
    """The patches of a fold's patients."""
    return [patch for patch in patches if implant.fold_of(patch.patient_id, folds) == fold]


def _between(low: float, high: float) -> Callable[[PaintedNodule], bool]:
    return lambda nodule: low <= nodule.diameter_mm < high


def _of(name: str, value: str) -> Callable[[PaintedNodule], bool]:
    return lambda nodule: getattr(nodule, name) == value


def _point(point: Floats) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in point)
    return x, y, z


def _mark(scan: str, point: Floats, score: float) -> Mark:
    return Mark(scan, _point(point), float(score))
