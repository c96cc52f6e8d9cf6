"""Two or three baseline seeds of a given SAE: how far what they show of other seeds can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from scipy import stats

from .stats import clusters_needed, mde, seeds_needed
from .verdict import verdict_of

if TYPE_CHECKING:
    from .comparison import Estimate
    from .stats import CrossedT
    from .stats.power import Parts

DF_AT_MOST = {2: 1.0, 3: 6.0}
"""Degrees of freedom by baseline seeds with which a verdict on given SAEs must hold too; from ENOUGH_SEEDS on any."""

ENOUGH_SEEDS = 4
"""Baseline seeds from which the interval alone decides: false BEATS are then .057 at most, whatever varies."""


@dataclass(frozen=True)
class FewSeeds:
    """The variance of a given SAE's difference, with no more degrees of freedom than its verdict may rest on.

    What a run could find is asked of this, not of the parts themselves: a difference that their own degrees of freedom
    would find is INCONCLUSIVE where `too_few_seeds` says so.
    """

    parts: Parts
    """The variance of the difference as it was found or is planned."""
    seeds: int
    """Seeds of the baseline."""

    def variance(self) -> float:
        """Variance of the difference."""
        return self.parts.variance()

    def df(self) -> float:
        """Its degrees of freedom, capped by DF_AT_MOST."""
        return min(self.parts.df(), DF_AT_MOST.get(self.seeds, inf))

    def at(self, *, clusters: int | None = None, baseline_seeds: int | None = None) -> FewSeeds:
        """The same with another number of clusters or baseline seeds."""
        return FewSeeds(self.parts.at(clusters=clusters, baseline_seeds=baseline_seeds), baseline_seeds or self.seeds)

    def seeds_needed(self, *, margin: float, alpha: float = 0.05) -> int | None:
        """Baseline seeds at which the margin is found; never fewer than ENOUGH_SEEDS, None where no number does."""
        found = seeds_needed(self, margin=margin, alpha=alpha)
        return None if found is None else max(found, ENOUGH_SEEDS)


class Reach(NamedTuple):
    """What a run could have found, and what size would find the margin: three fields of an estimate."""

    mde: float | None = None
    """Smallest true difference that is found with 80 % power."""
    clusters_needed: int | None = None
    """Clusters at which that is the margin; None where no number does."""
    seeds_needed: int | None = None
    """Baseline seeds at which it is; None where no number does."""


def reach_of(
    result: CrossedT, parts: Parts | None, *, seeds: int, given: bool, margin: float, alpha: float = 0.05
) -> Reach:
    """What a run of this size could have found, by the degrees of freedom that its verdict rests on.

    Args:
        result: The difference with its interval.
        parts: What its variance is made of; None where it is not known.
        seeds: Seeds of the baseline.
        given: Whether the claim is about given SAEs, held to `too_few_seeds`.
        margin: Equivalence margin delta.
        alpha: One-sided level.
    """
    if parts is None or result.standard_error is None or result.df is None:
        return Reach()
    df = min(result.df, DF_AT_MOST.get(seeds, inf)) if given else result.df
    held = FewSeeds(parts, seeds) if given else parts
    size = {"margin": margin, "alpha": alpha}
    needed = held.seeds_needed(**size) if isinstance(held, FewSeeds) else seeds_needed(held, **size)
    return Reach(mde(result.standard_error, df, alpha=alpha), clusters_needed(held, **size), needed)


def too_few_seeds(estimate: Estimate, *, margin: float, alpha: float = 0.05) -> str:
    """Why two or three baseline seeds carry no verdict on given SAEs; empty where they do.

    Satterthwaite's degrees of freedom take the variance that was found for the true one. That of two seeds may be next
    to nothing by luck: where seeds add much more to the variance than clusters or latents do, false BEATS come to .084
    with two and .063 with three, and with DF_AT_MOST to .034 and .060 (benchmarks/few_seeds.py). Two seeds' own single
    degree of freedom is never too many. A recipe has seeds of its own on the other side, and is within .06 as it is.

    Args:
        estimate: The comparison in numbers.
        margin: Equivalence margin delta.
        alpha: One-sided level.
    """
    df, error = DF_AT_MOST.get(estimate.n_baseline), estimate.standard_error
    if df is None or error is None or estimate.df is None or estimate.df <= df:
        return ""
    half = float(stats.t.isf(alpha, df)) * error
    lo, hi = estimate.difference - half, estimate.difference + half
    if verdict_of(lo, hi, margin=margin) is verdict_of(estimate.lo, estimate.hi, margin=margin):
        return ""
    return (
        f"{estimate.n_baseline} baseline seeds show too little of how much another would differ: with no more than "
        f"{df:g} degrees of freedom the interval is {lo:+.4f} to {hi:+.4f}; from {ENOUGH_SEEDS} "
        "seeds on the interval alone decides"
    )
