"""The assay gate: whether a suite could have told good from bad in this very run (METHOD section 4).

A suite that cannot tell finds no difference anywhere, which would read as "equivalent". So each question must
be answered yes by the data, and a question that could not be put (an arm is missing) counts as no.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .outcome import GateCheck
from .stats import crossed_t, mismatch, paired_t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .design import SuiteDesign
    from .stats import ArmScores, CrossedT

RANGE_IN_SDS = 3.0
"""How many reseed standard deviations must fit between floor and ceiling."""

MIN_SEEDS = 3
"""Seeds below which one cannot be held against the others: two seeds have no variance left over."""

MIN_STARTS = 2
"""The same where seeds are starts nested in worlds: the variance comes from the worlds."""

OF_THE_SAE = frozenset({"controls", "off_floor"})
"""Checks that a bad SAE may fail before a sound assay."""

Scores = dict[tuple[str, str], "ArmScores"]
"""Scores of one suite by (metric, arm)."""


def run_gate(scores: Scores, design: SuiteDesign, *, trained: str, alpha: float = 0.05) -> tuple[GateCheck, ...]:
    """Put the four questions of METHOD section 4 to one suite.

    Args:
        scores: Scores of the suite by (metric, arm).
        design: Which arm is floor, chance, ceiling and control.
        trained: Name of the arm under test.
        alpha: One-sided level.

    Returns:
        `range`, `controls`, `seeds` and `off_floor`, in this order.
    """
    arms = {arm: table for (metric, arm), table in scores.items() if metric == design.metric}
    return (
        check_range(arms, design, trained=trained),
        check_controls(scores, design, trained=trained, alpha=alpha),
        check_seeds(arms, design, alpha=alpha),
        check_off_floor(arms, design, trained=trained, alpha=alpha),
    )


def recipe_gate(
    scores: Scores, design: SuiteDesign, *, trained: str, recipe: str, alpha: float = 0.05
) -> tuple[GateCheck, ...]:
    """Put the same questions where a recipe is judged beside a given SAE.

    `off_floor` is asked of the recipe's arm. `controls` asks whether the assay tells a broken SAE from a sound one: a
    given SAE may be so bad that its own broken copies do not lose to it, which says nothing against the assay, so it is
    enough that they lose to the recipe's arm. What must not change at all is held against the SAE that it was made of.

    Args:
        scores: Scores of the suite by (metric, arm).
        design: Which arm is floor, chance, ceiling and control.
        trained: Name of the given SAE's arm.
        recipe: Name of the arm that stands for the recipe.
        alpha: One-sided level.
    """
    arms = {arm: table for (metric, arm), table in scores.items() if metric == design.metric}
    controls = check_controls(scores, design, trained=trained, alpha=alpha)
    if not controls.passed and design.must_lose:
        losing = check_controls(scores, replace(design, must_equal=()), trained=recipe, alpha=alpha)
        equal = [_equals(scores, trained, control, _equal_in(design)) for control in design.must_equal]
        detail = "; ".join([losing.detail, *(text for _, text in equal)])
        controls = GateCheck(name="controls", passed=losing.passed and all(p for p, _ in equal), detail=detail)
    return (
        check_range(arms, design, trained=recipe),
        controls,
        check_seeds(arms, design, alpha=alpha),
        check_off_floor(arms, design, trained=recipe, alpha=alpha),
    )


def vouched(own: Sequence[GateCheck], told: Sequence[GateCheck], *, recipe: str) -> tuple[GateCheck, ...]:
    """The gate of a given SAE that the comparisons find WORSE, with the recipe's arm as the assay's positive control.

    A given SAE may be so bad that it is on the floor, or that its own broken copies do not lose to it. That says
    nothing against an assay that, in the same run, told SAEs of the recipe from the floor and from broken copies: the
    SAE is then WORSE, not INVALID. Asked only where the comparisons find it WORSE: nothing is passed so, and an SAE on
    the floor is never called equivalent (METHOD section 4).

    Args:
        own: The gate of the given SAE.
        told: That of its recipe, in the same order.
        recipe: Name of the arm that stands for the recipe.

    Returns:
        `own`, with its failures answered by `told`, each with both details; unchanged unless all of `told` passed and
        nothing but the SAE's own quality failed.
    """
    failed = {check.name for check in own if not check.passed}
    if not failed <= OF_THE_SAE or not all(check.passed for check in told):
        return tuple(own)
    return tuple(mine if mine.passed else _answered(mine, other, recipe) for mine, other in zip(own, told, strict=True))


def _answered(own: GateCheck, told: GateCheck, recipe: str) -> GateCheck:
    detail = f"answered by the recipe ({recipe}): {told.detail}; the SAE itself fails: {own.detail}"
    return told.model_copy(update={"detail": detail})


def find(arms: Mapping[str, ArmScores], name: str) -> ArmScores | None:
    """An arm by its name, or a reference by its name without the leading `@`; None where it has no scores."""
    return arms.get(name) or arms.get(f"@{name}") if name else None


def check_range(arms: Mapping[str, ArmScores], design: SuiteDesign, *, trained: str) -> GateCheck:
    """Whether ceiling − floor is more than RANGE_IN_SDS reseed standard deviations.

    The reseed deviation is the largest over trained and the baselines. Controls are left out: they are broken
    on purpose, and how widely a broken SAE scatters says nothing about the comparison.
    """
    floor, ceiling = find(arms, design.floor), find(arms, design.ceiling)
    if floor is None or ceiling is None:
        missing = f"floor {design.floor!r}" if floor is None else f"ceiling {design.ceiling!r}"
        return GateCheck(name="range", passed=False, detail=f"no scores of the {missing}")
    candidates = (arms.get(arm) for arm in {trained, design.floor, *design.required, *design.shown})
    measured = (arm.reseed_sd(nested=design.nested) for arm in candidates if arm is not None)
    spreads = [spread for spread in measured if spread is not None]
    if not spreads:
        what = "worlds or starts" if design.nested else "seeds"
        return GateCheck(name="range", passed=False, detail=f"no arm has two {what}, so reseeding is unknown")
    width, spread = ceiling.score - floor.score, max(spreads)
    detail = f"ceiling - floor {width:.4g}, {RANGE_IN_SDS:g} reseed deviations {RANGE_IN_SDS * spread:.4g}"
    return GateCheck(name="range", passed=width > RANGE_IN_SDS * spread, detail=detail)


def check_controls(scores: Scores, design: SuiteDesign, *, trained: str, alpha: float) -> GateCheck:
    """Whether broken controls lose, and controls that cannot matter change nothing at all.

    With a `control_metric` a control may do both: the shuffled rows of a decoder reconstruct nothing, and are still
    the same set of rows, which a score of the dictionary alone must find equal.
    """
    if not (design.must_lose or design.must_equal):
        return GateCheck(name="controls", passed=False, detail="no control was measured")
    losing_in = design.control_metric or design.metric
    answers = [_loses(scores, losing_in, trained, each, alpha, trials=design.trials) for each in design.must_lose]
    answers += [_equals(scores, trained, control, _equal_in(design)) for control in design.must_equal]
    detail = "; ".join(text for _, text in answers)
    return GateCheck(name="controls", passed=all(passed for passed, _ in answers), detail=detail)


def check_seeds(arms: Mapping[str, ArmScores], design: SuiteDesign, *, alpha: float) -> GateCheck:
    """Whether no random seed "beats" the others of its arm.

    Each seed is held against the rest with the interval of one more draw, at alpha / seeds (Bonferroni): the
    rest's own seed variance says how far a further seed may lie. It fails like a verdict of BEATS would read:
    lo > 0 and hi >= margin. Nested, a start number means nothing across worlds: its differences from the other
    starts of its world are a sample over worlds, and an ordinary paired t says whether their mean is 0.
    """
    name, least = _null_arm(arms, design), MIN_STARTS if design.nested else MIN_SEEDS
    arm = find(arms, name)
    if arm is None or arm.ragged or len(arm.seeds) < least or len(arm.clusters) < 2:
        return GateCheck(name="seeds", passed=False, detail=_no_seed_check(name, arm, nested=design.nested))
    results = {seed: _leave_one_out(arm, i, alpha, nested=design.nested) for i, seed in enumerate(arm.seeds)}
    beating = [seed for seed, t in results.items() if t.lo is not None and t.lo > 0 and (t.hi or 0) >= design.margin]
    best = max(results, key=lambda seed: results[seed].estimate)
    word = "start" if design.nested else "seed"
    detail = f"{name}: best {word} {best} against the other {len(results) - 1}: {describe_interval(results[best])}"
    if beating:
        detail += f"; {word}s that beat the others: {', '.join(map(str, beating))}"
    return GateCheck(name="seeds", passed=not beating, detail=detail)


def check_off_floor(arms: Mapping[str, ArmScores], design: SuiteDesign, *, trained: str, alpha: float) -> GateCheck:
    """Whether trained is above the reference that has no information at all.

    Deliberately not above the random dictionary: being no better than that is the finding EQUIVALENT, and a
    gate that called it INVALID would hide the very answer that the check is for.
    """
    ours, chance = arms.get(trained), find(arms, design.chance)
    if ours is None or chance is None:
        missing = f"the arm under test {trained!r}" if ours is None else f"the chance reference {design.chance!r}"
        return GateCheck(name="off_floor", passed=False, detail=f"no scores of {missing}")
    if problem := mismatch(ours, chance):
        return GateCheck(name="off_floor", passed=False, detail=problem)
    result = _fixed(ours, chance, alpha=alpha, trials=design.trials)
    detail = f"{trained} against {chance.arm}: {describe_interval(result)}"
    return GateCheck(name="off_floor", passed=result.lo is not None and result.lo > 0, detail=detail)


def _null_arm(arms: Mapping[str, ArmScores], design: SuiteDesign) -> str:
    """Name of the arm whose seeds are held against each other: the floor, or the required arm that has the most."""
    if (design.floor in arms and not design.floor.startswith("@")) or not design.required:
        return design.floor
    return max(design.required, key=lambda name: len(arms[name].seeds) if name in arms else 0)


def _no_seed_check(name: str, arm: ArmScores | None, *, nested: bool) -> str:
    if arm is None:
        return f"no scores of {name!r}"
    if arm.ragged:
        return arm.ragged
    word, least = ("start", MIN_STARTS) if nested else ("seed", MIN_SEEDS)
    if len(arm.seeds) < least:
        return f"{name} has {len(arm.seeds)} {word}(s); holding one against the others takes {least}"
    if nested:
        return "one world: how starts vary between worlds is not known"
    return "one cluster: how scores vary between clusters is not known"


def _leave_one_out(arm: ArmScores, index: int, alpha: float, *, nested: bool) -> CrossedT:
    scores = arm.clusters
    others = np.delete(scores, index, axis=1)
    if nested:
        return paired_t(scores[:, [index]], others, alpha=alpha / len(arm.seeds))
    return crossed_t(scores[:, [index]], others, new_draw=True, alpha=alpha / len(arm.seeds))


def _fixed(ours: ArmScores, theirs: ArmScores, *, alpha: float, trials: bool) -> CrossedT:
    """Two arms taken as they are: only clusters are a sample, and trials where there are some."""
    if not trials:
        return paired_t(ours.clusters, theirs.clusters, alpha=alpha)
    mine, other = ours.trials, theirs.trials
    # A reference has no seeds: each of its trials stands against those of every SAE.
    return paired_t(mine, other if mine.shape == other.shape else theirs.clusters, alpha=alpha, trials=True)


def _loses(scores: Scores, metric: str, trained: str, control: str, alpha: float, *, trials: bool) -> tuple[bool, str]:
    """A control is cut from the trained SAE itself: the same seeds are paired, only clusters are a sample."""
    ours, theirs = scores.get((metric, trained)), scores.get((metric, control))
    if ours is None or theirs is None:
        return False, f"no scores of {control if ours else trained}"
    if problem := mismatch(ours, theirs):
        return False, problem
    shared = [seed for seed in ours.seeds if seed in theirs.seeds]
    both = [
        replace(arm, items=arm.items[[seed for seed in arm.seeds if seed in shared] or list(arm.seeds)])
        for arm in (ours, theirs)
    ]
    result = _fixed(*both, alpha=alpha, trials=trials)
    passed = result.lo is not None and result.lo > 0
    return passed, f"{trained} {'above' if passed else 'not above'} {control}: {describe_interval(result)}"


def _equal_in(design: SuiteDesign) -> str:
    """The only metric in which `must_equal` controls are held; empty for every metric."""
    return design.metric if design.control_metric else ""


def _equals(scores: Scores, trained: str, control: str, only: str = "") -> tuple[bool, str]:
    """Exact equality of every row, in every metric or `only` one: the smallest difference is a bug, not noise."""
    worst = 0.0
    metrics = {metric for metric, arm in scores if arm in (trained, control)}
    for metric in [only] if only else sorted(metrics):
        ours, theirs = scores.get((metric, trained)), scores.get((metric, control))
        if ours is None or theirs is None:
            return False, f"no scores of {control if ours else trained} in {metric}"
        if not ours.items.index.equals(theirs.items.index) or not set(theirs.seeds) <= set(ours.seeds):
            return False, f"{control} has other items or seeds than {trained} in {metric}"
        gap = np.abs(theirs.items.to_numpy() - ours.items[list(theirs.seeds)].to_numpy())
        # A hole in one of them is a difference too; NaN would slip through a maximum.
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
    if not any(arm == control for _, arm in scores):
        return False, f"no scores of {control}"
    return (
        worst == 0,
        f"{control} {'equals' if worst == 0 else 'differs from'} {trained}: largest difference {worst:.3g}",
    )


def describe_interval(result: CrossedT) -> str:
    """A difference with its interval, in a line of a check."""
    if result.lo is None or result.hi is None:
        return f"{result.estimate:+.4g}, no interval"
    return f"{result.estimate:+.4g} [{result.lo:+.4g}, {result.hi:+.4g}]"
