"""Verdicts in words: why, in one sentence, and what would change them."""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING

from .outcome import Verdict
from .sampled import coverage_of, percent
from .stats.crossed import RECIPE_SEEDS
from .verdict import FAILING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .outcome import Comparison, Estimate, GateCheck, SuiteResult
    from .verdict import CheckVerdict

RELEASE_SEEDS = 5
"""Baseline seeds that a release verdict should rest on (METHOD section 5.2)."""

LEVEL = 0.05
"""Level of the p values that advice speaks of."""

MUCH_OUTSIDE = 0.1
"""Share of the latents that could be asked about, outside the firing rates that all arms have, that is said aloud."""

UNLIKE_INELIGIBLE = 0.1
"""Difference between trained and a baseline, in the share of alive latents that cannot be asked about, likewise."""

ENOUGH_SEEDS = f"; {RECIPE_SEEDS} can"
"""End of the reason where seeds are all that a recipe's claim lacks."""

UNTOLD = "the assay could not have told"
"""Why nothing follows from the comparisons of a suite whose gate failed."""

_FOUND = {
    Verdict.WORSE: "is worse than",
    Verdict.EQUIVALENT: "is equivalent to",
    Verdict.NEGLIGIBLE: "beats only by a negligible margin",
}


_RECIPE: dict[CheckVerdict, str] = {
    "PASS": " So does its recipe, retrained on the tokens that the baselines had.",
    "FAIL": " Its recipe, retrained on the tokens that the baselines had, does not.",
    "INCONCLUSIVE": " Whether its recipe does, on the tokens that the baselines had, is undecided.",
    "INVALID": " Nothing can be said of its recipe.",
}
_RECIPE_APART: dict[CheckVerdict, str] = {
    "PASS": " Its recipe, retrained on the tokens that the baselines had, does beat random.",
    "FAIL": " Its recipe, retrained on the tokens that the baselines had, does not beat random.",
    "INCONCLUSIVE": " Whether its recipe beats random, on the tokens that the baselines had, is undecided.",
}
"""The same behind a verdict that is not PASS."""


def headline(
    verdict: CheckVerdict,
    suites: Sequence[SuiteResult],
    *,
    target: str,
    recipe: CheckVerdict | None = None,
    incomplete: Sequence[str] = (),
) -> str:
    """The verdict of a check in one sentence, and that of its recipe in a second one."""
    words = _RECIPE if verdict == "PASS" else _RECIPE | _RECIPE_APART
    if recipe and not suites and not incomplete:
        return f"No verdict on {target}: no suite that votes measured the SAE itself.{words[recipe]}"
    return _headline(verdict, suites, target, incomplete) + (words[recipe] if recipe else "")


def _headline(verdict: CheckVerdict, suites: Sequence[SuiteResult], target: str, incomplete: Sequence[str]) -> str:
    names = {v: ", ".join(s.label for s in suites if s.verdict is v) for v in Verdict}
    if verdict == "PASS":
        return f"{target} beats every required random baseline in every suite ({names[Verdict.BEATS]})."
    if verdict == "FAIL":
        failed = "; ".join(f"{v.value} in {names[v]}" for v in FAILING if names[v])
        return f"{target} does not beat random: {failed}."
    if verdict == "INVALID" and incomplete and not names[Verdict.INVALID]:
        return f"No verdict on {target}: not checked: {', '.join(incomplete)}."
    if verdict == "INVALID":
        where = names[Verdict.INVALID] or "no suite was measured"
        return f"No verdict on {target}: {UNTOLD} ({where})."
    return f"{target} is not yet shown to beat random: undecided in {names[Verdict.INCONCLUSIVE]}."


def suite_reason(
    verdict: Verdict, required: Sequence[Comparison], gate: Sequence[GateCheck], *, level: float = 0.9
) -> str:
    """One sentence saying why a suite has its verdict.

    Args:
        verdict: The verdict of the suite.
        required: Its required comparisons.
        gate: Its gate.
        level: Coverage of the interval.

    Returns:
        The gate's failures, or the comparisons that decided.
    """
    if failed := [check for check in gate if not check.passed]:
        return f"{UNTOLD}: " + "; ".join(f"{check.name}: {check.detail}" for check in failed)
    if not required:
        return "no baseline is required, so there is nothing to beat"
    decided = [c for c in required if c.verdict is verdict]
    return "; ".join(f"against {c.baseline}: {c.verdict.value}{_numbers(c, level)}" for c in decided)


