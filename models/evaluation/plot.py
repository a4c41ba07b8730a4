"""Pictures of figures. matplotlib is loaded only here, and only when something is drawn; no display is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np

from models.evaluation.free_response import Floats
from models.evaluation.froc import GRID, SEVEN_POINTS, FrocCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, RULE, LINE, BAND = "#1f2933", "#5b6774", "#d9dfe5", "#0b6e99", "#cfe3ec"
PER_SCAN_WORDS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
FULL, EMPTY = 0.95, 0.1
"""Above the first there is no room for labels over the band, below the second none under it."""
WIDE = 0.2
"""Over a band that is wider than this a label stands at its dot, not at the band's edge."""
TITLE_LENGTH = 60


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """A curve of sensitivity over false marks, both ends of `grid` being the first and last of `points`.

    `band` [2, grid] is its interval, None without one. At `points`, which are named by `words`, dots and their values
    are drawn. `other` is a second, thin line of the same length with its name.
    """

    grid: Floats
    sensitivity: Floats
    band: Floats | None
    points: Sequence[float]
    words: Sequence[str]
    x_label: str
    title: str
    summary: str
    name: str | None = None
    other: tuple[str, Floats] | None = None


def froc_picture(curve: FrocCurve, title: str) -> bytes:
    """The FROC curve from 1/8 to 8 false positives per scan as a PNG: band of the 95 % interval, the seven points with
    their sensitivities, and CPM below the title.
    """
    return picture(
        Plot(
            GRID,
            curve.on_grid,
            curve.band,
            SEVEN_POINTS,
            PER_SCAN_WORDS,
            "False positives per scan",
            title,
            _summary(curve),
        )
    )


def picture(plot: Plot) -> bytes:
    """The curve as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to load
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.2, 5.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _frame(axes, plot)
    _curve(axes, plot)
    heading = shorten(plot.title, TITLE_LENGTH, placeholder="…")
    _words(axes, heading, above=25, fontsize=13, color=INK, fontweight="bold")
    _words(axes, plot.summary, above=9, fontsize=9.5, color=QUIET)
    written = io.BytesIO()
    figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _frame(axes: Axes, plot: Plot) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(plot.points[0] / 1.25, plot.points[-1] * 1.25)
    axes.set_xticks(plot.points, plot.words)
    axes.minorticks_off()
    axes.set_ylim(0, 1.02)
    axes.set_yticks([tenth / 10 for tenth in range(0, 11, 2)])
    axes.set_xlabel(plot.x_label, color=INK, labelpad=8)
    axes.set_ylabel("Sensitivity", color=INK, labelpad=8)
    axes.grid(color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.tick_params(colors=INK, length=3)


def _curve(axes: Axes, plot: Plot) -> None:
    low, high = (plot.sensitivity, plot.sensitivity) if plot.band is None else plot.band
    axes.fill_between(plot.grid, low, high, color=BAND, linewidth=0)
    axes.plot(plot.grid, plot.sensitivity, color=LINE, linewidth=2, clip_on=False, zorder=3, label=plot.name)
    if plot.other is not None:
        name, values = plot.other
        axes.plot(plot.grid, values, color=QUIET, linewidth=1.2, linestyle=(0, (4, 2)), zorder=2, label=name)
        axes.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    at_points, feet, heads = (np.interp(plot.points, plot.grid, values) for values in (plot.sensitivity, low, high))
    axes.plot(
        plot.points,
        at_points,
        "o",
        color=LINE,
        markersize=6.5,
        markeredgecolor="white",
        clip_on=False,
        zorder=4,
    )
    for x, y, foot, head in zip(plot.points, at_points, feet, heads, strict=True):
        is_wide = head - foot > WIDE
        below = high[-1] > FULL and foot > EMPTY and not is_wide
        axes.annotate(
            f"{y:.3f}",
            (x, y if is_wide else foot if below else head),
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
