"""A linear axis: from numbers to percent of a drawing's width, and where its ticks are."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

from ..numbers import MINUS, known, number, signed
from .svg import Markup, Real, block, joined, line, tag, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EDGE = 4.0
"""Percent left free on either side, so that a mark at the end is whole."""
MOST_TICKS = 6
"""More labels would meet on a phone."""
FARTHEST = 100.0
"""Margins that a drawing reaches on either side of zero at most; an interval beyond goes on as an arrow, so that the
margin can always be seen."""
HEIGHT = 24
"""Pixels of an axis."""


@dataclass(frozen=True)
class Axis:
    """The numbers from `low` to `high`."""

    low: float
    """Number near the left edge."""
    high: float
    """Number near the right edge, above `low`."""
    is_signed: bool = False
    """Whether labels show a plus."""

    @classmethod
    def over(cls, values: Iterable[float | None], *, is_signed: bool = False) -> Axis:
        """An axis on which all finite values lie; around them where they are one."""
        finite = [value for value in values if value is not None and known(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        return cls(low, high, is_signed) if high > low else cls(low - 0.5, high + 0.5, is_signed)

    def at(self, x: Real) -> float:
        """Where a number lies, in percent; one beyond the axis lies at its end."""
        share = (min(max(x, self.low), self.high) - self.low) / (self.high - self.low)
        return EDGE + share * (100.0 - 2 * EDGE)

    def holds(self, x: Real) -> bool:
        """Whether a number lies on the axis."""
        return self.low <= x <= self.high

    @property
    def step(self) -> float:
        """Distance between ticks: 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / MOST_TICKS
        power = 10.0 ** floor(log10(rough))
        return next((m * power for m in (1, 2, 5) if m * power >= rough * 0.999), 10 * power)

    def ticks(self) -> tuple[float, ...]:
        """Round numbers on the axis, ascending."""
        step, decimals = self.step, self._decimals()
        return tuple(round(k * step, decimals) + 0.0 for k in range(ceil(self.low / step), floor(self.high / step) + 1))

    def label(self, x: Real) -> str:
        """A tick as text."""
        if x == 0:
            return "0"
        return signed(x, self._decimals()) if self.is_signed else number(x, self._decimals())

    def _decimals(self) -> int:
        return max(0, -floor(log10(self.step) + 1e-9))


def differences_axis(ends: Iterable[float], margin: Real) -> Axis:
    """The axis of a plot of differences: zero, the margin band and every interval are on it.

    Args:
        ends: Numbers that are drawn, in score units.
        margin: Equivalence margin, in score units.
    """
    reach = FARTHEST * margin if margin > 0 else float("inf")
    finite = [min(max(x, -reach), reach) for x in ends if known(x)]
    return Axis.over([*finite, -1.5 * margin, 1.5 * margin], is_signed=True)


def scale_marks(axis: Axis, marks: Sequence[tuple[float, str]] = ()) -> Markup:
    """Ticks with their labels, as the head of a column of drawings.

    Args:
        axis: The axis.
        marks: Places with names of their own instead of the round numbers; none for these.
    """
    told = tuple(marks) or tuple((x, axis.label(x)) for x in axis.ticks())
    # Every second label, counted from zero, gives way where the column is narrow.
    narrow = (round(x / axis.step) % 2 if not marks else i % 2 for i, (x, _) in enumerate(told))
    drawn = (
        joined(
            words(axis.at(x), 14, name, "tick odd" if odd else "tick"),
            line(axis.at(x), 19, axis.at(x), HEIGHT, "rule"),
        )
        for (x, name), odd in zip(told, narrow, strict=True)
    )
    span = f"Axis from {_plain(axis.low)} to {_plain(axis.high)}"
    ends = tag("title", span), tag("desc", "Ticks: " + ", ".join(name for _, name in told))
    return tag("svg", *ends, *drawn, class_="draw", role="img", width="100%", height=HEIGHT)


def ground(axis: Axis, height: Real, margin: Real = 0.0) -> Markup:
    """What lies behind the marks of one row: margin band, faint lines at the ticks, the line at zero."""
    band = block(axis.at(-margin), 0, axis.at(margin), height, "band") if margin > 0 else Markup("")
    faint = (line(axis.at(x), 0, axis.at(x), height, "grid") for x in axis.ticks() if x != 0)
    zero = line(axis.at(0), 0, axis.at(0), height, "zero") if axis.holds(0) else Markup("")
    return joined(band, *faint, zero)


def arrows(axis: Axis, lo: float, hi: float, y: Real) -> Markup:
    """An arrow at each edge beyond which an interval goes on."""
    left = words(0.2, y + 4, "◂", "beyond", "start") if lo < axis.low else Markup("")
    right = words(99.8, y + 4, "▸", "beyond", "end") if hi > axis.high else Markup("")
    return joined(left, right)


def _plain(x: Real) -> str:
    return f"{x:.4g}".replace("-", MINUS)
