"""The page for mammograms: four views as they are hung, backs to back, and beside them the groups of most concern."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from pipelines import codes
from pipelines.findings import Finding
from pipelines.geometry import Floats
from pipelines.mammogram import Mammogram, RefusedView
from reporting import picture
from reporting.narrative.narrative import Narrative
from reporting.page import HEIGHT, WIDTH, footer, headline
from reporting.picture import AMBER, BLACK, DIM, GREY, WHITE, text
from reporting.projections import Placed, mark_around, middle, on_view, outlined
from reporting.source import ReportCase

HANGING = (("R CC", "L CC"), ("R MLO", "L MLO"))
"""Pairs that hang back to back; a right breast has its chest wall at the right, a left one at the left."""
LEFT, TOP, GAP = 24, 104, 8
PANEL_WIDTH, BESIDE_INSETS, ALONE = 276, 340, 688
"""Width of a view's place, and its height where the pairs hang one above the other, and side by side."""
BETWEEN, BETWEEN_PAIRS = 4, 40
INSETS = LEFT + 2 * PANEL_WIDTH + BETWEEN + 20
INSETS_WIDTH, CAPTION, CAPTION_LINE = WIDTH - 24 - INSETS, 64, 15
MOST_INSETS = 4
CAPTION_LINES, CAPTION_SIZES = 4, (13, 12, 11, 10, 9)
CLOSE_MM, LARGEST_ZOOM = 4.0, 4
"""Width of tissue around a group in its inset, and how many pixels of the page a pixel of the image takes at most."""
BREAST, COARSE = 0.06, 4
"""Brightness of tissue, and the pixels looked at, one in so many, where a view is cut to the breast."""
BRIGHTEST, DARKEST, BRIGHTEST_CLOSE = 99.7, 2.0, 99.95
SMALLEST_RING = 9.0
CLOSE_UPS = frozenset({codes.MAGNIFICATION, codes.SPOT_COMPRESSION})
LIGHT = (205, 205, 205)
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Slot:
    """A place of the hanging: its name, the view that hangs there, or the image that was refused, or neither."""

    name: str
    view: Mammogram | None = None
    refused: RefusedView | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Turned:
    """How a view is turned to be hung: its columns reversed, its rows reversed."""

    view: Mammogram
    columns: bool
    rows: bool

    def image(self, box: Box) -> NDArray[np.float32]:
        """The pixels of rows and columns (first row, first column, end row, end column), as hung."""
        top, left, bottom, right = box
        return self.view.pixels[top:bottom, left:right][:: -1 if self.rows else 1, :: -1 if self.columns else 1]

    def points(self, points: Sequence[tuple[float, float]], box: Box) -> Floats:
        """Places (column, row) of the image in those pixels."""
        top, left, bottom, right = box
        at = np.asarray(points, np.float64)
        x = right - at[:, 0] if self.columns else at[:, 0] - left
        y = bottom - at[:, 1] if self.rows else at[:, 1] - top
        return np.stack([x, y], axis=1)


def draw_views(case: ReportCase, narrative: Narrative) -> Image.Image:
    """The page, RGB, 1200 x 900. `ValueError` for a case that has no views.

    With something to magnify, the pairs hang one above the other; without, side by side and twice as large.
    """
    if case.study is None:
        raise ValueError("a page of views needs a study of projections")
    page = Image.new("RGB", (WIDTH, HEIGHT), BLACK)
    draw = ImageDraw.Draw(page)
    headline(draw, case, narrative, narrative.assessed(case.outcome, case.looked_for, case.suggested))
    slots = [[slot_of(case, narrative, name) for name in row] for row in HANGING]
    shown = insets(case)
    pair_width = 2 * PANEL_WIDTH + BETWEEN
    size = (PANEL_WIDTH, BESIDE_INSETS if shown else ALONE)
    left = LEFT if shown else (WIDTH - 2 * pair_width - BETWEEN_PAIRS) // 2
    step = (0, BESIDE_INSETS + GAP) if shown else (pair_width + BETWEEN_PAIRS, 0)
    scale = _scale([slot.view for row in slots for slot in row if slot.view is not None], size)
    for pair, row in enumerate(slots):
        for column, slot in enumerate(row):
            corner = (left + pair * step[0] + column * (PANEL_WIDTH + BETWEEN), TOP + pair * step[1])
            page.paste(_panel(case, narrative, slot, scale, size, at_right=column == 0), corner)
    for place, placed in enumerate(shown):
        _inset(page, narrative, placed, _cell(place, len(shown)))
    footer(draw, case, narrative, _besides(case, narrative, slots, shown))
    return page


