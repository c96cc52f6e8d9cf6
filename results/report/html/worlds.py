"""What the synthetic suite shows beside its verdict: recovery by firing rate, cosines, explained variance."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import TYPE_CHECKING

from ..columns import Column
from ..numbers import known, number
from ..synthetic import code_columns, dictionary_columns, share
from .arms import as_table
from .axis import Axis, arrows, ground, scale_marks
from .shapes import DataTable, PlotGroup, PlotRow, PlotTable
from .svg import Markup, block, dot, drawing, joined, line, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...synthetic_detail import Curve, Histogram, RateBin, SyntheticDetail, WorldScore

TALL = 44
"""Pixels of a line of heights."""
LOW = 28
"""Pixels of a line with a point."""
UNIT = Axis(0.0, 1.0)
"""From nothing to all."""


def world_words(detail: SyntheticDetail) -> str:
    """The worlds in one sentence."""
    worlds = f"{detail.n_worlds} {detail.world} world{'s' if detail.n_worlds != 1 else ''}"
    return (
        f"{worlds}: {detail.n_features:,} true features in {detail.d_in} dimensions, {detail.true_l0:.4g} active at a "
        "time."
    )


def world_plots(detail: SyntheticDetail) -> tuple[PlotTable, ...]:
    """Recovery, cosines and explained variance, those of them that there are."""
    made = recovery(detail), cosines(detail), explained(detail)
    return tuple(plot for plot in made if plot is not None)


def world_tables(detail: SyntheticDetail) -> tuple[DataTable, ...]:
    """All numbers of all arms."""
    if not detail.scores:
        return _recovery_table(detail.curves)
    dictionaries = "The dictionaries: true features with any latent, or with their own (one-to-one), at that cosine"
    return (
        *_recovery_table(detail.curves),
        as_table(dictionary_columns(detail.scores), dictionaries),
        as_table(code_columns(detail.scores), "The codes: firing of each feature's own latent, sparsity"),
    )


def recovery(detail: SyntheticDetail) -> PlotTable | None:
    """Share of true features that each arm finds, by how often they fire; on one scale where they all fire alike."""
    if not detail.curves or not detail.curves[0].bins:
        return None
    bins = detail.curves[0].bins
    one = len(bins) == 1
    axis = UNIT if one else Axis(log10(min(b.low for b in bins)), log10(max(b.high for b in bins)))
    scores = {score.arm: score for score in detail.scores}
    rows = tuple(_curve_row(curve, axis, scores.get(curve.arm)) for curve in detail.curves)
    decades = () if one else tuple((float(e), f"1e{e}") for e in range(ceil(axis.low), floor(axis.high) + 1))
    return PlotTable(
        caption="Recovered: true features with a latent at a cosine above .8",
        name="arm",
        plot="share recovered" if one else "by firing rate",
        headings=("any latent", "own latent"),
        groups=(PlotGroup(scale_marks(axis, decades), rows),),
        legend="All features fire equally often. Line: 90 % interval over worlds."
        if one
        else "Height: share of the features of that rate, from 0 to 1. Thin line: 90 % interval over worlds.",
    )


def cosines(detail: SyntheticDetail) -> PlotTable | None:
    """How close each dictionary comes to every true feature, beside what a random one reaches."""
    if not detail.histograms:
        return None
    means = {score.arm: score.mean_best_cosine for score in detail.scores}
    axis = Axis(detail.histograms[0].edges[0], detail.histograms[0].edges[-1])
    chance = detail.chance_mean_cosine
    rows = tuple(_histogram_row(one, axis, chance, means.get(one.arm)) for one in detail.histograms)
    beside = f" Dashed: a random dictionary ({number(chance)} on average)." if known(chance) else ""
    return PlotTable(
        caption="Largest cosine of each true feature with any latent",
        name="arm",
        plot="cosine",
        headings=("mean",),
        groups=(PlotGroup(scale_marks(axis), rows),),
        legend=f"Height: square root of the share of features, so that few can be seen.{beside}",
    )


def explained(detail: SyntheticDetail) -> PlotTable | None:
    """Explained variance of each arm from nothing to all, with a random and the true dictionary beside it."""
    shown = [score for score in detail.scores if known(score.explained_variance)]
    if not shown:
        return None
    ends = {s.arm: s.explained_variance for s in shown if s.arm in ("@chance", "@oracle")}
    rows = tuple(_explained_row(score, [x for x in ends.values() if x is not None]) for score in shown)
    said = " Dashed: a random and the true dictionary with the same encoder class." if ends else ""
    return PlotTable(
        caption="Explained variance, from nothing (0) to all (1)",
        name="arm",
        plot="explained variance",
        headings=("EV [90 % interval]", "normalised"),
        groups=(PlotGroup(scale_marks(UNIT), rows),),
        legend=f"Line: 90 % interval over worlds.{said}{_codes(detail.scores)}",
    )


def _codes(scores: Sequence[WorldScore]) -> str:
    """What better codes than an encoder's would explain: a random dictionary is a good one for reconstruction."""
    ends = [next((s for s in scores if s.arm == arm), None) for arm in ("@oracle", "@chance")]
    said = ""
    for code, field in (("least squares", "explained_variance_ls"), ("matching pursuit", "explained_variance_omp")):
        values = [getattr(score, field, None) for score in ends]
        if any(value is not None for value in values):
            said += f" With {code}: true dictionary {number(values[0])}, random dictionary {number(values[1])}."
    return said


