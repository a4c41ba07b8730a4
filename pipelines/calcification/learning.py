"""What the training of the network for calcifications feeds and lowers: batches of made pieces, and the loss."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from models.training.centers import focal_of_centers
from models.training.elsewhere import made_elsewhere
from models.training.loop import Batch
from pipelines.calcification.look import WORKING_MM, resized, shown
from pipelines.geometry import Floats
from pipelines.phantom.breast.crops import CropOptions, MadeCrop, make_crop
from pipelines.phantom.breast.imaging import Receptor

Array = NDArray[np.float32]

SIDE = 352
"""Working pixels of a piece's side."""
A_BATCH = 6
PIECES_A_STEP = 2
HELD = 96
MADE_MM = 32.0
SEEN_SNR, UNSEEN_SNR = 5.0, 2.5
"""Calcifications from the former on are to be found; those below the latter nobody sees; between, nothing counts."""
CORE = 0.15
LEAST_IN_GROUP = 3
BESIDE_GROUP_MM = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What is learnt from, `[SIDE, SIDE]` of working pixels.

    `places` are (row, column) indices, diameter (pixels) and snr of the calcifications `[n, 4]`; `group` says where a
    group is (1), where none is (0) and where nothing counts (-1).
    """

    pixels: Array
    places: Floats
    group: NDArray[np.int8]


def make_piece(seed: int, number: int) -> Piece:
    """The piece of a number."""
    generator = np.random.default_rng((seed, 0, number))
    pitch = Receptor.random(generator).pitch_mm
    crop = make_crop_of(generator, pitch)
    side = round(crop.pixels.shape[0] * pitch / WORKING_MM)
    pixels = resized(torch.from_numpy(crop.pixels)[None, None], (side, side))[0, 0].numpy()
    scale = side / crop.pixels.shape[0]
    places = np.array(
        [
            (
                scale * grain.center_px[1] - 0.5,
                scale * grain.center_px[0] - 0.5,
                grain.diameter_mm / WORKING_MM,
                grain.snr,
            )
            for grain in crop.grains
        ]
    ).reshape(-1, 4)
    low = generator.integers(0, side - SIDE + 1, 2)
    if len(places) and generator.random() < 0.7:
        about = places[generator.integers(len(places)), :2] - SIDE / 2 + generator.uniform(-0.4, 0.4, 2) * SIDE
        low = np.clip(np.rint(about), 0, side - SIDE).astype(int)
    window = tuple(slice(int(first), int(first) + SIDE) for first in low)
    places[:, :2] -= low
    inside = np.all((places[:, :2] > -0.5) & (places[:, :2] < SIDE - 0.5), axis=1)
    return Piece(np.ascontiguousarray(pixels[window]), places[inside], _groups(crop, scale, side)[window])


def make_crop_of(generator: np.random.Generator, pitch_mm: float) -> MadeCrop:
    """A made crop of `MADE_MM` with pixels of this size."""
    return make_crop(generator, round(MADE_MM / pitch_mm), CropOptions(pitch_mm=pitch_mm))


def _groups(crop: MadeCrop, scale: float, side: int) -> NDArray[np.int8]:
    """Where the groups are that a reader would report."""
    made = np.zeros((side, side), np.int8)
    for index, group in enumerate(crop.groups):
        seen = sum(grain.group == index and grain.snr >= SEEN_SNR for grain in crop.grains)
        wanted = group.is_suspicious or group.morphology in {"round", "punctate"}
        picture = Image.new("L", (side, side))
        ImageDraw.Draw(picture).polygon([(scale * x, scale * y) for x, y in group.outline_px], fill=1, outline=1)
        around = ndimage.binary_dilation(np.asarray(picture) > 0, iterations=round(BESIDE_GROUP_MM / WORKING_MM))
        if wanted and seen >= LEAST_IN_GROUP:
            made[around] = 1
        elif wanted:
            made[around & (made == 0)] = -1
    return made


@dataclass(frozen=True, slots=True)
class Feed:
    """Where pieces come from."""

    seed: int

    def open(self) -> int:
        torch.set_num_threads(1)
        return self.seed

    def make(self, seed: int, number: int) -> Piece:
        return make_piece(seed, number)


def batches(feed: Feed, steps: range) -> Iterator[Batch]:
    """A batch for each of `steps`; which pieces a step sees follows from seed and step alone."""
    held: deque[Piece] = deque(maxlen=HELD)
    first = max(0, steps.start * PIECES_A_STEP - HELD)
    fewest = 2 * A_BATCH
    made = made_elsewhere(feed.open, feed.make, range(first, steps.stop * PIECES_A_STEP + fewest))
    count = first
    for step in steps:
        while count < step * PIECES_A_STEP + fewest:
            held.append(next(made))
            count += 1
        generator = np.random.default_rng((feed.seed, 1, step))
        yield _batch([held[k] for k in generator.choice(len(held), A_BATCH, replace=False)], generator)


def _batch(pieces: Sequence[Piece], generator: np.random.Generator) -> Batch:
    """Pieces turned and mirrored: picture, heat, share, what counts, and group."""
    parts = [_turned(piece, generator) for piece in pieces]
    pixels, heat, share, counted, group = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
    given = shown(pixels[:, None]).contiguous(memory_format=torch.channels_last)
    return given, heat, share, counted, group


def _turned(piece: Piece, generator: np.random.Generator) -> tuple[Array, ...]:
    places, axes = piece.places.copy(), (0, 1) if generator.random() < 0.5 else (1, 0)
    places[:, :2] = places[:, axes]
    flips = tuple(axis for axis in (0, 1) if generator.random() < 0.5)
    for axis in flips:
        places[:, axis] = SIDE - 1 - places[:, axis]
    pixels = np.ascontiguousarray(np.flip(piece.pixels.transpose(axes), flips))
    group = np.flip(piece.group.transpose(axes), flips).astype(np.float32)
    return pixels, *targets(places, SIDE), group


def targets(places: Floats, side: int) -> tuple[Array, Array, Array]:
    """Heat, share and what counts, `[side, side]` each (see `models.training.centers`), of places `[n, 4]`."""
    heat, share = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    counted = np.ones((side, side), np.float32)
    for row, column, diameter, snr in places:
        reach = int(max(6.0, diameter)) + 2
        top, left = max(0, int(row) - reach), max(0, int(column) - reach)
        window = (slice(top, min(side, int(row) + reach + 1)), slice(left, min(side, int(column) + reach + 1)))
        rows, columns = np.ogrid[window]
        squared = (rows - row) ** 2 + (columns - column) ** 2
        if snr < UNSEEN_SNR:
            continue
        if snr < SEEN_SNR:
            counted[window][squared <= (2 + diameter / 2) ** 2] = 0
            continue
        hill = np.exp(-squared / (2 * max(1.2, diameter / 4) ** 2)).astype(np.float32)
        core = squared <= (CORE * diameter) ** 2
        nearest = (min(max(round(row), 0), side - 1) - top, min(max(round(column), 0), side - 1) - left)
        core[nearest] = True
        hill[core] = 1
        share[window][core] = 1 / core.sum()
        heat[window] = np.maximum(heat[window], hill)
    return heat, share, counted


def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Focal loss of the calcifications, cross entropy and Dice of the groups."""
    given, heat, share, counted, group = batch
    made = network(given).float()
    grains = focal_of_centers(made[:, 0], heat, share, counted)
    known = (group >= 0).float()
    wanted = group.clamp(min=0)
    plain = functional.binary_cross_entropy_with_logits(made[:, 1], wanted, reduction="none")
    pixels = (plain * known).sum() / known.sum().clamp(min=1)
    chance = torch.sigmoid(made[:, 1]) * known
    dice = 1 - (2 * (chance * wanted).sum() + 100) / (chance.sum() + wanted.sum() + 100)
    parts = {"grains": grains, "pixels": pixels, "dice": dice}
    return grains + pixels + 0.5 * dice, {name: round(float(value.detach()), 5) for name, value in parts.items()}
