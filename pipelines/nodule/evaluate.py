"""How well nodules are measured, on a folder of patches with readers' marks (`pipelines.nodule.patches`).

Each nodule is outlined from the centre of the readers' consensus and compared with that consensus; beside it stands how
far the single readers are from it. A reader is part of the consensus that he is compared with, the network is not, so
the comparison favours the readers. Composition and malignancy are compared with the readers' mean ratings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.stats import rankdata

from models.evaluation.classification import Interval, Proportion, roc_auc, roc_auc_interval
from models.registry import verify
from pipelines.findings import Region
from pipelines.geometry import Floats, Point
from pipelines.measuring import center_of, points_of
from pipelines.nodule import character, segment
from pipelines.nodule.character import COMPOSITIONS, Character, Characterizer, Composition
from pipelines.nodule.measure import Measures, measure
from pipelines.nodule.patches import Patch, Row, read_index, read_patch
from pipelines.nodule.segment import Segmenter
from pipelines.volume import Volume

if TYPE_CHECKING:
    from models.runtime import DeviceChoice

SUSPICIOUS, UNSUSPICIOUS = 3.5, 2.5
"""Mean malignancy ratings from and up to which a nodule is suspicious, or not, to its readers."""
SIZES_MM = (("under 6 mm", 0.0, 6.0), ("6 to 8 mm", 6.0, 8.0), ("8 to 15 mm", 8.0, 15.0), ("over 15 mm", 15.0, np.inf))
NODULE_FIGURES = (
    ("volume error, median, %", "volume_error_median_percent"),
    ("readers' spread of volume, median, %", "reader_volume_spread_median_percent"),
    ("volume bias, median, %", "volume_bias_median_percent"),
    ("long axis error, median, mm", "long_axis_error_median_mm"),
    ("readers' long axis error, median, mm", "reader_long_axis_error_median_mm"),
    ("composition right", "type_accuracy"),
    ("AUC of malignancy, mean rating 3.5 and more against 2.5 and less", "malignancy_auc"),
)
"""The figures that a person is shown, with their names; each has an interval beside it."""
_DRAWS = 1000

Progress = Callable[[int, int], None]


class NoduleReader(Protocol):
    """What is measured: outlines the nodule at a centre and says what it is."""

    def outline(self, volume: Volume, center: Point) -> Region: ...

    def characterize(self, volume: Volume, region: Region, measures: Measures) -> Character: ...


@dataclass(frozen=True, slots=True, eq=False)
class ShippedReader:
    """The models that ship, and the patients that they have learnt from."""

    segmenter: Segmenter
    characterizer: Characterizer
    known: frozenset[str]

    def outline(self, volume: Volume, center: Point) -> Region:
        return self.segmenter.segment(volume, [center])[0]

    def characterize(self, volume: Volume, region: Region, measures: Measures) -> Character:
        return self.characterizer.characterize(volume, region, measures)


def open_reader(device: DeviceChoice = "auto") -> ShippedReader:
    """Load the models that ship. Raises `UnverifiedModelError` for weights that do not match their manifest."""
    outlines, characters = verify(segment.NAME), verify(character.NAME)
    return ShippedReader(
        segment.load_segmenter(outlines.weights, asdict(outlines.manifest), device),
        character.load_characterizer(characters.weights, asdict(characters.manifest)),
        frozenset(outlines.manifest.figures["learnt_from"]),
    )


@dataclass(frozen=True, slots=True)
class Case:
    """One nodule. Errors are relative for volumes, mm for the long axis; `reader_*` are the means over its readers."""

    row: Row
    diameter_mm: float
    volume_ratio: float
    long_axis_difference_mm: float
    dice: float
    reader_volume_error: float
    reader_long_axis_error_mm: float
    composition: Composition
    malignancy: float

    @property
    def volume_error(self) -> float:
        return abs(self.volume_ratio - 1)

    @property
    def rated_composition(self) -> Composition:
        return rated_composition(self.row)

    @property
    def rated_malignancy(self) -> float:
        return float(np.mean(self.row.malignancy))

    def as_json(self) -> dict[str, object]:
        return {
            "nodule": self.row.nodule_id,
            "patient": self.row.patient_id,
            "diameter_mm": round(self.diameter_mm, 2),
            "volume_error_percent": round(100 * (self.volume_ratio - 1), 2),
            "reader_volume_error_percent": round(100 * self.reader_volume_error, 2),
            "long_axis_error_mm": round(self.long_axis_difference_mm, 2),
            "dice": round(self.dice, 4),
            "type": self.composition,
            "rated_type": self.rated_composition,
            "malignancy": round(self.malignancy, 4),
            "rated_malignancy": round(self.rated_malignancy, 2),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The figures; `known_patients` of the patients have taught the models that were measured."""

    cases: tuple[Case, ...]
    known_patients: int

    @property
    def note(self) -> str:
        """What has to be said of the figures."""
        if not self.known_patients:
            return "None of these patients has taught the models."
        patients = len({case.row.patient_id for case in self.cases})
        return (
            f"{self.known_patients} of these {patients} patients have taught the models: figures on them are not "
            "independent. The cross-validated ones stand in the models' manifests."
        )

    def as_json(self) -> dict[str, Any]:
        return {"schema": 1, "note": self.note, **figures(self.cases), "cases": [case.as_json() for case in self.cases]}


