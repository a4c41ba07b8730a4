"""`python -m pipelines.hemorrhage.train --anatomy DIR --out DIR --seed N`: the network, its calibration, its manifest.

All of it is learnt from made heads; four whole heads are held back for calibration and figures. With the same seed and
number of steps the same slices are seen in the same order.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import structlog
import torch

from models.training.loop import Schedule, Training, train
from pipelines.hemorrhage import learning, publish
from pipelines.hemorrhage.validate import HELD_BACK
from pipelines.networks import build_unet

ARGUMENTS = {"inputs": 4, "outputs": 2, "widths": [16, 32, 64, 96, 128]}

log = structlog.get_logger()


def main() -> None:
    """Train (or go on training), then calibrate and write the model."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    schedule = Schedule(steps=options.steps, rate=options.rate)
    network = build_unet(ARGUMENTS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    earlier = torch.load(options.start, weights_only=True) if options.start else {"history": []}
    if options.start:
        network.load_state_dict(earlier["mean"])
    training = Training.start(network, schedule)
    training.history = (*earlier["history"], f"{options.steps} steps, seed {options.seed}, highest rate {options.rate}")
    checkpoint = options.out / "checkpoint.pt"
    if options.resume and checkpoint.exists():
        training.load(checkpoint)
    labels = sorted((options.anatomy / "labels").glob("head_*.nii.gz"))
    learnt = [path for path in labels if path.name.split(".")[0] not in HELD_BACK]
    batches = learning.batches(learnt, options.seed, options.steps, training.step)
    end = time.monotonic() + 60 * options.minutes
    log.info("training", heads=len(learnt), steps=options.steps, done=training.step)
    train(training, batches, learning.loss, schedule, options.out, until=lambda _step: time.monotonic() > end)
    if training.step < options.steps:
        log.warning("stopped_early", done=training.step, steps=options.steps)
    training.network.load_state_dict(training.mean)
    publish.publish(training, ARGUMENTS, options.anatomy, options.weights)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anatomy", type=Path, required=True, help="folder with labels/head_*.nii.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument("--weights", type=Path, default=Path("models/weights"), help="folder for the finished model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6500, help="length of the training")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="checkpoint whose mean weights to start from")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long, finished or not")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
