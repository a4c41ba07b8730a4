"""Pictures of an evaluation: hits, misses and false marks, each magnified with its outline."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Canvas
from PIL import ImageDraw

from pipelines.calcification.evaluate import Image, Report, radius_px
from pipelines.calcification.labelled import Target
from pipelines.findings import Finding, Outline

LEAST_SIDE_MM = 30.0
"""What a tile shows at least."""
TILE, GAP, CAPTION, HEAD, COLUMNS = 300, 12, 40, 64, 5
PAPER, INK, QUIET = "#ffffff", "#1f2933", "#5b6774"
TRUTH, MARK, GRAIN = "#3fc1c9", "#ffb000", "#ff5d5d"


@dataclass(frozen=True, slots=True)
class _Tile:
    """A place on an image, what is marked there, and words. `order` is its rank on the sheet, lowest first."""

    image: Image
    center_px: tuple[float, float]
    reach_px: float
    words: str
    order: float


def sheets(report: Report, false_marks_per_image: float) -> dict[str, bytes]:
    """A PNG by name (`hits`, `misses`, `false_marks`) of what there is at the threshold that lets at most so many false
    marks per image through. Hits are shown the least certain first, false marks the most certain first.
    """
    threshold = report.threshold_at(false_marks_per_image)
    hits: list[_Tile] = []
    misses: list[_Tile] = []
    false: list[_Tile] = []
    for image in (one for one in report.images if one.is_scored and one.grey is not None):
        for target, best in zip(image.truth.targets, image.best_hits, strict=True):
            said = "no mark" if best is None else f"{best:.2f}"
            tile = _Tile(image, target.center_px, radius_px(target, image.spacing_mm), said, best or 0.0)
            (misses if best is None or best < threshold else hits).append(tile)
        false += [
            _tile_of(image, mark.finding)
            for mark in image.marks
            if not mark.hits and mark.finding.certainty >= threshold
        ]
    how = f"at {threshold:.2f} and above, {false_marks_per_image:g} false marks per image"
    parts = {
        "hits": (f"Groups found: {len(hits)} of {report.targets} ({how})", hits),
        "misses": (f"Groups missed: {len(misses)} of {report.targets} ({how})", misses),
        "false_marks": (f"False marks: {len(false)} on {_scored(report)} images ({how})", false),
    }
    return {
        name: _sheet(title, sorted(tiles, key=lambda tile: tile.order), threshold)
        for name, (title, tiles) in parts.items()
        if tiles
    }


def _scored(report: Report) -> int:
    return sum(image.is_scored for image in report.images)


def _tile_of(image: Image, finding: Finding) -> _Tile:
    center = finding.center_px or (0.0, 0.0)
    reach = float(np.abs(np.subtract(_outline(finding), center)).max())
    kind = "normal" if image.truth.is_positive is False else "positive"
    return _Tile(image, center, reach, f"{finding.certainty:.2f}, on a {kind} image", -finding.certainty)


def _outline(finding: Finding) -> Sequence[tuple[float, float]]:
    assert isinstance(finding.region, Outline)  # the evaluation has taken no other mark
    return finding.region.points


def _sheet(title: str, tiles: Sequence[_Tile], threshold: float) -> bytes:
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width = max(columns * (TILE + GAP) + GAP, 760)
    page = Canvas.new("RGB", (width, HEAD + rows * (TILE + CAPTION + GAP)), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((GAP, 10), title, fill=INK, font_size=18)
    left = GAP
    for color, words in ((TRUTH, "truth"), (MARK, "mark"), (GRAIN, "calcification marked")):
        draw.line((left, 46, left + 18, 46), fill=color, width=3)
        draw.text((left + 24, 38), words, fill=QUIET, font_size=13)
        left += 44 + round(draw.textlength(words, font_size=13))
    for k, tile in enumerate(tiles):
        corner = (GAP + k % columns * (TILE + GAP), HEAD + k // columns * (TILE + CAPTION + GAP))
        page.paste(_drawn(tile, threshold), corner)
        draw.text((corner[0], corner[1] + TILE + 4), tile.image.truth.name, fill=INK, font_size=14)
        draw.text((corner[0], corner[1] + TILE + 21), tile.words, fill=QUIET, font_size=13)
    written = io.BytesIO()
    page.save(written, "PNG", optimize=True)
    return written.getvalue()


def _drawn(tile: _Tile, threshold: float) -> Canvas.Image:
    """The tile's part of the image with the truth, and the marks from the threshold on."""
    image = tile.image
    assert image.grey is not None  # only images that were read are shown
    half = max(LEAST_SIDE_MM / image.spacing_mm / 2, tile.reach_px * 1.25)
    left, top = (center - half for center in tile.center_px)
    zoom = TILE / (2 * half)
    box = (round(left), round(top), round(left + 2 * half), round(top + 2 * half))
    part = Canvas.fromarray(image.grey).crop(box)
    grey = np.asarray(part, np.float64)
    held = grey[grey > 0]
    low, high = np.percentile(held, [1, 99.8]) if held.size else (0.0, 255.0)
    shown = np.clip((grey - low) / max(high - low, 1.0) * 255, 0, 255).astype(np.uint8)
    canvas = Canvas.fromarray(shown).resize((TILE, TILE), Canvas.Resampling.BICUBIC).convert("RGB")
    draw = ImageDraw.Draw(canvas)

    def placed(point: tuple[float, float]) -> tuple[float, float]:
        return (point[0] - box[0]) * zoom, (point[1] - box[1]) * zoom

    for target in image.truth.targets:
        _circle(draw, placed(target.center_px), _shown_radius(target, image) * zoom, TRUTH)
    for mark in image.marks:
        if mark.finding.certainty >= threshold:
            outline = [placed(point) for point in _outline(mark.finding)]
            draw.line([*outline, outline[0]], fill=MARK, width=2)
            assert isinstance(mark.finding.region, Outline)  # as above
            for grain in mark.finding.region.marks:
                _circle(draw, placed(grain), max(3.0, 0.35 / image.spacing_mm * zoom), GRAIN, 1)
    return canvas


def _shown_radius(target: Target, image: Image) -> float:
    """The truth's own radius; that of hitting where it has none."""
    return target.radius_px or radius_px(target, image.spacing_mm)


def _circle(draw: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, color: str, width: int = 2) -> None:
    x, y = center
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=width)
