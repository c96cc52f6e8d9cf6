"""Suites whose items are drawn anew from each SAE: from score rows to what `stats.two_sample` compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from .few_seeds import reach_of
from .outcome import Estimate
from .stats import (
    ArmScores,
    common_weights,
    label_permutation,
    rank_superiority,
    standardise,
    tost,
    two_sample,
)
from .stopped import STEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .stats import Claim, Latents, SaeMean

ALIVE = "alive"
"""Metric that gives the frequency mix of an SAE: item and cluster are a stratum, the value its eligible latents."""

MISSING = "missing"
"""Metric that is 1 for a latent without an answer of the judge, else 0."""

COVERAGE = ("dead_share", "ineligible_share", "outside_share")
"""Metrics of a whole SAE: shares of its latents that no comparison is about."""

UNREAD = ("sequence", "sequence_saebench")
"""Metrics with so many rows that they are stored for people and never analysed."""

Scores = dict[tuple[str, str], ArmScores]
"""Scores of one suite by (metric, arm)."""


def latents_of(scores: ArmScores) -> tuple[Latents, ...]:
    """The scores of each SAE's own latents by stratum, in the order of the seeds."""
    codes, strata = pd.factorize(scores.items.index.get_level_values("cluster"))
    rows = [(str(h), np.flatnonzero(codes == i)) for i, h in enumerate(strata)]
    columns = scores.items.to_numpy(dtype=np.float64).T
    saes = ({h: column[at][~np.isnan(column[at])] for h, at in rows} for column in columns)
    return tuple({h: x for h, x in sae.items() if len(x)} for sae in saes)


def mix_of(alive: ArmScores | None) -> dict[str, float]:
    """Share of an arm's eligible latents in each stratum: the mean over its SAEs, each of which counts once.

    Args:
        alive: Scores of the metric `alive`; None where the arm has none.

    Returns:
        Share by stratum; empty where nothing is known or alive.
    """
    if alive is None:
        return {}
    counts = alive.items.groupby(level="cluster", sort=True).sum()
    living = counts.loc[:, counts.sum() > 0]
    shares = (living / living.sum()).mean(axis=1)
    return {str(h): float(share) for h, share in shares.items() if share > 0}


def means(arms: Sequence[ArmScores], mix: Mapping[str, float]) -> tuple[tuple[SaeMean, ...], ...]:
    """Standardised means of the SAEs of each arm, over the strata in which all SAEs of all these arms have latents.

    Returns:
        One tuple per arm, SAEs in the order of the seeds; empty where the SAEs share no stratum of the mix.
    """
    saes = [latents_of(arm) for arm in arms]
    weights = common_weights(mix, [sae for arm in saes for sae in arm])
    return tuple(tuple(standardise(sae, weights) for sae in arm) for arm in saes) if weights else ()


def incomparable(trained: ArmScores, baseline: ArmScores, mix: Mapping[str, float]) -> str:
    """Why two arms cannot be compared; empty where they can."""
    if not mix:
        return f"no rows of {ALIVE!r} say how often the latents of {trained.arm} fire"
    if not means((trained, baseline), mix):
        return f"{trained.arm} and {baseline.arm} have no stratum of firing rate in common"
    return ""


def sampled_estimate(
    trained: ArmScores,
    baseline: ArmScores,
    mix: Mapping[str, float],
    *,
    claim: Claim,
    margin: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
) -> Estimate:
    """The numbers of one comparison of two arms whose latents are no pairs.

    Args:
        trained: Scores of the SAEs under test.
        baseline: Scores of the other arm.
        mix: Share of each stratum that both are standardised to; they must share one (`incomparable`).
        claim: What the interval is about.
        margin: Equivalence margin delta.
        rng: Generator of the permutation of labels, where it cannot be exact.
        alpha: One-sided level.

    Returns:
        The estimate. Of the fields that speak of pairs, `p_signflip` is the permutation of SAE labels (a recipe claim
        only), `superiority` that of `rank_superiority`; `p_wilcoxon` and `d_z` are None.
    """
    ours, theirs = means((trained, baseline), mix)
    result = two_sample(ours, theirs, claim=claim, alpha=alpha)
    given = claim == "artefact"
    reach = reach_of(result, result.sides, seeds=len(theirs), given=given, margin=margin, alpha=alpha)
    chance, p_rank = _superiority(trained, baseline, mix)
    return Estimate(
        difference=result.estimate,
        lo=result.lo,
        hi=result.hi,
        standard_error=result.standard_error,
        df=result.df,
        p_crossed=result.pvalue,
        p_signflip=label_permutation(ours, theirs, rng=rng) if claim == "recipe" else None,
        p_wilcoxon=None,
        p_tost=tost(result, margin=margin),
        d_z=None,
        superiority=chance,
        p_superiority=p_rank,
        **reach._asdict(),
        n_clusters=round(float(np.mean([sae.latents for sae in (*ours, *theirs)]))),
        n_trained=len(ours),
        n_baseline=len(theirs),
    )


