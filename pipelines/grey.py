"""Stored values of a projection to greys: the tables of the display pipeline, and the logarithm of the exposure.

All arithmetic is done once for each value that can be stored (65536 at most), never for each pixel. PS3.3: Modality LUT
C.11.1, VOI LUT C.11.2, Presentation LUT Shape C.11.6; PS3.4, N.2 for their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from pipelines.attributes import items, strings
from pipelines.foreign import FOREIGN_ERRORS
from pipelines.geometry import Floats
from pipelines.pixels import StoredPixels
from pipelines.reasons import refuse

LEAST_SPREAD = 0.1
"""A window or table suits an image when the darkest and the brightest of its values are shown so far apart."""
DARKEST, BRIGHTEST = 0.01, 0.99
"""Parts of the pixels below which the "darkest" and the "brightest" value lie."""
HEADROOM = 0.25
"""How far beyond the densest tissue the scale of attenuation reaches, as a part of what lies between it and air."""
LEAST_EXPOSURE = 1e-4
"""Exposures below this part of the largest are taken for it: beyond it there is but electronic noise."""

Shown = Callable[[Floats], Floats]


def possible_values(pixels: StoredPixels) -> NDArray[np.integer]:
    """Every value that can be stored, in the order of the bits: the value of the unsigned number k stands at k."""
    unsigned = np.arange(1 << pixels.bits_allocated).astype(f"u{pixels.bits_allocated // 8}")
    return unsigned.view(pixels.dtype)


def modality_values(dataset: Dataset, stored: NDArray[np.integer]) -> Floats:
    """What the stored values mean: by Modality LUT, else by rescale slope and intercept (1 and 0 where not said)."""
    for item in items(dataset, "ModalityLUTSequence")[:1]:
        return _table(item, float(stored.min()) < 0)[0](stored.astype(np.float64))
    slope, intercept = (
        float(values[0]) if (values := strings(dataset, keyword)) else default
        for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise refuse("input.invalid_attribute", keyword="RescaleSlope")
    return np.asarray(stored * slope + intercept, np.float64)


def presented(dataset: Dataset, values: Floats, counts: NDArray[np.integer]) -> tuple[Floats, bool]:
    """Greys from 0 to 1 that a display would show for `values`, before any inversion; and whether the image said how.

    `counts` says how many pixels have each value. Of the VOI LUTs, then of the windows, the first is taken that shows
    the image's values apart. Where none does, the range of its values is shown from black to white.
    """
    darkest, brightest = quantile(values, counts, DARKEST), quantile(values, counts, BRIGHTEST)
    ends = np.array([darkest, brightest])
    for shown in _transformations(dataset, bool(values.min() < 0)):
        apart = shown(ends)
        if abs(apart[1] - apart[0]) >= LEAST_SPREAD:
            return shown(values), True
    present = values[counts > 0]
    low, high = float(present.min()), float(present.max())
    return np.clip((values - low) / max(high - low, 1e-9), 0, 1), False


def attenuation(values: Floats, counts: NDArray[np.integer], *, is_log: bool, grows_with_exposure: bool) -> Floats:
    """The logarithm of the exposure, negated, on a scale from 0 (air) to 1 (denser than any breast).

    `values` are linear in exposure or (`is_log`) in its logarithm, and grow or fall with it (PS3.3, C.8.11.3.1.2). The
    scale reaches from the darkest pixels a quarter beyond the densest, so that a few grains of metal do not set it.
    """
    if is_log:
        raw = -values if grows_with_exposure else values
    else:
        present = values[counts > 0]
        exposure = values if grows_with_exposure else present.max() + present.min() - values
        raw = -np.log(np.maximum(exposure, max(float(present.max()), 1e-6) * LEAST_EXPOSURE))
    low, high = quantile(raw, counts, DARKEST), quantile(raw, counts, BRIGHTEST)
    return np.clip((raw - low) / max((high - low) * (1 + HEADROOM), 1e-9), 0, 1)


def quantile(values: Floats, counts: NDArray[np.integer], part: float) -> float:
    """The value below which `part` of the counted pixels lie."""
    order = np.argsort(values, kind="stable")
    cumulated = np.cumsum(counts[order])
    at = int(np.searchsorted(cumulated, part * cumulated[-1]))
    return float(values[order[min(at, len(order) - 1)]])


def windowed(values: Floats, center: float, width: float, function: str) -> Floats:
    """Greys from 0 to 1 by window: LINEAR, LINEAR_EXACT or SIGMOID (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        # Beyond 350 the exponential is 0 or infinite for every purpose.
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -350, 350)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _transformations(dataset: Dataset, is_signed: bool) -> Iterator[Shown]:
    """VOI LUTs, then windows, in their order; those that are damaged are passed over."""
    for item in items(dataset, "VOILUTSequence"):
        with suppress(*FOREIGN_ERRORS):
            table, brightest = _table(item, is_signed)
            yield lambda values, table=table, brightest=brightest: table(values) / brightest  # type: ignore[misc]
    function = "".join(strings(dataset, "VOILUTFunction")).upper() or "LINEAR"
    with suppress(*FOREIGN_ERRORS):
        centers, widths = (
            [float(value) for value in strings(dataset, keyword)] for keyword in ("WindowCenter", "WindowWidth")
        )
        for center, width in zip(centers, widths, strict=False):
            if np.isfinite(center) and (width >= 1 or (width > 0 and function != "LINEAR")):
                yield lambda values, c=center, w=width: windowed(values, c, w, function)  # type: ignore[misc]


def _table(item: Dataset, is_signed: bool) -> tuple[Shown, float]:
    """A LUT as a function, and the largest number that it can give (PS3.3, C.11.1.1 and C.11.2.1.1).

    Between whole values it is interpolated; beyond its ends it gives its first and last entry. The bits that entries
    are said to have are not relied on: those that the largest needs are counted. Raises `ValueError` for a damaged one.
    """
    descriptor = [int(value) for value in item.LUTDescriptor]
    count, first = descriptor[0] & 0xFFFF or 1 << 16, descriptor[1]
    if is_signed and first >= 1 << 15:
        first -= 1 << 16
    elif not is_signed and first < 0:
        first += 1 << 16
    entries = _entries(item.LUTData, count)
    brightest = (1 << int(entries.max()).bit_length()) - 1
    if not brightest:
        raise ValueError("a table of zeros")
    places = first + np.arange(count)
    return (lambda values: np.interp(values, places, entries)), float(brightest)


def _entries(data: object, count: int) -> NDArray[np.float64]:
    """Entries of 16 bits, or of 8 bits packed two in a word."""
    words = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.array(data, np.int64).astype("<u2")
    entries = words if len(words) >= count else words.view(np.uint8)
    if len(entries) < count:
        raise ValueError("a table shorter than it says")
    return entries[:count].astype(np.float64)
