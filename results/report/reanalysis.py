"""A reanalysed table in the terminal: every contrast under both readings of its ±, the counts, what they cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ..outcome import Verdict
from ..reanalysis import ALPHA, LEFT_OUT, MARGIN, METRICS, OFF_FLOOR, RAVEL_FLOOR, SEEDS, TOST_MARGIN
from .look import STYLES
from .numbers import MINUS, MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from ..reanalysis import Contrast, Count, Reanalysis

LEGEND = (
    f"trained minus baseline; * two-sided p < {ALPHA:g}; verdict by the 90 % interval and a margin of {MARGIN:g}; "
    "(c) a run that collapsed; (o) outside the 24 contrasts of the counts."
)

NO_VERDICT_WITHOUT_SEEDS = (
    f"The number of seeds is not stated. A verdict stands here where {', '.join(map(str, SEEDS[:-1]))} and {SEEDS[-1]} "
    "seeds of each arm would all give it; n≥7 means that nothing could be concluded with fewer than 7 seeds, were "
    "means and deviations the same."
)

LIMITS = (
    "What this cannot say:",
    "- Means and ± of a table: no rows, so nothing is paired, and a test on pairs would see smaller differences.",
    "- What the ± is of (seeds, datasets, attributes) is not said; were it over datasets, neither reading is right.",
    "- No controls and no ceilings, so that nothing can be found INVALID but RAVEL where the trained SAE is within "
    f"{OFF_FLOOR:g} of the floor ({RAVEL_FLOOR:g}, that of the collapsed run): two of three sites. 'Matches' says "
    "nothing there.",
    "- No correction for 24 contrasts of a metric; they share trained SAEs and are not independent.",
    "- Sparse probing reads only the encoder: its nulls are the frozen encoders; a frozen decoder is none.",
    "- AutoInterp has no table: one gap, .90 against .87, with 200 latents of each SAE, is not judged.",
)
"""Printed below the tables."""


def render(found: Reanalysis, console: Console) -> None:
    """Print a reanalysis; it takes 100 columns."""
    for piece in pieces(found):
        console.print(piece)


def pieces(found: Reanalysis) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    yield Text(f"{found.paper}: the paper's own tables, judged again", "bold")
    yield count_table(found.counts)
    yield Text("1. The ± as standard errors of independent arms", "bold")
    yield contrast_table(found.contrasts, _as_error)
    yield Text(LEGEND, "dim")
    yield Text("\n2. The ± as standard deviations over seeds", "bold")
    yield contrast_table(found.contrasts, _over_seeds)
    yield Text(NO_VERDICT_WITHOUT_SEEDS, "dim")
    yield Text("\n" + "\n".join(LIMITS))


def count_table(counts: Sequence[Count]) -> Table:
    """One row for every metric and reading."""
    table = _table()
    table.add_column("± read as", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("contrasts", "baseline\nworse *", "baseline\nbetter *", f"TOST\n±{TOST_MARGIN:g}"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("our verdicts")
    before = None
    for count in counts:
        how = "standard error" if count.seeds is None else f"deviation, {count.seeds} seeds"
        if how != before:
            table.add_section()
        numbers = count.contrasts, count.baseline_worse, count.baseline_better, count.equivalent
        verdicts = ", ".join(f"{n} {verdict}" for verdict, n in count.verdicts.items())
        table.add_row("" if how == before else how, METRICS[count.metric], *map(str, numbers), verdicts)
        before = how
    return table


def contrast_table(contrasts: Sequence[Contrast], cell: Callable[[Contrast], Text]) -> Table:
    """One row for every baseline, one column for every metric."""
    table = _table()
    table.add_column("trained minus", no_wrap=True)
    for name in METRICS.values():
        table.add_column(name, no_wrap=True)
    before = None
    for row in _rows(contrasts):
        first = row[0]
        if (place := (first.site, first.architecture)) != before:
            table.add_section()
            # On two lines, or the column would push verdicts out of 100 columns.
            table.add_row(Text("\n".join(place), "bold"))
        before = place
        table.add_row(_name(first), *map(cell, row))
    return table


def _rows(contrasts: Sequence[Contrast]) -> Iterator[Sequence[Contrast]]:
    """The metrics of one baseline at a time, in the order of METRICS."""
    for start in range(0, len(contrasts), len(METRICS)):
        yield contrasts[start : start + len(METRICS)]


def _name(contrast: Contrast) -> str:
    marks = (" (c)" if contrast.note else "") + (" (o)" if contrast.baseline == LEFT_OUT else "")
    return contrast.baseline.replace("frozen_", "fr_") + marks


def _as_error(contrast: Contrast) -> Text:
    star = "*" if contrast.as_error.p < ALPHA else " "
    return Text(f"{_short(contrast.difference)}{star} ").append(_word(contrast.shown(contrast.as_error)))


def _over_seeds(contrast: Contrast) -> Text:
    found, few = contrast.over_seeds, contrast.seeds_to_conclude
    if found is not None and found is not Verdict.INCONCLUSIVE:
        return _word(found)
    return Text(f"n≥{few}" if few else MISSING, STYLES["INCONCLUSIVE"])


def _word(verdict: Verdict) -> Text:
    return Text(verdict.value, STYLES[verdict.value])


def _short(value: float) -> str:
    sign = MINUS if value < 0 else "+" if value > 0 else " "
    return sign + f"{abs(value):.3f}".removeprefix("0")


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
