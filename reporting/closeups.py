"""The page for what is small and found many times: close-ups, a whole slice, all places from in front, a list."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipelines import codes
from pipelines.findings import Finding, Outcome, Region
from pipelines.geometry import Plane
from reporting import picture
from reporting.frontal import Frontal, seen_from_in_front
from reporting.narrative.narrative import Narrative
from reporting.page import HEIGHT, WIDTH, fitted, footer, headline
from reporting.picture import AMBER, BLACK, DIM, GREY, WHITE, Box, text
from reporting.source import ReportCase

LEFT, TOP, GAP = 24, 104, 12
LARGE = 392
LIST = LEFT + 2 * (LARGE + GAP) + 2
LIST_LINE = 19
LIGHT = (205, 205, 205)
TILES, TILE, TILES_TOP = 6, 182, 526
CAPTION_LINE = 15
CLOSE_MM = 50.0
SPREAD = 1.6
"""How much wider than the finding itself a close-up is at least."""
BOX_SLICES = 7
SOFT = 0.85
"""White of the view from in front, so that marks on it can be read."""


def draw_closeups(case: ReportCase, narrative: Narrative) -> Image.Image:
    """The page, RGB, 1200 x 900. The first finding's slice is shown whole; where nothing was found, many slices are."""
    page = Image.new("RGB", (WIDTH, HEIGHT), BLACK)
    draw = ImageDraw.Draw(page)
    findings = case.outcome.findings
    headline(draw, case, narrative, narrative.assessed(case.outcome, case.looked_for, case.suggested))
    key = picture.key_slice(case)
    even = evenly(range(len(case.planes)), BOX_SLICES)
    box = picture.body_box(case, (key, *even))
    left = LEFT if findings else (WIDTH - 2 * LARGE - GAP) // 2
    page.paste(picture.slice_panel(case, key, box, LARGE, marked=True, upright=True), (left, TOP))
    page.paste(overview(case, box, key), (left + LARGE + GAP, TOP))
    text(draw, (left, TOP + LARGE + 3), picture.caption(case, key), 14, color=GREY)
    text(draw, (left + LARGE + GAP, TOP + LARGE + 3), narrative.from_in_front, 14, color=GREY)
    if findings:
        _list(draw, case, narrative)
    for place, (number, k) in enumerate(tiles(case)):
        _tile(page, case, narrative, place=place, number=number, k=k, body=box)
    footer(draw, case, narrative)
    return page