def advice(suites: Sequence[SuiteResult]) -> tuple[str, ...]:
    """What would change or strengthen the verdict, one line each."""
    lines = [line for suite in suites for line in _suite_advice(suite)]
    return tuple(dict.fromkeys([*lines, *_seed_advice(suites)]))


def _numbers(comparison: Comparison, level: float) -> str:
    if comparison.reason:
        return f" ({comparison.reason})"
    e = comparison.estimate
    if e is None or e.lo is None or e.hi is None:
        return ""
    kind = "anytime-valid " if comparison.anytime else ""
    interval = f"{kind}{100 * level:.0f} % interval {e.lo:+.3f} to {e.hi:+.3f}"
    return f" ({e.difference:+.3f}, {interval}, margin {comparison.margin:g})"


def _suite_advice(suite: SuiteResult) -> list[str]:
    if failed := [f"{suite.label}: INVALID; {c.name}: {c.detail}." for c in suite.gate if not c.passed]:
        # An assay that could not have told has compared nothing.
        return failed
    lines = _coverage_advice(suite)
    for comparison in suite.comparisons:
        if comparison.required and (line := _comparison_advice(comparison)):
            lines.append(f"{suite.label} vs {comparison.baseline}: {comparison.verdict.value}; {line}.")
    if suite.verdict is Verdict.BEATS and suite.p_holm is not None and suite.p_holm > LEVEL:
        lines.append(f"{suite.label}: the interval is above 0, but p over all suites (Holm) is {suite.p_holm:.3f}.")
        lines += _sign_advice(suite)
    return lines


def _coverage_advice(suite: SuiteResult) -> list[str]:
    """What a comparison of sampled latents leaves out, where that is much or differs between arms."""
    known = {arm.arm: found for arm in suite.arms if (found := coverage_of(arm.secondary))}
    trained = next((known[arm.arm] for arm in suite.arms if arm.role == "trained" and arm.arm in known), None)
    if trained is None:
        return []
    lines = []
    if trained.outside > MUCH_OUTSIDE:
        lines.append(
            f"{suite.label}: of the SAE's latents that could be asked about {percent(trained.outside)} fire less or "
            "more often than those of some other arm; the verdict says nothing of them."
        )
    unlike = [
        f"{c.baseline} {percent(known[c.baseline].ineligible)}"
        for c in suite.comparisons
        if c.required
        and c.baseline in known
        and abs(known[c.baseline].ineligible - trained.ineligible) > UNLIKE_INELIGIBLE
    ]
    if unlike:
        lines.append(
            f"{suite.label}: of the SAE's alive latents {percent(trained.ineligible)} fire in too few or too many "
            f"places to be asked about, of those of {', '.join(unlike)}; the verdict is about the others."
        )
    return lines


def _sign_advice(suite: SuiteResult) -> list[str]:
    """How many worlds a p below the level takes, where their signs alone keep it above."""
    worlds = [c.estimate.n_clusters for c in suite.comparisons if c.required and c.nested and c.estimate]
    if not worlds or 2.0 ** -min(worlds) < LEVEL:
        return []
    fewest, enough = min(worlds), ceil(-log2(LEVEL))
    return [
        f"{suite.label}: the sign-flip p of {fewest} worlds cannot be below {2.0**-fewest:.3g}, however clear the "
        f"difference; {enough} worlds can reach {2.0**-enough:.3g}."
    ]


