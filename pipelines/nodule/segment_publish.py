"""From trained networks to models that can be shipped: figures, weights files, manifests, model cards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import save
from torch import nn

from models.evaluation.classification import sensitivity, specificity
from pipelines.findings import Region
from pipelines.networks import UNET
from pipelines.nodule import character, character_training, segment
from pipelines.nodule.evaluate import NODULE_FIGURES, case_of, figures
from pipelines.nodule.measure import measure
from pipelines.nodule.patches import Patch

VERSION = "0.1.0"
ABSENT = 6
"""LIDC's rating of calcification that says there is none."""
DATA = (
    "883 nodules of LIDC-IDRI (Armato et al., Med Phys 2011, 38:915; CC BY 3.0) that are in LUNA16, as patches. Truth: "
    "the consensus of half of the readers and their mean ratings; ratings of malignancy are impressions, not pathology."
)
USE = "Research and quality work: measure nodules that were found on chest CT. Not a medical device."

log = structlog.get_logger()


def publish(
    network: nn.Module,
    *,
    arguments: Mapping[str, Any],
    threshold: float,
    patches: Sequence[Patch],
    folds: Sequence[int],
    regions: Sequence[Region],
    history: str,
    weights: Path,
) -> None:
    """Measure the held-back outlines, learn the characters from them, and write both models into `weights`."""
    rows = [patch.row for patch in patches]
    measures = [measure(patch.volume, region) for patch, region in zip(patches, regions, strict=True)]
    described = [
        character.describe(patch.volume, region, known)
        for patch, region, known in zip(patches, regions, measures, strict=True)
    ]
    features, patterns = np.stack([values for values, _ in described]), [pattern for _, pattern in described]
    characters = character_training.judge_held_back(features, patterns, rows, folds)
    cases = [case_of(*known) for known in zip(patches, regions, measures, characters, strict=True)]
    held_back = {
        "folds": len(set(folds)),
        "threshold": threshold,
        **figures(cases),
        "calcified": _calcified(patches, patterns),
    }
    log.info("measured", **{name: value for name, value in held_back.items() if isinstance(value, float)})
    found = {
        "training": [history],
        "cross_validated": held_back,
        "learnt_from": sorted({row.patient_id for row in rows}),
    }
    state = {name: _halved(value.detach()) for name, value in network.state_dict().items()}
    outlines = {
        "architecture": {"name": UNET, "arguments": dict(arguments)},
        "inputs": {
            "modality": "CT",
            "body_part": "chest",
            "squares": f"{segment.FIELD} x {segment.FIELD} pixels of {', '.join(map(str, segment.PIXELS_MM))} mm",
            "channels": [f"{offset:+g} pixels" for offset in segment.OFFSETS] + ["height above the centre"],
            "hu": f"{segment.LOWEST_HU:g} to {segment.HIGHEST_HU:g}",
        },
        "calibration": {"threshold": threshold},
    }
    _write(weights, segment.NAME, save(state), outlines, found)
    model = character_training.fit(features, rows)
    characters_known = {
        "architecture": {"name": character.ARCHITECTURE, "arguments": {}},
        "inputs": {"modality": "CT", "body_part": "chest", "features": list(character.FEATURES)},
        "calibration": {},
    }
    _write(weights, character.NAME, save_arrays(model.arrays), characters_known, found)


def _halved(value: torch.Tensor) -> torch.Tensor:
    """Half the bytes: what 16 bits lose of a weight is far below what training leaves open."""
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()


def _calcified(patches: Sequence[Patch], patterns: Sequence[str]) -> dict[str, Any]:
    """Whether nodules that at least half of the readers call calcified are called so, and the others not."""
    rated = [2 * sum(rating < ABSENT for rating in patch.row.calcification) >= patch.row.readers for patch in patches]
    called = [pattern != "none" for pattern in patterns]
    right = {"sensitivity": sensitivity(called, rated), "specificity": specificity(called, rated)}
    return {name: {"value": of.value, "interval": of.interval, "count": of.total} for name, of in right.items()}


