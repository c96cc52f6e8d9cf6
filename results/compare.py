"""One comparison: trained against one arm, on one metric of one suite."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from .few_seeds import reach_of, too_few_seeds
from .outcome import ClusterDifference, Comparison, Estimate, Verdict
from .sampled import incomparable, sampled_estimate
from .stats import crossed_t, d_z, mismatch, paired_t, sign_flip, superiority, tost, wilcoxon
from .stats.crossed import RECIPE_SEEDS
from .stats.permutation import N_RESAMPLES
from .stopped import stopped_estimate
from .verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from .design import ArmFacts
    from .stats import ArmScores, Claim
    from .stopped import Steps


def compare(
    trained: ArmScores | None,
    baseline: ArmScores | None,
    *,
    metric: str,
    arm: str,
    required: bool,
    margin: float,
    rng: np.random.Generator,
    facts: Iterable[ArmFacts] = (),
    alpha: float = 0.05,
    n_resamples: int = N_RESAMPLES,
    nested: bool = False,
    trials: bool = False,
    mix: Mapping[str, float] | None = None,
    steps: Steps | None = None,
) -> Comparison:
    """Compare two arms item by item, with clusters and seeds random.

    Args:
        trained: Scores of the SAE under test; None where it has none.
        baseline: Scores of the arm it is compared with; None where it has none.
        metric: The metric of both.
        arm: Name of the arm it is compared with.
        required: Whether the suite's verdict needs BEATS here.
        margin: Equivalence margin delta of the metric.
        rng: Generator of the sign-flip test.
        facts: L0 of these two arms; an unmatched one carries no verdict.
        alpha: One-sided level.
        n_resamples: Sign patterns of the sign-flip test.
        nested: Whether seeds are starts nested in clusters: worlds are then the only sample.
        trials: Whether every SAE has several trials, a sample of their own.
        mix: Share of each stratum in the SAE under test, where items are sampled from each SAE; else None.
        steps: Scores of both arms step by step, where the asking was stopped by what it found; else None.

    Returns:
        The comparison. INVALID where the arms cannot be paired or L0 is unmatched, INCONCLUSIVE where a
        variance is not known (one cluster, one baseline seed, one trial; nested: one world) or a
        given SAE's two or three baseline seeds are too few (`too_few_seeds`), each with the reason.
    """
    claim = claim_of(trained, nested=nested)
    estimate, verdict = None, Verdict.INVALID
    if trained is None or baseline is None:
        reason = f"no scores of {arm if trained else 'the SAE under test'}"
    elif not (reason := _unpaired(trained, baseline, mix, steps)):
        if steps is not None:
            estimate = stopped_estimate(steps, claim=claim, margin=margin, alpha=alpha)
        elif mix is not None:
            estimate = sampled_estimate(trained, baseline, mix, claim=claim, margin=margin, rng=rng, alpha=alpha)
        else:
            options = {"alpha": alpha, "n_resamples": n_resamples, "nested": nested, "trials": trials}
            estimate = estimate_of(trained, baseline, claim=claim, margin=margin, rng=rng, **options)
        given = claim == "artefact" and not nested and steps is None
        unknown = _unknown(estimate, nested=nested) if mix is None else _unknown_sampled(estimate)
        verdict, reason = _judged(estimate, unmatched(facts), unknown, given=given, margin=margin, alpha=alpha)
    return Comparison(
        metric=metric,
        baseline=arm,
        required=required,
        claim=claim,
        margin=margin,
        verdict=verdict,
        estimate=estimate,
        nested=nested,
        sampled=mix is not None,
        anytime=steps is not None,
        reason=reason,
    )


def _judged(
    estimate: Estimate, unmatched: str, unknown: str, *, given: bool, margin: float, alpha: float
) -> tuple[Verdict, str]:
    """Verdict of two arms that could be paired, and why it is no ordinary one."""
    if unmatched:
        return Verdict.INVALID, unmatched
    if problem := too_few_seeds(estimate, margin=margin, alpha=alpha) if given else "":
        return Verdict.INCONCLUSIVE, problem
    return verdict_of(estimate.lo, estimate.hi, margin=margin), unknown


def by_cluster(trained: ArmScores | None, baseline: ArmScores | None) -> tuple[ClusterDifference, ...]:
    """What every cluster says of a comparison; nothing where the arms cannot be paired.

    Args:
        trained: Scores of the SAE under test.
        baseline: Scores of the other arm.
    """
    if trained is None or baseline is None or mismatch(trained, baseline):
        return ()
    names = trained.items.index.unique("cluster").sort_values()
    differences = trained.clusters.mean(axis=1) - baseline.clusters.mean(axis=1)
    return tuple(
        ClusterDifference(cluster=str(name), difference=float(value))
        for name, value in zip(names, differences, strict=True)
    )


def claim_of(trained: ArmScores | None, *, nested: bool = False) -> Claim:
    """`recipe` with RECIPE_SEEDS or more replicates of the recipe, else `artefact` (METHOD section 5.7).

    Args:
        trained: Scores of the SAE under test.
        nested: Whether the replicates are worlds (clusters) instead of trained seeds.
    """
    if not trained:
        return "artefact"
    return "recipe" if (len(trained.clusters) if nested else len(trained.seeds)) >= RECIPE_SEEDS else "artefact"


def iut_p(estimate: Estimate | None) -> float | None:
    """The p of one comparison that enters intersection-union, Holm and Benjamini-Hochberg.

    It is the larger of the sign-flip p and the crossed-t p. The sign-flip assumes no distribution but takes
    the seeds as fixed; the crossed t knows the seeds but leans on normality. The larger of two p values is
    valid whenever either of them is, so this one is never less honest about seeds than the crossed t. Where items are
    sampled from each SAE the two are the permutation of SAE labels and Welch's t, or Welch's t alone for a given SAE.

    Args:
        estimate: The comparison in numbers.

    Returns:
        The p; None where the seed variance is not known.
    """
    if estimate is None or estimate.p_crossed is None:
        return None
    return estimate.p_crossed if estimate.p_signflip is None else max(estimate.p_signflip, estimate.p_crossed)


def unmatched(facts: Iterable[ArmFacts]) -> str:
    """Why L0 forbids a verdict; empty where every arm and seed is matched."""
    off = [
        f"{fact.arm} {f'{fact.cluster} start' if fact.cluster else 'seed'} {fact.seed} has "
        + ("not been measured" if isnan(fact.l0) else f"{fact.l0:.4g}, target {fact.target_l0:.4g}")
        for fact in facts
        if not fact.matched
    ]
    return f"unmatched L0: {'; '.join(off)}" if off else ""


def estimate_of(
    trained: ArmScores,
    baseline: ArmScores,
    *,
    claim: Claim,
    margin: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
    n_resamples: int = N_RESAMPLES,
    nested: bool = False,
    trials: bool = False,
) -> Estimate:
    """The numbers of one comparison (METHOD section 5, 1-5) of two arms with the same items.

    Args:
        trained: Scores of the SAE under test.
        baseline: Scores of the other arm, the same items.
        claim: What the interval is about.
        margin: Equivalence margin delta.
        rng: Generator of the sign-flip test.
        alpha: One-sided level.
        n_resamples: Sign patterns of the sign-flip test.
        nested: Whether seeds are starts nested in clusters. The interval is then an ordinary paired t over worlds,
            starts averaged inside each: the spread of the world means already holds what starts add to it.
        trials: Whether every SAE has several trials. They are averaged where seeds are a sample, for a seed's spread
            holds theirs; SAEs that are taken as they are have them in place of seeds.

    Returns:
        The estimate; whatever needs an unknown variance is None.
    """
    by_trial = trials and claim == "artefact" and not nested
    ours, theirs = trained.trials if by_trial else trained.clusters, baseline.clusters
    differences = _rounded(ours.mean(axis=1) - theirs.mean(axis=1), max(np.abs(ours).max(), np.abs(theirs).max()))
    if nested:
        result = paired_t(ours, theirs, alpha=alpha)
    else:
        result = crossed_t(ours, theirs, claim=claim, alpha=alpha, trials=by_trial)
    given = claim == "artefact" and not nested
    reach = reach_of(result, result.components, seeds=len(baseline.seeds), given=given, margin=margin, alpha=alpha)
    return Estimate(
        difference=result.estimate,
        lo=result.lo,
        hi=result.hi,
        standard_error=result.standard_error,
        df=result.df,
        p_crossed=result.pvalue,
        p_signflip=sign_flip(differences, rng=rng, n_resamples=n_resamples),
        p_wilcoxon=wilcoxon(differences),
        p_tost=tost(result, margin=margin),
        d_z=d_z(differences),
        superiority=superiority(differences),
        mde=reach.mde,
        clusters_needed=reach.clusters_needed,
        seeds_needed=None if nested else reach.seeds_needed,
        n_clusters=len(differences),
        n_trained=len(trained.seeds),
        n_baseline=len(baseline.seeds),
    )


def _unpaired(trained: ArmScores, baseline: ArmScores, mix: Mapping[str, float] | None, steps: Steps | None) -> str:
    """Why two arms cannot be compared; empty where they can."""
    if steps is not None:
        return "" if len(steps.trained) else f"{trained.arm} and {baseline.arm} have no step in common"
    return mismatch(trained, baseline) if mix is None else incomparable(trained, baseline, mix)


def _rounded(differences: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """Differences with rounding noise set to 0: the means of 3 and of 5 equal scores may differ in a bit."""
    return np.where(np.abs(differences) <= 16 * np.finfo(float).eps * scale, 0.0, differences)


def _unknown(estimate: Estimate, *, nested: bool) -> str:
    """Why there is no interval; empty where there is one."""
    if nested:
        return "one world: how much another world would differ is not known" if estimate.n_clusters < 2 else ""
    if estimate.n_clusters < 2:
        return "one cluster: how scores vary between clusters is not known"
    if estimate.n_baseline < 2:
        return "one baseline seed: how much another seed would differ is not known"
    if estimate.lo is None:
        return "fewer than 3 trials of the SAEs under test: how much another trial would differ is not known"
    return ""


def _unknown_sampled(estimate: Estimate) -> str:
    """The same where items are sampled from each SAE."""
    if estimate.lo is not None:
        return ""
    if estimate.n_baseline < 2:
        return "one baseline seed: how much another seed would differ is not known"
    return "an SAE has a single latent: how scores vary between latents is not known"
