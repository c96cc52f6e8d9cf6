"""One line of a text plot: heights in cells side by side, or a point with its interval on a scale from 0 to 1."""

from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

from rich.text import Text

from .numbers import known

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .look import Look

NOTHING = "."
"""A height of exactly 0."""

LEVELS = "▁▂▃▄▅▆▇█"
"""Eighths, from above 0 to 1."""

ASCII_LEVELS = "0123456789"
"""Tenths; 9 is .9 and more."""


def level(height: float, look: Look) -> str:
    """One cell for a height in [0, 1]: something is never drawn as nothing."""
    if not known(height):
        return "?"
    if height <= 0:
        return NOTHING
    levels = ASCII_LEVELS if look.ascii else LEVELS
    return levels[min(floor(height * len(levels)), len(levels) - 1)]


def level_legend(what: str, look: Look) -> Text:
    """What the cells of a strip mean."""
    scale = "digits: tenths (0: below .1)" if look.ascii else f"{LEVELS[0]} to {LEVELS[-1]}: eighths from 0 to 1"
    return Text(f"{NOTHING} none; {look.say(scale) if look.ascii else scale}; height: {look.say(what)}", "dim")


def strip(heights: Sequence[float], look: Look, *, cells: int) -> Text:
    """Heights side by side.

    Args:
        heights: Numbers in [0, 1], at most `cells`.
        look: Characters of the console.
        cells: Width; every cell shows the height that lies under it.
    """
    columns = (heights[i * len(heights) // cells] for i in range(cells))
    return Text("".join(level(height, look) for height in columns), no_wrap=True)


def place(x: float, low: float, high: float, cells: int) -> int:
    """Cell of a number on an axis; the ends are kept inside by the caller."""
    return min(floor((x - low) / (high - low) * cells), cells - 1) if x <= high else cells


def ticks(marks: Mapping[float, str], low: float, high: float, cells: int) -> str:
    """Labels above their cells, a label that would touch another left out.

    Args:
        marks: Numbers with their labels, the most important first.
        low: Number at the left edge.
        high: Number at the right edge.
        cells: Width.
    """
    line = [" "] * cells
    for x, label in marks.items():
        at = place(x, low, high, cells)
        begin = min(max(at - len(label) // 2, 0), cells - len(label))
        if begin >= 0 and all(c == " " for c in line[max(begin - 1, 0) : begin + len(label) + 1]):
            line[begin : begin + len(label)] = label
    return "".join(line)


def axis_of(marks: Mapping[float, str], cells: int) -> str:
    """Labels of a scale from 0 to 1: names that end at their line, then those that begin at theirs, then the ends."""
    line = [" "] * cells
    named = sorted(marks.items())
    for index, (x, label) in enumerate(named):
        at = place(x, 0.0, 1.0, cells)
        # The lower name grows to the left and the higher one to the right, so that they do not meet.
        begin = at - len(label) + 1 if index == 0 and len(named) > 1 else at
        _write(line, max(min(begin, cells - len(label)), 0), label)
    for begin, label in ((0, "0"), (cells - 1, "1"), (cells // 2, ".5")):
        _write(line, begin, label)
    return "".join(line)


def _write(line: list[str], begin: int, label: str) -> None:
    around = line[max(begin - 1, 0) : begin + len(label) + 1]
    if begin >= 0 and all(cell == " " for cell in around):
        line[begin : begin + len(label)] = label


def dots(
    value: float | None,
    lo: float | None,
    hi: float | None,
    look: Look,
    *,
    cells: int,
    lines: Sequence[float] = (),
) -> Text:
    """A point with its interval on a scale from 0 to 1; an arrow where it lies outside.

    Args:
        value: The point; nothing is drawn where it is not known.
        lo: Lower end of its interval, or None.
        hi: Upper end, or None.
        look: Characters of the console.
        cells: Width.
        lines: Numbers at which a line runs through all rows.
    """
    glyphs = look.glyphs
    row = [" "] * cells
    for x in lines:
        if 0 <= x <= 1:
            row[place(x, 0.0, 1.0, cells)] = glyphs.zero
    if value is None or not known(value):
        return Text("".join(row), no_wrap=True)
    if lo is not None and hi is not None and known(lo, hi):
        first, last = (place(min(max(end, 0.0), 1.0), 0.0, 1.0, cells) for end in (lo, hi))
        row[first : last + 1] = glyphs.line * (last + 1 - first)
    at = place(value, 0.0, 1.0, cells)
    if value < 0:
        row[0] = glyphs.beyond_left
    elif at >= cells:
        row[-1] = glyphs.beyond_right
    else:
        row[at] = glyphs.point
    return Text("".join(row), no_wrap=True)
