"""From trained networks to a model that can be shipped: calibration, cross-validated figures, weights, manifest, card,
and a picture of what goes wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save
from torch import nn

from pipelines.nodule import validate
from pipelines.nodule.detect import ARCHITECTURE, NETWORKS, Calibration
from pipelines.nodule.validate import ScanReading

VERSION = "0.2.0"
FALSE_A_SCAN, UNSURE_FALSE_A_SCAN = 0.5, 1.0
"""False marks per made scan at the shipped threshold, and at that of "not sure"."""
SHOWN_HU = (-1350.0, 150.0)


def publish(
    networks: Sequence[nn.Module],
    by_fold: Sequence[Sequence[ScanReading]],
    arguments: Mapping[str, Any],
    history: Sequence[str],
    weights: Path,
) -> None:
    """Write `nodule.{safetensors,json,md,png}`. `by_fold` are the readings of each fold by networks that have not seen
    its patients; each fold is calibrated on the others, what ships on all of them.
    """
    calibrations = [
        validate.calibrate([reading for other in by_fold if other is not fold for reading in other]) for fold in by_fold
    ]
    readings = [reading for fold in by_fold for reading in fold]
    each = [calibration for fold, calibration in zip(by_fold, calibrations, strict=True) for _ in fold]
    shipped = validate.calibrate(readings)
    threshold = validate.certainty_at(readings, [shipped] * len(readings), FALSE_A_SCAN)
    unsure = validate.certainty_at(readings, [shipped] * len(readings), UNSURE_FALSE_A_SCAN)
    held = save(_state(networks))
    manifest = {
        "name": "nodule",
        "version": VERSION,
        "sha256": hashlib.sha256(held).hexdigest(),
        "architecture": {"name": ARCHITECTURE, "arguments": dict(arguments)},
        "inputs": {
            "modality": "CT",
            "body_part": "chest",
            "working_grid": "the lungs' box and 16 mm about it, voxels of 1 mm",
            "hu": "clipped to -1000 to 400, shown as -1 to 1",
        },
        "calibration": {
            **asdict(shipped),
            "threshold": round(float(np.clip(threshold, 0.05, 0.95)), 4),
            "unsure_from": round(float(np.clip(unsure, 0.02, 0.9)), 4),
        },
        "licence": "Apache-2.0; learnt in part from LIDC-IDRI (CC BY 3.0, doi 10.7937/K9/TCIA.2015.LO9QL9SX)",
        "data": "simulated chests (pipelines/phantom/chest) with simulated nodules and, implanted, real ones: patches "
        "of LIDC-IDRI with the marks of four readers, Armato SG III et al., Med Phys 2011, 38:915-931. No real lung as "
        "background. Figures by cross-validation: neither the patients nor the chests of a fold's scans were seen.",
        "figures": {"training": list(history), **validate.figures(readings, each)},
        "intended_use": "Research and quality work: point a reader to lung nodules on chest CT. Not a medical device.",
    }
    weights.mkdir(parents=True, exist_ok=True)
    (weights / "nodule.safetensors").write_bytes(held)
    (weights / "nodule.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (weights / "nodule.md").write_text(_card(manifest), encoding="utf-8")
    _failures(readings, each).save(weights / "nodule.png", optimize=True)


def _state(networks: Sequence[nn.Module]) -> dict[str, torch.Tensor]:
    """The weights of both networks in half precision, under their names."""
    return {
        f"{name}.{key}": value.detach().half().contiguous() if value.is_floating_point() else value
        for name, network in zip(NETWORKS, networks, strict=True)
        for key, value in network.state_dict().items()
    }


def _failures(readings: Sequence[ScanReading], calibrations: Sequence[Calibration], each: int = 12) -> Image.Image:
    """Two rows: nodules that were missed or came last, and the surest false marks."""
    worst: list[tuple[float, np.ndarray[Any, np.dtype[np.int16]], str]] = []
    false: list[tuple[float, np.ndarray[Any, np.dtype[np.int16]], str]] = []
    for reading, calibration in zip(readings, calibrations, strict=True):
        certainty = calibration.certainty(reading.first, np.clip(reading.second, -12, 12))
        for nodule, point, picture in zip(reading.nodules, reading.nodule_mm, reading.nodule_pictures, strict=True):
            reach = max(validate.LEAST_HIT_MM, nodule.diameter_mm / 2)
            hits = certainty[np.linalg.norm(reading.center_mm - point, axis=1) < reach]
            words = f"{nodule.kind.replace('_', '-')} {nodule.diameter_mm:.0f} mm"
            worst.append((float(hits.max(initial=0.0)), picture, words))
        for sure, picture in zip(certainty[~reading.is_hit], reading.place_pictures[~reading.is_hit], strict=False):
            false.append((-float(sure), picture, f"{sure:.2f}"))
    side = 3 * validate.PICTURE
    page = Image.new("RGB", (each * side, 2 * (side + 44)), "white")
    draw = ImageDraw.Draw(page)
    for row, (title, entries) in enumerate((("Nodules missed, or ranked last", worst), ("Surest false marks", false))):
        top = row * (side + 44)
        draw.text((6, top + 2), title, fill="black", font_size=15)
        for column, (_, picture, words) in enumerate(sorted(entries, key=lambda entry: entry[0])[:each]):
            grey = np.clip((picture - SHOWN_HU[0]) / (SHOWN_HU[1] - SHOWN_HU[0]) * 255, 0, 255).astype(np.uint8)
            page.paste(Image.fromarray(grey).resize((side - 4, side - 4)), (column * side, top + 22))
            draw.text((column * side + 2, top + side + 20), words, fill="black", font_size=13)
    return page


def _shown(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" if interval is None else f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _card(manifest: Mapping[str, Any]) -> str:
    """The model card. Its first sentence says what the scans are."""
    figures = manifest["figures"]
    parts = "\n".join(
        f"| {name.replace('_', ' ')} | {part['nodules']} | {_shown(part['cpm'], part['interval'])} |"
        for name, part in figures["by"].items()
    )
    points = " | ".join(f"{value:.3f}" for value in figures["sensitivity"])
    history = "\n".join(f"- {line}" for line in figures["training"])
    return f"""# Nodule {manifest["version"]}

