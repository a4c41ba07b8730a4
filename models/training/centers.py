"""The loss of networks that point at the centres of things, in any number of dimensions."""

from __future__ import annotations

from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid


def focal_of_centers(odds: Tensor, heat: Tensor, share: Tensor, counted: Tensor) -> Tensor:
    """Penalty-reduced focal loss (Zhou et al., "Objects as Points", arXiv 1904.07850, eq. 1), by thing.

    All have the same shape. `odds` are the network's log odds of a centre; `heat` falls from 1 at a centre to 0;
    `share` is the part of a thing that a central place stands for (they sum to 1 for each thing), 0 elsewhere;
    `counted` says how much a false centre counts at each place.
    """
    probability = sigmoid(odds)
    hit = -logsigmoid(odds) * (1 - probability) ** 2 * share
    false = -logsigmoid(-odds) * probability**2 * (1 - heat) ** 4 * counted * (share == 0)
    return (hit.sum() + false.sum()) / share.sum().clamp(min=1)