def of_saes(scores: Scores, *, trained: str) -> Scores:
    """One value per SAE in place of its latents: what a table of arms shows.

    Args:
        scores: Scores of the suite, latent by latent.
        trained: Arm whose frequency mix all arms are standardised to.

    Returns:
        The same tables with a single item each: the standardised mean; of references and of `missing` the plain mean;
        of `alive` the sum over strata. An arm that shares no stratum with `trained` has its plain mean, and so have all
        that were asked step by step, whose steps follow the mean mix already.
    """
    mix = {} if (STEP, trained) in scores else mix_of(scores.get((ALIVE, trained)))
    return {key: ArmScores(key[1], _one_item(key, table, mix)) for key, table in scores.items()}


def percent(share: float) -> str:
    """A share in whole percent."""
    return f"{100 * share:.0f} %"


class Coverage(NamedTuple):
    """What part of an SAE's latents a comparison is about."""

    dead: float
    """Share of all latents that hardly fire."""
    ineligible: float
    """Share of the alive ones of which the texts do not have the windows to show."""
    outside: float
    """Share of the others that fire less or more often than those of some other arm."""

    @property
    def compared(self) -> float:
        """Share of all latents that the comparison is about."""
        return (1 - self.dead) * (1 - self.ineligible) * (1 - self.outside)

    def __str__(self) -> str:
        """A line for a report."""
        return (
            f"about {percent(self.compared)} of the latents: {percent(self.dead)} are dead, of the alive "
            f"{percent(self.ineligible)} lack texts to show, of the rest {percent(self.outside)} fire at rates that "
            "not all arms have"
        )


def coverage_of(values: Mapping[str, float | None]) -> Coverage | None:
    """Read it from the means of `dead_share`, `ineligible_share` and `outside_share`, shares of all latents.

    Returns:
        None where one of the three is not known.
    """
    dead, ineligible, outside = (values.get(name) for name in COVERAGE)
    if dead is None or ineligible is None or outside is None:
        return None
    alive, eligible = 1 - dead, 1 - dead - ineligible
    return Coverage(dead, ineligible / alive if alive > 0 else 0.0, outside / eligible if eligible > 0 else 0.0)


def coverage_note(scores: Scores, arm: str) -> str:
    """What part of an arm's latents the comparison is about; empty where nobody has counted."""
    means = {name: table.score for name in COVERAGE if (table := scores.get((name, arm))) is not None}
    found = coverage_of(means)
    return str(found) if found else ""


def overlap_note(scores: ArmScores, mix: Mapping[str, float]) -> str:
    """Which part of the trained mix an arm's score leaves out; empty where it has latents in every stratum."""
    weights = common_weights(mix, latents_of(scores))
    if not weights:
        return f"not standardised: no stratum of firing rate of {scores.arm} is one of the trained SAE"
    left_out = [h for h in mix if h not in weights]
    share = sum(mix[h] for h in left_out) / sum(mix.values())
    return f"no latents in {', '.join(left_out)} ({100 * share:.0f} % of the trained SAE's)" if left_out else ""


def _one_item(key: tuple[str, str], table: ArmScores, mix: Mapping[str, float]) -> pd.DataFrame:
    metric, arm = key
    by_sae = () if metric in (ALIVE, MISSING) or arm.startswith("@") else means((table,), mix)
    if by_sae:
        values = np.array([sae.mean for sae in by_sae[0]])
    else:
        values = np.asarray(table.items.sum() if metric == ALIVE else table.items.mean(), dtype=np.float64)
    index = pd.MultiIndex.from_tuples([("all", "all")], names=["cluster", "item"])
    return pd.DataFrame([values], index=index, columns=table.items.columns)


def _superiority(trained: ArmScores, baseline: ArmScores, mix: Mapping[str, float]) -> tuple[float, float | None]:
    """Median over pairs of SAEs of matching index; the shorter arm goes round, so that every SAE is in a pair."""
    ours, theirs = latents_of(trained), latents_of(baseline)
    shared = common_weights(mix, [*ours, *theirs])
    both = [[np.concatenate([sae[h] for h in shared]) for sae in arm] for arm in (ours, theirs)]
    pairs = [rank_superiority(*(arm[i % len(arm)] for arm in both)) for i in range(max(map(len, both)))]
    known = [p for _, p in pairs if p is not None]
    return float(np.median([chance for chance, _ in pairs])), float(np.median(known)) if known else None