def _curve_row(curve: Curve, axis: Axis, score: WorldScore | None) -> PlotRow:
    shares = (score.recovered_08, score.matched_08) if score else (None, None)
    cells = share(shares[0]), share(shares[1])
    title = f"{curve.arm}: {cells[0]} recovered by any latent, {cells[1]} by their own"
    if len(curve.bins) == 1:
        one = curve.bins[0]
        plot = _point(title, axis, one.value, one.lo, one.hi, ())
        return PlotRow(curve.arm, plot, cells, tag=_kind(curve.arm))
    drawn = joined(*(_bin_marks(one, axis) for one in curve.bins))
    plot = drawing(title, "A bar for each bin of firing rate, rare on the left.", TALL, _floor_line(), drawn)
    return PlotRow(curve.arm, plot, cells, tag=_kind(curve.arm))


def _bin_marks(one: RateBin, axis: Axis) -> Markup:
    left, right = axis.at(log10(one.low)), axis.at(log10(one.high))
    tip = tag("title", f"{one.low:.1e} to {one.high:.1e}: {share(one.value)} of {one.n_features}")
    top = TALL - 1
    bar = block(left, top - (TALL - 4) * one.value, right - 0.25, (TALL - 4) * one.value, "count", tip)
    if one.lo is None or one.hi is None or not known(one.lo, one.hi):
        return bar
    middle, ends = (left + right) / 2, [top - (TALL - 4) * min(max(x, 0.0), 1.0) for x in (one.lo, one.hi)]
    return joined(bar, line(middle, ends[0], middle, ends[1], "whisker"))


def _floor_line() -> Markup:
    return line(0, TALL - 0.5, 100, TALL - 0.5, "rule")


def _histogram_row(one: Histogram, axis: Axis, chance: float | None, mean: float | None) -> PlotRow:
    most = TALL - 4
    bars = (
        block(axis.at(low), TALL - 1 - most * height**0.5, axis.at(high), most * height**0.5, "count")
        for low, high, height in zip(one.edges, one.edges[1:], one.shares, strict=False)
        if height > 0
    )
    dashed = line(axis.at(chance), 0, axis.at(chance), TALL, "dashed") if chance is not None else Markup("")
    title = f"{one.arm}: mean {number(mean)}"
    plot = drawing(title, "A histogram of cosines.", TALL, _floor_line(), *bars, dashed)
    return PlotRow(one.arm, plot, (number(mean),), tag=_kind(one.arm))


def _explained_row(score: WorldScore, lines: Sequence[float]) -> PlotRow:
    told = number(score.explained_variance)
    if score.lo is not None and score.hi is not None and known(score.lo, score.hi):
        told += f" [{number(score.lo)}, {number(score.hi)}]"
    plot = _point(f"{score.arm}: {told}", UNIT, score.explained_variance or 0.0, score.lo, score.hi, lines)
    return PlotRow(score.arm, plot, (told, number(score.normalised, 2)), tag=_kind(score.arm))


def _point(title: str, axis: Axis, value: float, lo: float | None, hi: float | None, lines: Sequence[float]) -> Markup:
    y = LOW / 2
    dashed = (line(axis.at(x), 0, axis.at(x), LOW, "dashed") for x in lines if axis.holds(x))
    spread = Markup("")
    if lo is not None and hi is not None and known(lo, hi) and axis.holds(value):
        spread = line(axis.at(lo), y, axis.at(hi), y, "interval")
    mark = dot(axis.at(value), y, 5, "point") if axis.holds(value) else arrows(axis, value, value, y)
    return drawing(title, "A point from 0 to 1.", LOW, ground(axis, LOW), *dashed, spread, mark)


def _kind(arm: str) -> str:
    return "reference" if arm.startswith("@") else ""


def _recovery_table(curves: Sequence[Curve]) -> tuple[DataTable, ...]:
    """Percent recovered with the half width of the interval, bins as rows; none where there is but one bin."""
    if not curves or len(curves[0].bins) < 2:
        return ()
    bins = curves[0].bins
    columns = (
        Column("rate from", tuple(f"{one.low:.1e}" for one in bins), "left"),
        Column("n", tuple(str(one.n_features) for one in bins)),
        *(Column(curve.arm, tuple(map(_with_half, curve.bins))) for curve in curves),
    )
    note = "± half of the 90 % interval over worlds; n: features of one world."
    return (as_table(columns, "Recovered, by how often a feature fires", note),)


def _with_half(one: RateBin) -> str:
    if one.hi is None or not known(one.hi) or one.hi == one.value:
        return share(one.value)
    return f"{share(one.value)} ± {100 * (one.hi - one.value):.1f}"
