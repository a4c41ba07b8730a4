"""`python -m pipelines.nodule.train --patches DIR --out DIR --seed N`: both networks that find nodules, their
calibration, their cross-validated figures and their manifest.

Stage by stage, each kept in `--out` and passed over when it is there already, so that an interrupted training goes on:
made chests; both networks on simulated nodules alone (no patient); then, for each fold of patients and for all of them,
a further training with implanted real nodules too. What a fold's networks have not seen measures them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import nn

from models.training.loop import Schedule, Training, train
from pipelines.nodule import examples, learning
from pipelines.nodule.detect import build
from pipelines.nodule.examples import Background
from pipelines.phantom.chest.anatomy import make_chest

ARGUMENTS = {"candidates": [16, 32, 64, 96], "reduction": [16, 32, 64, 96]}
FOLDS = 2
BASE = Schedule(steps=5000, warm_up=150, mean_decay=0.998)
FURTHER = Schedule(steps=900, rate=6e-4, warm_up=50, mean_decay=0.995)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Course:
    """What one training of the candidate network learns from: the real nodules of all folds but `held_back`, in the
    share `real` of nodules; from whose weights it starts.
    """

    name: str
    schedule: Schedule
    real: float
    held_back: int | None = None
    start: str | None = None


BASE_COURSE = Course("base", BASE, real=0.0)
COURSES = (
    BASE_COURSE,
    *(Course(f"fold{fold}", FURTHER, 0.5, fold, "base") for fold in range(FOLDS)),
    Course("all", FURTHER, 0.5, None, "base"),
)


def make_backgrounds(folder: Path, seed: int, count: int, workers: int) -> None:
    """Made chests for scenes, each from the seed and its number; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not (folder / f"{number:03d}.json").exists()]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for number in pool.map(partial(_background, folder, seed), missing):
            log.info("background", number=number, of=count)


def _background(folder: Path, seed: int, number: int) -> int:
    chest = make_chest(np.random.default_rng((seed, 7, number)))
    hard = np.array([place.center for place in chest.hard], np.int32).reshape(-1, 3)
    arrays = (chest.hu, chest.lungs, chest.vessel.astype(np.uint8), chest.fissure.astype(np.uint8))
    examples.save_background(Background(*arrays, hard), folder / f"{number:03d}.json")
    return number


def train_candidates(course: Course, out: Path, patches: Path, seed: int) -> nn.Module:
    """The candidate network after a course, from its checkpoint where it is finished."""
    network, _ = build(ARGUMENTS)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    folder = out / f"candidates-{course.name}"
    if course.start:
        begun = torch.load(out / f"candidates-{course.start}" / "checkpoint.pt", weights_only=True)
        network.load_state_dict(begun["mean"])
    training = Training.start(network, course.schedule)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
    feed = learning.Feed(out / "backgrounds", patches, seed, course.real, course.held_back, FOLDS)
    batches = learning.batches(feed, range(training.step, course.schedule.steps))
    log.info("candidates", course=course.name, done=training.step, steps=course.schedule.steps)
    train(training, batches, learning.loss, course.schedule, folder)
    network.load_state_dict(training.mean)
    return network


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    make_backgrounds(options.out / "backgrounds", options.seed, options.backgrounds, options.workers)
    for course in COURSES:
        if not options.course or course.name in options.course:
            train_candidates(course, options.out, options.patches, options.seed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, required=True, help="folder with index.csv and nodules/*.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for chests, checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=Path("models/weights"), help="folder for the finished model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backgrounds", type=int, default=16, help="made chests to learn from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make chests")
    parser.add_argument("--course", action="append", help="run this course only (base, fold0, fold1, all)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
