"""Sampled suites that were asked step by step and stopped when that was enough: from score rows to an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from .outcome import Estimate
from .stats import anytime, rank_superiority

if TYPE_CHECKING:
    import numpy.typing as npt

    from .stats import ArmScores, Claim

STEP = "step"
"""Metric that says at which step a latent was asked about, from 1; step k is of the same stratum for every SAE."""


class Steps(NamedTuple):
    """Scores of two arms by the steps that all their SAEs have taken."""

    trained: npt.NDArray[np.float64]
    """Shape (steps, SAEs under test)."""
    baseline: npt.NDArray[np.float64]
    """Shape (steps, SAEs of the other arm)."""


def steps_of(
    trained: ArmScores | None, baseline: ArmScores | None, asked: tuple[ArmScores | None, ArmScores | None]
) -> Steps | None:
    """Put the latents of two arms side by side, in the order in which they were asked about.

    A step without a score of some SAE is left out; in the primary metric there is none, for a missing answer is .5.

    Args:
        trained: Scores of the arm under test.
        baseline: Scores of the other arm.
        asked: The metric `step` of both; None where the suite was not asked step by step.

    Returns:
        None where neither arm has steps, or scores are missing; no rows where the two share no step.
    """
    if trained is None or baseline is None or asked == (None, None):
        return None
    both = [_by_step(*each) for each in zip((trained, baseline), asked, strict=True)]
    shared = pd.concat(both, axis=1, keys=(0, 1)).dropna().sort_index()
    return Steps(*(shared[i].to_numpy(dtype=np.float64) if i in shared else np.empty((0, 0)) for i in (0, 1)))


def _by_step(scores: ArmScores, asked: ArmScores | None) -> pd.DataFrame:
    if asked is None:
        return pd.DataFrame(index=pd.Index([], dtype=float), columns=scores.items.columns)
    columns = {}
    for seed, values in scores.items.items():
        at = asked.items[seed].dropna() if seed in asked.items else pd.Series(dtype=float)
        columns[seed] = pd.Series(values.reindex(at.index).to_numpy(), index=at.to_numpy())
    return pd.DataFrame(columns)


def stopped_estimate(steps: Steps, *, claim: Claim, margin: float, alpha: float = 0.05) -> Estimate:
    """The numbers of one comparison that may have been stopped by what it found.

    Args:
        steps: Scores of both arms, one step at least.
        claim: What the interval is about.
        margin: Equivalence margin delta.
        alpha: One-sided level.

    Returns:
        The estimate: interval and p values of `anytime`, which hold whenever the asking stopped; `p_crossed` is the
        anytime-valid p, `standard_error` and `df` are of the luck of the seeds alone. What is known only of a size
        that was fixed beforehand is None: the permutation, the MDE, the sizes needed, the p of superiority.
    """
    result = anytime(*steps, claim=claim)
    lo, hi = result.interval(alpha) or (None, None)
    ours, theirs = (arm.T for arm in steps)
    pairs = [(ours[i % len(ours)], theirs[i % len(theirs)]) for i in range(max(len(ours), len(theirs)))]
    return Estimate(
        difference=result.estimate,
        lo=lo,
        hi=hi,
        standard_error=result.standard_error,
        df=result.df,
        p_crossed=result.pvalue(),
        p_signflip=None,
        p_wilcoxon=None,
        p_tost=result.tost(margin),
        d_z=None,
        superiority=float(np.median([rank_superiority(*pair)[0] for pair in pairs])),
        mde=None,
        clusters_needed=None,
        seeds_needed=None,
        n_clusters=len(steps.trained),
        n_trained=len(ours),
        n_baseline=len(theirs),
    )
