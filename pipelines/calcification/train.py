"""`python -m pipelines.calcification.train --out DIR --seed N`: the network that finds calcifications, the chances of
what it finds, what tells groups from chance, their figures on made breasts, and their manifest.

Stage by stage, each kept in `--out` and passed over when it is there already. No real image is learnt from.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
import torch
from scipy.optimize import minimize
from torch import nn

from models.training.loop import Schedule, Training, train
from pipelines.calcification import learning, publish
from pipelines.calcification.breast import map_breast
from pipelines.calcification.detect import OUTPUTS, PLAIN, Calibration, Detector, ready
from pipelines.calcification.evaluate import Found, Image, Report, hits_of, report_on
from pipelines.calcification.group import Grouping, GroupModel, described_parts, fit
from pipelines.calcification.look import INPUTS, WORKING_MM
from pipelines.calcification.made import is_counted, made_views, true_share, truth_of
from pipelines.calcification.place import frame_of
from pipelines.calcification.reader import CalcificationReader, find_grains
from pipelines.findings import ModelIdentity
from pipelines.geometry import Floats
from pipelines.networks import build_unet, placed
from pipelines.opening import ScoreCuts

ARGUMENTS = {"inputs": INPUTS, "outputs": OUTPUTS, "widths": [24, 32, 48, 64, 96]}
SCHEDULE = Schedule(steps=12000, warm_up=200, mean_decay=0.998)
CALIBRATING, FITTING, MEASURING = 1000, 2000, 3000
"""Added to the seed for what is made to calibrate, to fit and to measure on: nothing is learnt from it otherwise."""
TRUE_SHARE, FALSE_SHARE, LEAST_TRUE = 0.5, 0.2, 3

log = structlog.get_logger()


def train_network(out: Path, seed: int) -> nn.Module:
    """The network after its schedule, from its checkpoint where it is finished."""
    network = placed(build_unet(ARGUMENTS), torch.device("cpu"))
    training = Training.start(network, SCHEDULE)
    checkpoint = out / "network" / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    batches = learning.batches(learning.Feed(seed), range(training.step, SCHEDULE.steps))
    log.info("network", done=training.step, steps=SCHEDULE.steps)
    train(training, batches, learning.loss, SCHEDULE, out / "network")
    network.load_state_dict(training.mean)
    return network


def calibrated(detector: Detector, seed: int, pieces: int) -> Detector:
    """The detector with chances: logistic regression of "there is a calcification" on both log odds, on made pieces."""
    grain, group, is_true = [], [], []
    for number in range(pieces):
        piece = learning.make_piece(seed + CALIBRATING, number)
        found = detector.places(piece.pixels, WORKING_MM, np.ones(piece.pixels.shape, np.bool_))
        true, doubtful = (_near(found.center_px, piece.places, is_seen) for is_seen in (True, False))
        counts = true | ~doubtful
        grain.append(found.grain[counts])
        group.append(found.group[counts])
        is_true.append(true[counts])
    numbers = _logistic(np.concatenate(grain), np.concatenate(group), np.concatenate(is_true))
    return replace(detector, calibration=numbers)


def _near(centers_px: Floats, places: Floats, is_seen: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which places lie on a calcification that can be seen, or on one that may be."""
    chosen = places[(places[:, 3] >= learning.SEEN_SNR) == is_seen]
    if not len(chosen) or not len(centers_px):
        return np.zeros(len(centers_px), np.bool_)
    middle = chosen[:, 1::-1] + 0.5
    away = np.linalg.norm(centers_px[:, None] - middle[None], axis=2)
    return np.asarray((away <= np.maximum(3.0, chosen[:, 2] / 2)).any(axis=1))


def _logistic(grain: Floats, group: Floats, is_true: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Calibration:
    wanted = is_true.astype(float)

    def surprise(weights: Floats) -> float:
        odds = weights[0] * grain + weights[1] * group + weights[2]
        return float(np.mean(np.logaddexp(0, odds) - wanted * odds) + 1e-4 * (weights[:2] ** 2).sum())

    found = minimize(surprise, np.array([1.0, 0.1, 0.0]), method="BFGS").x
    return Calibration(*(round(float(value), 4) for value in found))


def fitted(detector: Detector, seed: int, breasts: int) -> GroupModel:
    """What tells groups from chance, fitted on made breasts."""
    features, is_group = [], []
    for number in range(breasts):
        made = made_views(seed + FITTING, number)
        for view, truth in zip(made.study.views, made.truths, strict=True):
            breast = map_breast(view)
            grains = find_grains(detector, view, breast)
            for held, _, row in described_parts(view, breast, frame_of(view, breast), grains, Grouping()):
                share, count = true_share(held.center_px, truth, view.spacing.object_mm)
                if share <= FALSE_SHARE or (share >= TRUE_SHARE and count >= LEAST_TRUE):
                    features.append(row)
                    is_group.append(share >= TRUE_SHARE)
        log.info("fitting", breast=number, of=breasts, groups=sum(is_group), others=len(is_group) - sum(is_group))
    return fit(features, is_group)


def measured(detector: Detector, groups: GroupModel, seed: int, breasts: int) -> Report:
    """The figures on made breasts that nothing was learnt from."""
    reader = CalcificationReader(detector, groups, ModelIdentity("calcification", "", ""), ScoreCuts(0.5, 0.5))
    images = []
    for number in range(breasts):
        made = made_views(seed + MEASURING, number)
        began = time.perf_counter()
        conclusion = reader.read_study(made.study)
        seconds = time.perf_counter() - began
        for view, truth in zip(made.study.views, made.truths, strict=True):
            side, told = view.spacing.object_mm, truth_of(made, view, truth)
            marks = [
                Found(finding, hits_of(finding, told.targets, side))
                for finding in conclusion.findings
                if finding.key_instance_uid == view.instance_uid
            ]
            counted = tuple(mark for mark in marks if mark.hits or is_counted(mark.finding, truth, side))
            grey = (view.pixels * 255).astype(np.uint8)
            score = max((mark.finding.certainty for mark in counted), default=0.0)
            images.append(Image(told, grey, side, counted, score, seconds))
        log.info("measuring", breast=number, of=breasts)
    return report_on(images)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = train_network(options.out, options.seed)
    detector = calibrated(ready(network, PLAIN, torch.device("cpu")), options.seed, options.pieces)
    log.info("calibrated", calibration=detector.calibration)
    groups = fitted(detector, options.seed, options.breasts)
    report = measured(detector, groups, options.seed, options.measured)
    history = (f"{SCHEDULE.steps} steps, seed {options.seed}", f"groups fitted on {options.breasts} made breasts")
    publish.publish(detector, groups, report, ARGUMENTS, history, options.weights)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=Path("models/weights"), help="folder for the finished model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pieces", type=int, default=300, help="made pieces to calibrate on")
    parser.add_argument("--breasts", type=int, default=60, help="made breasts to fit on")
    parser.add_argument("--measured", type=int, default=100, help="made breasts to measure on")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
