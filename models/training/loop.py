"""One training loop for every network: batches and a loss in, weights out. It knows nothing of what is learnt.

AdamW with warm-up and cosine, bf16 autocast, a running mean of the weights, checkpoints from which an interrupted
training goes on as if it had not been interrupted (given batches that do), and a log of JSON lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

Batch = tuple[Tensor, ...]
Loss = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, float]]]
"""A loss takes the network and a batch and gives the value to lower and named numbers for the log."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. `mean_decay` is the decay of the running mean of the weights, a step."""

    steps: int
    rate: float = 2e-3
    warm_up: int = 200
    final_rate: float = 2e-5
    weight_decay: float = 1e-3
    gradient_limit: float = 5.0
    mean_decay: float = 0.998
    checkpoint_every: int = 250
    log_every: int = 25
    bf16: bool = True

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, from 0: a straight warm-up, then half a cosine."""
        if step < self.warm_up:
            return self.rate * (step + 1) / self.warm_up
        part = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.final_rate + (self.rate - self.final_rate) * (1 + math.cos(math.pi * part)) / 2


@dataclass(slots=True, eq=False)
class Training:
    """A training under way.

    `step` is the number of steps done; `mean` holds the running mean of the weights; `history` says in words what the
    weights have been through, this training last.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    mean: dict[str, Tensor]
    step: int = 0
    history: tuple[str, ...] = ()

    @staticmethod
    def start(network: nn.Module, schedule: Schedule) -> Training:
        optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.weight_decay)
        return Training(network, optimizer, {name: value.clone() for name, value in network.state_dict().items()})

    def save(self, path: Path) -> None:
        """Write a checkpoint; a killed process leaves the old one whole."""
        new = path.with_suffix(".new")
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean,
            "step": self.step,
            "history": list(self.history),
        }
        torch.save(state, new)
        new.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean = state["mean"]
        self.step = int(state["step"])
        self.history = tuple(state["history"])


def train(
    training: Training,
    batches: Iterator[Batch],
    loss: Loss,
    schedule: Schedule,
    folder: Path,
    *,
    until: Callable[[int], bool] = lambda _step: False,
) -> None:
    """Train to the end of the schedule, or until `until` (asked with the steps done) says to stop.

    Writes `checkpoint.pt` and `log.jsonl` in `folder`. Leaves the running mean of the weights in `training.mean`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log, Progress() as progress:
        bar = progress.add_task("training", total=schedule.steps, completed=training.step)
        while training.step < schedule.steps and not until(training.step):
            numbers = _step(training, next(batches), loss, schedule)
            progress.update(bar, completed=training.step)
            if training.step % schedule.log_every == 0:
                log.write(json.dumps({"step": training.step, **numbers}) + "\n")
                log.flush()
            if training.step % schedule.checkpoint_every == 0:
                training.save(folder / "checkpoint.pt")
    training.save(folder / "checkpoint.pt")
    (folder / "schedule.json").write_text(json.dumps(asdict(schedule), indent=2), encoding="utf-8")


def _step(training: Training, batch: Batch, loss: Loss, schedule: Schedule) -> dict[str, float]:
    """One step of the optimizer, and the running mean after it."""
    for group in training.optimizer.param_groups:
        group["lr"] = schedule.rate_at(training.step)
    training.network.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bf16):
        value, numbers = loss(training.network, batch)
    training.optimizer.zero_grad(set_to_none=True)
    value.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(training.network.parameters(), schedule.gradient_limit)
    training.optimizer.step()
    training.step += 1
    _average(training, schedule)
    return {"loss": value.item(), **numbers}


@torch.no_grad()
def _average(training: Training, schedule: Schedule) -> None:
    """Early on the mean is short, so that it does not hold the first random weights."""
    decay = min(schedule.mean_decay, (1 + training.step) / (10 + training.step))
    for name, value in training.network.state_dict().items():
        if value.is_floating_point():
            training.mean[name].lerp_(value, 1 - decay)
        else:
            training.mean[name].copy_(value)
