"""Difference of two arms whose items are drawn anew from each SAE: nothing is paired, and seeds are the replicates.

Latents of different SAEs are no pairs, and arms fire at different frequencies, which alone makes a difference. So
each SAE gets one mean, its strata of firing rate weighed alike for all SAEs, and arms are compared by Welch's t over
SAEs (METHOD sections 3 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import stats

from .crossed import RECIPE_SEEDS, CrossedT, is_rounding, t_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .crossed import Claim

Latents = Mapping[str, npt.NDArray[np.float64]]
"""Scores of the sampled latents of one SAE, by stratum."""


@dataclass(frozen=True)
class SaeMean:
    """Frequency-standardised mean of one SAE."""

    mean: float
    """sum_h w_h mean_h."""
    variance: float | None
    """Its sampling variance over latents, sum_h w_h^2 s_h^2 / n_h; None with a single latent."""
    df: float | None
    """Satterthwaite degrees of freedom of `variance`."""
    latents: int
    """Latents that it rests on."""


@dataclass(frozen=True)
class Side:
    """What one arm adds to the variance of a difference."""

    seeds: int
    """SAEs of the arm."""
    within: float
    """Mean sampling variance of one SAE's mean over its latents."""
    within_df: float
    """Degrees of freedom of `within`."""
    spread: float | None
    """Sample variance of the SAE means, latent sampling included; None where the SAEs are taken as they are."""
    draw: float = 1.0
    """Seeds + 1 where one more SAE is drawn (a prediction)."""

    def variance(self) -> float:
        """Variance of the arm's mean.

        SAEs that agree to the last bit do so because scores are coarse: their spread is then what drawing latents alone
        accounts for, and no certainty. Any other spread is taken as it is: Welch's t needs no floor at `within` to keep
        false BEATS at .06, and with one hardly anything was found EQUIVALENT (benchmarks/autointerp_null.py).
        """
        return self.draw * (self.spread or self.within) / self.seeds

    def df(self) -> float:
        """Degrees of freedom; those of the SAEs wherever they are a sample."""
        return self.within_df if self.spread is None else self.seeds - 1.0

    def at(self, *, latents: float = 1.0, seeds: int | None = None) -> Side:
        """The expected side with `latents` times as many latents in each SAE, or with another number of SAEs."""
        within = self.within / latents
        spread = None if self.spread is None else max(self.spread - self.within, 0.0) + within
        df = self.within_df * latents
        return replace(self, seeds=seeds or self.seeds, within=within, within_df=df, spread=spread)


@dataclass(frozen=True)
class Sides:
    """The variance of a difference of two arms; has the methods of `Components` that planning needs."""

    trained: Side
    """The arm under test."""
    baseline: Side
    """The other arm."""
    latents: int
    """Latents of one SAE, on average."""

    def variance(self) -> float:
        """Variance of mean(trained) − mean(baseline)."""
        return self.trained.variance() + self.baseline.variance()

    def df(self) -> float:
        """Welch-Satterthwaite degrees of freedom."""
        terms = [(side.variance(), side.df()) for side in (self.trained, self.baseline)]
        whole = sum((value for value, _ in terms), 0.0)
        spread = sum(value**2 / df for value, df in terms)
        if whole == 0 or spread == 0:
            return sum(df for _, df in terms)
        df = whole**2 / spread
        # A prediction is the classical t interval of one more SAE: what few SAEs show of another is their own df.
        return min(df, self.baseline.df()) if self.baseline.draw > 1 else df

    def at(self, *, clusters: int | None = None, baseline_seeds: int | None = None) -> Sides:
        """The same with another number of latents in every SAE (`clusters`) or of baseline SAEs."""
        times = (clusters or self.latents) / self.latents
        baseline = self.baseline.at(latents=times, seeds=baseline_seeds)
        return Sides(self.trained.at(latents=times), baseline, clusters or self.latents)


@dataclass(frozen=True)
class TwoSample(CrossedT):
    """A difference with its interval, and what its variance is made of."""

    sides: Sides | None = None
    """The variance by arm; None where there is no interval."""


