"""A sweep at a glance: the table of SAEs and suites, and the plot of differences by layer, width and L0."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

from ..comparison import Verdict
from .columns import Column, fitting, table
from .look import Look
from .numbers import MISSING, decimals_for, known, p_value, signed
from .panels import bullets
from .words import decision_words, says_more_than_the_verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import Console, RenderableType

    from ..sweep import SweepCell, SweepOverview, SweepRow

PLOTS = ("svg", "png")
"""Formats of the plot."""

MARKS = {
    Verdict.BEATS: ("#009E73", "o"),
    Verdict.NEGLIGIBLE: ("#E69F00", "s"),
    Verdict.EQUIVALENT: ("#CC79A7", "D"),
    Verdict.WORSE: ("#D55E00", "v"),
    Verdict.INCONCLUSIVE: ("#0072B2", "^"),
    Verdict.INVALID: ("#555555", "X"),
}
"""Colour and marker of a verdict: either is enough to tell."""

AXES: dict[str, Callable[[SweepRow], float | None]] = {
    "layer": lambda row: row.layer,
    "d_sae": lambda row: row.sae.d_sae,
    "L0": lambda row: row.l0,
}
"""What SAEs of a sweep may differ in."""


CLOSE = 1.15
"""Values nearer than this factor are the same to an eye."""


def render_sweep(found: SweepOverview, console: Console) -> None:
    """Print a sweep: its verdict, a line for each SAE and suite, and what was not measured.

    Args:
        found: From `results.sweep.overview`.
        console: Where to print. Names are shown literally.
    """
    look = Look.of(console)
    for part in parts(found, look):
        console.print(part, markup=False, highlight=False, emoji=False)


def parts(found: SweepOverview, look: Look) -> Iterator[RenderableType]:
    """The sweep, top to bottom."""
    report = found.report
    yield look.word(report.verdict).append(f"  {look.say(report.headline)}", "bold")
    yield look.text(f"{report.target}: {counts(found)}; exit code {report.exit_code}")
    if says_more_than_the_verdict(report):
        yield look.text(f"decision: {decision_words(report)}", "bold")
    yield ""
    columns = sweep_columns(found.rows)
    shown, left = fitting(columns, look)
    yield table(shown, look)
    if left:
        yield look.text(f"Too wide for here: {', '.join(left)}.", "dim")
    yield look.text(
        "Difference: to the required baseline that is hardest to beat, with its 90 % interval, in the suite's own "
        "units. p: by Holm over all SAEs and suites.",
        "dim",
    )
    if found.skipped:
        yield ""
        yield look.text("Not measured:", "bold")
        yield bullets(tuple(f"{skip.what}: {skip.reason}" for skip in found.skipped), look)


def counts(found: SweepOverview) -> str:
    """How many SAEs beat random everywhere, and how often each verdict was found."""
    verdicts = [cell.verdict for row in found.rows for cell in row.cells if cell.votes]
    beating = sum(all(c.verdict is Verdict.BEATS for c in row.cells if c.votes) for row in found.rows if row.cells)
    each = ", ".join(f"{verdicts.count(v)} {v.value}" for v in Verdict if v in verdicts)
    return f"{beating} of {len(found.rows)} SAEs beat every required baseline in every suite ({each or 'no verdicts'})"


def sweep_columns(rows: Sequence[SweepRow]) -> tuple[Column, ...]:
    """A line for each SAE and suite; the SAE is named on its first line only."""
    lines = [(row, cell, n == 0) for row in rows for n, cell in enumerate(row.cells)]

    def of_sae(value: Callable[[SweepRow], str]) -> tuple[str, ...]:
        return tuple(value(row) if first else "" for row, _, first in lines)

    def of_cell(value: Callable[[SweepCell], str]) -> tuple[str, ...]:
        return tuple(value(cell) for _, cell, _ in lines)

    recipes = any(cell.recipe for _, cell, _ in lines)
    return (
        Column("SAE", of_sae(lambda row: row.sae.name), "left", wraps=True),
        Column("suite", of_cell(lambda c: c.suite if c.votes else f"({c.suite})"), "left"),
        Column("verdict", of_cell(lambda c: c.verdict.value), "left"),
        Column("difference", of_cell(_difference)),
        Column("p", of_cell(lambda c: p_value(c.p_holm))),
        *([Column("recipe", of_cell(lambda c: c.recipe.value if c.recipe else MISSING), "left")] if recipes else []),
        Column("layer", of_sae(lambda row: _whole(row.layer))),
        Column("d_sae", of_sae(lambda row: _whole(row.sae.d_sae))),
        Column("L0", of_sae(lambda row: MISSING if row.l0 is None else f"{row.l0:.3g}")),
        Column("margin", of_cell(lambda c: MISSING if c.margin is None else f"{c.margin:g}")),
        Column("least above", of_cell(lambda c: c.baseline or MISSING), "left"),
    )


def _difference(cell: SweepCell) -> str:
    if cell.difference is None or cell.margin is None:
        return MISSING
    decimals = decimals_for(cell.margin)
    point = signed(cell.difference, decimals)
    if not known(cell.lo, cell.hi):
        return point
    return f"{point} [{signed(cell.lo, decimals)}, {signed(cell.hi, decimals)}]"


def _whole(value: int | None) -> str:
    return MISSING if value is None else str(value)


def sweep_plot(found: SweepOverview, kind: str) -> bytes:
    """The overview as an image: a row of panels for each suite, differences by what the SAEs differ in.

    Args:
        found: From `results.sweep.overview`.
        kind: One of `PLOTS`.

    Returns:
        The bytes of the file; the same sweep gives the same ones with the same matplotlib.
    """
    from .figure_style import styled

    file = io.BytesIO()
    with styled(), warnings.catch_warnings():
        # A name in letters that the font has not is drawn as boxes, which is no news on a terminal.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        # A date in the file would make the same figure differ from itself.
        sweep_figure(found).savefig(file, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return file.getvalue()


def sweep_figure(found: SweepOverview) -> Figure:
    """The overview as a figure.

    A panel shows the difference of every SAE to the required baseline that is hardest to beat, with its 90 % interval,
    the margin as a band, and the verdict by colour and marker. Where the SAEs differ in neither layer, width nor L0,
    they stand side by side in their order.
    """
    from matplotlib.lines import Line2D

    from .figure_style import label, new_figure

    by = [name for name in AXES if _varies(found, name)] or [""]
    suites = found.suites or ("",)
    figure = new_figure(3.2 * len(by) + 1.4, 2.4 * len(suites) + 0.7)
    grid = figure.subplots(len(suites), len(by), squeeze=False, sharex="col", sharey="row")
    for suite, line in zip(suites, grid, strict=True):
        for name, axis in zip(by, line, strict=True):
            _panel(axis, found, suite, name)
        line[0].set_ylabel(f"{label(suite)}\ndifference")
    for name, axis in zip(by, grid[-1], strict=True):
        axis.set_xlabel(name or "SAE")
    seen = [verdict for verdict in MARKS if any(c.verdict is verdict for row in found.rows for c in row.cells)]
    handles = [Line2D([], [], color=MARKS[v][0], marker=MARKS[v][1], linestyle="", label=v.value) for v in seen]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    return figure


def _panel(axis: Axes, found: SweepOverview, suite: str, by: str) -> None:
    from matplotlib.ticker import MaxNLocator

    points = [(place, row, cell) for place, row in enumerate(found.rows) for cell in row.cells if cell.suite == suite]
    axis.axhline(0.0, color="#555555", linewidth=0.8)
    for margin in {cell.margin for _, _, cell in points if cell.margin is not None}:
        axis.axhspan(-margin, margin, color="#555555", alpha=0.12, linewidth=0)
    for place, row, cell in points:
        x = AXES[by](row) if by else float(place)
        if x is None or cell.difference is None:
            continue
        colour, marker = MARKS[cell.verdict]
        if cell.lo is not None and cell.hi is not None and known(cell.lo, cell.hi):
            axis.plot([x, x], [cell.lo, cell.hi], color=colour, linewidth=1.4, zorder=2)
        axis.plot([x], [cell.difference], color=colour, marker=marker, markersize=6, zorder=3)
    if by in ("d_sae", "L0"):
        _in_octaves(axis, _values(found, by))
    elif by == "layer":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axis.set_xticks(range(len(found.rows)), [_short(row.sae.name) for row in found.rows], rotation=30, ha="right")


def _values(found: SweepOverview, by: str) -> list[float]:
    return sorted({float(value) for row in found.rows if (value := AXES[by](row)) is not None})


def _varies(found: SweepOverview, by: str) -> bool:
    """Whether SAEs differ in something; an L0 that was measured is never the same twice."""
    values = _values(found, by)
    return len(values) > 1 and (by != "L0" or values[-1] > CLOSE * values[0])


def _in_octaves(axis: Axes, values: Sequence[float]) -> None:
    """Widths and L0 grow by factors; the ticks are the values that there are, if they are few and apart."""
    from matplotlib.ticker import NullLocator, StrMethodFormatter

    axis.set_xscale("log", base=2)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if len(values) <= 6 and all(b > CLOSE * a for a, b in pairwise(values)):
        axis.set_xticks(values)


def _short(name: str) -> str:
    from .figure_style import label

    return label(name if len(name) <= 24 else f"…{name[-23:]}")


def sweep_text(found: SweepOverview) -> str:
    """The overview as on a terminal of 120 columns, without colour."""
    from rich.console import Console

    file = io.StringIO()
    render_sweep(found, Console(file=file, width=120, force_terminal=False, legacy_windows=False, no_color=True))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
