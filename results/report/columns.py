"""Tables as lists of columns, so that what fits a console can be decided before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rich.box import SIMPLE_HEAD, Box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .look import Look

ASCII_HEAD = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)
"""`SIMPLE_HEAD` in ASCII."""

WIDEST_NAME = 26
"""A column of names takes no more than this; longer names wrap."""


@dataclass(frozen=True)
class Column:
    """One column of a table, as strings."""

    header: str
    """Heading; a line break stacks it."""
    cells: tuple[str, ...]
    """One string per row."""
    justify: Literal["left", "right"] = "right"
    """Numbers stand right, words left."""
    wraps: bool = False
    """Whether cells may wrap: names and sentences, never numbers."""

    @property
    def name(self) -> str:
        """The heading on one line."""
        return self.header.replace("_\n", "_").replace("-\n", "-").replace("\n", " ")

    def width(self, look: Look) -> int:
        """Columns of the console that the widest line takes."""
        lines = [*self.header.split("\n"), *self.cells]
        widest = max(cell_len(look.say(line)) for line in lines)
        return min(widest, WIDEST_NAME) if self.wraps else widest


def stacked(name: str) -> str:
    """A metric's name as a heading on several lines: `ce_recovered` breaks after its underscore."""
    return name.replace("_", "_\n")


def fitting(columns: Sequence[Column], look: Look) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """The first columns that fit beside each other, and the headings of the rest on one line each.

    Args:
        columns: In the order of their importance.
        look: Width and characters of the console.
    """
    room, kept = look.width, 0
    for column in columns:
        room -= column.width(look) + (1 if kept else 0)
        if room < 0:
            break
        kept += 1
    return tuple(columns[: max(kept, 1)]), tuple(column.name for column in columns[max(kept, 1) :])


def table(columns: Sequence[Column], look: Look) -> Table:
    """Columns as a rich table with one line under the headings; words of `STYLES` get their colour."""
    drawn = Table(
        box=ASCII_HEAD if look.ascii else SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
        header_style="dim",
    )
    for column in columns:
        header = Text("\n").join(look.text(line) for line in column.header.split("\n"))
        least = column.width(look)
        drawn.add_column(
            header,
            justify=column.justify,
            overflow="fold",
            no_wrap=not column.wraps,
            min_width=least,
            max_width=WIDEST_NAME if column.wraps else least,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        drawn.add_row(*map(look.word, row))
    return drawn
