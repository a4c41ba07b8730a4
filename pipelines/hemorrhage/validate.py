"""`python -m pipelines.hemorrhage.validate --anatomy DIR [--json]`: the shipped model on made, held-back heads.

Heads, seeds and scanner settings are not those of the training; the real clean heads are read as patients are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from models.evaluation.classification import Proportion
from models.training.elsewhere import made_elsewhere
from pipelines.geometry import Plane, Point
from pipelines.hemorrhage import examples, prepare
from pipelines.hemorrhage.detect import Detector, Maps, evidence_by_slice, load_detector, load_manifest
from pipelines.phantom.head import bleeds
from pipelines.phantom.head.bleeds import Kind
from pipelines.phantom.head.ct import Scanner
from pipelines.phantom.head.heads import Head
from pipelines.volume import Volume, load

Floats = NDArray[np.float64]

CALIBRATED_ON = ("head_03", "head_11")
MEASURED_ON = ("head_16", "head_18")
HELD_BACK = (*CALIBRATED_ON, *MEASURED_ON)
"""Whole heads that nothing is learnt from; what tunes a threshold is never what measures it."""

REAL_SERIES = "ge_tilted_variable_spacing"
WEIGHTS = Path(__file__).parents[2] / "models" / "weights"
_BOOTSTRAPS = 1000


@dataclass(frozen=True, slots=True)
class Made:
    """Which cases to make: so many of one seed."""

    seed: int
    count: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One made case read: its volume and kinds, the evidence, and the Dice at each pixel threshold asked for."""

    volume_ml: float
    kinds: tuple[Kind, ...]
    evidence: float
    dice: tuple[float, ...]


MEASURING = Made(seed=77, count=150)


def label_maps(anatomy: Path, names: Sequence[str]) -> list[Path]:
    """The label maps of these heads."""
    return [anatomy / "labels" / f"{name}.nii.gz" for name in names]


def scanner(generator: np.random.Generator) -> Scanner:
    """Scanner settings of their own: what scanners do in common, not the wide ranges that are learnt from."""
    return Scanner(
        point_spread_mm=generator.uniform(0.5, 0.9),
        sharpening=generator.uniform(0, 0.3),
        noise_hu=generator.uniform(1.2, 3.5),
        noise_grain_mm=generator.uniform(0.5, 0.9),
        narrow=(generator.uniform(5, 25), generator.uniform(3, 5)),
        wide=(generator.uniform(15, 60), generator.uniform(10, 16)),
        vertex_gain=generator.uniform(0, 0.6),
        streak_hu=generator.uniform(0.3, 2.5),
        slope_hu=(float(generator.normal(0, 1)), float(generator.normal(0, 1))),
        window=(-20.0, 100.0) if generator.random() < 0.5 else None,
    )


def read_cases(
    detector: Detector, heads: Sequence[Path], made: Made, pixel_thresholds: Sequence[float]
) -> list[Reading]:
    """Cases made from `heads` and read: a third clean, the others with one bleed, kinds in turn, 0.5 mL upwards."""
    readings = []
    cases = made_elsewhere(partial(examples.load_heads, heads), partial(_case, made.seed), range(made.count))
    for case in track(cases, "reading made heads", total=made.count):
        maps = detector.maps(case.shown, case.position_mm)
        readings.append(
            Reading(
                case.volume_ml,
                tuple(kind for kind, _ in case.bleeds),
                float(evidence_by_slice(maps).max()),
                tuple(_dice(maps, case, threshold) for threshold in pixel_thresholds),
            )
        )
    return readings


def _case(seed: int, known: Sequence[Head], number: int) -> examples.Case:
    generator = np.random.default_rng((seed, number))
    kind = bleeds.KINDS[number % len(bleeds.KINDS)]
    volume = float(np.exp(generator.uniform(np.log(0.5), np.log(30))))
    wanted = [] if number % 3 == 0 else [(kind, volume)]
    return examples.make(known, examples.Recipe(), generator, wanted, scanner)


def _dice(maps: Maps, case: examples.Case, threshold: float) -> float:
    found = maps.blood >= threshold
    truth = case.blood > 127
    both = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / both if both else 1.0


def auc(positive: Floats, negative: Floats) -> float:
    """Area under the receiver operating characteristic: how often a positive outdoes a negative, ties half."""
    above = (positive[:, None] > negative).mean()
    return float(above + (positive[:, None] == negative).mean() / 2)