def evaluate(
    folder: Path, reader: NoduleReader, known: frozenset[str], progress: Progress = lambda _done, _total: None
) -> Report:
    """Measure every nodule of a folder. `known` are the patients that the reader's models have learnt from.

    Refuses (`evaluation.wrong_data`) a folder that has not the form.
    """
    rows = read_index(folder)
    cases = []
    for row in rows:
        patch = read_patch(folder, row)
        region = reader.outline(patch.volume, center_of(*points_of(patch.volume, patch.consensus_region)))
        measures = measure(patch.volume, region)
        cases.append(case_of(patch, region, measures, reader.characterize(patch.volume, region, measures)))
        progress(len(cases), len(rows))
    return Report(tuple(cases), len({row.patient_id for row in rows} & known))


def case_of(patch: Patch, region: Region, measures: Measures, said: Character) -> Case:
    """Compare what was measured with the readers."""
    truth = measure(patch.volume, patch.consensus_region)
    readers = [measure(patch.volume, Region.from_volume(mark)) for mark in patch.marks]
    mask = np.zeros(patch.volume.hu.shape, np.bool_)
    mask[list(region.slice_index)] = region.mask
    consensus = patch.consensus
    return Case(
        row=patch.row,
        diameter_mm=truth.equivalent_diameter_mm,
        volume_ratio=measures.volume_mm3 / truth.volume_mm3,
        long_axis_difference_mm=measures.long_axis_mm - truth.long_axis_mm,
        dice=2 * float((mask & consensus).sum()) / float(mask.sum() + consensus.sum()),
        reader_volume_error=float(np.mean([abs(one.volume_mm3 / truth.volume_mm3 - 1) for one in readers])),
        reader_long_axis_error_mm=float(np.mean([abs(one.long_axis_mm - truth.long_axis_mm) for one in readers])),
        composition=said.composition,
        malignancy=said.malignancy,
    )


def rated_composition(row: Row) -> Composition:
    """What the readers' mean texture rating says: up to 2 of 5 ground-glass, below 4 part-solid, else solid."""
    mean = float(np.mean(row.texture))
    if mean <= 2:
        return "ground_glass"
    return "part_solid" if mean < 4 else "solid"


