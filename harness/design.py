"""From a plan to the design of its comparisons: which arm is a null for which suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..baselines import baseline_classes
from ..results.design import ArmFacts, Design, SuiteDesign
from ..results.outcome import Skip
from .plan import Plan

if TYPE_CHECKING:
    from ..suites.suite import Suite


def make_design(plan: Plan, suites: Sequence[Suite | type[Suite]], facts: tuple[ArmFacts, ...] = ()) -> Design:
    """Fix what is compared with what, by which margin; made from the plan alone, before any score exists."""
    return Design(tuple(_suite_design(plan, suite) for suite in suites), recipe=plan.recipe, facts=facts)


def left_out_nulls(plan: Plan, design: Design) -> tuple[Skip, ...]:
    """Say which kinds of null a check did without: its verdict is easier to reach, and a reader has to know."""
    names = {b.name for b in plan.baselines} | {skip.what.partition("@")[0] for skip in plan.skipped}
    return tuple(
        Skip(what=name, reason=f"left out by --baselines, though it is a null for {' and '.join(cls.null_for)} claims")
        for name, cls in baseline_classes().items()
        if cls.null_for and name not in names and design.suites
    )


def _suite_design(plan: Plan, suite: Suite | type[Suite]) -> SuiteDesign:
    baselines = plan.baselines
    # METHOD section 2: a frozen decoder with a trained encoder says nothing about a suite that only encodes, and a
    # frozen encoder is a null for what is read, not for what is written back.
    claim = "encoder" if suite.reads == "encoder" else "decoder"
    required = tuple(b.arm for b in baselines if claim in b.null_for)
    encoder_only = suite.reads == "encoder"
    return SuiteDesign(
        suite=suite.name,
        metric=suite.metric,
        margin=suite.margin,
        unit=suite.unit,
        required=required,
        shown=(*filter(None, [plan.recipe]), *(b.arm for b in baselines if b.arm not in required)),
        controls=plan.controls,
        must_lose=() if encoder_only else _made(plan, "permuted_decoder", "permuted_encoder"),
        must_equal=_made(plan, "permuted_decoder") if encoder_only else (),
        floor=suite.floor,
        chance=f"@{suite.chance}",
        ceiling=f"@{suite.ceiling}",
        note=suite.note,
        exploratory=suite.exploratory,
        sampled=getattr(suite, "sampled", False),
        trials=getattr(suite, "trials", False),
        strata=getattr(suite, "strata", False),
    )


def _made(plan: Plan, *controls: str) -> tuple[str, ...]:
    """Those of some controls that exist for the SAE under test."""
    return tuple(name for name in controls if name in plan.controls)
