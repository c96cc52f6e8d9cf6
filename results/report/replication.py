"""A replication in the terminal: the paper's numbers beside ours, every arm, recovery against training length."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ..replication import ArmLine, CurvePoint, Line, Replication

_SHORT = {"explained_variance": "EV", "recovered_0.8": "cos > .8"}
_STYLE = {"PASS": "green", "DIFFERS": "red", "NOT RUN": "yellow"}


def render(found: Replication, console: Console) -> None:
    """Print a replication."""
    for piece in pieces(found):
        console.print(piece)


def pieces(found: Replication) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    met = sum(line.verdict == "PASS" for line in found.lines)
    yield Text(f"{found.paper} (preset {found.preset}): {met} of {len(found.lines)} published numbers met", "bold")
    if found.preset != "paper":
        yield Text(
            "This preset is a smaller world than the paper's: its numbers need not agree, the order of the arms should."
        )
    yield published_table(found.lines)
    yield Text(
        "explained variance is met within ±.02; recovery where the published share lies in the 95 % prediction "
        "interval of one further world of ours"
    )
    yield arm_table(found.arms)
    if found.curves:
        yield curve_table(found.curves)


def published_table(lines: tuple[Line, ...]) -> Table:
    """One row for every published number."""
    title = "the paper's numbers and ours"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("world", no_wrap=True)
    table.add_column("architecture", overflow="fold", min_width=10)
    table.add_column("metric", no_wrap=True)
    for name in ("paper", "ours", "over worlds", "met between"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in lines:
        number = line.published
        table.add_row(
            number.world,
            number.architecture,
            _SHORT.get(number.metric, number.metric),
            number.reported,
            _number(line.ours),
            _range(min(line.by_world), max(line.by_world)) if line.by_world else "–",
            "–" if line.lo is None or line.hi is None else _range(line.lo, line.hi),
            Text(line.verdict, _STYLE[line.verdict]),
        )
    return table


def arm_table(arms: tuple[ArmLine, ...]) -> Table:
    """One row for every arm in every kind of world."""
    table = Table(box=box.SIMPLE_HEAD, title="every arm, mean over worlds", title_justify="left")
    for name in ("world", "architecture", "arm"):
        table.add_column(name, overflow="fold")
    for name in ("EV", "cos > .8", "± world sd", "weighted", "own cos", "L0", "dead"):
        table.add_column(name, justify="right")
    before = ("", "")
    for arm in arms:
        place = (arm.world, arm.architecture)
        if before not in (("", ""), place):
            table.add_section()
        shown = place if place != before else ("", "")
        before = place
        numbers = (arm.explained_variance, arm.recovered, arm.recovered_sd, arm.weighted_recovery, arm.matched_cosine)
        l0 = "–" if arm.l0 is None else f"{arm.l0:.1f}"
        dead = "–" if arm.dead_share is None else f"{arm.dead_share:.1%}"
        table.add_row(*shown, arm.arm, *map(_number, numbers), l0, dead)
    return table


def curve_table(curves: tuple[CurvePoint, ...], arm: str = "trained") -> Table:
    """Recovery of the trained arm against training length, one column for each architecture."""
    mine = [point for point in curves if point.arm == arm]
    columns = list(dict.fromkeys((p.world, p.architecture) for p in mine))
    table = Table(box=box.SIMPLE_HEAD, title=f"recovered (cos > .8) by {arm}, after samples", title_justify="left")
    table.add_column("samples", justify="right")
    for world, architecture in columns:
        table.add_column(f"{world}\n{architecture}", justify="right")
    at = {(p.world, p.architecture, p.samples): p.recovered for p in mine}
    for samples in sorted({p.samples for p in mine}):
        table.add_row(f"{samples:,}", *(_number(at.get((w, a, samples))) for w, a in columns))
    return table


def _range(lo: float, hi: float) -> str:
    """Both ends without the zero before the point: the table has to fit 100 columns."""
    return " to ".join(re.sub(r"^(-?)0\.", r"\1.", f"{end:.4f}") for end in (lo, hi))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
