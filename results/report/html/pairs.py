"""The paired-difference plot: what every cluster says of a comparison, over zero and the margin band."""

from __future__ import annotations

from collections import defaultdict
from math import floor
from typing import TYPE_CHECKING

from ..bars import interval_of
from ..forest import ordered
from ..numbers import decimals_for, signed
from ..tables import cluster_word
from .axis import Axis, differences_axis, ground, scale_marks
from .forests import band_words, verdict_class
from .shapes import PlotGroup, PlotRow, PlotTable
from .svg import Markup, Real, block, diamond, dot, drawing, joined, line, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...outcome import ClusterDifference, Comparison

MOST_DOTS = 400
"""Clusters up to which each is a dot; more become a histogram."""
BINS = 90
"""Columns in which dots are stacked."""
TALL = 72
"""Pixels of one line."""
FOOT = 14
"""Pixels below the dots, for mean and interval."""
RADIUS = 2.4
"""Of a dot, in pixels."""
LEGEND = "Diamond and line: mean and 90 % interval. Shaded: the margin."
NOT_PAIRED = (
    "Nothing is paired here: every SAE has latents of its own, which have no counterpart in another one, so that there "
    "is no difference of single latents to draw."
)
"""What is said of a suite that samples latents."""


def pairs(comparisons: Sequence[Comparison]) -> PlotTable | None:
    """One line for each comparison that has paired clusters; None where none has."""
    shown = [c for c in ordered(comparisons) if _differences(c)]
    if not shown:
        return None
    ends = [x for c in shown for x in (*_differences(c), *(interval_of(c) or ()))]
    axis = differences_axis(ends, shown[0].margin)
    what = cluster_word(shown[0])
    many = any(len(_differences(c)) > MOST_DOTS for c in shown)
    legend = f"{f'Bars: number of {what}' if many else f'One dot for each of the {what}'}. {LEGEND}"
    rows = tuple(_row(comparison, axis) for comparison in shown)
    caption = f"Paired differences of the {what}, trained minus the arm"
    return PlotTable(caption, "trained minus", "difference", (), (PlotGroup(scale_marks(axis), rows),), legend)


def stacks(values: Sequence[float], axis: Axis, bins: int = BINS) -> dict[int, list[int]]:
    """Which values lie in each column of an axis.

    Args:
        values: Finite numbers; those beyond the axis are counted in its outermost column.
        axis: The axis.
        bins: Columns over its whole length.

    Returns:
        Indices into `values`, ascending by value, for each column that is not empty.
    """
    found: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(values)), key=lambda i: values[i]):
        inside = min(max(values[index], axis.low), axis.high)
        found[min(floor((inside - axis.low) / (axis.high - axis.low) * bins), bins - 1)].append(index)
    return dict(found)


def _differences(comparison: Comparison) -> list[float]:
    return [one.difference for one in _finite(comparison)]


def _finite(comparison: Comparison) -> list[ClusterDifference]:
    # A NaN is unequal to itself.
    return [one for one in comparison.clusters if abs(one.difference) < float("inf")]


def _row(comparison: Comparison, axis: Axis) -> PlotRow:
    clusters = _finite(comparison)
    ends = interval_of(comparison)
    drawn = _bars(clusters, axis) if len(clusters) > MOST_DOTS else _dots(clusters, axis, comparison.margin)
    title = f"trained minus {comparison.baseline}: {summary(comparison)}"
    how = f"Differences of single {cluster_word(comparison)} over zero and the {band_words(comparison.margin)}."
    plot = drawing(
        title,
        how,
        TALL,
        ground(axis, TALL, comparison.margin),
        drawn,
        _mean(ends, axis) if ends else Markup(""),
        class_=verdict_class(comparison.verdict),
    )
    tag_ = "required" if comparison.required else ""
    return PlotRow(comparison.baseline, plot, tag=tag_, below=summary(comparison))


def summary(comparison: Comparison) -> str:
    """How many clusters are above zero, and which lie farthest out."""
    clusters, decimals = sorted(_finite(comparison), key=lambda one: one.difference), decimals_for(comparison.margin)
    above = sum(one.difference > 0 for one in clusters)
    ends = "; ".join(
        f"{where} {signed(one.difference, decimals)} ({one.cluster})"
        for where, one in (("lowest", clusters[0]), ("highest", clusters[-1]))
    )
    return f"{above} of {len(clusters)} {cluster_word(comparison)} above zero; {ends}"


def _mean(ends: tuple[float, float, float], axis: Axis) -> Markup:
    lo, middle, hi = ends
    y = TALL - FOOT / 2
    return joined(line(axis.at(lo), y, axis.at(hi), y, "interval"), diamond(axis.at(middle), y, 5.5, "point"))


def _dots(clusters: Sequence[ClusterDifference], axis: Axis, margin: Real) -> Markup:
    columns = stacks([one.difference for one in clusters], axis)
    most, width = max(map(len, columns.values())), (axis.high - axis.low) / BINS
    room = TALL - FOOT - 2 * RADIUS - 4
    # Stacks that are too high for the line are pressed together: dots overlap, none is left out.
    rise = min(2 * RADIUS + 0.4, room / max(most - 1, 1))
    decimals = decimals_for(margin)
    return joined(
        *(
            dot(
                axis.at(axis.low + (at + 0.5) * width),
                TALL - FOOT - RADIUS - 2 - rise * height,
                RADIUS,
                "one",
                tag("title", f"{clusters[index].cluster}: {signed(clusters[index].difference, decimals)}"),
            )
            for at, column in sorted(columns.items())
            for height, index in enumerate(column)
        )
    )


def _bars(clusters: Sequence[ClusterDifference], axis: Axis) -> Markup:
    columns = stacks([one.difference for one in clusters], axis)
    most, width = max(map(len, columns.values())), (axis.high - axis.low) / BINS
    room = TALL - FOOT - 4
    return joined(
        *(
            block(
                axis.at(axis.low + column * width),
                TALL - FOOT - room * len(inside) / most,
                axis.at(axis.low + (column + 1) * width),
                room * len(inside) / most,
                "count",
                tag("title", f"{len(inside)} from {signed(axis.low + column * width, 4)}"),
            )
            for column, inside in sorted(columns.items())
        )
    )
