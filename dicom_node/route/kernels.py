"""What a CT reconstruction kernel is made for, by the names that makers give in Convolution Kernel (0018,1210).

The names are in the makers' conformance statements and manuals; there is no standard for them. Where a name says
nothing, the words of the series description do.
"""

from __future__ import annotations

import re
from typing import Literal

Kernel = Literal["soft", "lung", "bone", "unknown"]

_GE: dict[str, Kernel] = {
    "SOFT": "soft", "STANDARD": "soft", "STAND": "soft", "STD": "soft", "DETAIL": "soft", "CHST": "soft",
    "LUNG": "lung", "BONE": "bone", "BONEPLUS": "bone", "EDGE": "bone", "ULTRA": "bone",
}  # fmt: skip
_PHILIPS: dict[str, Kernel] = {
    "A": "soft", "B": "soft", "C": "soft", "SA": "soft", "SB": "soft", "SC": "soft", "UA": "soft", "UB": "soft",
    "UC": "soft", "L": "lung", "YA": "lung", "YB": "lung", "D": "bone", "E": "bone", "EB": "bone", "EC": "bone",
    "UD": "bone", "UE": "bone", "YC": "bone", "YD": "bone", "YE": "bone",
}  # fmt: skip
_TOSHIBA_BY_TENS: dict[int, Kernel] = {
    0: "soft", 1: "soft", 2: "soft", 3: "bone", 4: "soft", 5: "lung", 6: "soft", 7: "bone", 8: "bone",
}  # fmt: skip
_SIEMENS = re.compile(r"(H|B|J|I|D|U|T|Hr|Hc|Hp|Br|Bf|Bl|Bv|Bp|Qr|Sa|Ur)(\d\d)[a-z]?", re.IGNORECASE)
_SHARP_FROM = 50  # the number grows with sharpness; from here on body kernels are for lung, head kernels for bone
_BONE_FROM = 80
_WORDS: tuple[tuple[Kernel, re.Pattern[str]], ...] = (
    ("bone", re.compile(r"BONE|KNOCHEN|OSSEU|OSSO|HUESO|BOTTEN|\bPETROUS|\bSHARP\b|\bEDGE\b|骨", re.IGNORECASE)),
    ("lung", re.compile(r"LUNG|PULM|POUMON|肺", re.IGNORECASE)),
    ("soft", re.compile(r"SOFT|BRAIN|\bSTD\b|STANDARD|WEICHTEIL|PARENCHYM|CEREB|HIRN|\bMOU\b|脑|脳", re.IGNORECASE)),
)


def classify(manufacturer: str, kernel: str, series_description: str) -> Kernel:
    """What the kernel is made for: by its maker's names, else by words in its own name, else in the description."""
    name = kernel.strip().upper()
    maker = manufacturer.upper()
    known: Kernel | None = None
    if maker.startswith("GE"):
        known = _GE.get(name.rstrip("+0123456789. "))
    elif maker.startswith("PHILIPS"):
        known = _PHILIPS.get(name)
    elif maker.startswith(("TOSHIBA", "CANON")) and (code := re.match(r"FC(\d)\d", name)):
        known = _TOSHIBA_BY_TENS.get(int(code[1]))
    elif maker.startswith("SIEMENS") and (code := _SIEMENS.match(name)):
        known = _siemens(code[1], int(code[2]))
    return known or _by_words(kernel) or _by_words(series_description) or "unknown"


def _siemens(family: str, sharpness: int) -> Kernel:
    if sharpness < _SHARP_FROM:
        return "soft"
    return "lung" if family.startswith(("B", "I", "D")) and sharpness < _BONE_FROM else "bone"


def _by_words(text: str) -> Kernel | None:
    return next((kernel for kernel, words in _WORDS if words.search(text)), None)
