"""Random patterns that breast tissue is made of.

Mammograms have a power spectrum of 1/f^beta with beta about 3 (Burgess, Jacobson and Judy 2001, Med Phys 28:419), but
are not Gaussian: fat bulges into gland with clear edges, and thin walls and strands lie between. So power-law fields
are cut into tissue layer by layer, as the beam passes through them, and strands are drawn besides.

Fields are float32 `[row, column]`; lengths in mm; `pitch` is the side of a pixel in mm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

Field = NDArray[np.float32]
Points = NDArray[np.float64]
Spectrum = Callable[[Field], Field]

MARGIN = 1.2
"""Fields made by Fourier transform repeat themselves: they are made so much larger than they are used."""


@dataclass(frozen=True, slots=True)
class Grain:
    """Direction in which tissue runs (radians, from the columns' axis towards the rows') and how drawn out it is."""

    angle: float = 0.0
    stretch: float = 1.0


def power_law(beta: float, outer_mm: float, inner_mm: float = 0.0) -> Spectrum:
    """Amplitudes f^(-beta/2): the power falls with f^beta. Flat beyond `outer_mm`, nothing finer than `inner_mm`."""

    def amplitude(frequency: Field) -> Field:
        found = (frequency**2 + np.float32(outer_mm**-2)) ** np.float32(-beta / 4)
        return found * np.exp(-((frequency * np.float32(inner_mm)) ** 2)) if inner_mm else found

    return amplitude


def band(length_mm: float, octaves: float = 0.5) -> Spectrum:
    """Waves of about one length."""

    def amplitude(frequency: Field) -> Field:
        away = np.log2(np.maximum(frequency, np.float32(1e-6)) * np.float32(length_mm)) / np.float32(octaves)
        found: Field = np.exp(-0.5 * away**2)
        return found

    return amplitude


def fields(
    generator: np.random.Generator,
    shape: tuple[int, int],
    pitch: float,
    spectra: Sequence[Spectrum],
    grain: Grain = Grain(),
) -> list[Field]:
    """Independent Gaussian fields of these spectra, each of mean 0 and standard deviation 1."""
    rows, columns = (fft.next_fast_len(int(side * MARGIN) + 1) for side in shape)
    v = (fft.fftfreq(rows) / pitch).astype(np.float32)[:, None]
    u = (fft.rfftfreq(columns) / pitch).astype(np.float32)[None, :]
    cosine, sine = np.float32(np.cos(grain.angle)), np.float32(np.sin(grain.angle))
    along, across = u * cosine + v * sine, v * cosine - u * sine
    root = np.float32(np.sqrt(grain.stretch))
    frequency = np.sqrt((along * root) ** 2 + (across / root) ** 2)
    made = []
    for spectrum in spectra:
        amplitude = spectrum(frequency)
        amplitude[0, 0] = 0
        waves = _waves(generator, amplitude.shape)
        waves *= amplitude
        field = fft.irfft2(waves, s=(rows, columns), overwrite_x=True)
        power = 2 * float(np.vdot(amplitude, amplitude))
        field *= np.float32(rows * columns / np.sqrt(power * 2))
        made.append(field[: shape[0], : shape[1]])
    return made


def _waves(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.complex64]:
    return generator.standard_normal((*shape, 2), np.float32).view(np.complex64)[..., 0]


def cut(field: Field, level: float, softness: float) -> Field:
    """From 0 to 1 where a field rises past a level: tissue with edges as sharp as `softness` is small."""
    found: Field = np.tanh((field - np.float32(level)) * np.float32(1 / softness))
    found += 1
    found *= np.float32(0.5)
    return found


def walls(field: Field, width_px: float) -> Field:
    """Thin walls, 1 in their middle, where a smooth field passes zero; `width_px` is their Gaussian sigma."""
    down, across = np.empty_like(field), np.empty_like(field)
    down[1:-1] = field[2:] - field[:-2]
    down[0], down[-1] = down[1], down[-2]
    across[:, 1:-1] = field[:, 2:] - field[:, :-2]
    across[:, 0], across[:, -1] = across[:, 1], across[:, -2]
    steepness = down**2 + across**2
    steepness *= np.float32(0.25)
    steepness += np.float32(1e-12)
    found: Field = np.exp(field**2 / steepness * np.float32(-0.5 / width_px**2))
    return found


def enlarged(small: Field, shape: tuple[int, int]) -> Field:
    """A smooth field brought to a finer grid that covers the same area, linear between its values."""
    for axis, side in enumerate(shape):
        at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(small.shape[axis] / side)
        at = np.clip(at - np.float32(0.5), 0, small.shape[axis] - 1)
        low = np.minimum(at.astype(np.intp), max(small.shape[axis] - 2, 0))
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        first = small.take(low, axis)
        second = small.take(np.minimum(low + 1, small.shape[axis] - 1), axis)
        second -= first
        second *= part
        second += first
        small = second
    return small


def winding(  # noqa: PLR0917  where from, where to, how
    generator: np.random.Generator,
    start: Points,
    angle: float,
    length: float,
    step: float,
    bend: float,
    scale: float,
) -> Points:
    """A line `[point, (column, row)]` that sets out at an angle and winds: over each `scale` of its way its direction
    changes by `bend` radians (standard deviation). All lengths in one unit.
    """
    lines = windings(generator, start[None], np.array([angle]), np.array([length]), step, bend, scale)
    return lines[0]


def windings(  # noqa: PLR0917  where from, where to, how
    generator: np.random.Generator,
    starts: Points,
    angles: Points,
    lengths: Points,
    step: float,
    bend: float,
    scale: float,
) -> list[Points]:
    """Lines as of `winding`, all at once."""
    counts = np.maximum(2, (lengths / step).astype(int))
    at = np.arange(counts.max()) * (step / scale)
    knots = generator.normal(0, bend, (len(starts), int(at[-1]) + 2))
    before = at.astype(int)
    part = at - before
    turns = knots[:, before] * (1 - part) + knots[:, before + 1] * part
    headings = angles[:, None] + np.cumsum(turns, axis=1) * (step / scale)
    ways = np.cumsum(np.stack([np.cos(headings), np.sin(headings)], -1), axis=1) * step + starts[:, None]
    return [way[:count] for way, count in zip(ways, counts, strict=True)]


def draw(canvas: Field, lines: Sequence[tuple[Points, Points]], sigma_px: float) -> None:
    """Add lines `([point, (column, row)] in px, amounts per point)` to a canvas as bands of Gaussian profile.

    Points should lie at most a pixel apart. An amount is what the band's middle gets; bands narrower than a pixel are
    as wide as one and hold so much less.
    """
    if not lines:
        return
    points = np.concatenate([line for line, _ in lines])
    amounts = np.concatenate([amount * _gap(line) for line, amount in lines])
    reach = int(4 * sigma_px) + 3
    box, corner = _box_about(points, reach, canvas.shape)
    if box is None:
        return
    part = np.zeros(canvas[box].shape, np.float32)
    splat(part, points - corner, amounts)
    bands = ndimage.gaussian_filter(part, max(sigma_px, 0.5), truncate=3)
    bands *= np.float32(sigma_px * np.sqrt(2 * np.pi))
    canvas[box] += bands


def _box_about(
    points: Points, reach: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice] | None, tuple[int, int]]:
    """The part of an image about points, and its corner (column, row)."""
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - reach, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + reach + 1, shape[::-1])
    if (low >= high).any():
        return None, (0, 0)
    return (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))), (int(low[0]), int(low[1]))


def _gap(line: Points) -> float:
    """How far the points of an even line lie apart."""
    return float(np.linalg.norm(line[-1] - line[-2]))


def splat(canvas: Field, points: Points, amounts: Points) -> None:
    """Add amounts to a canvas at points (column, row), origin at the first pixel's outer corner, shared linearly."""
    at = points - 0.5
    inside = ((at > -1) & (at < np.array(canvas.shape[::-1]))).all(axis=1)
    at, amounts = at[inside], amounts[inside]
    first = np.floor(at).astype(np.intp)
    part = at - first
    rows, columns = canvas.shape
    places, shares = [], []
    for down in (0, 1):
        for across in (0, 1):
            shares.append(np.where(across, part[:, 0], 1 - part[:, 0]) * np.where(down, part[:, 1], 1 - part[:, 1]))
            places.append((first[:, 1] + 1 + down) * (columns + 2) + first[:, 0] + 1 + across)
    sums = np.bincount(np.concatenate(places), np.tile(amounts, 4) * np.concatenate(shares), (rows + 2) * (columns + 2))
    canvas += sums.reshape(rows + 2, columns + 2)[1:-1, 1:-1].astype(np.float32)
