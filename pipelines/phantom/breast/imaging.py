"""From exposure to stored values: blur, quanta, electronics or film, and the digitiser.

Blur by detector: selenium, caesium iodide and film with screen have modulation transfer functions of 50 % at about 6 to
9, 3 to 5 and 5 to 8 cycles per mm, the aperture of the pixel included. Noise is that of detected quanta, which a screen
or scintillator blurs and selenium does not, with the electronics' or the film's own on top (Monnin et al. 2007, Med
Phys 34:906; Bunch 1999, Med Phys 26:1046).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import fft

from pipelines.phantom.breast.texture import Field

Generator = np.random.Generator
Medium = Literal["selenium", "scintillator", "film"]

DIGITAL_PITCHES_MM = {"selenium": (0.07, 0.085, 0.07, 0.05), "scintillator": (0.1, 0.0941, 0.1, 0.083)}
BORDER = 12
"""Pixels by which an image is widened before it is blurred, so that its borders do not bleed into each other."""
FILM_PITCHES_MM = (0.05, 0.0425, 0.1, 0.2, 0.2)


@dataclass(frozen=True, slots=True)
class Receptor:
    """What takes the picture.

    `half_mtf` is the frequency (cycles per mm) at which its blur without the aperture leaves half; `quanta` are
    detected ones per mm2 where the attenuation is the reference's; `electronic` is noise as a number of quanta per mm2
    (square root of its variance times the pixel's side). Film: `gamma`, `density` that the reference gets, `most` and
    `base` density, `granularity` (density times mm), all of its characteristic curve (Hurter and Driffield);
    `digitiser_noise` as a part of the whole scale, `digitiser_most` the density that it reads as black; `bits`.
    """

    medium: Medium
    pitch_mm: float
    half_mtf: float
    quanta: float
    electronic: float = 0.0
    gamma: float = 3.2
    density: float = 1.6
    most: float = 3.8
    base: float = 0.2
    granularity: float = 0.0009
    digitiser_noise: float = 0.002
    digitiser_most: float = 3.4
    bits: int = 12

    @staticmethod
    def random(generator: Generator, medium: Medium | None = None, pitch_mm: float | None = None) -> Receptor:
        """A receptor as they stand in departments; a pitch of more than 0.11 mm is a digitised film's."""
        draw = generator.uniform
        if medium is None:
            odds = (0.36, 0.32, 0.32) if pitch_mm is None or pitch_mm <= 0.11 else (0.0, 0.0, 1.0)
            media: tuple[Medium, ...] = ("selenium", "scintillator", "film")
            medium = media[int(generator.choice(3, p=odds))]
        pitches = FILM_PITCHES_MM if medium == "film" else DIGITAL_PITCHES_MM[medium]
        pitch = pitch_mm or float(pitches[int(generator.integers(len(pitches)))])
        half = {"selenium": (8.0, 14.0), "scintillator": (4.0, 6.0), "film": (5.0, 9.0)}[medium]
        quanta = float(np.exp(draw(np.log(5e4), np.log(4e5))))
        return Receptor(
            medium,
            pitch,
            half_mtf=draw(*half),
            quanta=quanta * (1.3 if medium == "film" else 1.0),
            electronic=draw(5, 30),
            gamma=draw(2.4, 3.4),
            density=draw(1.1, 1.9),
            most=draw(3.4, 4.0),
            base=draw(0.16, 0.24),
            granularity=draw(0.0005, 0.0013),
            digitiser_noise=draw(0.0005, 0.003),
            digitiser_most=draw(2.9, 3.8),
            bits=8 if medium == "film" and generator.random() < 0.6 else 12,
        )

    def transfer(self, shape: tuple[int, int]) -> Field:
        """What is left of each wave, `[row, column]` as `rfft2` orders them: Lorentzian, or Gaussian for selenium."""
        v = fft.fftfreq(shape[0], self.pitch_mm).astype(np.float32)[:, None]
        u = fft.rfftfreq(shape[1], self.pitch_mm).astype(np.float32)[None, :]
        ratio = (u**2 + v**2) * np.float32(self.half_mtf**-2)
        left: Field = np.exp(-np.float32(np.log(2)) * ratio) if self.medium == "selenium" else 1 / (1 + ratio)
        return left

    def relative_noise(self, exposure: float) -> float:
        """Standard deviation of one pixel's exposure over that exposure (1 at the reference), before any blur of it."""
        if self.medium == "film":
            own = self.granularity / self.pitch_mm * np.log(10) / self.gamma
        else:
            own = self.electronic / (exposure * self.quanta * self.pitch_mm)
        return float(np.sqrt(1 / (exposure * self.quanta * self.pitch_mm**2) + own**2))


def exposed(generator: Generator, receptor: Receptor, primary: Field, scatter: Field | float) -> Field:
    """Exposure (1 where the attenuation is the reference's) as detected: blurred, with scatter and with quantum noise.

    `primary` is what comes straight through.
    """
    seen = blurred(receptor, primary)
    seen += scatter
    np.maximum(seen, 1e-4, out=seen)
    noise = generator.standard_normal(seen.shape, np.float32)
    noise *= np.sqrt(seen * np.float32(1 / (receptor.quanta * receptor.pitch_mm**2)))
    seen += noise if receptor.medium == "selenium" else blurred(receptor, noise)
    if receptor.medium != "film":
        own = generator.standard_normal(seen.shape, np.float32)
        own *= np.float32(receptor.electronic / (receptor.quanta * receptor.pitch_mm))
        seen += own
    return np.maximum(seen, np.float32(1e-4))


def blurred(receptor: Receptor, image: Field) -> Field:
    """An image as blurred by the receptor; beyond its borders it is taken to go on as in a mirror."""
    padded = np.pad(image, BORDER, mode="symmetric")
    rows, columns = (fft.next_fast_len(side, real=True) for side in padded.shape)
    waves = fft.rfft2(padded, s=(rows, columns))
    waves *= receptor.transfer((rows, columns))
    found = fft.irfft2(waves, s=(rows, columns), overwrite_x=True)
    inside: Field = found[BORDER:, BORDER:][: image.shape[0], : image.shape[1]]
    return np.ascontiguousarray(inside)


def density_of(generator: Generator, receptor: Receptor, exposure: Field) -> Field:
    """Optical density of a film that got an exposure, with its grain."""
    o = receptor
    span = o.most - o.base
    middle = np.log((o.density - o.base) / (o.most - o.density)) * span / (4 * o.gamma)
    steep = np.float32(-4 * o.gamma / span)
    log_exposure = np.log10(exposure)
    density: Field = np.float32(span) / (1 + np.exp(steep * (log_exposure + np.float32(middle))))
    grain = generator.standard_normal(exposure.shape, np.float32)
    grain *= np.sqrt(density * np.float32(1 / o.density)) * np.float32(o.granularity / o.pitch_mm)
    density += grain
    density += np.float32(o.base)
    return density


def digitised(generator: Generator, receptor: Receptor, density: Field) -> Field:
    """A film as its digitiser stores it: 0 to 1, less density brighter, in steps of its bits; noisier where dark."""
    o = receptor
    noise = generator.standard_normal(density.shape, np.float32)
    noise *= np.float32(o.digitiser_noise) * (1 + np.exp((density - np.float32(2.6)) * np.float32(1.5)))
    value = 1 - density * np.float32(1 / o.digitiser_most)
    value += noise
    return quantised(value, o.bits)


def quantised(value: Field, bits: int) -> Field:
    """Values from 0 to 1 as whole numbers of so many bits hold them."""
    most = np.float32(2**bits - 1)
    np.clip(value, 0, 1, out=value)
    found: Field = np.rint(value * most) / most
    return found