These figures come from made scans: {figures["scans"]} simulated chests with {figures["nodules"]} nodules in them,
about half of them real LIDC-IDRI nodules implanted, the others simulated; by cross-validation, so that no network was
measured on patients or chests that it had learnt from. Nodules under 3 mm are excluded findings there, as in LUNA16,
and none lies where less than 35 % of its surroundings is aerated lung, within a hilum say. CPM (mean sensitivity at 1/8
to 8 false marks per scan, by the rules of LUNA16) is {_shown(figures["cpm"], figures["cpm_interval"])} (95 % interval).
What it does on patients is not known from them and must be measured before anybody relies on it.

## What it is for

{manifest["intended_use"]}
It proposes places of nodules from 3 mm up, and masses, and gives each a certainty. Outlines, measurements and character
come from `nodule_segmentation` and `nodule_character`.

## What it must not be used for

To rule out nodules or cancer, to replace a reader, for children, for the mediastinum, hilum, pleura or bones, and, but
with care, on slices thicker than 3 mm.

## Figures by cross-validation on made scans

| false marks per scan | 1/8 | 1/4 | 1/2 | 1 | 2 | 4 | 8 |
| --- | --- | --- | --- | --- | --- | --- | --- |
| sensitivity | {points} |

| nodules (others not counted) | number | CPM (95 % interval) |
| --- | --- | --- |
{parts}

The threshold {manifest["calibration"]["threshold"]} lets {FALSE_A_SCAN} false marks per made scan through, "not sure"
begins at {manifest["calibration"]["unsure_from"]} ({UNSURE_FALSE_A_SCAN} per scan).

![What goes wrong](nodule.png)

## How it was made

Data: {manifest["data"]}

The LIDC-IDRI data are distributed by The Cancer Imaging Archive under CC BY 3.0; the National Cancer Institute and the
Foundation for the National Institutes of Health are acknowledged for their part in creating that database.

Learnt by `python -m pipelines.nodule.train --patches DIR --out DIR --seed N`:

{history}

Architecture `{manifest["architecture"]["name"]}` with {manifest["architecture"]["arguments"]}.
Weights SHA-256 `{manifest["sha256"]}`. {manifest["licence"]}.

## Limits

What ships has learnt from every patch, that of LIDC-IDRI-0314 among them: finding that nodule on its scan proves
nothing of other patients.

Made lungs are healthier and tidier than patients': fibrosis, consolidation, bronchiectasis, mucus and post-operative
lungs are rare in them, so that false marks are to be expected there. The faintest ground glass and nodules of 3 to
4 mm at vessels are missed most.
"""
