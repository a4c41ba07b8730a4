"""Processing for presentation, as vendors do it: equalised periphery, lifted detail, a curve of brightness.

What they do is not published in detail; the parts are (Pisano et al. 2000, Radiographics 20:1479; Vuylsteke and
Schoeters 1994, SPIE 2167:551): peripheral equalisation, unsharp masking or multiscale enhancement that lifts weak
detail more than strong, local equalisation, and a sigmoid or straight look-up table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipelines.phantom.breast.texture import Field, enlarged

Generator = np.random.Generator


@dataclass(frozen=True, slots=True)
class Processing:
    """`equalise`: part of the thickness's fall towards the skin that is taken back, the less the more
    is missing: never more than `most` of the thickness. `gains` by octave from the finest:
    how much detail is lifted; `power` below 1 lifts weak detail more than strong. `local` (0 to 1): how far the
    contrast of each place is brought to the mean one. `fat` and `gland` are the brightness of fat and of dense gland of
    the usual thickness, of which `dense` is gland; `bend` 0 is a straight curve, 1 a strong sigmoid.
    """

    equalise: float = 0.9
    most: float = 0.8
    gains: tuple[float, ...] = (1.5, 1.4, 1.3, 1.2, 1.1)
    power: float = 0.9
    local: float = 0.0
    fat: float = 0.15
    gland: float = 0.75
    dense: float = 0.5
    bend: float = 0.4

    @staticmethod
    def random(generator: Generator) -> Processing:
        """A look as some vendor or site likes it."""
        draw = generator.uniform
        lift = draw(0.0, 1.0)
        gains = tuple(float(1 + lift * draw(0.1, 1.0) * shape) for shape in (1.6, 1.2, 1.0, 0.8, 0.6, 0.3))
        if generator.random() < 0.15:
            gains = (1.0,) * 6
        return Processing(
            equalise=draw(0.75, 1.0),
            most=draw(0.5, 1.2),
            gains=gains,
            power=draw(0.8, 1.0) if generator.random() < 0.5 else 1.0,
            local=draw(0.1, 0.6) if generator.random() < 0.3 else 0.0,
            fat=draw(0.08, 0.35),
            gland=draw(0.6, 0.92),
            dense=draw(0.3, 0.75),
            bend=draw(0.0, 0.8),
        )


def enhanced(image: Field, processing: Processing) -> Field:
    """Detail lifted octave by octave (a Laplacian pyramid)."""
    return _lifted(image, processing, 0)


def _lifted(image: Field, processing: Processing, octave: int) -> Field:
    if octave == len(processing.gains) or min(image.shape) < 4:
        return image
    small = halved(image)
    shape = (2 * small.shape[0], 2 * small.shape[1])
    rows, columns = image.shape
    detail = image - enlarged(small, shape)[:rows, :columns]
    gain = processing.gains[octave]
    if processing.power < 1:
        size = np.float32(float(detail[::4, ::4].std()) * 2 + 1e-6)
        detail *= np.float32(gain) * (np.abs(detail) / size + np.float32(0.1)) ** np.float32(processing.power - 1)
    else:
        detail *= np.float32(gain)
    detail += enlarged(_lifted(small, processing, octave + 1), shape)[:rows, :columns]
    return detail


def halved(image: Field) -> Field:
    """Means of two by two pixels; an odd border is doubled."""
    if image.shape[0] % 2 or image.shape[1] % 2:
        image = np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2)), mode="edge")
    found = image[::2] + image[1::2]
    found = found[:, ::2] + found[:, 1::2]
    found *= np.float32(0.25)
    return found


def evened(image: Field, pitch_mm: float, amount: float, reach_mm: float = 8.0) -> Field:
    """Local equalisation: each place's mean and contrast brought part of the way to those of the whole."""
    small, times = image, 1
    while small.shape[0] > 96 and min(small.shape) > 16:
        small, times = halved(small), times * 2
    sigma = reach_mm / (pitch_mm * times)
    mean = ndimage.gaussian_filter(small, sigma, mode="nearest")
    spread = np.sqrt(ndimage.gaussian_filter((small - mean) ** 2, sigma, mode="nearest")) + np.float32(1e-4)
    typical = np.float32(np.median(spread))
    gain = (typical / (spread + typical * np.float32(0.3)) * np.float32(1.3)) ** np.float32(amount)
    base = mean + np.float32(amount * 0.5) * (np.float32(float(mean.mean())) - mean)
    shape = (small.shape[0] * times, small.shape[1] * times)
    rows, columns = image.shape
    mean, gain, base = (enlarged(field, shape)[:rows, :columns] for field in (mean, gain, base))
    found: Field = (image - mean) * gain + base
    return found


def curved(image: Field, fat: float, gland: float, processing: Processing) -> Field:
    """Brightness 0 to 1 of attenuation, of which `fat` and `gland` are shown as the processing's own."""
    steep = (processing.gland - processing.fat) / max(gland - fat, 1e-6)
    value = (image - np.float32(fat)) * np.float32(steep) + np.float32(processing.fat)
    if processing.bend > 0:
        bow = np.float32(1.5 + 2.5 * processing.bend)
        ends = np.tanh(bow / 2)
        value = (np.tanh((value - np.float32(0.5)) * bow) / ends + 1) * np.float32(0.5)
    found: Field = np.clip(value, 0, 1)
    return found
