"""Digitised films without DICOM: a grey PNG as a view. For evaluation only; studies come as DICOM.

A film has one view, taken for mediolateral oblique, as screening films of one view are. Dense tissue is bright, as on a
viewing box. What the picture does not say is taken from its content: padding is what is black, or unexposed and white,
from border to border, and the chest wall is on the side where the film is brighter along its border. A breast with its
chest wall at the right is taken for a right one unless it is told: that is how views are hung, but films are kept
mirrored at times.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom import Dataset

from pipelines.mammogram import Border, Laterality, Mammogram, Spacing
from pipelines.reasons import refuse

BLACK_PART = 0.95
"""Part of a row or column that must be black for it to be padding."""
WHITE = 0.9
"""Median grey of a row or column from which on it is unexposed film or light: no breast is as bright all along."""
BAND_PART = 0.06
"""Part of the film's width next to a border that is asked for the chest wall."""
MOST_PIXELS = 100_000_000


def load_film(path: Path, spacing_mm: float, laterality: Laterality | None = None) -> Mammogram:
    """The film in a grey PNG of 8 or 16 bits, whose pixels have this side in the film's plane, and in the breast.

    The file's name stands for an instance UID.

    Refuses (`input.pixel_data_unreadable`) what is no such picture, and what is all of one grey.
    """
    grey = _grey(path)
    outside = padding_of(grey)
    wall = chest_wall_of(grey, outside)
    return Mammogram(
        instance_uid=path.name,
        laterality=laterality or ("R" if wall == "right" else "L"),
        projection="MLO",
        modifiers=frozenset(),
        pixels=grey,
        outside=outside,
        scale="presented",
        spacing=Spacing(spacing_mm, spacing_mm, "told"),
        chest_wall=wall,
        has_implant=False,
        header=Dataset(),
    )


def padding_of(grey: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The rows and columns at the borders that are black, or white, all along, as a mask `[row, column]`."""
    black = grey <= grey.min()
    outside = np.zeros(grey.shape, np.bool_)
    for axis in (0, 1):
        held = np.flatnonzero((black.mean(axis=axis) < BLACK_PART) & (np.median(grey, axis=axis) < WHITE))
        if len(held):
            lines = np.moveaxis(outside, 1 - axis, 0)
            lines[: held[0]] = True
            lines[held[-1] + 1 :] = True
    return outside


def chest_wall_of(grey: NDArray[np.float32], outside: NDArray[np.bool_]) -> Border:
    """The side along which the film is brighter, by the median over its rows: labels and light leaks fill but few."""
    columns, rows = np.flatnonzero(~outside.all(axis=0)), np.flatnonzero(~outside.all(axis=1))
    band = max(1, round(BAND_PART * len(columns)))
    film = np.median(grey[np.ix_(rows, columns)], axis=0)
    return "left" if film[:band].mean() > film[-band:].mean() else "right"


def _grey(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise refuse("input.too_large", detail=f"{picture.width} x {picture.height} pixels")
            sixteen = picture.mode.startswith("I")
            held = np.asarray(picture if sixteen else picture.convert("L"), np.float32)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise refuse("input.pixel_data_unreadable", detail=f"no PNG: {type(error).__name__}") from error
    if np.ptp(held) == 0:
        raise refuse("input.pixel_data_unreadable", detail="all of one grey")
    return held / np.float32(65535 if sixteen else 255)
