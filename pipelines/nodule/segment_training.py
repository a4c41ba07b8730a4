"""`python -m pipelines.nodule.segment_training --data DIR --out DIR --seed N`: outlines and characters of nodules.

The patients are dealt into four folds; each fold's nodules are outlined by a network that has seen none of its
patients. From these outlines come the threshold, the figures, and what the models of composition and malignancy learn
from. Then one network learns from all patients, and the models are written with their manifests and cards.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.loop import Batch, Schedule, Training, train
from pipelines.findings import Region
from pipelines.geometry import Point
from pipelines.measuring import center_of, points_of, volume_mm3
from pipelines.networks import build_unet
from pipelines.nodule import segment_examples as examples
from pipelines.nodule import segment_publish as publish
from pipelines.nodule.patches import Patch, read_index, read_patch
from pipelines.nodule.segment import PIXELS_MM, Segmenter, look_at, outline, ready, settle

ARGUMENTS = {"inputs": 6, "outputs": 2, "widths": [24, 48, 80, 112]}
FOLDS = 4
THRESHOLDS = (0.35, 0.4, 0.45)
OFF_CENTER_MM = 0.7
"""Standard deviation, along each axis, of the centres that the held-back nodules are outlined from."""

log = structlog.get_logger()


def main() -> None:
    """Train what is not yet trained, measure, publish."""
    options = _options()
    torch.set_num_threads(options.threads)
    patches = [read_patch(options.data, row) for row in read_index(options.data)]
    folds = folds_of([patch.row.patient_id for patch in patches])
    if any(_steps_done(options.out, fold) < options.steps for fold in range(FOLDS + 1)):
        _train_all(patches, folds, options)
    segmenters = [_segmenter(options.out, fold) for fold in range(FOLDS)]
    threshold, regions = outline_held_back(patches, folds, segmenters)
    publish.publish(
        _segmenter(options.out, FOLDS).network,
        arguments=ARGUMENTS,
        threshold=threshold,
        patches=patches,
        folds=folds,
        regions=regions,
        history=f"{options.steps} steps of {examples.SLICES_A_BATCH} slices, seed {options.seed}, rate {options.rate}",
        weights=options.weights,
    )


def folds_of(patients: Sequence[str]) -> list[int]:
    """The fold of each nodule from the patient that it is of: a patient is in one fold only."""
    known = sorted(set(patients))
    np.random.default_rng(0).shuffle(known)
    fold = {patient: number % FOLDS for number, patient in enumerate(known)}
    return [fold[patient] for patient in patients]


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross entropy with the consensus and with the share of readers, and Dice: a small nodule counts like a large one.

    The share is only learnt to teach the first map where readers differ.
    """
    squares, truth = batch
    logits = network(squares).float()
    area = truth[:, 0].sum(dim=(1, 2))
    weight = 1 / (area.clamp(min=20) + 60)
    pixels = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(dim=(2, 3))
    consensus, share = (pixels[:, k].mul(weight).mean() for k in (0, 1))
    probability = torch.sigmoid(logits[:, 0])
    overlap = (probability * truth[:, 0]).sum(dim=(1, 2))
    dice = (1 - (2 * overlap + 10) / (probability.sum(dim=(1, 2)) + area + 10)).mean()
    parts = {"consensus": consensus, "share": share, "dice": dice}
    return consensus + 0.5 * share + dice, {name: round(float(value.detach()), 5) for name, value in parts.items()}


def outline_held_back(
    patches: Sequence[Patch], folds: Sequence[int], segmenters: Sequence[Segmenter]
) -> tuple[float, list[Region]]:
    """The threshold at which volumes are right at the median, and each nodule's region there, by its fold's network."""
    generator = np.random.default_rng(5)
    found = [
        _outlines(segmenters[fold], patch, _off_center(patch, generator))
        for patch, fold in zip(patches, folds, strict=True)
    ]
    true_mm3 = np.array([volume_mm3(patch.volume, patch.consensus_region) for patch in patches])
    bias = {}
    for threshold in THRESHOLDS:
        regions = [outlines[threshold] for outlines in found]
        known = zip(patches, regions, strict=True)
        ratio = float(np.median(np.array([volume_mm3(patch.volume, region) for patch, region in known]) / true_mm3))
        bias[threshold] = abs(float(np.log(ratio)))
        log.info("outlined", threshold=threshold, volume_ratio_median=round(ratio, 3))
    best = min(THRESHOLDS, key=lambda threshold: bias[threshold])
    return best, [outlines[best] for outlines in found]


def _outlines(segmenter: Segmenter, patch: Patch, center: Point) -> dict[float, Region]:
    """What `segment` gives at each threshold; the network is asked once."""
    kept: dict[float, Region | None] = dict.fromkeys(THRESHOLDS)
    pending = list(THRESHOLDS)
    for pixel_mm in PIXELS_MM:
        look = look_at(patch.volume, center, pixel_mm)
        maps = segmenter.maps([look])[0]
        unsettled = []
        for threshold in pending:
            seen, is_whole = outline(patch.volume, look, maps, threshold)
            kept[threshold], is_settled = settle(patch.volume, kept[threshold], seen, is_whole, pixel_mm)
            if not is_settled:
                unsettled.append(threshold)
        pending = unsettled
        if not pending:
            break
    return {threshold: region for threshold, region in kept.items() if region is not None}


def _off_center(patch: Patch, generator: np.random.Generator) -> Point:
    """The centre of the consensus, as far off as a detector's might be."""
    off = np.clip(generator.normal(0, OFF_CENTER_MM, 3), -2.5, 2.5)
    center = center_of(*points_of(patch.volume, patch.consensus_region))
    x, y, z = (np.array(center) + off).tolist()
    return (x, y, z)


def _train_all(patches: Sequence[Patch], folds: Sequence[int], options: argparse.Namespace) -> None:
    """Train the network of each fold, and the one of all patients."""
    cases = [
        examples.make_case(patch, np.random.default_rng((options.seed, number))) for number, patch in enumerate(patches)
    ]
    for fold in range(FOLDS + 1):
        _train_without([case for case, other in zip(cases, folds, strict=True) if other != fold], fold, options)


def _train_without(cases: Sequence[examples.Case], fold: int, options: argparse.Namespace) -> None:
    """Train the network of all folds but one (or of all, after the last). Goes on where it stopped."""
    folder = options.out / f"fold_{fold}"
    schedule = Schedule(steps=options.steps, rate=options.rate, warm_up=50, mean_decay=0.99, checkpoint_every=100)
    torch.manual_seed(options.seed)
    network = build_unet(ARGUMENTS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    training = Training.start(network, schedule)
    if _steps_done(options.out, fold):
        training.load(folder / "checkpoint.pt")
    log.info("training", fold=fold, nodules=len(cases), done=training.step, steps=schedule.steps)
    train(training, examples.batches(cases, options.seed, training.step), loss, schedule, folder)


def _steps_done(out: Path, fold: int) -> int:
    checkpoint = out / f"fold_{fold}" / "checkpoint.pt"
    return int(torch.load(checkpoint, weights_only=True)["step"]) if checkpoint.exists() else 0


def _segmenter(out: Path, fold: int) -> Segmenter:
    state = torch.load(out / f"fold_{fold}" / "checkpoint.pt", weights_only=True)
    network = build_unet(ARGUMENTS)
    network.load_state_dict(state["mean"])
    return ready(network, THRESHOLDS[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with index.csv and nodules/*.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=Path("models/weights"), help="folder for the finished models")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=600, help="length of each training")
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
