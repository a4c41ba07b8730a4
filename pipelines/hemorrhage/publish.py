"""From trained weights to a model that can be shipped: calibration, figures, weights file, manifest, model card."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from safetensors.torch import save
from scipy.optimize import minimize

from models.training.loop import Training
from pipelines.hemorrhage import validate
from pipelines.hemorrhage.detect import Calibration, Detector, ready
from pipelines.hemorrhage.validate import Floats, Made, Reading
from pipelines.networks import UNET

VERSION = "0.1.0"
CALIBRATING = Made(seed=41, count=75)
_PIXEL_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
_WANTED_SPECIFICITY = 0.95
_UNSURE_SPECIFICITY = 0.88
_REAL_MARGIN = 0.07
_HIGHEST_THRESHOLD = 0.95

log = structlog.get_logger()


def publish(training: Training, arguments: dict[str, Any], anatomy: Path, weights: Path) -> None:
    """Calibrate on two held-back heads, measure on two others, write `hemorrhage.{safetensors,json,md}`."""
    plain = Calibration(1.0, 0.0, 0.5, 0.3, 0.5)
    detector = ready(training.network, plain)
    log.info("calibrating", cases=CALIBRATING.count)
    heads = validate.label_maps(anatomy, validate.CALIBRATED_ON)
    readings = validate.read_cases(detector, heads, CALIBRATING, _PIXEL_THRESHOLDS)
    calibration = clear_of_real_heads(detector, calibrate(readings), anatomy)
    log.info("measuring")
    figures = validate.figures(replace(detector, calibration=calibration), anatomy)
    weights.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().float().contiguous() for name, value in training.network.state_dict().items()}
    held = save(state)
    manifest = _manifest(arguments, calibration, figures, hashlib.sha256(held).hexdigest(), training.history)
    (weights / "hemorrhage.safetensors").write_bytes(held)
    (weights / "hemorrhage.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    (weights / "hemorrhage.md").write_text(_card(manifest), encoding="utf-8")


def calibrate(readings: list[Reading]) -> Calibration:
    """Platt's slope and offset by maximum likelihood, thresholds by specificity, the pixels' by mean Dice.

    Bleeds under 1 mL are left out. The targets are Platt's smoothed ones, so that a clean separation stays finite.
    """
    told = [reading for reading in readings if reading.volume_ml == 0 or reading.volume_ml >= 1]
    evidence = np.array([reading.evidence for reading in told])
    bleeds = np.array([reading.volume_ml > 0 for reading in told])
    slope, offset = _platt(evidence, bleeds)
    plain = Calibration(slope, offset, 0.5, 0.3, 0.5)
    clean = np.array([plain.score(value) for value in evidence[~bleeds]])
    threshold = max(0.5, float(np.quantile(clean, _WANTED_SPECIFICITY)))
    unsure = min(threshold - 0.05, max(0.2, float(np.quantile(clean, _UNSURE_SPECIFICITY))))
    dice = np.mean([reading.dice for reading in readings if reading.volume_ml > 0], axis=0)
    pixel = _PIXEL_THRESHOLDS[int(np.argmax(dice))]
    return Calibration(slope, offset, round(threshold, 3), round(unsure, 3), pixel)


def clear_of_real_heads(detector: Detector, calibration: Calibration, anatomy: Path) -> Calibration:
    """Raise the threshold until the clean real and average heads of the anatomy folder keep a margin below it.

    Made heads are quieter than real ones, and an alarm on a clean head is what wears physicians out.
    """
    scores = validate.anatomy_scores(replace(detector, calibration=calibration), anatomy)
    threshold = max(calibration.threshold, max(scores.values(), default=0.0) + _REAL_MARGIN)
    return replace(calibration, threshold=round(min(threshold, _HIGHEST_THRESHOLD), 3))


def _platt(evidence: Floats, bleeds: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[float, float]:
    high, low = (bleeds.sum() + 1) / (bleeds.sum() + 2), 1 / ((~bleeds).sum() + 2)
    wanted = np.where(bleeds, high, low)

    def surprise(parameters: Floats) -> float:
        odds = parameters[0] * evidence + parameters[1]
        return float(np.mean(np.logaddexp(0, odds) - wanted * odds))

    found = minimize(surprise, np.array([1.0, 0.0]), method="BFGS")
    return float(found.x[0]), float(found.x[1])


def _manifest(
    arguments: dict[str, Any], calibration: Calibration, figures: dict[str, Any], sha256: str, history: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "name": "hemorrhage",
        "version": VERSION,
        "sha256": sha256,
        "architecture": {"name": UNET, "arguments": arguments},
        "inputs": {
            "modality": "CT",
            "body_part": "head, no contrast",
            "working_grid": "224 x 192 pixels of 1 mm, slices of about 5 mm, in the source's own planes",
            "channels": ["slice", "5 mm below", "5 mm above", "slice mirrored left to right"],
            "hu": "clipped to -10 to 90 before averaging, brain's median moved to 33, shown in 0 to 90",
        },
        "calibration": asdict(calibration),
        "licence": "Apache-2.0",
        "data": "made heads: bleeds painted into 16 whole-head label maps (SynthSeg, Apache-2.0) and scanned by a "
        "simulator; no patient. Calibrated on "
        + ", ".join(validate.CALIBRATED_ON)
        + "; figures from "
        + ", ".join(validate.MEASURED_ON)
        + "; nothing was learnt from these four.",
        "figures": {"training": list(history), **figures},
        "intended_use": "Research and quality work: order a worklist by suspected intracranial hemorrhage. "
        "Not a medical device.",
    }


def _interval(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def _card(manifest: dict[str, Any]) -> str:
    """The model card. Its first sentence says what the figures are worth."""
    figures = manifest["figures"]
    by_kind = "\n".join(f"| {kind} | {_interval(figure)} |" for kind, figure in figures["auc_by_kind"].items())
    real = "\n".join(f"- {name}: score {score:.3f}" for name, score in figures["real_clean_heads"].items())
    threshold = manifest["calibration"]["threshold"]
    history = "\n".join(f"- {line}" for line in figures["training"])
    return f"""# Hemorrhage {manifest["version"]}