def slot_of(case: ReportCase, narrative: Narrative, name: str) -> Slot:
    """What hangs in the place of this name: a whole view before a spot view of it."""
    study = case.study
    assert study is not None
    views = [view for view in study.views if view.name == name]
    view = min(views, key=lambda view: bool(view.modifiers & CLOSE_UPS), default=None)
    refused = next((one for one in study.refused if narrative.view_of(one) == name), None)
    return Slot(name, view, None if view is not None else refused)


def insets(case: ReportCase) -> list[Placed]:
    """The findings that are shown magnified: those of most concern, with the same group's on the other view."""
    by_number = sorted(outlined(case), key=lambda placed: placed.number)
    return by_number[:MOST_INSETS]


def turned(view: Mammogram) -> Turned:
    """As it is hung: the chest wall in the middle, the head, or on CC views the outer side, at the top."""
    columns = view.chest_wall != ("right" if view.laterality == "R" else "left")
    orientation = view.header.get("PatientOrientation")
    down = str(orientation[1]) if orientation is not None and len(orientation) == 2 else ""
    upside_down = view.laterality if view.projection in ("CC", "XCCL", "XCCM", "FB") else "H"
    return Turned(view, columns, down.startswith(upside_down))


def breast_box(view: Mammogram) -> Box:
    """Rows and columns that the breast takes, from the chest wall on: the largest piece of tissue, without letters."""
    height, width = view.pixels.shape
    pieces, count = ndimage.label((view.pixels > BREAST)[::COARSE, ::COARSE] & ~view.outside[::COARSE, ::COARSE])
    if count == 0:
        return 0, 0, height, width
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    rows, columns = np.flatnonzero(largest.any(axis=1)) * COARSE, np.flatnonzero(largest.any(axis=0)) * COARSE
    left = 0 if view.chest_wall == "left" else int(columns[0])
    right = width if view.chest_wall == "right" else min(width, int(columns[-1]) + COARSE)
    return int(rows[0]), left, min(height, int(rows[-1]) + COARSE), right


def grey(pixels: NDArray[np.float32], lowest: float, highest: float) -> Image.Image:
    """Pixels as a picture, black at the lowest and white at the highest value."""
    share = (pixels - lowest) / max(highest - lowest, 1e-6)
    return Image.fromarray((np.clip(share, 0, 1) * 255).astype(np.uint8))


def _scale(views: Sequence[Mammogram], size: tuple[int, int]) -> float:
    """Pixels of the page for a mm of the breast: the same for all views, so that they can be held together."""
    fitting = []
    for view in views:
        top, left, bottom, right = breast_box(view)
        high_mm, wide_mm = (bottom - top) * view.spacing.object_mm, (right - left) * view.spacing.object_mm
        fitting.append(min(size[1] / high_mm, size[0] / wide_mm))
    return min(fitting, default=1.0)


