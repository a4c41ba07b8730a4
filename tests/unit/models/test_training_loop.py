"""The training loop on a problem of a few numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from models.training.loop import Batch, Schedule, Training, train

SCHEDULE = Schedule(steps=30, rate=0.05, warm_up=5, checkpoint_every=7, log_every=10, bf16=False)


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))


def batches(first_step: int) -> Iterator[Batch]:
    """Every step's batch follows from its number."""
    for step in range(first_step, 1000):
        generator = torch.Generator().manual_seed(step)
        given = torch.randn(16, 4, generator=generator)
        yield given, given.sum(dim=1, keepdim=True)


def loss(fitted: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    given, wanted = batch
    value = (fitted(given) - wanted).square().mean()
    return value, {"error": float(value.detach())}


def weights(training: Training) -> dict[str, Tensor]:
    return {**training.network.state_dict(), **{f"mean.{name}": value for name, value in training.mean.items()}}


def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Training.start(network(), SCHEDULE)
    train(whole, batches(0), loss, SCHEDULE, tmp_path / "whole")

    first = Training.start(network(), SCHEDULE)
    train(first, batches(0), loss, SCHEDULE, tmp_path / "cut", until=lambda step: step >= 13)
    second = Training.start(network(), SCHEDULE)
    second.load(tmp_path / "cut" / "checkpoint.pt")
    assert second.step == 13
    train(second, batches(second.step), loss, SCHEDULE, tmp_path / "cut")

    assert whole.step == second.step == 30
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=0, atol=0)


def test_the_loss_falls_and_is_logged(tmp_path: Path) -> None:
    training = Training.start(network(), SCHEDULE)
    train(training, batches(0), loss, SCHEDULE, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[-1]["error"] < 0.5 * lines[0]["error"]


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    rates = [SCHEDULE.rate_at(step) for step in range(SCHEDULE.steps + 1)]
    assert rates[:5] == sorted(rates[:5])
    assert max(rates) == SCHEDULE.rate
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert abs(rates[-1] - SCHEDULE.final_rate) < 1e-12


def test_the_mean_is_not_the_last_weights(tmp_path: Path) -> None:
    training = Training.start(network(), SCHEDULE)
    train(training, batches(0), loss, SCHEDULE, tmp_path)
    assert not torch.equal(training.mean["0.weight"], training.network.state_dict()["0.weight"])
