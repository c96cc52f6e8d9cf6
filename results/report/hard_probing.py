"""The suite `hard_probing` in every report: the gain of each arm by regime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..hard_probing import DENSE
from .columns import Column, fitting, table
from .numbers import interval, percent, signed
from .tables import left_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from ..hard_probing import Gain
    from .look import Look

DECIMALS = 3
"""Of gains: the margin is .01."""
HEADING = "Gain of the quiver by regime, no part of the verdict"
"""What the table is called."""
EXPLAINED = (
    "gain: in test AUC by an SAE's probes, mean over families of datasets. wins, losses: share of problems and seeds "
    "in which what is chosen with the arm's probes tested better, worse. The dense probes alone have a gain of 0."
)
"""What its headings mean."""


def by_regime(gains: Sequence[Gain]) -> dict[str, tuple[Gain, ...]]:
    """What the table shows: all levels of a regime together, without the quiver that has no SAE.

    Args:
        gains: Of a suite's result.
    """
    shown = [one for one in gains if one.level is None and one.arm != DENSE]
    return {name: tuple(one for one in shown if one.regime == name) for name in dict.fromkeys(g.regime for g in shown)}


def gain_columns(gains: Sequence[Gain]) -> tuple[Column, ...]:
    """Gain of every arm with its interval over families, and how often it won and lost, a row for each gain."""
    return (
        Column("arm", tuple(one.arm for one in gains), "left", wraps=True),
        Column("gain in AUC\n[90 % interval]", tuple(map(_interval, gains)), "left"),
        Column("wins", tuple(percent(one.win_rate) for one in gains)),
        Column("losses", tuple(percent(one.loss_rate) for one in gains)),
        Column("problems,\nfamilies", tuple(f"{one.n_problems}, {one.n_families}" for one in gains)),
    )


def regime_columns(gains: Sequence[Gain]) -> tuple[Column, ...]:
    """The whole table, a regime named beside its first arm.

    Args:
        gains: Of a suite's result.
    """
    regimes = by_regime(gains)
    names = tuple(name if place == 0 else "" for name, found in regimes.items() for place in range(len(found)))
    return Column("regime", names, "left"), *gain_columns([one for found in regimes.values() for one in found])


def gain_parts(gains: Sequence[Gain], look: Look) -> Iterator[RenderableType]:
    """The table on a terminal."""
    columns, rest = fitting(regime_columns(gains), look)
    yield look.text(f"{HEADING}:", "dim")
    yield table(columns, look)
    yield from left_out(rest, look)
    yield look.text(EXPLAINED, "dim")


def _interval(one: Gain) -> str:
    return f"{signed(one.gain, DECIMALS)} {interval(one.lo, one.hi, DECIMALS)}"
