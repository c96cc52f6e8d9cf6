"""A replication in the terminal: the paper's numbers beside ours, every arm, recovery against training length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from rich import box
from rich.table import Table
from rich.text import Text

from ..replication import ArmLine, VerdictLine

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..replication import CurvePoint, Line, Replication

_Placed = TypeVar("_Placed", ArmLine, VerdictLine)

_SHORT = {"explained_variance": "EV", "recovered_0.8": "cos > .8"}
_STYLE = {"PASS": "green", "DIFFERS": "red", "NOT RUN": "yellow", "OTHER SIZE": "dim"}


def render(found: Replication, console: Console) -> None:
    """Print a replication."""
    for piece in pieces(found):
        console.print(piece)


def pieces(found: Replication) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    met = sum(line.verdict == "PASS" for line in found.lines)
    said = f"{met} of {len(found.lines)} published numbers met" if found.published_size else "not of the paper's size"
    yield Text(f"{found.paper} (preset {found.preset}): {said}", "bold")
    if not found.published_size:
        yield Text("The paper's numbers are those of other worlds and can be neither met nor missed here.")
    yield published_table(found.lines)
    yield Text(
        "met between: for explained variance the paper's number ± .02, for ours to lie in; for recovery the 95 % "
        "prediction interval of one further world of ours, for the paper's to lie in (wide with few worlds)"
    )
    yield verdict_table(found.verdicts)
    yield arm_table(found.arms)
    yield from curve_tables(found.curves)


def published_table(lines: tuple[Line, ...]) -> Table:
    """One row for every published number."""
    title = "the paper's numbers and ours"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("architecture", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("paper", "ours", "over worlds", "met between"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    before = None
    for line in lines:
        number = line.published
        if number.world != before:
            table.add_section()
            table.add_row(Text(f"{number.world} worlds", "bold"))
        before = number.world
        table.add_row(
            number.architecture,
            _SHORT.get(number.metric, number.metric),
            number.reported,
            _number(line.ours),
            _range(min(line.by_world), max(line.by_world)) if line.by_world else "–",
            "–" if line.lo is None or line.hi is None else _range(line.lo, line.hi),
            Text(line.verdict, _STYLE[line.verdict]),
        )
    return table


def verdict_table(verdicts: tuple[VerdictLine, ...]) -> Table:
    """Trained against every arm by the primary metric."""
    title = "trained minus each arm, one-to-one cosine (* required)"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    table.add_column("difference [90 % interval]", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in _by_place(table, verdicts):
        table.add_row(f"{'*' if line.required else ' '} {line.baseline}", _interval(line), str(line.verdict))
    return table


def _by_place(table: Table, lines: Sequence[_Placed]) -> Iterator[_Placed]:
    """Every line, after a heading row where another world or architecture begins."""
    before = None
    for line in lines:
        if (place := (line.world, line.architecture)) != before:
            table.add_section()
            table.add_row(Text(" · ".join(place), "bold"))
        before = place
        yield line


def _interval(line: VerdictLine) -> str:
    if line.difference is None:
        return "–"
    if line.lo is None or line.hi is None:
        return f"{line.difference:+.3f}"
    return f"{line.difference:+.3f} [{line.lo:+.3f}, {line.hi:+.3f}]"


def arm_table(arms: tuple[ArmLine, ...]) -> Table:
    """One row for every arm in every kind of world."""
    title = "every arm, mean over worlds"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for name in ("EV", "cos > .8", "± world", "weighted", "own cos", "L0", "dead"):
        table.add_column(name, justify="right", no_wrap=True)
    for arm in _by_place(table, arms):
        numbers = (arm.explained_variance, arm.recovered, arm.recovered_sd, arm.weighted_recovery, arm.matched_cosine)
        l0 = "–" if arm.l0 is None else f"{arm.l0:.1f}"
        dead = "–" if arm.dead_share is None else f"{arm.dead_share:.1%}"
        table.add_row(arm.arm, *map(_number, numbers), l0, dead)
    return table


def curve_tables(curves: tuple[CurvePoint, ...], arm: str = "trained") -> Iterator[Table]:
    """Recovery of the trained arm against training length, a table for each world, a column for each architecture."""
    mine = [point for point in curves if point.arm == arm]
    at = {(p.world, p.architecture, p.samples): p.recovered for p in mine}
    for world in dict.fromkeys(p.world for p in mine):
        here = [p for p in mine if p.world == world]
        columns = list(dict.fromkeys(p.architecture for p in here))
        title = f"recovered (cos > .8) by {arm} in {world} worlds, after samples"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
        for name in ("samples", *columns):
            table.add_column(name, justify="right")
        for samples in sorted({p.samples for p in here}):
            table.add_row(f"{samples:,}", *(_number(at.get((world, a, samples))) for a in columns))
        yield table


def _range(lo: float, hi: float) -> str:
    """Both ends without the zero before the point: the table has to fit 100 columns."""
    return " to ".join(re.sub(r"^(-?)0\.", r"\1.", f"{end:.4f}") for end in (lo, hi))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