def common_weights(mix: Mapping[str, float], saes: Sequence[Latents]) -> dict[str, float]:
    """Weight of each stratum: the mix, renormalised over the strata in which every SAE has latents.

    Args:
        mix: How many alive latents, or which share of them, lie in each stratum.
        saes: The latents of every SAE that is to be compared.

    Returns:
        Weights that sum to 1; empty where the SAEs share no stratum of the mix.
    """
    shared = {h: float(n) for h, n in mix.items() if n > 0 and all(len(sae.get(h, ())) for sae in saes)}
    whole = sum(shared.values())
    return {h: n / whole for h, n in shared.items()}


def standardise(latents: Latents, weights: Mapping[str, float]) -> SaeMean:
    """Mean of one SAE as if its latents fired as often as the weights say (direct standardisation).

    A stratum with one latent has no variance of its own. It takes the pooled variance of the other strata, or, where
    none has two latents, the variance of all latents about their mean, which is too large rather than too small.

    Args:
        latents: Scores by stratum, each of shape (latents,).
        weights: Weight of each stratum; strata without a weight are left out.

    Returns:
        The mean with its sampling variance.

    Raises:
        ValueError: If there is no weight, or a weighted stratum has no latent.
    """
    if not weights or any(not len(latents.get(h, ())) for h in weights):
        msg = f"no latents in a stratum of {sorted(weights)}"
        raise ValueError(msg)
    drawn = {h: np.asarray(latents[h], dtype=np.float64) for h in weights}
    mean = sum(w * float(drawn[h].mean()) for h, w in weights.items())
    variance, df = _sampling(drawn, weights)
    return SaeMean(mean, variance, df, sum(map(len, drawn.values())))


