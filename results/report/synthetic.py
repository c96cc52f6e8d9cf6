"""What the synthetic suite shows on a terminal: recovery by firing rate, cosines against chance, explained variance."""

from __future__ import annotations

from math import ceil, floor, log10
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from .columns import Column, fitting, table
from .numbers import MISSING, known, number, percent
from .strips import axis_of, dots, level, level_legend, strip, ticks
from .tables import left_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import RenderableType

    from ..synthetic_detail import Curve, RateBin, SyntheticDetail, WorldScore
    from .look import Look

WIDEST_NAME = 20
"""Arms' names fold beyond this."""

HEADING = "[90 % interval]"
"""Heading of numbers with their interval."""

WIDEST_STRIP = 60
"""Cells of a strip or a scale; more would not be read more exactly."""


def synthetic_parts(detail: SyntheticDetail, look: Look) -> Iterator[RenderableType]:
    """Everything that the synthetic suite shows beside its verdict.

    Args:
        detail: What `results.synthetic.summarise` made.
        look: Width and characters of the console.
    """
    worlds = f"{detail.n_worlds} {detail.world} world{'s' if detail.n_worlds != 1 else ''}"
    size = f"{detail.n_features:,} true features in {detail.d_in} dimensions, {detail.true_l0:.4g} active at a time"
    yield look.text(f"{worlds}: {size}.", "bold")
    for part in (recovery, histogram, explained_variance, score_tables):
        if shown := list(part(detail, look)):
            yield ""
            yield from shown


def recovery(detail: SyntheticDetail, look: Look) -> Iterator[RenderableType]:
    """Share of true features that each arm finds, by how often they fire."""
    if not detail.curves:
        return
    if len(detail.curves[0].bins) == 1:
        yield look.text("Recovered: a latent at a cosine above .8. All features fire equally often.", "bold")
        yield _shares_on_scale(detail.curves, look)
        return
    yield look.text("Recovered: a latent at a cosine above .8, by how often the feature fires", "bold")
    yield _recovery_strips(detail, look)
    yield level_legend("share of the features of that rate", look)
    yield ""
    yield from _recovery_table(detail.curves, look)


def histogram(detail: SyntheticDetail, look: Look) -> Iterator[RenderableType]:
    """How close each dictionary comes to every true feature, beside what a random one reaches."""
    if not detail.histograms:
        return
    chance = detail.chance_mean_cosine
    beside = f" (a random dictionary: {number(chance)} on average)" if known(chance) else ""
    yield look.text(f"Largest cosine of each true feature with any latent{beside}", "bold")
    means = {score.arm: score.mean_best_cosine for score in detail.scores}
    names = [one.arm for one in detail.histograms]
    edges = detail.histograms[0].edges
    cells = _cells(look, names, 6)
    grid = _grid(names, cells, (6,))
    marks = {0.0: "0", 0.25: ".25", 0.5: ".5", 0.8: ".8", 1.0: "1"}
    if known(chance):
        grid.add_row("", Text(look.say(ticks({chance or 0.0: "chance"}, edges[0], edges[-1], cells)), "dim"), "")
    grid.add_row("", Text(ticks(marks, edges[0], edges[-1], cells), "dim"), Text("mean", "dim"))
    for one in detail.histograms:
        heights = [share**0.5 for share in _rebinned(one.shares, cells)]
        grid.add_row(look.text(one.arm), strip(heights, look, cells=cells), look.text(number(means.get(one.arm))))
    yield grid
    yield level_legend("square root of the share of features, so that few can be seen", look)


def explained_variance(detail: SyntheticDetail, look: Look) -> Iterator[RenderableType]:
    """Explained variance of each arm on its real scale, with a random and the true dictionary beside it."""
    shown = [score for score in detail.scores if score.explained_variance is not None]
    if not shown:
        return
    ends = {name: _of(detail, f"@{name}") for name in ("chance", "oracle")}
    known_ends = {name: score.explained_variance for name, score in ends.items() if score}
    marks = {value: name for name, value in known_ends.items() if value is not None}
    yield look.text("Explained variance, from nothing (0) to all (1)", "bold")
    names = [score.arm for score in shown]
    told = [_with_interval(score.explained_variance, score.lo, score.hi) for score in shown]
    widths = max(map(len, (HEADING, *told))), 5
    cells = _cells(look, names, *widths)
    grid = _grid(names, cells, widths)
    dim = [Text(heading, "dim") for heading in (HEADING, "norm.")]
    grid.add_row("", Text(axis_of(marks, cells), "dim"), *dim)
    for score, numbers in zip(shown, told, strict=True):
        drawn = dots(score.explained_variance, score.lo, score.hi, look, cells=cells, lines=list(marks))
        grid.add_row(look.text(score.arm), drawn, look.text(numbers), look.text(number(score.normalised, 2)))
    yield grid
    if any(ends.values()):
        yield look.text("norm.: 0 is a random dictionary with the same encoder class, 1 the true one.", "dim")
    yield from _codes(ends["oracle"], ends["chance"], look)


