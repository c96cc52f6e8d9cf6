"""The forest plot in text: one line per comparison, the margin band shaded, numbers and verdict beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..compare import iut_p
from ..outcome import Comparison, Estimate, Verdict
from .look import STYLES, Look
from .numbers import MISSING, decimals_for, interval, known, number, p_value, percent, signed
from .scale import Scale, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDEST_LABEL = 26
"""Longer arm names wrap."""

NARROWEST_PLOT = 18
"""Cells that a plot keeps before other columns have to go."""

WIDEST_PLOT = 56
"""More cells would not be read more exactly."""

HEADING = "diff. [90 % interval]"
"""Heading of the numbers."""

BELOW = "no bar, see below"
"""What stands in the plot where a reason takes more than two lines."""

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


def interval_of(comparison: Comparison) -> tuple[float, float, float] | None:
    """`(lo, estimate, hi)` where the comparison has a bar to draw, else None.

    An INVALID comparison that gives a reason has none, even if it has numbers: the reason is what must be read.
    """
    estimate = comparison.estimate
    if estimate is None or (comparison.verdict is Verdict.INVALID and comparison.reason):
        return None
    ends = (estimate.lo, estimate.difference, estimate.hi)
    return (ends[0], ends[1], ends[2]) if known(*ends) else None  # type: ignore[return-value]


def background(scale: Scale, look: Look) -> str:
    """The empty plot: zero line and margin band."""
    glyphs = look.glyphs
    shade = [glyphs.band if abs(c - scale.zero) <= scale.band else " " for c in range(scale.width)]
    shade[scale.zero] = glyphs.zero
    return "".join(shade)


def _cell(scale: Scale, look: Look, index: int, first: int, last: int) -> str | None:
    """What an interval over half cells `first..last` draws in one cell; None leaves the background."""
    left, right = first <= 2 * index <= last, first <= 2 * index + 1 <= last
    if left and right:
        return look.glyphs.crossed if index == scale.zero else look.glyphs.line
    if left or right:
        return look.glyphs.left_half if left else look.glyphs.right_half
    return None


def bar(scale: Scale, look: Look, lo: float, middle: float, hi: float) -> dict[int, str]:
    """Cells that an interval draws over the background, by index.

    Args:
        scale: The axis.
        look: Which characters can be shown.
        lo: Lower end, in score units.
        middle: The estimate.
        hi: Upper end.

    Returns:
        One character for each cell that is not background; an arrow in the outermost cell where the interval goes on.
    """
    first, last = scale.start(lo), scale.end(hi)
    drawn = {c: mark for c in range(scale.width) if (mark := _cell(scale, look, c, first, last))}
    if scale.cell(middle) in range(scale.width):
        drawn[scale.cell(middle)] = look.glyphs.point
    if first < 0:
        drawn[0] = look.glyphs.beyond_left
    if last >= 2 * scale.width:
        drawn[scale.width - 1] = look.glyphs.beyond_right
    return drawn


def plot(comparison: Comparison, scale: Scale, look: Look) -> Text:
    """One line of the forest, or the reason why there is no bar."""
    ends, why = interval_of(comparison), reason(comparison)
    if ends is None:
        return look.text(why if len(why) <= 2 * scale.width - 8 else BELOW, "italic")
    drawn = bar(scale, look, *ends)
    line, style = Text(no_wrap=True), STYLES.get(comparison.verdict, "")
    for index, empty in enumerate(background(scale, look)):
        line.append(drawn.get(index, empty), style if index in drawn else "dim")
    return line


def axis(scale: Scale, look: Look, decimals: int) -> str:
    """Labels above the plot: zero and the margin where they are, the ends of the axis where there is room."""
    delta, cells = look.say("δ"), [" "] * scale.width
    ends = (0, signed(scale.left, decimals)), (scale.width, signed(scale.right, decimals))
    marks = [(scale.zero, "0")]
    if scale.band:
        marks += [(scale.zero + scale.band, f"+{delta}"), (scale.zero - scale.band - 1, f"−{delta}")]
    for at, label in [*marks, ends[1], ends[0]]:
        begin = min(max(at, 0), scale.width - len(label))
        around = cells[max(begin - 1, 0) : begin + len(label) + 1]
        if all(cell == " " for cell in around):
            cells[begin : begin + len(label)] = look.say(label)
    return "".join(cells)


def beside(estimate: Estimate | None, decimals: int) -> tuple[str, ...]:
    """p as it enters the verdict of the suite, d_z, probability of superiority, minimum detectable effect."""
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


def reason(comparison: Comparison) -> str:
    """Why there is no bar; empty where there is one."""
    return "" if interval_of(comparison) else comparison.reason or "no interval"


def long_reasons(comparisons: Sequence[Comparison], widths: Layout) -> tuple[str, ...]:
    """Reasons that take more than two lines in the plot, for a list below it."""
    reasons = ((c.baseline, reason(c)) for c in comparisons)
    return tuple(f"{baseline}: {why}" for baseline, why in reasons if len(why) > 2 * widths.plot - 8)


def legend(comparisons: Sequence[Comparison], look: Look) -> Text:
    """What the signs mean."""
    glyphs, margin = look.glyphs, comparisons[0].margin
    parts = [
        f"{glyphs.band} margin ±δ, δ = {number(margin, decimals_for(margin))}",
        f"{glyphs.line}{glyphs.point}{glyphs.line} estimate, 90 % interval",
        f"{glyphs.beyond_right} goes on",
    ]
    if any(comparison.required for comparison in comparisons):
        parts.append("* BEATS required")
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


def forest(comparisons: Sequence[Comparison], look: Look, widths: Layout) -> Table:
    """The forest plot of one metric.

    Args:
        comparisons: One or more comparisons that share a margin, in the order of the rows.
        look: Width and characters of the console.
        widths: Columns, from `layout`.

    Returns:
        A grid with the axis above; `legend` explains it.
    """
    ends = [x for comparison in comparisons for x in interval_of(comparison) or ()]
    margin = comparisons[0].margin
    scale, decimals = fit(ends, margin, widths.plot), decimals_for(margin)
    grid = _empty_grid(widths)
    headings = "  trained minus", axis(scale, look, decimals), HEADING, "verdict", *(BESIDE if widths.wide else ())
    grid.add_row(*(Text(look.say(heading), "dim") for heading in headings))
    for comparison in comparisons:
        grid.add_row(*_row(comparison, scale, look, widths.wide))
    return grid
