"""From a trained network to a model that can be shipped: thresholds, weights file, manifest, card, pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save

from pipelines.calcification.detect import Detector
from pipelines.calcification.evaluate import POINTS, Report, froc_plot
from pipelines.calcification.group import GroupModel
from pipelines.calcification.look import WORKING_MM
from pipelines.calcification.sheets import sheets
from pipelines.networks import UNET

VERSION = "0.1.0"
FALSE_AN_IMAGE, UNSURE_FALSE_AN_IMAGE = 0.1, 0.3
"""False marks per made image at the shipped threshold, and at that of "not sure"."""


def publish(  # noqa: PLR0917  what was learnt, its figures, where to
    detector: Detector,
    groups: GroupModel,
    report: Report,
    arguments: Mapping[str, Any],
    history: Sequence[str],
    weights: Path,
) -> None:
    """Write `calcification.{safetensors,json,md}` and pictures of the figures beside them."""
    state = {
        name: value.detach().half().contiguous() if value.is_floating_point() else value
        for name, value in detector.network.state_dict().items()
    }
    held = save(state)
    figures = {key: value for key, value in report.as_json().items() if key != "cases"}
    manifest = {
        "name": "calcification",
        "version": VERSION,
        "sha256": hashlib.sha256(held).hexdigest(),
        "architecture": {"name": UNET, "arguments": dict(arguments), "groups": groups.as_json()},
        "inputs": {
            "modality": "MG",
            "working_pixels": f"{WORKING_MM} mm, tiles of the breast",
            "channels": ["brightness over the surroundings, in units of what is usual there", "the surroundings"],
        },
        "calibration": {
            **asdict(detector.calibration),
            "threshold": _bounded(report.threshold_at(FALSE_AN_IMAGE)),
            "unsure_from": _bounded(report.threshold_at(UNSURE_FALSE_AN_IMAGE)),
        },
        "licence": "Apache-2.0",
        "data": "simulated mammograms (pipelines/phantom/breast) alone; no real image taught it anything.",
        "figures": {"training": list(history), **figures},
        "intended_use": "Research and quality work: point a reader to groups of calcifications on mammograms. "
        "Not a medical device.",
    }
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "calcification.safetensors").write_bytes(held)
    (weights / "calcification.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    pictures = sheets(report, FALSE_AN_IMAGE)
    plot = froc_plot(report, "Calcification groups on made mammograms")
    for title, picture in (pictures | ({} if plot is None else {"froc": plot})).items():
        (weights / f"calcification_{title}.png").write_bytes(picture)
    (weights / "calcification.md").write_text(_card(manifest), encoding="utf-8")


def _bounded(threshold: float) -> float:
    return round(float(np.clip(threshold, 0.02, 0.98)), 4)


def _card(manifest: Mapping[str, Any]) -> str:
    """The model card. Its first sentence says what the images are."""
    figures = manifest["figures"]
    froc, auc, interval = figures["froc"], figures["image_auc"], figures["image_auc_interval"]
    points = "\n".join(
        f"| {point:g} | {found:.3f} | {low:.3f} to {high:.3f} |"
        for point, found, (low, high) in zip(POINTS, froc["sensitivity"], froc["sensitivity_intervals"], strict=True)
    )
    history = "\n".join(f"- {line}" for line in figures["training"])
    return f"""# Calcification {manifest["version"]}

These figures come from made images: {figures["images"]} simulated mammograms with {figures["targets"]} groups of
calcifications to be found, of breasts, seeds and detectors that nothing was learnt from. What it does on patients is
not known from them and must be measured before anybody relies on it.

| false marks per image | groups found | 95 % interval |
| --- | --- | --- |
{points}

Image AUC {auc:.3f} ({interval[0]:.3f} to {interval[1]:.3f}). {figures["hit_rule"].capitalize()}. Marks on typically
benign calcifications, and on groups of fewer than three that can be seen, count neither way.

## What it is for

{manifest["intended_use"]}

## What it must not be used for

To rule out cancer or calcifications, to replace a reader, for masses, distortions and asymmetries, for tomosynthesis,
for specimens, and, without a reader's own judgement, for breasts after surgery or with implants.

## How it was made

Data: {manifest["data"]} Learnt by `python -m pipelines.calcification.train --out DIR --seed N`:

{history}

Architecture `{manifest["architecture"]["name"]}` with {manifest["architecture"]["arguments"]}; groups are told from
chance by logistic regression, whose numbers stand in the manifest. Weights SHA-256 `{manifest["sha256"]}`.
{manifest["licence"]}.

![FROC](calcification_froc.png)
"""