def figures(cases: Sequence[Case]) -> dict[str, Any]:
    """All figures as JSON, with 95 % intervals by bootstrap over patients."""
    right = np.array([case.composition == case.rated_composition for case in cases])
    recall = {name: _recall(cases, name) for name in COMPOSITIONS}
    known = [proportion.value for proportion in recall.values() if proportion.value is not None]
    return {
        "nodules": len(cases),
        "patients": len({case.row.patient_id for case in cases}),
        **_errors(cases),
        **_with_interval("volume_bias_median_percent", cases, lambda case: 100 * (case.volume_ratio - 1)),
        **_with_interval("reader_long_axis_error_median_mm", cases, lambda case: case.reader_long_axis_error_mm),
        "type_accuracy": float(right.mean()),
        "type_accuracy_interval": _interval(cases, right.astype(np.float64), np.mean),
        "type_balanced_accuracy": float(np.mean(known)),
        "type_recall": {name: proportion.value for name, proportion in recall.items()},
        "type_recall_interval": {name: proportion.interval for name, proportion in recall.items()},
        "type_counts": {name: proportion.total for name, proportion in recall.items()},
        **_malignancy(cases),
        "by_size": {name: _errors(part) for name, part in _by_size(cases).items()},
        "by_type": {
            name: _errors(part)
            for name in COMPOSITIONS
            if (part := [case for case in cases if case.rated_composition == name])
        },
    }


def _errors(cases: Sequence[Case]) -> dict[str, object]:
    return {
        "count": len(cases),
        **_with_interval("volume_error_median_percent", cases, lambda case: 100 * case.volume_error),
        **_with_interval("reader_volume_spread_median_percent", cases, lambda case: 100 * case.reader_volume_error),
        **_with_interval("long_axis_error_median_mm", cases, lambda case: abs(case.long_axis_difference_mm)),
        "dice_mean": float(np.mean([case.dice for case in cases])),
    }


def _with_interval(name: str, cases: Sequence[Case], value: Callable[[Case], float]) -> dict[str, object]:
    """The median of a value, and its interval."""
    values = np.array([value(case) for case in cases])
    return {name: float(np.median(values)), f"{name}_interval": _interval(cases, values, np.median)}


def _interval(cases: Sequence[Case], values: Floats, statistic: Callable[[Floats], np.floating]) -> Interval:
    """Percentiles 2.5 to 97.5 of a statistic over draws of patients."""
    patients = np.unique([case.row.patient_id for case in cases], return_inverse=True)[1]
    order = np.argsort(patients, kind="stable")
    groups = np.split(values[order], np.flatnonzero(np.diff(patients[order])) + 1)
    generator = np.random.default_rng(0)
    drawn = [
        float(statistic(np.concatenate([groups[k] for k in generator.integers(0, len(groups), len(groups))])))
        for _ in range(_DRAWS)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    return low, high


def _recall(cases: Sequence[Case], name: Composition) -> Proportion:
    said = [case.composition == name for case in cases if case.rated_composition == name]
    return Proportion(sum(said), len(said))


def _malignancy(cases: Sequence[Case]) -> dict[str, object]:
    """Suspicious nodules against unsuspicious ones, and how the order of all agrees with the readers' mean."""
    said = np.array([case.malignancy for case in cases])
    rated = np.array([case.rated_malignancy for case in cases])
    sure = (rated >= SUSPICIOUS) | (rated <= UNSUSPICIOUS)
    suspicious = rated[sure] >= SUSPICIOUS
    varied = len(cases) > 1 and bool(np.ptp(said) and np.ptp(rated))
    return {
        "malignancy_auc": roc_auc(said[sure], suspicious),
        "malignancy_auc_interval": roc_auc_interval(said[sure], suspicious),
        "malignancy_counts": {"suspicious": int(suspicious.sum()), "unsuspicious": int((~suspicious).sum())},
        "malignancy_rank_correlation": float(np.corrcoef(rankdata(said), rankdata(rated))[0, 1]) if varied else None,
    }


def _by_size(cases: Sequence[Case]) -> Mapping[str, list[Case]]:
    parts = {name: [case for case in cases if low <= case.diameter_mm < high] for name, low, high in SIZES_MM}
    return {name: part for name, part in parts.items() if part}
