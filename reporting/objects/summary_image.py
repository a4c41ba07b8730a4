"""Secondary Capture summary (PS3.3, A.8.1): one page that says and shows the answer on any display, without a name."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from reporting import picture
from reporting.document import finish, identity, stand_in
from reporting.narrative.narrative import Narrative
from reporting.picture import AMBER, BLACK, DIM, GREY, WHITE, text
from reporting.source import ReportCase, body_part

WIDTH, HEIGHT = 1200, 900
MAIN = 680
STRIP_TOP, STRIP_SIDE, STRIP_COLUMNS, STRIP_ROWS = 110, 152, 3, 3
RIGHT = MAIN + 44
PLOT = (RIGHT + 10, 660, WIDTH - 20, 770)
FOOTER, LINE = 802, 22
FINDING_LINES, WARNING_LINES = 2, 4
PLATE_COLORS = {"finding": AMBER, "clean": (86, 180, 233), "unsure": (204, 121, 167)}


class SummaryImage:
    """The key slice outlined, a strip of slices, the score of every slice, and the answer in words."""

    kind = "summary_image"
    sop_class_uid = SecondaryCaptureImageStorage
    series_number = 9804

    def build(self, case: ReportCase, narrative: Narrative) -> Dataset | None:
        source = stand_in(case, 0)
        dataset = hd.sc.SCImage(
            **identity(case, self.kind, self.series_number),
            pixel_array=np.asarray(draw_summary(case, narrative)),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "P"),
            study_instance_uid=source.StudyInstanceUID,
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
        # A page of several slices has no orientation of its own; the letters are in the picture.
        dataset.PatientOrientation = []
        dataset.ConversionType = "WSD"
        dataset.BurnedInAnnotation = "NO"
        dataset.BodyPartExamined = body_part(case)
        dataset.ImageComments = narrative.impression(case.outcome, case.looked_for)
        finish(dataset, case, narrative.term("summary"), narrative)
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
        return dataset


OBJECT = SummaryImage()


def draw_summary(case: ReportCase, narrative: Narrative) -> Image.Image:
    """The page, RGB, 1200 x 900."""
    page = Image.new("RGB", (WIDTH, HEIGHT), BLACK)
    draw = ImageDraw.Draw(page)
    key = picture.key_slice(case)
    slices = strip(case, key)
    box = picture.body_box(case, (key, *slices))
    _headline(draw, case, narrative)
    page.paste(picture.slice_panel(case, key, box, MAIN, marked=True), (0, STRIP_TOP))
    words = narrative.key_slice if case.outcome.findings else narrative.highest_slice
    text(draw, (24, STRIP_TOP + MAIN + 4), f"{words}: {picture.caption(case, key)}", 15, color=GREY)
    for place, k in enumerate(slices):
        x = RIGHT + place % STRIP_COLUMNS * (STRIP_SIDE + 4)
        y = STRIP_TOP + place // STRIP_COLUMNS * (STRIP_SIDE + 24)
        page.paste(picture.slice_panel(case, k, box, STRIP_SIDE, marked=False), (x, y))
        if k == key:
            draw.rectangle((x - 1, y - 1, x + STRIP_SIDE, y + STRIP_SIDE), outline=WHITE)
        text(draw, (x + STRIP_SIDE / 2, y + STRIP_SIDE + 2), picture.caption(case, k), 13, color=GREY, anchor="ma")
    _plot(draw, case, narrative, key)
    _footer(draw, case, narrative)
    return page


def strip(case: ReportCase, key: int) -> list[int]:
    """The slices of the strip, in order: those with findings and their neighbours, else all of the stack, thinned out.

    Where there are more than there are places, they are taken at even steps; the key slice is always among them.
    """
    places, last = STRIP_COLUMNS * STRIP_ROWS, len(case.planes) - 1
    held = {k for k in range(last + 1) if picture.masks_on(case, k)}
    wanted = sorted({n for k in held for n in (k - 1, k, k + 1) if 0 <= n <= last}) or list(range(last + 1))
    if len(wanted) <= places:
        return wanted
    chosen = [wanted[round(step)] for step in np.linspace(0, len(wanted) - 1, places)]
    if key in wanted and key not in chosen:
        chosen[int(np.argmin([abs(k - key) for k in chosen]))] = key
    return chosen


def _headline(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative) -> None:
    draw.rectangle((0, 0, 10, 94), fill=PLATE_COLORS[case.outcome.status])
    impression = narrative.impression(case.outcome, case.looked_for)
    _fitted(draw, (24, 8), impression, (32, 28, 24, 20))
    findings = [narrative.finding(number, finding) for number, finding in enumerate(case.outcome.findings, start=1)]
    for line, words in enumerate(shortened(findings, FINDING_LINES, narrative)):
        _fitted(draw, (24, 50 + 24 * line), words, (18, 16, 14, 12))


def _plot(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative, key: int) -> None:
    """A bar for each slice; those that hold findings amber, the key slice marked from below."""
    left, top, right, bottom = PLOT
    text(draw, (left, top - 22), narrative.score_by_slice, 14, color=GREY)
    draw.line([(left, top), (right, top)], fill=DIM)
    draw.line([(left, bottom), (right, bottom)], fill=GREY)
    text(draw, (left - 6, top), "1", 12, color=GREY, anchor="rm")
    text(draw, (left - 6, bottom), "0", 12, color=GREY, anchor="rm")
    scores = case.outcome.score_by_slice
    step = (right - left) / max(1, len(scores))
    for k, score in enumerate(scores):
        x = left + k * step
        color = AMBER if picture.masks_on(case, k) else GREY
        draw.rectangle((x, bottom - score * (bottom - top), x + max(1.0, step - 1), bottom), fill=color)
    x = left + (key + 0.5) * step
    draw.polygon([(x - 6, bottom + 14), (x + 6, bottom + 14), (x, bottom + 4)], fill=WHITE)
    text(draw, (left, bottom + 4), "1", 12, color=GREY)
    text(draw, (right, bottom + 4), str(len(case.planes)), 12, color=GREY, anchor="ra")


def shortened(lines: Sequence[str], places: int, narrative: Narrative) -> list[str]:
    """The lines if they fit the places, else those that do and how many more the report holds."""
    if len(lines) <= places:
        return list(lines)
    return [*lines[: places - 1], narrative.more.format(len(lines) - places + 1)]


def _footer(draw: ImageDraw.ImageDraw, case: ReportCase, narrative: Narrative) -> None:
    software = f"{case.equipment.model_name} {case.equipment.software_version}"
    provenance = f"{narrative.provenance(case.model, software)}  {case.made_at:%Y-%m-%d %H:%M} UTC"
    text(draw, (24, FOOTER + 1.5 * LINE), provenance, 15, color=GREY)
    text(draw, (24, FOOTER + 2.5 * LINE), narrative.disclaimer, 17)
    warnings = shortened([narrative.reason(w) for w in case.outcome.warnings], WARNING_LINES, narrative)
    for line, words in enumerate(warnings):
        _fitted(draw, (RIGHT, FOOTER + LINE * line), words, (15, 14, 13, 12, 11, 10), color=AMBER)


def _fitted(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    words: str,
    sizes: Sequence[int],
    *,
    color: tuple[int, int, int] = WHITE,
) -> None:
    """Words in the largest of the sizes in which they fit the page, or in the smallest."""
    fitting = (size for size in sizes if draw.textlength(words, font=picture.font(size)) <= WIDTH - at[0] - 16)
    text(draw, at, words, next(fitting, sizes[-1]), color=color)
