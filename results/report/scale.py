"""Where a number lies in a text plot: geometry of the forest plot, in whole and half cells.

The zero line is one cell and stands for exactly 0. The margin band is the same whole number of cells on either side
and stands for 0 < |x| < margin. So a drawn interval touches the line, or leaves the band, only where the numbers do:
rounding cannot change the verdict that a reader sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

SMALLEST_BAND = 2
"""Cells of the band on either side: below, one far comparison would hide the margin; it gets an arrow instead."""


FAR = 1_000_000
"""Cells beyond which all numbers are alike; keeps the arithmetic finite."""


def _whole(cells: float) -> int:
    return floor(min(cells, FAR))


@dataclass(frozen=True)
class Scale:
    """A linear axis of `width` cells."""

    width: int
    """Cells of the plot."""
    zero: int
    """Index of the zero cell."""
    cells: int
    """Cells in one unit."""
    unit: float
    """The margin, or any positive number where the margin is not positive."""
    band: int
    """Shaded cells on either side of zero: `cells`, or 0 without a margin."""

    def half(self, x: float) -> int:
        """Index of the half cell of a number other than zero: 0 is the left half of cell 0.

        Numbers left of the plot give a negative index, numbers right of it at least `2 * width`.
        """
        inside = 2 * self.cells - 1
        steps = _whole(2 * self.cells * (abs(x) / self.unit))
        # A number just below the margin may round up to it; it must stay inside the band.
        steps = min(steps, inside) if abs(x) < self.unit else max(steps, inside + 1)
        return 2 * (self.zero + 1) + steps if x > 0 else 2 * self.zero - 1 - steps

    def start(self, x: float) -> int:
        """First half cell of an interval that begins at `x`."""
        return 2 * self.zero if x == 0 else self.half(x)

    def end(self, x: float) -> int:
        """Last half cell of an interval that ends at `x`."""
        return 2 * self.zero + 1 if x == 0 else self.half(x)

    def cell(self, x: float) -> int:
        """Index of the cell of a number."""
        return self.start(x) // 2

    @property
    def left(self) -> float:
        """Number at the left edge of the plot."""
        return -self.zero * self.unit / self.cells

    @property
    def right(self) -> float:
        """Number at the right edge of the plot."""
        return (self.width - 1 - self.zero) * self.unit / self.cells


def _side(cells: int, reach: float, unit: float) -> int:
    """Cells that one side of zero needs: its farthest number, and one cell outside the band."""
    return max(cells, _whole(cells * (reach / unit))) + 1


def _left_cells(width: int, left: int, right: int) -> int:
    """Cells left of zero: what is needed where it fits, else half of the room and what the other side leaves."""
    spare = width - 1 - left - right
    if spare >= 0:
        return left + spare // 2
    half = (width - 1) // 2
    if left <= half:
        return left
    return width - 1 - right if right <= half else half


def fit(numbers: list[float], margin: float, width: int) -> Scale:
    """The finest scale on which all numbers fit, or the coarsest on which the margin can still be seen.

    Args:
        numbers: Ends of the intervals, in score units, all finite.
        margin: Equivalence margin, in score units.
        width: Cells of the plot, at least 7.

    Returns:
        A scale; numbers that do not fit lie outside its cells.
    """
    reaches = max([0.0, *(-x for x in numbers)]), max([0.0, *numbers])
    unit = margin if margin > 0 else max(*reaches) or 1.0
    cells, widest = SMALLEST_BAND, (width - 3) // 2
    while cells < widest and 1 + sum(_side(cells + 1, reach, unit) for reach in reaches) <= width:
        cells += 1
    left, right = (_side(cells, reach, unit) for reach in reaches)
    return Scale(width, _left_cells(width, left, right), cells, unit, cells if margin > 0 else 0)