def _comparison_advice(comparison: Comparison) -> str:
    """What would change one required verdict; empty for BEATS."""
    verdict, margin = comparison.verdict, comparison.margin
    if verdict is Verdict.BEATS:
        return ""
    if verdict in FAILING:
        found = f"the SAE {_FOUND[verdict]} this baseline at the margin {margin:g}"
        return f"{found}; more data would not change that"
    if verdict is Verdict.INVALID:
        return comparison.reason
    if comparison.anytime and comparison.estimate and comparison.estimate.lo is not None:
        return (
            f"{comparison.estimate.n_clusters} latents of each SAE were not enough for the anytime-valid interval; "
            f"more latents or more baseline seeds (have {comparison.estimate.n_baseline}) would narrow it"
        )
    if comparison.estimate is None or comparison.estimate.mde is None:
        units = "latents of each SAE" if comparison.sampled else "clusters"
        least = f"{RECIPE_SEEDS} worlds" if comparison.nested else f"two {units} and {RELEASE_SEEDS} baseline seeds"
        return f"{comparison.reason}; measure at least {least}"
    if comparison.reason:
        return comparison.reason
    clusters = "worlds" if comparison.nested else "latents of each SAE" if comparison.sampled else "clusters"
    return _size_advice(comparison.estimate, margin, clusters=clusters, nested=comparison.nested)


def _size_advice(estimate: Estimate, margin: float, *, clusters: str, nested: bool) -> str:
    """How much larger a run would have to be."""
    if estimate.mde is not None and estimate.mde <= margin:
        return (
            f"this run can see a difference of {margin:g} (detectable {estimate.mde:.3g}), "
            "so the truth lies near 0 or the margin; only a clearly larger run would decide"
        )
    ways = [
        f"{needed} {what} (have {have})"
        for needed, what, have in (
            (estimate.clusters_needed, clusters, estimate.n_clusters),
            (estimate.seeds_needed, "baseline seeds", estimate.n_baseline),
        )
        if needed is not None
    ]
    if ways:
        return f"about {' or '.join(ways)} would resolve a difference of {margin:g}"
    if nested:
        return (
            f"no number of worlds (have {estimate.n_clusters}) would resolve a difference of {margin:g} "
            f"(detectable now: {estimate.mde:.3g})"
        )
    return (
        f"neither more {clusters} (have {estimate.n_clusters}) nor more baseline seeds "
        f"(have {estimate.n_baseline}) alone would resolve a difference of {margin:g} "
        f"(detectable now: {estimate.mde:.3g}); more of both would"
    )


def _seed_advice(suites: Sequence[SuiteResult]) -> list[str]:
    """What a verdict that stands would need to carry further."""
    crossed = [c for s in suites for c in s.comparisons if c.required and c.estimate and not c.nested]
    few = min((c.estimate.n_baseline for c in crossed if c.estimate), default=RELEASE_SEEDS)
    lines = []
    if few < RELEASE_SEEDS:
        lines.append(f"A release verdict should rest on {RELEASE_SEEDS} or more baseline seeds; this run has {few}.")
    narrow = [c for s in suites if s.recipe is None for c in s.comparisons if c.required and c.claim == "artefact"]
    if any(not c.nested for c in narrow):
        lines.append("The verdict is about this SAE; three or more trained seeds would let it speak of the recipe.")
    if any(c.nested for c in narrow):
        lines.append("The verdict is about these worlds; three or more worlds would let it speak of the recipe.")
    lines += [line for s in suites if (line := _recipe_advice(s))]
    if any(s.verdict is Verdict.BEATS and s.recipe and s.recipe.verdict in FAILING for s in suites):
        lines.append(
            "This SAE beats random where its recipe, on the tokens that the baselines had, does not: train the "
            "baselines on more tokens (--tokens) before crediting the method."
        )
    return lines


def _recipe_advice(suite: SuiteResult) -> str:
    """What a reader of the second claim must know; empty where there is nothing to add."""
    recipe = suite.recipe
    if recipe is None or any(not check.passed for check in suite.gate):
        return ""
    if recipe.verdict is Verdict.INCONCLUSIVE and recipe.reason.endswith(ENOUGH_SEEDS):
        return f"{suite.label}: the recipe's claim: {recipe.reason} (--seeds)."
    against = next((c for c in suite.comparisons if c.baseline == recipe.arm), None)
    if against is not None and against.verdict is Verdict.WORSE:
        return f"{suite.label}: the SAE is worse than its own recipe, retrained on the tokens that the baselines had."
    return ""