def figures(detector: Detector, anatomy: Path) -> dict[str, Any]:
    """Every figure of the card as `{"value", "interval"}` of 95 %: Wilson's for proportions, else bootstrap."""
    calibration = detector.calibration
    heads = label_maps(anatomy, MEASURED_ON)
    readings = read_cases(detector, heads, MEASURING, (calibration.pixel_threshold,))
    clean = np.array([r.evidence for r in readings if r.volume_ml == 0])
    large = [r for r in readings if r.volume_ml >= 2]
    evidence = np.array([r.evidence for r in large])
    small = np.array([r.evidence for r in readings if 0 < r.volume_ml < 2])
    alarms = np.array([calibration.score(value) >= calibration.threshold for value in evidence], float)
    quiet = np.array([calibration.score(value) < calibration.threshold for value in clean], float)
    by_kind = {kind: np.array([r.evidence for r in large if r.kinds == (kind,)]) for kind in bleeds.KINDS}
    return {
        "cases": len(readings),
        "auc_2_ml_and_more": _with_interval(auc, evidence, clean),
        "auc_under_2_ml": _with_interval(auc, small, clean),
        "auc_by_kind": {kind: _with_interval(auc, found, clean) for kind, found in by_kind.items()},
        "dice": _with_interval(_mean, np.array([r.dice[0] for r in large])),
        "sensitivity": _proportion(alarms),
        "specificity": _proportion(quiet),
        "real_clean_heads": real_scores(detector, anatomy),
    }


def _mean(values: Floats) -> float:
    return float(values.mean())


def _proportion(hits: Floats) -> dict[str, Any]:
    told = Proportion(int(hits.sum()), hits.size)
    low, high = told.interval or (0.0, 1.0)
    return {"value": round(float(hits.mean()), 4), "interval": [round(low, 4), round(high, 4)]}


def _with_interval(figure: Callable[..., float], *samples: Floats) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    drawn = [figure(*(s[generator.integers(s.size, size=s.size)] for s in samples)) for _ in range(_BOOTSTRAPS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": round(figure(*samples), 4), "interval": [round(float(low), 4), round(float(high), 4)]}


def real_scores(detector: Detector, anatomy: Path) -> dict[str, float]:
    """Scores of the real clean heads and of an average one; the network has learnt nothing from them.

    The real head is there twice: as DICOM beside the anatomy folder, read as a patient's series is, and in two parts.
    """
    scores = anatomy_scores(detector, anatomy)
    if series := sorted((anatomy.parent / REAL_SERIES).glob("*.dcm")):
        scores[REAL_SERIES] = _score(detector, load(series).volume)
    return scores


def anatomy_scores(detector: Detector, anatomy: Path) -> dict[str, float]:
    """Scores of the clean heads, real and average, that lie in the anatomy folder."""
    files = [*sorted((anatomy / "real").glob("*.nii.gz")), anatomy / "templates" / "scct_head_2mm_hu.nii.gz"]
    return {path.name.split(".")[0]: _score(detector, volume_of(path)) for path in files if path.exists()}


def _score(detector: Detector, volume: Volume) -> float:
    return round(detector.detect(prepare.prepare(volume)).score, 4)


def volume_of(path: Path) -> Volume:
    """A NIfTI series (compressed, 16 bits, with an sform) as a `Volume`.

    Read by hand (NIfTI-1: dimensions at byte 40, offset at 108, slope at 112, sform at 280, RAS): the tilted grid at
    hand is sheared, which readers that know only orthogonal grids refuse; here each slice has its own plane anyway.
    """
    held = gzip.decompress(path.read_bytes())
    columns, rows, slices = (int(side) for side in np.frombuffer(held, "<i2", 3, 42))
    first = int(np.frombuffer(held, "<f4", 1, 108)[0])
    raw = np.frombuffer(held, "<i2", columns * rows * slices, first).reshape(slices, rows, columns)
    patient = np.diag([-1.0, -1.0, 1.0]) @ np.frombuffer(held, "<f4", 12, 280).reshape(3, 4)
    across, down, step, origin = patient.T
    planes = [_plane(origin + k * step, across, down, step) for k in range(slices)]
    order = np.argsort([plane.position_mm for plane in planes])
    slope, intercept = (float(value) for value in np.frombuffer(held, "<f4", 2, 112))
    hu = np.maximum(raw * (slope or 1.0) + intercept, -1024).astype(np.int16)[order]
    return Volume(hu, tuple(planes[k] for k in order), tuple(str(k) for k in order), (1,) * slices)


def _plane(origin: Floats, across: Floats, down: Floats, step: Floats) -> Plane:
    row_spacing, column_spacing = float(np.linalg.norm(down)), float(np.linalg.norm(across))
    along, downwards = across / column_spacing, down / row_spacing
    thickness = abs(float(step @ np.cross(along, downwards)))
    return Plane(_point(origin), _point(along), _point(downwards), row_spacing, column_spacing, thickness)


def _point(vector: Floats) -> Point:
    return (float(vector[0]), float(vector[1]), float(vector[2]))


def main() -> None:
    """Print the figures of the shipped model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anatomy", type=Path, required=True, help="folder with labels/ and real/")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with hemorrhage.json")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    detector = load_detector(
        options.weights / "hemorrhage.safetensors", load_manifest(options.weights / "hemorrhage.json")
    )
    found = figures(detector, options.anatomy)
    print(json.dumps(found, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
