"""The ladder of soft caps: score against tau, from the loosest cap to the frozen decoder."""

from __future__ import annotations

from itertools import pairwise
from math import acos, degrees
from typing import TYPE_CHECKING

from ..numbers import known, number
from ..tables import suite_decimals
from .axis import Axis
from .shapes import Chart
from .svg import Markup, Real, dot, drawing, joined, line, ornament, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...outcome import ArmSummary, SuiteResult

HEIGHT = 230
"""Pixels of the drawing."""
FOOT = 30
"""Of these below the lowest score, for the labels of tau."""
SCALE = 56
"""Pixels of the upright axis."""
MORE_RUNGS = "It takes two rungs or more to draw score against τ; get them with"
"""What is said where there is nothing to climb."""
FLAG = "--tau 0.8,0.9,0.95,0.99"
"""The flag that gives more rungs."""


def rungs(arms: Sequence[ArmSummary]) -> tuple[tuple[float, ArmSummary], ...]:
    """The soft-frozen arms with their tau, from the loosest cap to the tightest; the frozen decoder last, at 1."""
    found = [(tau, arm) for arm in arms if (tau := _tau(arm.arm)) is not None and known(arm.score)]
    frozen = [(1.0, arm) for arm in arms if arm.arm.startswith("frozen_decoder") and known(arm.score)][:1]
    return (*sorted(found, key=lambda rung: rung[0]), *frozen)


def ladder(suite: SuiteResult) -> Chart | None:
    """Score against tau; None with fewer than two soft caps."""
    climbed = rungs(suite.arms)
    if sum(tau < 1 for tau, _ in climbed) < 2:
        return None
    levels = _levels_of(suite)
    upright = Axis.over([*levels.values(), *(end for _, arm in climbed for end in _ends(arm))])
    decimals = suite_decimals(suite)
    steps = (f"{arm.arm} (τ {tau:g}) {number(arm.score, decimals)}" for tau, arm in climbed)
    lines = (f"{name} {number(value, decimals)}" for name, value in levels.items())
    area = drawing("; ".join(steps), f"Score against τ; lines: {', '.join(lines)}.", HEIGHT, *_marks(suite, upright))
    return Chart(
        caption=f"Ladder of soft caps: {suite.metric} against τ",
        scale=ornament(
            SCALE, HEIGHT, *(words(100, _y(upright, x) + 4, upright.label(x), "tick", "end") for x in upright.ticks())
        ),
        area=area,
        legend="Each decoder row stays within cos ≥ τ of its random start; at τ = 1 (the frozen decoder) it does not "
        "move at all. Places along the axis are by the angle of the cap. Upright bars: one standard deviation over "
        "seeds.",
    )


def _tau(name: str) -> float | None:
    head, _, tail = name.partition("@")
    try:
        tau = float(tail) if head == "soft_frozen" else -1.0
    except ValueError:
        return None
    return tau if 0 <= tau < 1 else None


def _levels_of(suite: SuiteResult) -> dict[str, float]:
    """Scores that are lines over the whole ladder, by name: the trained arm and the floor."""
    trained = next((arm.score for arm in suite.arms if arm.role == "trained"), None)
    found = {"trained, no cap": trained, "floor": suite.floor}
    return {name: score for name, score in found.items() if score is not None and known(score)}


def _ends(arm: ArmSummary) -> tuple[float, float]:
    half = arm.seed_sd if arm.seed_sd is not None and known(arm.seed_sd) else 0.0
    return arm.score - half, arm.score + half


def _y(upright: Axis, score: float) -> float:
    """Pixels from the top."""
    return (HEIGHT - FOOT) * (1 - upright.at(score) / 100)


def _marks(suite: SuiteResult, upright: Axis) -> tuple[Markup, ...]:
    climbed = rungs(suite.arms)
    # By angle: the caps of .95 and .99 are as far apart in what they allow as those of .8 and .9.
    flat = Axis.over([*(-degrees(acos(tau)) for tau, _ in climbed), 0.0])
    grid = (line(0, _y(upright, x), 100, _y(upright, x), "grid") for x in upright.ticks())
    levels = (_level(name, _y(upright, score)) for name, score in _levels_of(suite).items())
    at = [(flat.at(-degrees(acos(tau))), _y(upright, arm.score)) for tau, arm in climbed]
    joins = (line(*one, *two, "step") for one, two in pairwise(at))
    steps = (_step(x, y, rung, upright) for (x, y), rung in zip(at, climbed, strict=True))
    return (*grid, *levels, *joins, *steps)


def _level(name: str, y: Real) -> Markup:
    trained = name.startswith("trained")
    # Names stand where the ladder is not: it falls from the trained arm on the left to the floor on the right.
    said = words(99.5, y + 14, name, "said", "end") if trained else words(0.5, y - 5, name, "said", "start")
    return joined(line(0, y, 100, y, "level l-trained" if trained else "level"), said)


def _step(x: Real, y: Real, rung: tuple[float, ArmSummary], upright: Axis) -> Markup:
    tau, arm = rung
    low, high = (_y(upright, end) for end in _ends(arm))
    mark = dot(x, y, 5, "hollow" if tau == 1 else "point")
    return joined(line(x, low, x, high, "interval"), mark, words(x, HEIGHT - 8, f"τ {tau:g}"))