def score_tables(detail: SyntheticDetail, look: Look) -> Iterator[RenderableType]:
    """All numbers of all arms: what the dictionaries are, then what the codes do."""
    yield look.text(
        "The dictionaries: true features with any latent, or with their own (one-to-one), at that cosine", "bold"
    )
    yield from _fitted(dictionary_columns(detail.scores), look)
    yield ""
    yield look.text("The codes: firing of each feature's own latent, sparsity", "bold")
    yield from _fitted(code_columns(detail.scores), look)


def dictionary_columns(scores: Sequence[WorldScore]) -> tuple[Column, ...]:
    """Columns about decoders, the most important first."""
    column = _column_of(scores)
    return (
        Column("arm", tuple(score.arm for score in scores), "left", wraps=True),
        column("any\n> .8", lambda s: share(s.recovered_08)),
        column("own\n> .8", lambda s: share(s.matched_08)),
        column("weighted\n> .8", lambda s: share(s.weighted_recovery)),
        column("any\n> .9", lambda s: share(s.recovered_09)),
        column("own\n> .9", lambda s: share(s.matched_09)),
        column("own\ncos", lambda s: number(s.mean_matched_cosine)),
        column("any\ncos", lambda s: number(s.mean_best_cosine)),
        column("unique", lambda s: number(s.uniqueness, 2)),
        column("MCC", lambda s: number(s.mcc)),
    )


def code_columns(scores: Sequence[WorldScore]) -> tuple[Column, ...]:
    """Columns about encoders, the most important first."""
    column = _column_of(scores)
    return (
        Column("arm", tuple(score.arm for score in scores), "left", wraps=True),
        column("EV", lambda s: number(s.explained_variance)),
        column("norm.", lambda s: number(s.normalised, 2)),
        column("firing\nF1", lambda s: number(s.firing_f1)),
        column("precision", lambda s: number(s.firing_precision)),
        column("recall", lambda s: number(s.firing_recall)),
        column("L0", lambda s: number(s.l0, 1)),
        column("dead", lambda s: percent(s.dead_share, 1)),
        column("worlds", lambda s: str(s.n_worlds)),
    )


def share(value: float | None) -> str:
    """A share as a percentage that never rounds something to nothing, nor less than all to all."""
    if value is None or not known(value):
        return MISSING
    if value in (0, 1):
        return f"{100 * value:.0f} %"
    if 0 < value < 0.0005:
        return f"{100 * value:.2g} %"
    return f"{min(100 * value, 99.9):.1f} %"


def _column_of(scores: Sequence[WorldScore]) -> Callable[[str, Callable[[WorldScore], str]], Column]:
    return lambda header, cell: Column(header, tuple(map(cell, scores)))


def _fitted(columns: Sequence[Column], look: Look) -> list[Table | Text]:
    kept, rest = fitting(columns, look)
    return [table(kept, look), *left_out(rest, look)]


def _of(detail: SyntheticDetail, arm: str) -> WorldScore | None:
    return next((score for score in detail.scores if score.arm == arm), None)


def _cells(look: Look, names: Sequence[str], *numbers: int) -> int:
    """Cells that names and numbers leave for a strip."""
    beside = _name_width(names) + sum(numbers) + len(numbers) + 2
    return max(min(look.width - beside, WIDEST_STRIP), 8)


def _name_width(names: Sequence[str]) -> int:
    return min(max(map(cell_len, names)), WIDEST_NAME)