def tiles(case: ReportCase) -> list[tuple[int, int]]:
    """What the row shows: numbers of findings (from 1; 0 is none) and slices.

    Many findings get their key slice each, few of them several slices through each, none the whole stack thinned out.
    """
    findings = case.outcome.findings
    if not findings:
        last = len(case.planes) - 1
        return [(0, k) for k in evenly(range(last + 1), TILES + 2)[1:-1] or [last // 2]]
    each = TILES // min(TILES, len(findings))
    return [
        (number, k)
        for number, finding in enumerate(findings[:TILES], start=1)
        for k in _slices_through(case, finding, each)
    ]


def evenly(slices: Sequence[int], places: int) -> list[int]:
    """At most so many of the slices, at even steps, the first and the last among them."""
    steps = np.linspace(0, len(slices) - 1, min(places, len(slices)))
    return [slices[round(float(step))] for step in steps]


def overview(case: ReportCase, box: Box, key: int) -> Image.Image:
    """The chest from in front, a ring and a number at each finding's place, a tick at the height of slice `key`."""
    frontal = seen_from_in_front(case, box, LARGE)
    panel = Image.new("RGB", (LARGE, LARGE), BLACK)
    height, width = frontal.grey.shape
    corner = ((LARGE - width) // 2, (LARGE - height) // 2)
    panel.paste(Image.fromarray((frontal.grey * SOFT).astype(np.uint8)), corner)
    draw = ImageDraw.Draw(panel)
    y = corner[1] + frontal.place(case.planes[key].origin)[1]
    for x in (corner[0], corner[0] + width - 14):
        draw.line([(x, y), (x + 14, y)], fill=WHITE, width=2)
    _mark_places(draw, case.outcome.findings, frontal, corner)
    picture.mark_sides(panel, frontal.across, -frontal.up)
    picture.draw_scale(panel, 1 / frontal.pixel_mm)
    return panel


def _mark_places(
    draw: ImageDraw.ImageDraw, findings: Sequence[Finding], frontal: Frontal, corner: tuple[int, int]
) -> None:
    """A ring of the finding's size, its number beside it where none stands yet."""
    taken: list[tuple[float, float]] = []
    for number, finding in enumerate(findings, start=1):
        if finding.center_mm is None:
            continue
        column, row = frontal.place(finding.center_mm)
        x, y = corner[0] + column, corner[1] + row
        radius = max(4.0, (finding.measured("long_axis_mm") or 0.0) / 2 / frontal.pixel_mm)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=AMBER, width=2)
        away = radius + 10
        around = [
            (x + step * away * dx, y + step * away * dy)
            for step in (1, 2)
            for dx, dy in ((1, 0), (-1, 0), (0, -1), (0, 1), (0.8, -0.8), (-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))
        ]
        at = next((one for one in around if all(np.hypot(*np.subtract(one, other)) > 17 for other in taken)), around[0])
        taken += [at, (x, y)]
        text(draw, at, str(number), 16, color=AMBER, anchor="mm")


def _list(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative) -> None:
    """Few findings in full, many in a line each; those that find no room are counted."""
    findings, places = case.outcome.findings, LARGE // LIST_LINE
    told = [_told(draw, finding, narrative, case.outcome, places // len(findings)) for finding in findings]
    if sum(map(len, told)) + 2 * len(told) - 1 > places:
        told = [[] for _ in findings]
    line = 0
    for number, finding in enumerate(findings, start=1):
        if line == places - 1 and number < len(findings):
            left_out = narrative.more.format(len(findings) - number + 1)
            text(draw, (LIST + 24, TOP + line * LIST_LINE), left_out, 14, color=GREY)
            break
        _row(draw, TOP + line * LIST_LINE, number, finding, narrative)
        for words in told[number - 1]:
            line += 1
            text(draw, (LIST + 24, TOP + line * LIST_LINE), words, 14, color=LIGHT)
        line += 2 if told[number - 1] else 1


def _row(draw: ImageDraw.ImageDraw, y: int, number: int, finding: Finding, narrative: Narrative) -> None:
    """Number, place, size and suggestion of one finding."""
    third = narrative.answer(finding, codes.LUNG_THIRD)
    side = "" if finding.side is None else narrative.sides[finding.side]
    text(draw, (LIST + 16, y), str(number), 14, color=AMBER, anchor="ra")
    text(draw, (LIST + 24, y), ", ".join(part for part in (side, third) if part), 14)
    text(draw, (LIST + 142, y), narrative.axes_of(finding), 14)
    category = finding.attributes.get(codes.LUNG_RADS)
    if category is not None:
        text(draw, (WIDTH - LEFT, y), narrative.term(category.meaning), 14, anchor="ra")


def _told(
    draw: ImageDraw.ImageDraw, finding: Finding, narrative: Narrative, outcome: Outcome, places: int
) -> list[str]:
    """All that is told of a finding: a line for each part if there are places for them, else running on."""
    parts = narrative.particulars(finding, outcome.compared_with)
    if len(parts) + 2 <= places:
        return parts
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if draw.textlength(longer, font=picture.font(14)) <= WIDTH - LEFT - LIST - 24:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _tile(
    page: Image.Image, case: ReportCase, narrative: Narrative, *, place: int, number: int, k: int, body: Box
) -> None:
    """One close-up with its caption, or, without a finding, one whole slice."""
    draw, x = ImageDraw.Draw(page), LEFT + place * (TILE + GAP)
    finding = case.outcome.findings[number - 1] if number else None
    box = body if finding is None else _close(case, finding)
    panel = picture.slice_panel(case, k, box, TILE, marked=False, upright=True)
    if finding is not None:
        text(ImageDraw.Draw(panel), (6, 2), str(number), 20, color=AMBER)
        picture.draw_scale(panel, TILE / _width_mm(case.planes[k], box), 10.0)
    page.paste(panel, (x, TILES_TOP))
    lines = [picture.caption(case, k)]
    if finding is not None and k == _key_of(case, finding):
        draw.rectangle((x - 1, TILES_TOP - 1, x + TILE, TILES_TOP + TILE), outline=DIM)
        lines = [line for line in _caption(finding, narrative) if line]
    for line, words in enumerate(lines):
        color = WHITE if len(lines) > 1 else GREY
        at = (x, TILES_TOP + TILE + 3 + line * CAPTION_LINE)
        fitted(draw, at, words, (13, 12, 11, 10), color=color, right=x + TILE + GAP - 4)


def _caption(finding: Finding, narrative: Narrative) -> tuple[str, ...]:
    """Kind, size, volume, suggestion, change."""
    kind = (narrative.character(finding), narrative.volume(finding))
    return (
        ", ".join(part for part in kind if part),
        narrative.size(finding, short=True),
        narrative.category(finding),
        narrative.change(finding, None),
        narrative.doubling(finding),
    )


def _key_of(case: ReportCase, finding: Finding) -> int:
    """The slice that shows a finding best."""
    named = (
        k
        for k, (header, frame) in enumerate(zip(case.headers, case.frames, strict=True))
        if (str(header.SOPInstanceUID), frame) == (finding.key_instance_uid, finding.key_frame)
    )
    return next(named, picture.key_slice(case))


def _slices_through(case: ReportCase, finding: Finding, places: int) -> list[int]:
    """The key slice, or so many slices from before the finding to behind it, the key slice among them."""
    key = _key_of(case, finding)
    if places == 1 or not isinstance(finding.region, Region) or not finding.region.slice_index:
        return [key]
    first, last = finding.region.slice_index[0] - 1, finding.region.slice_index[-1] + 1
    chosen = evenly(range(max(0, first), min(len(case.planes), last + 1)), places)
    if key not in chosen:
        chosen[int(np.argmin([abs(k - key) for k in chosen]))] = key
    return chosen


def _close(case: ReportCase, finding: Finding) -> Box:
    """Rows and columns of about 5 cm around a finding on its key slice, more where it is larger."""
    k = _key_of(case, finding)
    plane, (height, width) = case.planes[k], case.pixels.shape[1:]
    number = case.outcome.findings.index(finding) + 1
    mask = picture.masks_on(case, k).get(number)
    if mask is None or not mask.any():
        return 0, 0, height, width
    rows, columns = np.nonzero(mask)
    across_mm = max(np.ptp(rows) * plane.row_spacing_mm, np.ptp(columns) * plane.column_spacing_mm)
    side_mm = max(CLOSE_MM, SPREAD * float(across_mm))
    top, bottom = _span(float(rows.min() + rows.max()) / 2, side_mm / plane.row_spacing_mm, height)
    left, right = _span(float(columns.min() + columns.max()) / 2, side_mm / plane.column_spacing_mm, width)
    return top, left, bottom, right


def _span(middle: float, length: float, end: int) -> tuple[int, int]:
    """So many pixels around `middle`, moved into the image at its edges."""
    size = min(end, max(1, round(length)))
    first = int(np.clip(round(middle - size / 2), 0, end - size))
    return first, first + size


def _width_mm(plane: Plane, box: Box) -> float:
    """The longer side of a box, which fills the panel."""
    return max((box[2] - box[0]) * plane.row_spacing_mm, (box[3] - box[1]) * plane.column_spacing_mm)
