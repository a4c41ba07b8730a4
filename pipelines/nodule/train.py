"""`python -m pipelines.nodule.train --patches DIR --out DIR --seed N`: both networks that find nodules, their
calibration, their cross-validated figures and their manifest.

Stage by stage, each kept in `--out` and passed over when it is there already, so that an interrupted training goes on:
made chests; both networks on simulated nodules alone (no patient); then, for each fold of patients and for all of them,
a further training with implanted real nodules too. What a fold's networks have not seen measures them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import structlog
import torch
from torch import nn

from models.training.loop import Schedule, Training, train
from pipelines.nodule import examples, implant, learning, publish, reduction, validate
from pipelines.nodule.detect import PLAIN, Detector, build, ready
from pipelines.nodule.examples import Background
from pipelines.nodule.reduction import Samples
from pipelines.phantom.chest.anatomy import make_chest

ARGUMENTS = {"candidates": [16, 32, 64, 96], "reduction": [16, 32, 64, 96]}
FOLDS = 2
HELD_BACK_SEED = 1000
BASE = Schedule(steps=8500, warm_up=150, mean_decay=0.998)
FURTHER = Schedule(steps=1000, rate=6e-4, warm_up=50, mean_decay=0.995)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Course:
    """What one training of both networks learns from: the real nodules of all folds but `held_back`, in the share
    `real` of nodules; from whose weights it starts; from how many `scenes` the second network gets its places.
    """

    name: str
    schedule: Schedule
    reduction: Schedule
    scenes: int
    real: float
    held_back: int | None = None
    start: str | None = None


REDUCTION_BASE = Schedule(steps=2500, warm_up=100, mean_decay=0.997)
REDUCTION_FURTHER = Schedule(steps=800, rate=6e-4, warm_up=30, mean_decay=0.99)
BASE_COURSE = Course("base", BASE, REDUCTION_BASE, 700, real=0.0)
FOLD_COURSES = tuple(Course(f"fold{fold}", FURTHER, REDUCTION_FURTHER, 300, 0.5, fold, "base") for fold in range(FOLDS))
ALL_COURSE = Course("all", replace(FURTHER, steps=1300), replace(REDUCTION_FURTHER, steps=1000), 400, 0.5, None, "base")
COURSES = (BASE_COURSE, *FOLD_COURSES, ALL_COURSE)


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
    network = _placed(build(ARGUMENTS)[0])
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


def train_reduction(course: Course, detector: Detector, out: Path, patches: Path, seed: int) -> nn.Module:
    """The second network after a course, on what the course's first network proposes."""
    network = _placed(build(ARGUMENTS)[1])
    feed = learning.Feed(out / "backgrounds", patches, seed, course.real, course.held_back, FOLDS)
    samples = _samples(course, detector, feed, out)
    if course.start:
        network.load_state_dict(
            torch.load(out / f"reduction-{course.start}" / "checkpoint.pt", weights_only=True)["mean"]
        )
        samples = Samples.joined([samples, Samples.load(out / f"samples-{course.start}.npz")])
    folder = out / f"reduction-{course.name}"
    training = Training.start(network, course.reduction)
    if (folder / "checkpoint.pt").exists():
        training.load(folder / "checkpoint.pt")
    batches = reduction.batches(samples, seed, range(training.step, course.reduction.steps))
    log.info("reduction", course=course.name, nodules=int(samples.is_nodule.sum()), places=len(samples.is_nodule))
    train(training, batches, reduction.loss, course.reduction, folder)
    network.load_state_dict(training.mean)
    return network


def _placed(network: nn.Module) -> nn.Module:
    placed: nn.Module = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return placed


def _samples(course: Course, detector: Detector, feed: learning.Feed, out: Path) -> Samples:
    path = out / f"samples-{course.name}.npz"
    if not path.exists():
        reduction.mine(detector, feed, course.scenes).save(path)
    return Samples.load(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    make_backgrounds(options.out / "backgrounds", options.seed, options.backgrounds, options.workers)
    for course in COURSES:
        if options.course and course.name not in options.course:
            continue
        candidates = train_candidates(course, options.out, options.patches, options.seed)
        proposer = ready(candidates, build(ARGUMENTS)[1], PLAIN, torch.device("cpu"))
        train_reduction(course, proposer, options.out, options.patches, options.seed)
    if not options.course or "publish" in options.course:
        _publish(options)


def _publish(options: argparse.Namespace) -> None:
    """Measure each fold's networks on scans of its patients in chests that nothing was learnt from, then publish."""
    began = time.monotonic()
    chests = options.out / "held_back"
    make_backgrounds(chests, options.seed + HELD_BACK_SEED, options.held_back, options.workers)
    patches = implant.load_patches(options.patches)
    by_fold = []
    for course in FOLD_COURSES:
        assert course.held_back is not None
        detector = ready(*_trained(course, options.out), PLAIN, torch.device("cpu"))
        own = validate.held_back(patches, course.held_back, FOLDS)
        numbers = range(course.held_back * options.scans, (course.held_back + 1) * options.scans)
        readings = []
        for scan in validate.made_scans(chests, own, options.seed, numbers):
            readings.append(validate.read_scan(detector, scan))
            log.info("scan", fold=course.name, scan=scan.name, nodules=len(scan.nodules))
        by_fold.append(readings)
    history = [
        *(f"{course.name}: {course.schedule.steps} and {course.reduction.steps} steps" for course in COURSES),
        f"seed {options.seed}, {options.backgrounds} chests; cross-validation took {time.monotonic() - began:.0f} s",
    ]
    publish.publish(_trained(ALL_COURSE, options.out), by_fold, ARGUMENTS, history, options.weights)


def _trained(course: Course, out: Path) -> tuple[nn.Module, nn.Module]:
    """Both networks after a course."""
    networks = build(ARGUMENTS)
    for name, network in zip(("candidates", "reduction"), networks, strict=True):
        held = torch.load(out / f"{name}-{course.name}" / "checkpoint.pt", weights_only=True)
        network.load_state_dict(held["mean"])
    return networks


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=Path, required=True, help="folder with index.csv and nodules/*.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder for chests, checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=Path("models/weights"), help="folder for the finished model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backgrounds", type=int, default=24, help="made chests to learn from")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make chests")
    parser.add_argument("--held-back", type=int, default=12, help="made chests to measure on")
    parser.add_argument("--scans", type=int, default=24, help="made scans to measure each fold on")
    parser.add_argument("--course", action="append", help="only this: base, fold0, fold1, all or publish")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