def _grid(names: Sequence[str], cells: int, numbers: Sequence[int]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    # One cell more keeps the end of the strip apart from the numbers.
    for width in (_name_width(names), cells + 1):
        grid.add_column(width=width, overflow="fold")
    for width in numbers:
        grid.add_column(width=width, justify="right", no_wrap=True)
    return grid


def _recovery_strips(detail: SyntheticDetail, look: Look) -> Table:
    """One line per arm; the same cells stand for the same rates."""
    names, bins = ["firing rate", *(curve.arm for curve in detail.curves)], detail.curves[0].bins
    cells = max(_cells(look, names, 7, 7) // len(bins), 1) * len(bins)
    grid = _grid(names, cells, (7, 7))
    low, high = log10(bins[0].low), log10(bins[-1].high)
    decades = {float(e): f"1e{e}" for e in range(ceil(low - 1e-9), floor(high + 1e-9) + 1)}
    headings = Text("any", "dim"), Text("own", "dim")
    grid.add_row(Text("firing rate", "dim"), Text(ticks(decades, low, high, cells), "dim"), *headings)
    scores = {score.arm: score for score in detail.scores}
    for curve in detail.curves:
        score = scores.get(curve.arm)
        shares = (score.recovered_08, score.matched_08) if score else (None, None)
        # By rate, not by number: a bin at the end may be wider, and one without features is not there.
        centres = [10 ** (low + (i + 0.5) / cells * (high - low)) for i in range(cells)]
        heights = [next((b.value for b in curve.bins if b.low <= x < b.high), None) for x in centres]
        drawn = "".join(" " if height is None else level(height, look) for height in heights)
        grid.add_row(look.text(curve.arm), Text(drawn, no_wrap=True), *(look.text(share(value)) for value in shares))
    return grid


def _recovery_table(curves: Sequence[Curve], look: Look) -> Iterator[RenderableType]:
    """Percent recovered with the half width of the interval, bins as rows."""
    bins = curves[0].bins
    columns = (
        Column("rate\nfrom", tuple(f"{one.low:.1e}" for one in bins)),
        Column("n", tuple(str(one.n_features) for one in bins)),
        *(Column(_heading(curve.arm), tuple(map(_percent_with_error, curve.bins))) for curve in curves),
    )
    kept, rest = fitting(columns, look)
    yield table(kept, look)
    yield look.text("Percent recovered, ± half of the 90 % interval over worlds; n: features of one world.", "dim")
    yield from left_out(rest, look)


def _heading(arm: str) -> str:
    return arm.replace("_", "_\n").replace("@", "\n@").lstrip("\n")


def _percent_with_error(one: RateBin) -> str:
    decimals = 0 if one.value >= 0.0995 else 1
    if one.value in (0.0, 1.0) and one.lo in (None, one.value):
        return f"{100 * one.value:.0f}"
    half = f"±{100 * (one.hi - one.value):.{decimals}f}" if one.hi is not None else ""
    return f"{100 * one.value:.{decimals}f}{half}"


def _rebinned(shares: Sequence[float], cells: int) -> list[float]:
    """Shares of fewer, wider bins, where there are more bins than cells."""
    step = -(-len(shares) // cells)
    return [sum(shares[i : i + step]) for i in range(0, len(shares), step)]


def _shares_on_scale(curves: Sequence[Curve], look: Look) -> Table:
    """The one bin of every arm on a scale from 0 to 1."""
    names = [curve.arm for curve in curves]
    ones = [curve.bins[0] for curve in curves]
    told = [_with_interval(one.value, one.lo, one.hi, 4) for one in ones]
    width = max(map(len, (HEADING, *told)))
    cells = _cells(look, names, width)
    grid = _grid(names, cells, (width,))
    grid.add_row("", Text(axis_of({}, cells), "dim"), Text(HEADING, "dim"))
    for name, one, numbers in zip(names, ones, told, strict=True):
        grid.add_row(look.text(name), dots(one.value, one.lo, one.hi, look, cells=cells), look.text(numbers))
    return grid


def _with_interval(value: float | None, lo: float | None, hi: float | None, decimals: int = 3) -> str:
    if not known(lo, hi):
        return number(value, decimals)
    return f"{number(value, decimals)} [{number(lo, decimals)}, {number(hi, decimals)}]"


def _codes(oracle: WorldScore | None, chance: WorldScore | None, look: Look) -> Iterator[Text]:
    """What better codes than an encoder's would explain: a random dictionary is a good one for reconstruction."""
    for code, field in (("least squares", "explained_variance_ls"), ("matching pursuit", "explained_variance_omp")):
        values = [getattr(score, field, None) for score in (oracle, chance)]
        if any(value is not None for value in values):
            told = f"With {code}: true dictionary {number(values[0])}, random dictionary {number(values[1])}."
            yield look.text(told, "dim")