def _panel(
    case: ReportCase, narrative: Narrative, slot: Slot, scale: float, room: tuple[int, int], *, at_right: bool
) -> Image.Image:
    """One place of the hanging, with the marks of its view, or with what is the matter in place of one."""
    panel = Image.new("RGB", room, BLACK)
    draw = ImageDraw.Draw(panel)
    if slot.view is None:
        _empty(draw, narrative, slot, room)
        return panel
    hung, box = turned(slot.view), breast_box(slot.view)
    pixels = hung.image(box)
    zoom = scale * slot.view.spacing.object_mm
    size = (max(1, round(pixels.shape[1] * zoom)), max(1, round(pixels.shape[0] * zoom)))
    bright = pixels[pixels > BREAST]
    highest = float(np.percentile(bright, BRIGHTEST)) if len(bright) else 1.0
    shown = grey(pixels, 0.0, highest).resize(size, Image.Resampling.LANCZOS)
    corner = (room[0] - size[0] if at_right else 0, (room[1] - size[1]) // 2)
    panel.paste(shown.convert("RGB"), corner)
    taken: list[Floats] = []
    for placed in on_view(case, slot.view):
        line = hung.points(mark_around(placed.outline, slot.view), box) * zoom + corner
        taken.append(_mark(draw, line, placed.number, taken, room))
    x, anchor = (6, "la") if at_right else (room[0] - 6, "ra")
    text(draw, (x, 4), slot.name, 18, anchor=anchor)
    return panel


def _empty(draw: ImageDraw.ImageDraw, narrative: Narrative, slot: Slot, room: tuple[int, int]) -> None:
    draw.rectangle((8, 8, room[0] - 9, room[1] - 9), outline=DIM)
    text(draw, (room[0] / 2, room[1] / 2 - 40), slot.name, 24, color=GREY, anchor="mm")
    words, color = narrative.not_in_study, GREY
    if slot.refused is not None:
        words, color = narrative.not_read.format(view="", reason=narrative.reason(slot.refused.reason)).strip(), AMBER
    for line, part in enumerate(textwrap.wrap(words, 34)[:8]):
        text(draw, (room[0] / 2, room[1] / 2 + 18 * line), part, 14, color=color, anchor="mm")


def _mark(
    draw: ImageDraw.ImageDraw, line: Floats, number: int, taken: Sequence[Floats], room: tuple[int, int]
) -> Floats:
    """A line around a finding, never smaller than can be seen, and its number beside it; returns the number's place."""
    low, high = line.min(axis=0), line.max(axis=0)
    center, reach = (low + high) / 2, np.maximum((high - low) / 2, SMALLEST_RING)
    if (high - low).max() < 2 * SMALLEST_RING:
        draw.ellipse((*(center - reach), *(center + reach)), outline=AMBER, width=2)
    else:
        draw.line([(float(x), float(y)) for x, y in line], fill=AMBER, width=2, joint="curve")
    away = reach + 9
    around = [
        center + away * np.array(way) for way in ((1, -0.8), (-1, -0.8), (1, 0.8), (-1, 0.8), (0, -1.2), (0, 1.2))
    ]
    inside = [at for at in around if (at > 8).all() and (at < np.subtract(room, 8)).all()] or around
    free = (at for at in inside if all(np.hypot(*(at - other)) > 16 for other in taken))
    at: Floats = np.asarray(next(free, inside[0]))
    text(draw, (float(at[0]), float(at[1])), str(number), 17, color=AMBER, anchor="mm")
    return at


def _cell(place: int, count: int) -> Box:
    """Where an inset is: its left and top edge, its width and height.

    One has all the room, two are one above the other, more are two in a row.
    """
    rows = 1 if count == 1 else 2
    columns = 1 if count <= 2 else 2
    width = (INSETS_WIDTH - (columns - 1) * 12) // columns
    height = (ALONE - (rows - 1) * GAP) // rows
    row, column = divmod(place, columns)
    return INSETS + column * (width + 12), TOP + row * (height + GAP), width, height - CAPTION


def _inset(page: Image.Image, narrative: Narrative, placed: Placed, cell: Box) -> None:
    """A group at the resolution of its image or magnified by a whole number, turned as its view is hung."""
    left, top, width, height = cell
    number, finding, outline, view = placed
    hung = turned(view)
    line = np.asarray(mark_around(outline, view))
    extent = np.ptp(line, axis=0) + 2 * CLOSE_MM / view.spacing.object_mm
    zoom = int(np.clip(min(width / extent[0], height / extent[1]), 1, LARGEST_ZOOM))
    box = _around(middle(finding, outline), (width // zoom, height // zoom), view.pixels.shape)
    pixels = hung.image(box)
    lowest, highest = (float(value) for value in np.percentile(pixels, (DARKEST, BRIGHTEST_CLOSE)))
    size = (pixels.shape[1] * zoom, pixels.shape[0] * zoom)
    panel = Image.new("RGB", (width, height), BLACK)
    corner = ((width - size[0]) // 2, (height - size[1]) // 2)
    panel.paste(grey(pixels, lowest, highest).resize(size, Image.Resampling.BICUBIC).convert("RGB"), corner)
    draw = ImageDraw.Draw(panel)
    draw.line([(x, y) for x, y in hung.points(line.tolist(), box) * zoom + corner], fill=AMBER, width=1)
    text(draw, (8, 4), f"{number}", 22, color=AMBER)
    text(draw, (8 + 14 * len(str(number)) + 6, 8), view.name, 16)
    picture.draw_scale(panel, zoom / view.spacing.object_mm, _bar_mm(width * view.spacing.object_mm / zoom))
    page.paste(panel, (left, top))
    _caption(ImageDraw.Draw(page), narrative, finding, (left, top + height + 3), left + width)


def _around(center: tuple[float, float], size: tuple[int, int], shape: tuple[int, int]) -> Box:
    """So many columns and rows around a place, moved into the image at its edges."""
    starts = [
        int(np.clip(round(at - length / 2), 0, max(0, end - length)))
        for at, length, end in zip(center, size, shape[::-1], strict=True)
    ]
    left, top = starts
    return top, left, min(shape[0], top + size[1]), min(shape[1], left + size[0])


def _bar_mm(width_mm: float) -> float:
    """A length of which about four fill the inset."""
    return min((1.0, 2.0, 5.0, 10.0, 20.0), key=lambda length: abs(length - width_mm / 5))


def _caption(
    draw: ImageDraw.ImageDraw, narrative: Narrative, finding: Finding, at: tuple[float, float], right: float
) -> None:
    """All that is told of a finding, in the largest letters in which it ends within the lines there are."""
    words = ", ".join(narrative.particulars(finding, None)).split()
    size, lines = next(
        (size, lines)
        for size in CAPTION_SIZES
        if len(lines := _wrapped(draw, words, size, right - at[0])) <= CAPTION_LINES or size == CAPTION_SIZES[-1]
    )
    for line, part in enumerate(lines):
        text(draw, (at[0], at[1] + line * CAPTION_LINE), part, size, color=WHITE if line == 0 else LIGHT)


def _wrapped(draw: ImageDraw.ImageDraw, words: Sequence[str], size: int, width: float) -> list[str]:
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=picture.font(size)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _besides(
    case: ReportCase,
    narrative: Narrative,
    slots: Sequence[Sequence[Slot]],
    shown: Sequence[Placed],
) -> list[str]:
    """What the page has no place for: groups not magnified, views beside the four, refused images that hang nowhere."""
    study = case.study
    assert study is not None
    hanging = [slot for row in slots for slot in row]
    views = [view.name for view in study.views if all(slot.view is not view for slot in hanging)]
    refused = [one for one in study.refused if all(slot.refused is not one for slot in hanging)]
    groups = len(set(case.outcome.numbers)) - len({placed.number for placed in shown})
    return [
        *([narrative.more_groups.format(groups)] if groups > 0 else []),
        *([narrative.also_read.format(", ".join(views))] if views else []),
        *(
            narrative.not_read.format(view=narrative.view_of(one), reason=narrative.reason(one.reason))
            for one in refused
        ),
    ]
