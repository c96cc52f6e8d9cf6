"""From a plan to the design of its comparisons: which arm is a null for which suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..baselines import baseline_classes, parse_arm
from ..results.design import ArmFacts, Design, SuiteDesign
from ..results.outcome import Skip
from ..results.policy import UNMET
from ..results.synthetic import SUITE
from ..suites.suite import suite_classes
from .errors import UsageError, unknown
from .plan import Plan

if TYPE_CHECKING:
    from ..results.policy import Policy
    from ..suites.suite import Suite
    from .config import Settings


SPARED = (
    "no null for this suite, so it is left out where a quick answer is asked for: "
    "probe_conditions=release, or a check whose policy names it, has it measured"
)


def make_design(plan: Plan, suites: Sequence[Suite | type[Suite]], facts: tuple[ArmFacts, ...] = ()) -> Design:
    """Fix what is compared with what, by which margin; made from the plan alone, before any score exists."""
    policy = plan.settings.policy
    return Design(tuple(_suite_design(plan, suite) for suite in suites), recipe=plan.recipe, facts=facts, policy=policy)


def required_arms(plan: Plan, *, claim: str, policy: Policy) -> tuple[str, ...]:
    """Arms of a plan that must be beaten: nulls for what a suite reads, and what the policy names.

    Args:
        plan: What is measured; an arm that does not exist for its architecture is among `plan.skipped`.
        claim: `encoder` or `decoder`.
        policy: What a project asks.
    """
    named = policy_arms(policy, plan.settings)
    return tuple(b.arm for b in plan.baselines if claim in b.null_for or b.arm in named)


def policy_arms(policy: Policy, settings: Settings) -> tuple[str, ...]:
    """Arms that a policy names, as they are run: `soft_frozen` is every rung of the ladder.

    Raises:
        UsageError: for a name that is no baseline.
    """
    rungs = [f"soft_frozen@{tau:g}" for tau in settings.tau]
    names = [arm for name in policy.baselines for arm in (rungs if name == "soft_frozen" else [name])]
    return tuple(dict.fromkeys(_arm(name) for name in names))


def _arm(name: str) -> str:
    try:
        return parse_arm(name).arm
    except ValueError as error:
        raise UsageError(f"policy.baselines: {error}") from None


def check_policy(settings: Settings) -> None:
    """Refuse a policy that this check cannot meet, before anything is computed or written.

    Raises:
        UsageError: for suites or baselines that are not run, a margin for no suite, or fewer seeds than it asks for.
    """
    policy, known = settings.policy, [*suite_classes(), SUITE]
    for field, names in (("suites", policy.suites), ("margins", policy.margins)):
        for name in names:
            if name not in known:
                raise _in_policy(field, unknown("suite", name, known))
    for name in policy.suites:
        if name not in settings.suites:
            run = ", ".join(settings.suites)
            raise UsageError(f"policy.suites requires {name!r}, which is not among the suites of this check ({run})")
    arms = [_arm(name) for name in settings.arms()]
    for arm in policy_arms(policy, settings):
        if arm not in arms:
            run = ", ".join(arms)
            raise UsageError(f"policy.baselines requires {arm!r}, which is not among the arms of this check ({run})")
    for field in ("seeds", "random_seeds"):
        if getattr(settings, field) < getattr(policy, field):
            fewest = getattr(policy, field)
            raise UsageError(f"{field} is {getattr(settings, field)}, but policy.{field} asks for at least {fewest}")


def _in_policy(field: str, error: UsageError) -> UsageError:
    return UsageError(f"policy.{field}: {error}")


def left_out_nulls(plan: Plan, design: Design) -> tuple[Skip, ...]:
    """Say which kinds of null a check did without: its verdict is easier to reach, and a reader has to know."""
    names = {b.name for b in plan.baselines} | {skip.what.partition("@")[0] for skip in plan.skipped}
    arms = {b.arm for b in plan.baselines}
    asked = [arm for arm in policy_arms(design.policy, plan.settings) if arm not in arms and design.suites]
    unmet = [Skip(what=arm, reason=UNMET) for arm in asked]
    return *unmet, *(
        Skip(what=name, reason=f"left out by --baselines, though it is a null for {' and '.join(cls.null_for)} claims")
        for name, cls in baseline_classes().items()
        if cls.null_for and name not in names and design.suites
    )


def _suite_design(plan: Plan, suite: Suite | type[Suite]) -> SuiteDesign:
    # METHOD section 2: a frozen decoder with a trained encoder says nothing about a suite that only encodes, and a
    # frozen encoder is a null for what is read, not for what is written back.
    claim = "encoder" if suite.reads == "encoder" else "decoder"
    policy = plan.settings.policy
    required = required_arms(plan, claim=claim, policy=policy)
    encoder_only = suite.reads == "encoder"
    return SuiteDesign(
        suite=suite.name,
        metric=suite.metric,
        margin=policy.margin(suite.name, suite.margin),
        unit=suite.unit,
        required=required,
        shown=(*filter(None, [plan.recipe]), *(() if _only_nulls(plan, suite) else _others(plan, required))),
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
        votes=policy.requires(suite.name),
    )


def _only_nulls(plan: Plan, suite: Suite | type[Suite]) -> bool:
    """Whether a suite asks, with the settings of this check, to be spared what nobody has to beat."""
    spared = getattr(suite, "only_nulls", None)
    return spared is not None and spared(plan.settings.model_dump())


def _others(plan: Plan, required: Sequence[str]) -> tuple[str, ...]:
    return tuple(b.arm for b in plan.baselines if b.arm not in required)


def spared_arms(plan: Plan, suites: Sequence[Suite]) -> tuple[Skip, ...]:
    """Say which baselines a suite was spared: they were made, and other suites may have measured them."""
    return tuple(
        Skip(what=f"{suite.name}: {', '.join(spared)}", reason=SPARED)
        for suite in suites
        if _only_nulls(plan, suite) and (spared := _others(plan, make_design(plan, [suite]).suites[0].required))
    )


def _made(plan: Plan, *controls: str) -> tuple[str, ...]:
    """Those of some controls that exist for the SAE under test."""
    return tuple(name for name in controls if name in plan.controls)
