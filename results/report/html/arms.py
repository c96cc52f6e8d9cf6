"""The arms of one suite: their place between floor and ceiling, and their table with L0 and dead latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..columns import Column
from ..numbers import known, mean_and_sd, number
from ..tables import arm_columns, suite_decimals
from .axis import Axis, arrows, ground, scale_marks
from .shapes import NOT_DRAWN, Cell, DataTable, Heading, PlotGroup, PlotRow, PlotTable, Rows
from .svg import Markup, Real, block, diamond, dot, drawing, joined, line, ornament

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...outcome import ArmSummary, SuiteResult

HEIGHT = 38
"""Pixels of one line."""
LOWEST = -1.2
"""Normalised score below which an arm is only pointed at: floor and ceiling are what is to be seen."""
HIGHEST = 1.6
"""The same above."""
UPSIDE_DOWN = "The ceiling is not above the floor, so that this scale says nothing. "
"""What is said of a scale whose ends are the wrong way round."""
OWN_COLUMNS = 8
"""Columns of `arm_columns` before the other metrics."""
MOST_METRICS = 6
"""Other metrics in one table: more would not fit a printed page."""
BAR = 56
"""Pixels of a full bar."""


def normalised(suite: SuiteResult) -> PlotTable | None:
    """Every arm between floor 0 and ceiling 1; None where the suite has no such scale."""
    shown = [arm for arm in suite.arms if arm.normalised is not None and known(arm.normalised)]
    if not shown:
        return None
    values = [min(max(arm.normalised or 0.0, LOWEST), HIGHEST) for arm in shown]
    axis = Axis.over([*values, -0.05, 1.05])
    rows = tuple(_normalised_row(arm, suite, axis) for arm in shown)
    return PlotTable(
        caption=f"Normalised {suite.metric}: (score − floor) / (ceiling − floor)",
        name="arm",
        plot="floor 0 to ceiling 1",
        headings=("score ± sd", "normalised"),
        groups=(PlotGroup(scale_marks(axis), rows),),
        legend=_scale_words(suite),
    )


def _scale_words(suite: SuiteResult) -> str:
    upside_down = (suite.ceiling or 0.0) <= (suite.floor or 0.0)
    return (
        f"{UPSIDE_DOWN if upside_down else ''}0 is the floor ({number(suite.floor)}), 1 the ceiling "
        f"({number(suite.ceiling)}). Lines: one standard deviation over {_replicates(suite)}. Diamond: the arm under "
        "test; disc: a baseline; circle: a control; upright line: a reference."
    )


def _replicates(suite: SuiteResult) -> str:
    return "worlds" if any(comparison.nested for comparison in suite.comparisons) else "seeds"


def _normalised_row(arm: ArmSummary, suite: SuiteResult, axis: Axis) -> PlotRow:
    value, height = arm.normalised or 0.0, HEIGHT / 2
    spread = (suite.ceiling or 0.0) - (suite.floor or 0.0)
    half = (arm.seed_sd or 0.0) / spread if spread else 0.0
    ends = value - half, value + half
    whiskers = line(axis.at(ends[0]), height, axis.at(ends[1]), height, "interval") if half > 0 else Markup("")
    mark = _mark(arm.role, axis.at(value), height) if axis.holds(value) else Markup("")
    one = line(axis.at(1), 0, axis.at(1), HEIGHT, "zero")
    told = mean_and_sd(arm.score, arm.seed_sd, suite_decimals(suite)), number(arm.normalised, 2)
    title = f"{arm.arm}: {told[1]}"
    drawn = joined(ground(axis, HEIGHT), one, whiskers, mark, arrows(axis, value, value, height))
    class_ = "r-trained" if arm.role in ("trained", "recipe") else "r-other"
    plot = drawing(title, "A mark between the floor at 0 and the ceiling at 1.", HEIGHT, drawn, class_=class_)
    return PlotRow(arm.arm, plot, told, tag="" if arm.role == arm.arm else arm.role)


def _mark(role: str, x: Real, y: Real) -> Markup:
    if role in ("trained", "recipe"):
        return diamond(x, y, 6.5, "point")
    if role == "baseline":
        return dot(x, y, 4.5, "point")
    return dot(x, y, 4.5, "hollow") if role == "control" else line(x, y - 7, x, y + 7, "reference")


def as_table(columns: Sequence[Column], caption: str, note: str = "") -> DataTable:
    """Columns of the terminal's tables as a table of the page."""
    headings = tuple(Heading(column.name, column.justify == "right") for column in columns)
    rows = zip(*(column.cells for column in columns), strict=True)
    return DataTable(caption, headings, (Rows(tuple(tuple(map(Cell, row)) for row in rows)),), note)


def arm_tables(suite: SuiteResult) -> tuple[DataTable, ...]:
    """All arms with L0 and dead latents, then their other metrics, as many to a table as fit a page."""
    if not suite.arms:
        return ()
    nested = any(comparison.nested for comparison in suite.comparisons)
    columns = arm_columns(suite.arms, suite.metric, suite_decimals(suite), nested=nested)
    first = _with_bars(as_table(columns[:OWN_COLUMNS], "Arms: score, sparsity, dead latents", ""), suite.arms)
    rest = columns[OWN_COLUMNS:]
    others = [rest[i : i + MOST_METRICS] for i in range(0, len(rest), MOST_METRICS)]
    of = f" of {len(others)})" if len(others) > 1 else ""
    captions = (f"Arms: other metrics{f' ({i}{of}' if of else ''}" for i in range(1, len(others) + 1))
    return first, *(as_table((columns[0], *few), told) for few, told in zip(others, captions, strict=True))


def _with_bars(table: DataTable, arms: Sequence[ArmSummary]) -> DataTable:
    """Bars beside L0 (as a share of the largest) and beside the share of dead latents."""
    names = [heading.name for heading in table.headings]
    l0s = [arm.l0 for arm in arms if arm.l0 is not None and known(arm.l0)]
    most = max(l0s, default=0.0) or 1.0
    shares = {
        names.index("L0"): [None if arm.l0 is None else arm.l0 / most for arm in arms],
        names.index("dead %"): [arm.dead_share for arm in arms],
    }
    rows = tuple(
        tuple(Cell(cell.text, _bar(shares[i][at])) if i in shares else cell for i, cell in enumerate(row))
        for at, row in enumerate(table.groups[0].rows)
    )
    note = "Bars: L0 as a share of the largest in the table; dead latents as a share of all."
    return DataTable(table.caption, table.headings, (Rows(rows),), note)


def _bar(share: float | None) -> Markup:
    if share is None or not known(share):
        return NOT_DRAWN
    full = block(0, 0, 100, 8, "track")
    return ornament(BAR, 8, full, block(0, 0, 100 * min(max(share, 0.0), 1.0), 8, "fill"), class_="bar")
