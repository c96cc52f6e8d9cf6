"""What a template sets: tables of numbers, and tables in which a column is drawn."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

NOT_DRAWN = Markup("")


@dataclass(frozen=True)
class PlotRow:
    """One line of a table with a drawing in it."""

    name: str
    """What the line is about."""
    plot: Markup
    """The drawing; empty where there is none."""
    cells: tuple[str, ...] = ()
    """Numbers beside the drawing."""
    word: str = ""
    """Verdict; empty for none."""
    tag: str = ""
    """A small word under the name: `required`, the role of an arm."""
    instead: str = ""
    """Why there is no drawing."""
    below: str = ""
    """One line under the drawing."""


@dataclass(frozen=True)
class PlotGroup:
    """Lines that share an axis."""

    axis: Markup
    """The axis above them."""
    rows: tuple[PlotRow, ...]
    """The lines."""
    title: str = ""
    """What they have in common; empty where the caption says it."""
    word: str = ""
    """Verdict over all of them."""
    note: str = ""
    """One line under the title."""
    link: str = ""
    """Id of the section that says more."""


@dataclass(frozen=True)
class PlotTable:
    """A table in which one column is drawn."""

    caption: str
    """What it shows."""
    name: str
    """Heading of the names."""
    plot: str
    """Heading of the drawings."""
    headings: tuple[str, ...]
    """Headings of the numbers."""
    groups: tuple[PlotGroup, ...]
    """The lines."""
    legend: str = ""
    """How to read it."""
    verdicts: bool = False
    """Whether lines end in a verdict."""


@dataclass(frozen=True)
class Cell:
    """One cell of a table of numbers."""

    text: str
    """As it is shown."""
    bar: Markup = NOT_DRAWN
    """A bar that repeats the number."""


@dataclass(frozen=True)
class Heading:
    """Head of a column."""

    name: str
    """As it is shown."""
    number: bool
    """Whether the column holds numbers, which stand right."""


@dataclass(frozen=True)
class Rows:
    """Rows under a title of their own."""

    rows: tuple[tuple[Cell, ...], ...]
    """The first cell of each names the row."""
    title: str = ""
    """Empty for none."""


@dataclass(frozen=True)
class DataTable:
    """A table of numbers; it scrolls in its own frame where it is wider than the page."""

    caption: str
    """What it shows."""
    headings: tuple[Heading, ...]
    """One for each column."""
    groups: tuple[Rows, ...]
    """The rows."""
    note: str = ""
    """What the headings mean."""


@dataclass(frozen=True)
class Chart:
    """A drawing with an upright axis beside it."""

    caption: str
    """What it shows."""
    scale: Markup
    """The upright axis."""
    area: Markup
    """The drawing."""
    legend: str = ""
    """How to read it."""
