"""Crossed (two-way random) t: the interval of a difference when clusters and seeds are both samples.

The interval over items alone rejects far too often because every item shares the luck of the same few seeds;
a bootstrap over so few seeds does too (METHOD section 5.2 has the measured rates).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

from .components import Components, seed_mean_squares

if TYPE_CHECKING:
    import numpy.typing as npt

Claim = Literal["artefact", "recipe"]

RECIPE_SEEDS = 3
"""Trained seeds below which nothing is said about a recipe (METHOD section 5.7)."""


MIN_TRIALS = 3
"""Trials below which nothing is said about a given SAE: two gave .062 to .067 false BEATS where .06 is allowed, three
.058 at most (40 and 108 clusters, 3,000 simulated checks each)."""


@dataclass(frozen=True)
class CrossedT:
    """A difference with its interval."""

    estimate: float
    """Mean over clusters of trained - baseline."""
    standard_error: float | None
    """Square root of the variance of the estimate; None where a variance that matters is not known."""
    df: float | None
    """Satterthwaite degrees of freedom."""
    lo: float | None
    """Lower end of the 1 - 2 alpha interval."""
    hi: float | None
    """Upper end of the interval."""
    pvalue: float | None
    """One-sided p of H0: difference <= 0."""
    components: Components | None = None
    """What the variance is made of."""


def crossed_t(
    trained: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.float64],
    *,
    claim: Claim = "artefact",
    alpha: float = 0.05,
    new_draw: bool = False,
    trials: bool = False,
) -> CrossedT:
    """Difference of two arms with clusters and seeds both random.

    With D_g = mean_t trained − mean_s baseline the variance is var(D_g)/G + var(baseline seed means)/K
    − MS_error/(G K), never below the larger single component. With one trained seed this equals
    (MS_cluster + MS_seed − MS_error)/(G K) of X[g, s] = trained_g − baseline_gs (METHOD section 5.2; Owen 2007
    for the crossed layout, Satterthwaite 1946 for the degrees of freedom). A recipe claim adds the same two
    terms of the trained arm; an artefact claim takes the trained SAEs as they are, but not the luck of their trials.

    Args:
        trained: Cluster means, shape (clusters, trained seeds).
        baseline: Cluster means, shape (clusters, baseline seeds).
        claim: Whether the trained SAEs are fixed ("artefact") or a sample of a recipe ("recipe").
        alpha: One-sided level; the interval covers 1 − 2 alpha.
        new_draw: Whether `trained` is one more draw from the baseline's own seeds (a prediction interval).
        trials: Whether the columns of `trained` are trials of fixed SAEs, a sample like the baseline's seeds; that
            they may differ by SAE too makes the interval of an artefact claim wider, not narrower.

    Returns:
        The estimate with its interval. The interval is None with one cluster, one baseline seed, one trial, or fewer
        than RECIPE_SEEDS trained seeds for a recipe: a variance is then unknown, and unknown is not zero.

    Raises:
        ValueError: If the arrays are not two-dimensional, finite and of equal cluster count.
    """
    _validate(trained, baseline)
    (G, T), K = trained.shape, baseline.shape[1]
    difference = trained.mean(axis=1) - baseline.mean(axis=1)
    if G < 2 or K < 2 or (claim == "recipe" and T < RECIPE_SEEDS) or (trials and T < MIN_TRIALS):
        return CrossedT(float(difference.mean()), None, None, None, None, None)
    variance, error = seed_mean_squares(baseline)
    trained_squares = seed_mean_squares(trained) if claim == "recipe" or trials else (0.0, 0.0)
    parts = Components(
        G,
        K,
        T,
        float(difference.var(ddof=1)),
        variance,
        error,
        *trained_squares,
        draw=K + 1.0 if new_draw else 1.0,
    )
    return _interval(difference, parts, scale=_scale(trained, baseline), alpha=alpha)


def paired_t(
    trained: npt.NDArray[np.float64],
    baseline: npt.NDArray[np.float64],
    *,
    alpha: float = 0.05,
    trials: bool = False,
) -> CrossedT:
    """Difference of two arms taken as they are: only clusters are a sample (an ordinary paired t).

    Right for a reference that has no seeds and for a control cut from the trained SAE itself.

    Args:
        trained: Cluster means, shape (clusters, seeds).
        baseline: Cluster means, shape (clusters, seeds); the seeds of either arm are averaged.
        alpha: One-sided level.
        trials: Whether columns are trials, a sample of their own: paired where both arms have as many, else those of
            `trained` alone.

    Returns:
        The estimate with its interval, None with one cluster or a single trial.

    Raises:
        ValueError: If the arrays are not two-dimensional, finite and of equal cluster count.
    """
    _validate(trained, baseline)
    difference = trained.mean(axis=1) - baseline.mean(axis=1)
    if len(difference) < 2 or (trials and trained.shape[1] < 2):
        return CrossedT(float(difference.mean()), None, None, None, None, None)
    columns = trained - (baseline if trained.shape == baseline.shape else baseline.mean(axis=1, keepdims=True))
    luck = seed_mean_squares(columns) if trials else (0.0, 0.0)
    parts = Components(len(difference), 1, trained.shape[1], float(difference.var(ddof=1)), 0.0, 0.0, *luck)
    return _interval(difference, parts, scale=_scale(trained, baseline), alpha=alpha)


def _interval(difference: npt.NDArray[np.float64], parts: Components, *, scale: float, alpha: float) -> CrossedT:
    estimate, variance = float(difference.mean()), parts.variance()
    df = len(difference) - 1.0 if is_rounding(variance, scale) else parts.df()
    return CrossedT(*t_interval(estimate, variance, df, scale=scale, alpha=alpha), parts)


def is_rounding(variance: float, scale: float) -> bool:
    """Whether a variance is only what rounding leaves of scores of this size."""
    return bool(variance <= (16 * np.finfo(float).eps * scale) ** 2)


def t_interval(
    estimate: float, variance: float, df: float, *, scale: float, alpha: float
) -> tuple[float, float, float, float, float, float]:
    """The first six fields of `CrossedT` of an estimate whose variance is known with some degrees of freedom.

    Scores that agree leave rounding noise; it must not pass for a tiny but sure error.

    Args:
        estimate: The difference.
        variance: Its variance.
        df: Degrees of freedom of the variance.
        scale: Largest absolute score, which says how large rounding is.
        alpha: One-sided level.
    """
    if is_rounding(variance, scale):
        exact = 0.0 if abs(estimate) <= 16 * np.finfo(float).eps * scale else estimate
        return exact, 0.0, df, exact, exact, 0.0 if exact > 0 else 1.0
    error = float(np.sqrt(variance))
    half = float(stats.t.isf(alpha, df)) * error
    return estimate, error, df, estimate - half, estimate + half, float(stats.t.sf(estimate / error, df))


def _scale(*arms: npt.NDArray[np.float64]) -> float:
    return max(float(np.abs(arm).max()) for arm in arms)


def _validate(trained: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64]) -> None:
    for name, arm in (("trained", trained), ("baseline", baseline)):
        if arm.ndim != 2 or 0 in arm.shape:
            msg = f"{name} must have shape (clusters, seeds), got {arm.shape}"
            raise ValueError(msg)
        if not np.isfinite(arm).all():
            msg = f"{name} holds a value that is not finite"
            raise ValueError(msg)
    if len(trained) != len(baseline):
        msg = f"trained has {len(trained)} clusters and baseline {len(baseline)}"
        raise ValueError(msg)
