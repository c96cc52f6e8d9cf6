"""The forest plot in text: one line per comparison, the margin band shaded, numbers and verdict beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..compare import iut_p
from ..outcome import Comparison, Estimate, Verdict
from .bars import axis, fits, interval_of, plot, reason
from .look import Look
from .numbers import MISSING, decimals_for, interval, number, p_value, percent, signed
from .scale import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .scale import Scale

WIDEST_LABEL = 26
"""Longer arm names wrap."""

NARROWEST_PLOT = 18
"""Cells that a plot keeps before other columns have to go."""

WIDEST_PLOT = 56
"""More cells would not be read more exactly."""

HEADING = "diff. [90 % interval]"
"""Heading of the numbers."""

BESIDE = ("p", "d_z", "wins", "MDE")
"""Headings of the numbers that stand beside the plot where the console is wide."""

BESIDE_WIDTHS = (6, 6, 5, 7)
"""Their columns."""


@dataclass(frozen=True)
class Layout:
    """How wide the columns of one forest plot are."""

    label: int
    """Names of the arms."""
    plot: int
    """Cells of the plot."""
    numbers: int
    """Difference and interval."""
    wide: bool
    """Whether the numbers of `BESIDE` stand beside the plot."""


def beside(estimate: Estimate | None, decimals: int) -> tuple[str, ...]:
    """The p as it enters the verdict of the suite, d_z, probability of superiority, minimum detectable effect."""
    if estimate is None:
        return (MISSING,) * len(BESIDE)
    return (
        p_value(iut_p(estimate)),
        signed(estimate.d_z, 2),
        percent(estimate.superiority),
        number(estimate.mde, decimals),
    )


def difference(estimate: Estimate | None, decimals: int) -> str:
    """`+0.031 [+0.020, +0.042]`."""
    if estimate is None:
        return MISSING
    return f"{signed(estimate.difference, decimals)} {interval(estimate.lo, estimate.hi, decimals)}"


def label(comparison: Comparison) -> str:
    """Name of the baseline, with a star where the verdict needs it."""
    return f"{'*' if comparison.required else ' '} {comparison.baseline}"


def layout(comparisons: Sequence[Comparison], look: Look) -> Layout:
    """Columns for one or more comparisons: the plot takes what the others leave."""
    labels = [look.text(label(comparison)).cell_len for comparison in comparisons]
    numbers = max(len(HEADING), *(len(difference(c.estimate, decimals_for(c.margin))) for c in comparisons))
    names = min(max(15, *labels), WIDEST_LABEL)
    room = look.width - names - numbers - len(Verdict.INCONCLUSIVE) - 4
    beside_room = room - sum(BESIDE_WIDTHS) - len(BESIDE_WIDTHS)
    wide = beside_room >= NARROWEST_PLOT
    return Layout(names, max(min(beside_room if wide else room, WIDEST_PLOT), 7), numbers, wide)


def long_reasons(comparisons: Sequence[Comparison], widths: Layout) -> tuple[str, ...]:
    """Reasons that take more than two lines in the plot, for a list below it."""
    reasons = ((c.baseline, reason(c)) for c in comparisons)
    return tuple(f"{baseline}: {why}" for baseline, why in reasons if not fits(why, widths.plot))


def legend(comparisons: Sequence[Comparison], look: Look) -> Text:
    """What the signs mean."""
    glyphs, margin = look.glyphs, comparisons[0].margin
    parts = [
        f"{glyphs.band} margin ±δ, δ = {number(margin, decimals_for(margin))}",
        f"{glyphs.line}{glyphs.point}{glyphs.line} estimate, 90 % interval",
        f"{glyphs.beyond_right} goes on",
    ]
    if any(comparison.required for comparison in comparisons):
        parts.append("* required")
    # Glyphs are of this console already; the rest is spelled for it.
    return Text(" · ".join(parts) if not look.ascii else look.say("; ".join(parts)), "dim")


def ordered(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Required comparisons first, else as they came."""
    return tuple(sorted(comparisons, key=lambda comparison: not comparison.required))


def _row(comparison: Comparison, scale: Scale, look: Look, wide: bool) -> list[Text]:
    decimals = decimals_for(comparison.margin)
    name = look.text(label(comparison), "bold" if comparison.required else "")
    more = beside(comparison.estimate, decimals) if wide else ()
    return [
        name,
        plot(comparison, scale, look),
        look.text(difference(comparison.estimate, decimals)),
        look.word(comparison.verdict),
        *map(look.text, more),
    ]


def _empty_grid(widths: Layout) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    # One cell more than the plot keeps the end of its axis apart from the numbers.
    for fixed in (widths.label, widths.plot + 1, widths.numbers, len(Verdict.INCONCLUSIVE)):
        grid.add_column(width=fixed, overflow="fold")
    for fixed in BESIDE_WIDTHS if widths.wide else ():
        grid.add_column(width=fixed, justify="right", no_wrap=True)
    return grid


def forest(comparisons: Sequence[Comparison], look: Look, widths: Layout, subject: str = "trained") -> Table:
    """The forest plot of one metric.

    Args:
        comparisons: One or more comparisons that share a margin, in the order of the rows.
        look: Width and characters of the console.
        widths: Columns, from `layout`.
        subject: The arm that they are about.

    Returns:
        A grid with the axis above; `legend` explains it.
    """
    ends = [x for comparison in comparisons for x in interval_of(comparison) or ()]
    margin = comparisons[0].margin
    scale, decimals = fit(ends, margin, widths.plot), decimals_for(margin)
    grid = _empty_grid(widths)
    headings = f"  {subject} minus", axis(scale, look, decimals), HEADING, "verdict", *(BESIDE if widths.wide else ())
    grid.add_row(*(Text(look.say(heading), "dim") for heading in headings))
    for comparison in comparisons:
        grid.add_row(*_row(comparison, scale, look, widths.wide))
    return grid
