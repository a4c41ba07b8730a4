"""Secondary Capture summary (PS3.3, A.8.1): one page that says and shows the answer on any display, without a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import highdicom as hd
import numpy as np
from PIL import Image, ImageDraw
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from pipelines import codes
from pipelines.codes import Code
from reporting import picture
from reporting.closeups import draw_closeups
from reporting.document import finish, identity, stand_in
from reporting.hanging import draw_views
from reporting.narrative.narrative import Narrative
from reporting.page import HEIGHT, MIDDLE, WIDTH, footer, headline
from reporting.picture import AMBER, BLACK, DIM, GREY, WHITE, text
from reporting.source import ReportCase, body_part

MAIN = 680
STRIP_TOP, STRIP_SIDE, STRIP_COLUMNS, STRIP_ROWS = 110, 152, 3, 3
PLOT = (MIDDLE + 10, 660, WIDTH - 20, 770)
Page = Callable[[ReportCase, Narrative], Image.Image]


class SummaryImage:
    """The answer in words, and slices with what was found outlined."""

    kind = "summary_image"
    sop_class_uid = SecondaryCaptureImageStorage
    series_number = 9804

    def build(self, case: ReportCase, narrative: Narrative) -> tuple[Dataset, ...]:
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
        if case.study is not None:
            # A breast is one of a pair: its side has to be told, here of an image of the series (PS3.3, C.7.3.1).
            sides = sorted({view.laterality for view in case.study.views})
            dataset.ImageLaterality = sides[0] if len(sides) == 1 else "B"
        dataset.ImageComments = narrative.impression(case.outcome, case.looked_for)
        finish(dataset, case, narrative.term("summary"), narrative)
        dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = dataset.ContentDate, dataset.ContentTime
        return (dataset,)


OBJECT = SummaryImage()


def draw_summary(case: ReportCase, narrative: Narrative) -> Image.Image:
    """The page, RGB, 1200 x 900, in the layout that suits what was looked for."""
    return LAYOUTS.get(case.looked_for, draw_slices)(case, narrative)


def draw_slices(case: ReportCase, narrative: Narrative) -> Image.Image:
    """For what is one disease however many places it is in: the key slice, a strip of slices and their scores."""
    page = Image.new("RGB", (WIDTH, HEIGHT), BLACK)
    draw = ImageDraw.Draw(page)
    key = picture.key_slice(case)
    slices = strip(case, key)
    box = picture.body_box(case, (key, *slices))
    findings = [narrative.finding(number, finding) for number, finding in enumerate(case.outcome.findings, start=1)]
    headline(draw, case, narrative, findings)
    page.paste(picture.slice_panel(case, key, box, MAIN, marked=True), (0, STRIP_TOP))
    words = narrative.key_slice if case.outcome.findings else narrative.highest_slice
    text(draw, (24, STRIP_TOP + MAIN + 4), f"{words}: {picture.caption(case, key)}", 15, color=GREY)
    for place, k in enumerate(slices):
        x = MIDDLE + place % STRIP_COLUMNS * (STRIP_SIDE + 4)
        y = STRIP_TOP + place // STRIP_COLUMNS * (STRIP_SIDE + 24)
        page.paste(picture.slice_panel(case, k, box, STRIP_SIDE, marked=False), (x, y))
        if k == key:
            draw.rectangle((x - 1, y - 1, x + STRIP_SIDE, y + STRIP_SIDE), outline=WHITE)
        text(draw, (x + STRIP_SIDE / 2, y + STRIP_SIDE + 2), picture.caption(case, k), 13, color=GREY, anchor="ma")
    _plot(draw, case, narrative, key)
    footer(draw, case, narrative)
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


LAYOUTS: Mapping[Code, Page] = {codes.NODULE: draw_closeups, codes.CALCIFICATION_CLUSTER: draw_views}
"""Of what is found singly and many times in a study: each by itself, and all in their places."""
