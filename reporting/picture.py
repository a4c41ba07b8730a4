"""Slices as a radiologist sees them: windowed, at their true aspect, with findings outlined and sides marked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from pipelines.findings import Outline, Region
from pipelines.geometry import Plane
from reporting.catalogue import narratives
from reporting.source import ReportCase

BLACK, WHITE, GREY, DIM = (0, 0, 0), (255, 255, 255), (150, 150, 150), (70, 70, 70)
AMBER = (255, 176, 0)
"""Of a palette that stays distinct with any color vision (Okabe and Ito); no tissue in a window is colored."""
BODY_HU = -300.0
MARGIN_MM = 8.0
SCALE_MM = 50.0
LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(size: int) -> Font:
    """The font that comes with the library, so that a picture is the same on every machine."""
    return ImageFont.load_default(size)


def key_slice(case: ReportCase) -> int:
    """The first finding's key slice; without findings the one with the highest score, else the middle one."""
    if keys := case.key_slices():
        return keys[0]
    scores = case.outcome.score_by_slice
    return int(np.argmax(scores)) if len(scores) == len(case.planes) else len(case.planes) // 2


def body_box(case: ReportCase, slices: Sequence[int]) -> Box:
    """Rows and columns (first row, first column, end row, end column) that the body takes on slices, with a margin."""
    body = np.any([case.pixels[k] > BODY_HU for k in slices], axis=0)
    rows, columns = np.flatnonzero(body.mean(axis=1) > 0.02), np.flatnonzero(body.mean(axis=0) > 0.02)
    height, width = body.shape
    if not len(rows) or not len(columns):
        return 0, 0, height, width
    plane = case.planes[slices[0]]
    down, across = round(MARGIN_MM / plane.row_spacing_mm), round(MARGIN_MM / plane.column_spacing_mm)
    return (
        max(0, int(rows[0]) - down),
        max(0, int(columns[0]) - across),
        min(height, int(rows[-1]) + 1 + down),
        min(width, int(columns[-1]) + 1 + across),
    )


def slice_panel(case: ReportCase, k: int, box: Box, side: int, *, marked: bool, upright: bool = False) -> Image.Image:
    """Slice k within `box` in a square of `side` pixels, with the outlines of the findings on it.

    Both axes have one scale in mm, whatever the pixel spacing. `marked` adds the letters of the patient's sides, a
    scale of 5 cm and, where there are several findings, their numbers. `upright` turns the patient's left to the right
    and the back to the bottom, however the image is stored.
    """
    top, left, bottom, right = box
    plane = case.planes[k]
    height_mm, width_mm = (bottom - top) * plane.row_spacing_mm, (right - left) * plane.column_spacing_mm
    scale = side / max(height_mm, width_mm)
    size = (max(1, round(width_mm * scale)), max(1, round(height_mm * scale)))
    down, along = turned(plane) if upright else (1, 1)
    grey = Image.fromarray(windowed(case.pixels[k][top:bottom, left:right][::down, ::along], case.window))
    picture = grey.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    for number, mask in masks_on(case, k).items():
        large = np.asarray(
            Image.fromarray(mask[top:bottom, left:right][::down, ::along]).resize(size, Image.Resampling.NEAREST)
        )
        picture.paste(AMBER, mask=Image.fromarray(outer_edge(large, 2 if marked else 1)))
        if marked and len(case.outcome.findings) > 1:
            _number(picture, large, number)
    panel = Image.new("RGB", (side, side), BLACK)
    panel.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    if marked:
        mark_sides(panel, np.multiply(along, plane.row_direction), np.multiply(down, plane.column_direction))
        draw_scale(panel, scale)
    return panel


def turned(plane: Plane) -> tuple[int, int]:
    """The steps, 1 or -1, that rows and columns are read in to have left on the right and the back at the bottom."""
    return (1 if sum(plane.column_direction) > 0 else -1), (1 if sum(plane.row_direction) > 0 else -1)


