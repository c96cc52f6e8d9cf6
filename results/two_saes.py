"""Two SAEs, or two recipes, on one metric: neither is a baseline of the other, so both sides are treated alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .compare import by_cluster, claim_of, estimate_of
from .design import ALPHA
from .outcome import Comparison, Estimate, Verdict
from .sampled import incomparable, means, sampled_estimate
from .stats import clusters_needed, crossed_t, mde, mismatch, tost, two_sample
from .stats.crossed import MIN_TRIALS, RECIPE_SEEDS
from .stats.permutation import N_RESAMPLES
from .verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from .design import SuiteDesign
    from .stats import ArmScores, CrossedT


def compare_saes(
    ours: ArmScores,
    theirs: ArmScores,
    suite: SuiteDesign,
    *,
    name: str,
    rng: np.random.Generator,
    mix: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    n_resamples: int = N_RESAMPLES,
) -> Comparison:
    """Compare two SAEs, or two recipes of RECIPE_SEEDS or more SAEs each, on one metric.

    SAEs that are too few to speak of a recipe are taken as they are, on both sides alike: only clusters are a sample (a
    paired t), with the trials of a suite that has some. Recipes are both samples: the crossed t with a seed term for
    either. Which side is called ours changes the sign of the difference and nothing else.

    Args:
        ours: Scores of our SAEs.
        theirs: Scores of the others, the same items unless items are sampled.
        suite: How the suite is judged.
        name: What the others are called.
        rng: Generator of the sign-flip test.
        mix: Share of each stratum in our SAEs, where items are sampled from each SAE; else None.
        alpha: One-sided level.
        n_resamples: Sign patterns of the sign-flip test.
    """
    few = (len(ours.clusters) if suite.nested else min(len(ours.seeds), len(theirs.seeds))) < RECIPE_SEEDS
    estimate, verdict = None, Verdict.INVALID
    if not (reason := mismatch(ours, theirs) if mix is None else incomparable(ours, theirs, mix)):
        if mix is not None:
            estimate = _sampled(ours, theirs, mix, few=few, margin=suite.margin, rng=rng, alpha=alpha)
        else:
            estimate = _paired(ours, theirs, suite, few=few, rng=rng, alpha=alpha, n_resamples=n_resamples)
        reason = "" if estimate.lo is not None else _unknown(suite)
        verdict = verdict_of(estimate.lo, estimate.hi, margin=suite.margin)
    return Comparison(
        metric=suite.metric,
        baseline=name,
        required=True,
        claim="artefact" if few else claim_of(ours, nested=suite.nested),
        margin=suite.margin,
        verdict=verdict,
        estimate=estimate,
        nested=suite.nested,
        sampled=mix is not None,
        reason=reason,
        clusters=by_cluster(ours, theirs) if mix is None and estimate else (),
    )


def _paired(
    ours: ArmScores,
    theirs: ArmScores,
    suite: SuiteDesign,
    *,
    few: bool,
    rng: np.random.Generator,
    alpha: float,
    n_resamples: int,
) -> Estimate:
    as_they_are = few or suite.nested
    found = estimate_of(
        ours,
        theirs,
        claim="artefact" if few else "recipe",
        margin=suite.margin,
        rng=rng,
        alpha=alpha,
        n_resamples=n_resamples,
        nested=as_they_are,
    )
    if not (few and suite.trials):
        return found
    mine, other = ours.trials, theirs.trials
    if min(mine.shape[1], other.shape[1]) < MIN_TRIALS:
        return found.model_copy(update=_numbers(None, margin=suite.margin, alpha=alpha))
    result = crossed_t(mine, other, alpha=alpha, trials=True)
    return found.model_copy(update=_numbers(result, margin=suite.margin, alpha=alpha))


def _sampled(
    ours: ArmScores,
    theirs: ArmScores,
    mix: Mapping[str, float],
    *,
    few: bool,
    margin: float,
    rng: np.random.Generator,
    alpha: float,
) -> Estimate:
    claim = "artefact" if few else "recipe"
    found = sampled_estimate(ours, theirs, mix, claim=claim, margin=margin, rng=rng, alpha=alpha)
    if not few:
        return found
    # Both are taken as they are: only the drawing of their latents is chance.
    result = two_sample(*means((ours, theirs), mix), alpha=alpha, fixed=True)
    return found.model_copy(update=_numbers(result, margin=margin, alpha=alpha) | {"seeds_needed": None})


def _numbers(result: CrossedT | None, *, margin: float, alpha: float) -> dict[str, float | None]:
    """The fields of an estimate that rest on its variance."""
    if result is None or result.standard_error is None or result.df is None:
        names = ("lo", "hi", "standard_error", "df", "p_crossed", "p_tost", "mde", "clusters_needed")
        return dict.fromkeys(names)
    parts = result.components or getattr(result, "sides", None)
    return {
        "lo": result.lo,
        "hi": result.hi,
        "standard_error": result.standard_error,
        "df": result.df,
        "p_crossed": result.pvalue,
        "p_tost": tost(result, margin=margin),
        "mde": mde(result.standard_error, result.df, alpha=alpha),
        "clusters_needed": clusters_needed(parts, margin=margin, alpha=alpha) if parts else None,
    }


def _unknown(suite: SuiteDesign) -> str:
    if suite.sampled:
        return "an SAE has a single latent: how scores vary between latents is not known"
    if suite.trials:
        return f"one cluster, or fewer than {MIN_TRIALS} trials of the SAEs: how much another would differ is not known"
    return f"one {'world' if suite.nested else 'cluster'}: how scores vary between them is not known"
