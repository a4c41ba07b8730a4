"""What every summary page has: its size, the answer on top, and at the bottom by what, of what quality, and remarks."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import ImageDraw

from reporting import picture
from reporting.narrative.narrative import Narrative
from reporting.picture import AMBER, GREY, WHITE, text
from reporting.source import ReportCase

WIDTH, HEIGHT = 1200, 900
MIDDLE = 724
FOOTER, LINE = 802, 22
SUBTITLE_LINES, WARNING_LINES = 2, 4
PLATE_COLORS = {"finding": AMBER, "clean": (86, 180, 233), "unsure": (204, 121, 167)}


def headline(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative, subtitles: Sequence[str]) -> None:
    """The answer in one line, beside the color of its status, and lines under it."""
    draw.rectangle((0, 0, 10, 94), fill=PLATE_COLORS[case.outcome.status])
    impression = narrative.impression(case.outcome, case.looked_for)
    fitted(draw, (24, 8), impression, (32, 28, 24, 20))
    for line, words in enumerate(shortened(subtitles, SUBTITLE_LINES, narrative)):
        fitted(draw, (24, 50 + 24 * line), words, (18, 16, 14, 12))


def footer(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative, besides: Sequence[str] = ()) -> None:
    """Model, software, time and disclaimer; beside them the warnings and what the page has no place for."""
    software = f"{case.equipment.model_name} {case.equipment.software_version}"
    provenance = f"{narrative.provenance(case.model, software)}  {case.made_at:%Y-%m-%d %H:%M} UTC"
    text(draw, (24, FOOTER + 1.5 * LINE), provenance, 15, color=GREY)
    text(draw, (24, FOOTER + 2.5 * LINE), narrative.disclaimer, 17)
    remarks = [*(narrative.reason(warning) for warning in case.outcome.warnings), *besides]
    warnings = shortened(remarks, WARNING_LINES, narrative)
    for line, words in enumerate(warnings):
        fitted(draw, (MIDDLE, FOOTER + LINE * line), words, (15, 14, 13, 12, 11, 10), color=AMBER)


def shortened(lines: Sequence[str], places: int, narrative: Narrative) -> list[str]:
    """The lines if they fit the places, else those that do and how many more the report holds."""
    if len(lines) <= places:
        return list(lines)
    return [*lines[: places - 1], narrative.more.format(len(lines) - places + 1)]


def fitted(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    words: str,
    sizes: Sequence[int],
    *,
    color: tuple[int, int, int] = WHITE,
    right: float = WIDTH - 16,
) -> None:
    """Words in the largest of the sizes in which they end before `right`, or in the smallest."""
    fitting = (size for size in sizes if draw.textlength(words, font=picture.font(size)) <= right - at[0])
    text(draw, at, words, next(fitting, sizes[-1]), color=color)
