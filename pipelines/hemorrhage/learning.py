"""What the training of the hemorrhage network feeds and lowers: batches of made slices, and the loss over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.elsewhere import made_elsewhere
from models.training.loop import Batch
from pipelines.hemorrhage import examples, prepare
from pipelines.hemorrhage.examples import Case
from pipelines.phantom.head.heads import Head

CASES_HELD = 64
STEPS_A_CASE = 3
CASES_A_BATCH = 8
SLICES_A_CASE = 3
FAINT_FROM = 0.7
"""The part of the training after which fainter bleeds are shown too."""


def batches(paths: Sequence[Path], seed: int, steps: int, first_step: int) -> Iterator[Batch]:
    """Batches from `first_step` on; which slices a step sees follows from seed and step alone.

    A window of the last 64 made cases slides on by one case every 3 steps; a process of its own makes them.
    """
    held: deque[Case] = deque(maxlen=CASES_HELD)
    first_case = max(0, first_step // STEPS_A_CASE - CASES_HELD + 1)
    last_case = steps // STEPS_A_CASE + CASES_A_BATCH + 1
    made = made_elsewhere(
        partial(examples.load_heads, paths), partial(_case, seed, steps), range(first_case, last_case)
    )
    cases = first_case
    for step in range(first_step, steps):
        wanted = max(step // STEPS_A_CASE + 1, CASES_A_BATCH)
        while cases < wanted:
            held.append(next(made))
            cases += 1
        yield _batch(list(held), np.random.default_rng((seed, 1, step)))


def _case(seed: int, steps: int, known: Sequence[Head], number: int) -> Case:
    """The case of a number: towards the end of the training fainter bleeds come too."""
    faint = number * STEPS_A_CASE > FAINT_FROM * steps
    recipe = examples.Recipe(least_contrast_hu=6.0 if faint else 10.0)
    return examples.make(known, recipe, np.random.default_rng((seed, 0, number)))


def _batch(held: list[Case], generator: np.random.Generator) -> Batch:
    """Slices of a few cases, some mirrored, each case a little brighter or darker: input, blood, inside."""
    chosen = generator.choice(len(held), CASES_A_BATCH, replace=False)
    parts = [_slices(held[k], generator) for k in chosen]
    pictures, blood, inside = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    return pictures.contiguous(memory_format=torch.channels_last), blood, inside


def _slices(case: Case, generator: np.random.Generator) -> tuple[prepare.Stack, ...]:
    picked = examples.pick_slices(case, SLICES_A_CASE, generator)
    turn = -1 if generator.random() < 0.5 else 1
    shown = case.shown[..., ::turn]
    pictures = prepare.inputs(shown, case.position_mm, picked)
    pictures = pictures * np.float32(generator.normal(1, 0.04)) + np.float32(generator.normal(0, 0.12))
    blood = case.blood[picked][..., ::turn].astype(np.float32) / 255
    inside = case.inside[picked][..., ::turn].astype(np.float32)
    return pictures, np.ascontiguousarray(blood), np.ascontiguousarray(inside)


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Pixels (cross entropy, more where it is wrong, and Dice), skull, and each slice's most certain place.

    The last makes the network answer for its worst false alarm in every clean slice.
    """
    pictures, blood, inside = batch
    logits = network(pictures).float()
    of_blood, of_inside = logits[:, 0], logits[:, 1]
    plain = functional.binary_cross_entropy_with_logits(of_blood, blood, reduction="none")
    probability = torch.sigmoid(of_blood)
    focal = (plain * (0.25 + (probability - blood).abs())).mean() * 20
    dice = 1 - (2 * (probability * blood).sum() + 50) / (probability.sum() + blood.sum() + 50)
    skull = functional.binary_cross_entropy_with_logits(of_inside, inside)
    slices = _slice_loss(of_blood, blood, inside)
    total = focal + dice + 0.5 * skull + 0.2 * slices
    parts = {"focal": focal, "dice": dice, "skull": skull, "slices": slices}
    return total, {name: round(float(value.detach()), 5) for name, value in parts.items()}


def _slice_loss(of_blood: Tensor, blood: Tensor, inside: Tensor) -> Tensor:
    """Cross entropy of each slice's highest mean log odds in a 5 mm square; a trace of blood does not count."""
    peaks = functional.avg_pool2d(torch.where(inside > 0.5, of_blood, -8.0)[:, None], 5, 3).amax(dim=(1, 2, 3))
    area = blood.sum(dim=(1, 2))
    bleeding = (area > 40).float()
    counted = ((area > 40) | (area < 1)).float()
    each = functional.binary_cross_entropy_with_logits(peaks, bleeding, reduction="none")
    return (each * counted).sum() / counted.sum().clamp(min=1)
