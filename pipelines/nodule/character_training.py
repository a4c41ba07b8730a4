"""The models of composition and malignancy, learnt from the readers' ratings and what was measured in their nodules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.geometry import Floats
from pipelines.nodule.character import COMPOSITIONS, Calcification, Character, Characterizer, scaled_features
from pipelines.nodule.evaluate import rated_composition
from pipelines.nodule.patches import Row

CLASS_POWER = 0.5
"""How far the rare compositions are raised to the common one: 0 not at all, 1 until they weigh the same."""
PENALTY = 1e-3
SUSPICIOUS_RATING = 4
_STEPS = 300


def fit(features: Floats, rows: Sequence[Row]) -> Characterizer:
    """Learn both models from features `[nodule, feature]` and ratings; the same data give the same models."""
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    scaled = scaled_features(features, mean, spread)
    rated = np.array([COMPOSITIONS.index(rated_composition(row)) for row in rows])
    counts = np.bincount(rated, minlength=len(COMPOSITIONS))
    weights = (len(rows) / np.maximum(counts, 1))[rated] ** CLASS_POWER
    composition = _softmax_regression(scaled, np.eye(len(COMPOSITIONS))[rated], weights)
    suspicious = np.array([np.mean(np.array(row.malignancy) >= SUSPICIOUS_RATING) for row in rows])
    both = _softmax_regression(scaled, np.stack([1 - suspicious, suspicious], axis=1), np.ones(len(rows)))
    return Characterizer(mean, spread, composition, both[:, 1] - both[:, 0])


def judge_held_back(
    features: Floats, calcifications: Sequence[Calcification], rows: Sequence[Row], folds: Sequence[int]
) -> list[Character]:
    """The character of each nodule by models that have learnt from the other folds."""
    fold = np.array(folds)
    models = {
        k: fit(features[fold != k], [row for row, other in zip(rows, folds, strict=True) if other != k])
        for k in set(folds)
    }
    return [models[k].judge(one, pattern) for k, one, pattern in zip(folds, features, calcifications, strict=True)]


def _softmax_regression(scaled: Floats, wanted: Floats, weights: Floats) -> Floats:
    """Coefficients `[feature + 1, class]` by penalized maximum likelihood; the offset is not penalized."""
    inputs, targets, shares = (torch.from_numpy(values) for values in (scaled, wanted, weights / weights.sum()))
    coefficients = torch.zeros(inputs.shape[1], targets.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([coefficients], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def surprise() -> torch.Tensor:
        optimizer.zero_grad()
        likelihood = (targets * torch.log_softmax(inputs @ coefficients, dim=1)).sum(dim=1)
        value = -(shares * likelihood).sum() + PENALTY * coefficients[:-1].square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(surprise)  # type: ignore[no-untyped-call]
    found: NDArray[np.float64] = coefficients.detach().numpy()
    return found