def _write(folder: Path, name: str, held: bytes, particulars: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """The weights, their manifest and their card."""
    manifest = {
        "name": name,
        "version": VERSION,
        "sha256": hashlib.sha256(held).hexdigest(),
        **particulars,
        "licence": "Apache-2.0; learnt from LIDC-IDRI, CC BY 3.0",
        "data": DATA,
        "figures": found,
        "intended_use": USE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.safetensors").write_bytes(held)
    (folder / f"{name}.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(_card(manifest), encoding="utf-8")


def _card(manifest: Mapping[str, Any]) -> str:
    """The model card. Its first sentence says what the figures are worth."""
    figures_ = manifest["figures"]["cross_validated"]
    recall = ", ".join(
        f"{name.replace('_', '-')} {_with_interval(value, figures_['type_recall_interval'][name])}"
        for name, value in figures_["type_recall"].items()
    )
    rows = "\n".join(f"| {text} | {_figure(figures_, key)} |" for text, key in NODULE_FIGURES)
    sizes = "\n".join(
        f"| {name} ({part['count']}) | {_figure(part, 'volume_error_median_percent')} | "
        f"{part['reader_volume_spread_median_percent']:.1f} | {_figure(part, 'long_axis_error_median_mm')} | "
        f"{part['dice_mean']:.3f} |"
        for name, part in (figures_["by_size"] | figures_["by_type"]).items()
    )
    calcified = figures_["calcified"]
    return f"""# {manifest["name"]} {manifest["version"]}

These figures come from cross-validation by patient ({figures_["folds"]} folds) on {figures_["nodules"]} nodules of
{figures_["patients"]} patients of LIDC-IDRI, from scanners of about 2000 to 2010; what the model does on today's
patients is not known from them.

## What it is for

{manifest["intended_use"]} The likelihood of malignancy is how likely LIDC's readers would call a nodule suspicious. It
is not pathology and no ground to leave a nodule alone.

## Figures on held-back patients

Each nodule was outlined from a centre that is off by a normal error of 0.7 mm along each axis. The readers' spread is
the mean distance of a nodule's single readers from the consensus that they are part of.

| | value (95 % interval) |
| --- | --- |
{rows}

Recall: {recall}. To say solid of all would be right in
{figures_["type_counts"]["solid"] / figures_["nodules"]:.3f}. Calcified by half of the readers: sensitivity
{_with_interval(calcified["sensitivity"]["value"], calcified["sensitivity"]["interval"])}, specificity
{_with_interval(calcified["specificity"]["value"], calcified["specificity"]["interval"])}; the pattern is a rule of
geometry that was not measured, since readers call nearly all of them solid.

| nodules | volume error, median, % | readers', % | long axis error, median, mm | mean Dice |
| --- | --- | --- | --- | --- |
{sizes}

## How it was made

Data: {manifest["data"]}
Learnt by `python -m pipelines.nodule.segment_training --data DIR --out DIR --seed N`:
{manifest["figures"]["training"][0]}, for each of the folds' networks and for the one that
ships, which has learnt from all patients. The threshold of the outline ({figures_["threshold"]:g}) was chosen on the
held-back outlines, for a volume that is right at the median.
Weights SHA-256 `{manifest["sha256"]}`. Licence {manifest["licence"]}.

## Limits

The patches are tight in z, so what lies above and below a nodule was made up from what surrounds it. Masses over 32 mm
were not seen in training; they are outlined as nodules seen from farther away. Part-solid nodules are often
called solid: readers differ on them too. Cavities, consolidation and nodules wholly within atelectasis were not tested.
"""


def _figure(figures_: Mapping[str, Any], key: str) -> str:
    return _with_interval(figures_[key], figures_[f"{key}_interval"])


def _with_interval(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{value:.3g} ({low:.3g} to {high:.3g})"
