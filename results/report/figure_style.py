"""How figures look: one colour, marker and dash for each arm, and the few marks that figures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .look import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes

DPI = 200
"""Dots per inch of a PNG."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F00", "#5D3A9B")
"""Okabe and Ito's palette (2008), told apart by colour-blind readers; yellow left out, too faint on white."""

MARKERS = "osD^vP*X"
"""One shape for each colour, so that print without colour can be read as well."""

REFERENCE = "#555555"
"""Colour of references."""

REFERENCE_LINES = {"@oracle": (0, (5.0, 2.0)), "@chance": (0, (1.0, 1.5)), "@mean_direction": (0, (5.0, 2.0, 1.0, 2.0))}
"""Dashes of references."""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    # Ids of an SVG are random otherwise: the same numbers must make the same bytes.
    "svg.hashsalt": "sae-sanity",
}
"""Settings that hold while a figure is made and written, and no longer."""


@dataclass(frozen=True)
class Style:
    """How one arm is drawn in every figure."""

    colour: str
    """Colour of line and marker."""
    marker: str
    """Shape of points; empty for a reference."""
    dashes: str | tuple[int, tuple[float, ...]]
    """Dashes of the line."""
    width: float
    """Width of the line in points."""


def style_of(arm: str, arms: Sequence[str]) -> Style:
    """Colour, marker and dashes of one arm: by its place among the arms, references in grey.

    Args:
        arm: Name of the arm.
        arms: All arms of the figure, in their order.
    """
    if arm.startswith("@"):
        return Style(REFERENCE, "", REFERENCE_LINES.get(arm, "-"), 1.2)
    place = [name for name in arms if not name.startswith("@")].index(arm)
    # Other dashes keep arms apart beyond the number of colours.
    dashes = "-" if place < len(COLOURS) else (0, (3.0, float(place // len(COLOURS))))
    return Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], dashes, 2.0 if place == 0 else 1.3)


def styled() -> AbstractContextManager[None]:
    """The settings of `STYLE` for as long as the context lasts."""
    return mpl.rc_context(STYLE)  # pyright: ignore[reportArgumentType]  # settings are literal types, a dict is not


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches that draws itself without a window."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def label(arm: str) -> str:
    """A name as it is: a dollar sign in it is no formula."""
    return visible(arm).replace("$", r"\$")


def draw_point(axis: Axes, row: int, ends: tuple[float, float | None, float | None], style: Style) -> None:
    """A point with its interval, lying, in one row."""
    value, lo, hi = ends
    if lo is not None and hi is not None:
        axis.plot([lo, hi], [row, row], color=style.colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
        for end in (lo, hi):
            axis.plot([end, end], [row - 0.14, row + 0.14], color=style.colour, linewidth=1.2, zorder=3)
    axis.plot(
        [value],
        [row],
        color=style.colour,
        marker=style.marker or "|",
        markersize=5 if style.marker else 9,
        zorder=4,
        clip_on=False,
    )