def windowed(hu: NDArray[np.generic], window: tuple[float, float]) -> NDArray[np.uint8]:
    """CT numbers as grey values from 0 to 255 in a window of centre and width (PS3.3, C.11.2.1.2.1)."""
    center, width = window
    share = (hu.astype(np.float32) - (center - 0.5)) / (width - 1) + 0.5
    return cast("NDArray[np.uint8]", (np.clip(share, 0, 1) * 255).astype(np.uint8))


def masks_on(case: ReportCase, k: int) -> dict[int, NDArray[np.bool_]]:
    """The masks `[row, column]` of the findings that slice k shows, by the finding's number."""
    masks = {}
    for number, finding in enumerate(case.outcome.findings, start=1):
        region = finding.region
        if isinstance(region, Region) and k in region.slice_index:
            masks[number] = region.mask[region.slice_index.index(k)]
        elif isinstance(region, Outline) and region.instance_uid == str(case.headers[k].SOPInstanceUID):
            drawn = Image.new("1", (case.pixels.shape[2], case.pixels.shape[1]))
            ImageDraw.Draw(drawn).polygon([(x - 0.5, y - 0.5) for x, y in region.points], fill=1)
            masks[number] = np.asarray(drawn)
    return masks


def outer_edge(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels within `width` outside a mask: an outline that covers nothing of what it surrounds."""
    grown = np.pad(mask, width)
    for _ in range(width):
        step = grown.copy()
        step[1:] |= grown[:-1]
        step[:-1] |= grown[1:]
        step[:, 1:] |= grown[:, :-1]
        step[:, :-1] |= grown[:, 1:]
        grown = step
    return grown[width:-width, width:-width] & ~mask


def side_letter(direction: ArrayLike) -> str:
    """The side of the patient that a direction points to most (PS3.3, C.7.6.1.1.1): L, R, P, A, H or F."""
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][0 if np.asarray(direction)[axis] > 0 else 1]


def text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    words: str,
    size: int,
    *,
    color: tuple[int, int, int] = WHITE,
    anchor: str = "la",
) -> None:
    """Words with a thin dark rim, so that they can be read on any grey."""
    draw.text(at, words, font=font(size), fill=color, anchor=anchor, stroke_width=1, stroke_fill=BLACK)


def _number(picture: Image.Image, mask: NDArray[np.bool_], number: int) -> None:
    """The finding's number beside the upper right of its mask."""
    rows, columns = np.nonzero(mask)
    if len(rows):
        at = (float(columns.max()) + 5, float(rows.min()))
        text(ImageDraw.Draw(picture), at, str(number), 20, color=AMBER)


def mark_sides(panel: Image.Image, row_direction: ArrayLike, column_direction: ArrayLike) -> None:
    """The letters of the patient's sides at the four edges."""
    draw, side = ImageDraw.Draw(panel), panel.width
    opposite = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
    right, bottom = side_letter(row_direction), side_letter(column_direction)
    text(draw, (8, side / 2), opposite[right], 26, anchor="lm")
    text(draw, (side - 8, side / 2), right, 26, anchor="rm")
    text(draw, (side / 2, 8), opposite[bottom], 20, color=GREY, anchor="ma")
    text(draw, (side / 2, side - 8), bottom, 20, color=GREY, anchor="md")


def draw_scale(panel: Image.Image, pixels_per_mm: float, scale_mm: float = SCALE_MM) -> None:
    """A scale of so many mm at the lower right."""
    draw = ImageDraw.Draw(panel)
    length = scale_mm * pixels_per_mm
    right, y = panel.width - 14, panel.height - 18
    draw.line([(right - length, y), (right, y)], fill=WHITE, width=2)
    for x in (right - length, right):
        draw.line([(x, y - 5), (x, y + 5)], fill=WHITE, width=2)
    words = f"{scale_mm / 10:.0f} cm" if scale_mm >= 10 else f"{scale_mm:.0f} mm"
    text(draw, (right - length / 2, y - 8), words, 15, anchor="md")


def caption(case: ReportCase, k: int) -> str:
    """Number of the slice, from the first along the normal, and its position."""
    narrative = narratives()[case.language]
    slice_words = narrative.slice.format(number=k + 1, count=len(case.planes))
    return f"{slice_words}  {narrative.position.format(round(case.planes[k].position_mm) + 0)}"
