"""Pictures of figures. matplotlib is loaded only here, and only when something is drawn; no display is needed."""

from __future__ import annotations

import io
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from models.evaluation.froc import GRID, SEVEN_POINTS, FrocCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, RULE, LINE, BAND = "#1f2933", "#5b6774", "#d9dfe5", "#0b6e99", "#cfe3ec"
PER_SCAN_WORDS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
FULL, EMPTY = 0.95, 0.1
"""Above the first there is no room for labels over the band, below the second none under it."""
TITLE_LENGTH = 60


def froc_picture(curve: FrocCurve, title: str) -> bytes:
    """The FROC curve from 1/8 to 8 false positives per scan as a PNG: band of the 95 % interval, the seven points with
    their sensitivities, and CPM below the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.2, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _frame(axes)
    _curve(axes, curve)
    heading = shorten(title, TITLE_LENGTH, placeholder="…")
    _words(axes, heading, above=25, fontsize=13, color=INK, fontweight="bold")
    _words(axes, _summary(curve), above=9, fontsize=9.5, color=QUIET)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _frame(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(SEVEN_POINTS[0] / 1.25, SEVEN_POINTS[-1] * 1.25)
    axes.set_xticks(SEVEN_POINTS, PER_SCAN_WORDS)
    axes.set_ylim(0, 1.02)
    axes.set_yticks([tenth / 10 for tenth in range(0, 11, 2)])
    axes.set_xlabel("False positives per scan", color=INK, labelpad=8)
    axes.set_ylabel("Sensitivity", color=INK, labelpad=8)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=INK, length=3)


def _curve(axes: Axes, curve: FrocCurve) -> None:
    low, high = (curve.on_grid, curve.on_grid) if curve.band is None else curve.band
    axes.fill_between(GRID, low, high, color=BAND, linewidth=0)
    axes.plot(GRID, curve.on_grid, color=LINE, linewidth=2, clip_on=False, zorder=3)
    axes.plot(
        SEVEN_POINTS,
        curve.at_seven,
        "o",
        color=LINE,
        markersize=6.5,
        markeredgecolor="white",
        clip_on=False,
        zorder=4,
    )
    step = (GRID.size - 1) // (len(SEVEN_POINTS) - 1)
    for x, y, foot, head in zip(SEVEN_POINTS, curve.at_seven, low[::step], high[::step], strict=True):
        below = high[-1] > FULL and foot > EMPTY
        axes.annotate(
            f"{y:.3f}",
            (x, foot if below else head),
            xytext=(0, -9 if below else 9),
            textcoords="offset points",
            ha="center",
            va="top" if below else "bottom",
            fontsize=9,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )


def _words(axes: Axes, words: str, *, above: float, **style: Any) -> None:
    """A line of words over the upper left corner, `above` points above it."""
    axes.annotate(
        words, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", parse_math=False, **style
    )


def _summary(curve: FrocCurve) -> str:
    counts = curve.counts
    told = f"CPM {curve.cpm:.3f}"
    if curve.cpm_interval is not None:
        told += f" ({curve.cpm_interval[0]:.3f} to {curve.cpm_interval[1]:.3f}; shaded: 95 % interval)"
    return f"{told} · {counts.nodules:,} nodules, {counts.scans:,} scans, {counts.marks:,} marks"