This network has learnt from simulated bleeds in made heads only and its figures come from made heads too: patient AUC
{_interval(figures["auc_2_ml_and_more"])} for bleeds of 2 mL and more and {_interval(figures["auc_under_2_ml"])} for
0.5 to 2 mL, mean Dice {_interval(figures["dice"])} (95 % intervals); what it does on patients is
not known from them and must be measured before anybody relies on it.

## What it is for

{manifest["intended_use"]} It marks intracranial blood on non-contrast head CT and gives each head a score.

## Figures on held-back heads ({figures["cases"]} made cases of heads that neither taught nor tuned)

| | value (95 % interval) |
| --- | --- |
| patient AUC, 2 mL and more | {_interval(figures["auc_2_ml_and_more"])} |
| patient AUC, 0.5 to 2 mL | {_interval(figures["auc_under_2_ml"])} |
| mean Dice, 2 mL and more | {_interval(figures["dice"])} |
| sensitivity at the shipped threshold, 2 mL and more | {_interval(figures["sensitivity"])} |
| specificity at the shipped threshold | {_interval(figures["specificity"])} |

| kind (2 mL and more, alone in its head) | patient AUC |
| --- | --- |
{by_kind}

Real clean heads at hand, from which the network has not learnt. The threshold ({threshold:.2f}) was raised to keep
clear of those in the anatomy folder, so they prove nothing about alarms on others:

{real}

## How it was made

Data: {manifest["data"]}
Learnt by `python -m pipelines.hemorrhage.train --anatomy DIR --out DIR` with `--steps`, `--seed` and `--rate` as below,
24 slices a step; each training after the first began (`--start`) with the weights of the one before:

{history}

Architecture `{manifest["architecture"]["name"]}` with {manifest["architecture"]["arguments"]}.
Weights SHA-256 `{manifest["sha256"]}`. Licence {manifest["licence"]}.

## Limits

Made heads are narrower in variety than patients: no tumours, no coils or shunts, little movement. Isodense and old
collections, bleeds under 1 mL, blood along falx and tentorium, and heads of small children are where it is weakest.
Thin subdurals are missed most: those that it learnt from and is measured on are at least a tenth as thick as wide.
Scores are calibrated on made heads; on patients they order heads better than they state probabilities.
"""
