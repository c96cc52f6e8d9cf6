"""One line of the forest plot: the interval over the zero line and the margin band, or the reason why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ..outcome import Comparison, Verdict
from .look import STYLES, Look
from .numbers import MINUS, known, signed

if TYPE_CHECKING:
    from .scale import Scale

BELOW = "no bar, see below"
"""What stands in the plot where a reason takes more than two lines."""


def interval_of(comparison: Comparison) -> tuple[float, float, float] | None:
    """`(lo, estimate, hi)` where the comparison has a bar to draw, else None.

    An INVALID comparison that gives a reason has none, even if it has numbers: the reason is what must be read.
    """
    estimate = comparison.estimate
    if estimate is None or (comparison.verdict is Verdict.INVALID and comparison.reason):
        return None
    lo, middle, hi = estimate.lo, estimate.difference, estimate.hi
    if lo is None or hi is None or not known(lo, middle, hi):
        return None
    return lo, middle, hi


def reason(comparison: Comparison) -> str:
    """Why there is no bar; empty where there is one."""
    return "" if interval_of(comparison) else comparison.reason or "no interval"


def fits(why: str, width: int) -> bool:
    """Whether a reason takes no more than two lines, with some loss to the break between words."""
    return len(why) <= 2 * width - 8


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
        return look.text(why if fits(why, scale.width) else BELOW, "italic")
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
        marks += [(scale.zero + scale.band, f"+{delta}"), (scale.zero - scale.band - 1, f"{MINUS}{delta}")]
    for at, label in [*marks, ends[1], ends[0]]:
        begin = min(max(at, 0), scale.width - len(label))
        around = cells[max(begin - 1, 0) : begin + len(label) + 1]
        if all(cell == " " for cell in around):
            cells[begin : begin + len(label)] = look.say(label)
    return "".join(cells)