def _sampling(drawn: Latents, weights: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Variance of a standardised mean with its degrees of freedom."""
    repeated = {h: x for h, x in drawn.items() if len(x) > 1}
    pooled, pooled_df = _pooled(drawn, repeated)
    if pooled is None:
        return None, None
    terms = [(weights[h] ** 2 * float(x.var(ddof=1)) / len(x), len(x) - 1.0) for h, x in repeated.items()]
    # One estimate serves all strata with one latent, so it is one term.
    if single := sum(weights[h] ** 2 * pooled for h in drawn if h not in repeated):
        terms.append((single, pooled_df))
    whole = sum((value for value, _ in terms), 0.0)
    spread = sum(value**2 / df for value, df in terms)
    return whole, float(whole**2 / spread) if spread else pooled_df


def _pooled(drawn: Latents, repeated: Latents) -> tuple[float | None, float]:
    if repeated:
        df = sum(len(x) - 1.0 for x in repeated.values())
        return sum(float(((x - x.mean()) ** 2).sum()) for x in repeated.values()) / df, df
    every = np.concatenate(list(drawn.values()))
    return (float(every.var(ddof=1)), len(every) - 1.0) if len(every) > 1 else (None, 0.0)


def two_sample(
    trained: Sequence[SaeMean],
    baseline: Sequence[SaeMean],
    *,
    claim: Claim = "artefact",
    alpha: float = 0.05,
    new_draw: bool = False,
    fixed: bool = False,
) -> TwoSample:
    """Welch's t over SAEs (Welch 1947; Satterthwaite 1946).

    Recipe: Var = s_T^2 / S + s_B^2 / K. Artefact: the S given SAEs are fixed and only their latents are a sample, Var =
    mean sampling variance / S + s_B^2 / K. The variance between SAEs already holds what the drawing of latents
    adds.

    Args:
        trained: The S SAEs under test.
        baseline: The K SAEs of the other arm.
        claim: Whether the SAEs under test are fixed ("artefact") or a sample of a recipe ("recipe").
        alpha: One-sided level; the interval covers 1 − 2 alpha.
        new_draw: Whether `trained` is one more draw from the baseline's own SAEs (a prediction interval).
        fixed: Whether the baseline's SAEs are taken as they are too, as where they are made of those under test.

    Returns:
        The difference with its interval. The interval is None with one baseline SAE, fewer than RECIPE_SEEDS SAEs
        under test for a recipe, or an SAE with a single latent: a variance is then unknown, and unknown is not zero.

    Raises:
        ValueError: If an arm has no SAE.
    """
    if not (trained and baseline):
        msg = f"an arm without SAEs: {len(trained)} under test, {len(baseline)} of the baseline"
        raise ValueError(msg)
    estimate = _mean(trained) - _mean(baseline)
    few = (len(baseline) < 2 and not fixed) or (claim == "recipe" and len(trained) < RECIPE_SEEDS)
    if few or any(sae.variance is None for sae in (*trained, *baseline)):
        return TwoSample(estimate, None, None, None, None, None)
    theirs = _side(baseline, sample=not fixed)
    if new_draw:
        theirs = replace(theirs, draw=len(baseline) + 1.0)
    ours = _side(trained, sample=claim == "recipe")
    # One more draw brings no variance of its own: the prediction's (1 + 1/K) holds it.
    ours = replace(ours, within=0.0) if new_draw else ours
    latents = round(float(np.mean([sae.latents for sae in (*trained, *baseline)])))
    return _interval(estimate, Sides(ours, theirs, latents), scale=_scale([*trained, *baseline]), alpha=alpha)


def mean_above(saes: Sequence[SaeMean], reference: float, *, alpha: float = 0.05) -> TwoSample:
    """Mean of given SAEs minus a number that is known, only their latents being a sample (a one-sample t)."""
    estimate = _mean(saes) - reference
    if any(sae.variance is None for sae in saes):
        return TwoSample(estimate, None, None, None, None, None)
    ours, nothing = _side(saes, sample=False), Side(1, 0.0, 1.0, None)
    return _interval(estimate, Sides(ours, nothing, saes[0].latents), scale=_scale(saes), alpha=alpha)


def luck_of_seeds(trained: Sequence[SaeMean], baseline: Sequence[SaeMean]) -> Sides:
    """The variance of a difference that the luck of the seeds accounts for.

    Args:
        trained: SAEs under test where they are a sample; none where they are taken as they are.
        baseline: SAEs of the other arm, at least two.
    """
    ours = _side(trained, sample=True) if trained else Side(1, 0.0, 1.0, None)
    return Sides(ours, _side(baseline, sample=True), round(float(np.mean([sae.latents for sae in baseline]))))


def label_permutation(trained: Sequence[SaeMean], baseline: Sequence[SaeMean], *, rng: np.random.Generator) -> float:
    """One-sided permutation p of H0: the labels of the SAEs mean nothing; exact up to 9,999 assignments.

    With S and K SAEs it cannot be below 1 / (S + K choose S): .05 for 3 and 3.
    """
    samples = [np.array([sae.mean for sae in arm]) for arm in (trained, baseline)]
    result = stats.permutation_test(
        samples,
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="independent",
        vectorized=True,
        alternative="greater",
        rng=rng,
    )
    return float(result.pvalue)


def _mean(saes: Sequence[SaeMean]) -> float:
    return float(np.mean([sae.mean for sae in saes]))


def _scale(saes: Sequence[SaeMean]) -> float:
    return max(abs(sae.mean) for sae in saes)


def _side(saes: Sequence[SaeMean], *, sample: bool) -> Side:
    terms = [(sae.variance or 0.0, sae.df or 1.0) for sae in saes]
    whole = sum((value for value, _ in terms), 0.0)
    spread = sum(value**2 / df for value, df in terms)
    df = whole**2 / spread if spread else sum(df for _, df in terms)
    between = float(np.var([sae.mean for sae in saes], ddof=1)) if sample else None
    if between is not None and is_rounding(between, _scale(saes)):
        between = 0.0
    return Side(len(saes), whole / len(saes), float(df), between)


def _interval(estimate: float, sides: Sides, *, scale: float, alpha: float) -> TwoSample:
    return TwoSample(*t_interval(estimate, sides.variance(), sides.df(), scale=scale, alpha=alpha), None, sides)
