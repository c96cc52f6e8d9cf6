"""Variance components of a paired difference between two arms, clusters crossed with seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Components:
    """Mean squares from which the variance of mean(trained) − mean(baseline) is put together (METHOD 5.2)."""

    clusters: int
    """Clusters G."""
    baseline_seeds: int
    """Seeds K of the baseline arm."""
    trained_seeds: int
    """Seeds T of the trained arm."""
    cluster: float
    """Sample variance over clusters of D_g = mean_t trained - mean_s baseline."""
    baseline: float
    """Sample variance of the baseline arm's seed means."""
    baseline_error: float
    """Residual mean square of the baseline arm, clusters x seeds."""
    trained: float = 0.0
    """Sample variance of the trained arm's seed means; 0 where the trained SAEs are taken as fixed."""
    trained_error: float = 0.0
    """Residual mean square of the trained arm; 0 where the trained SAEs are taken as fixed."""
    draw: float = 1.0
    """K + 1 where one more seed is drawn (a prediction): variance / K x (K + 1) = variance x (1 + 1/K)."""

    def terms(self) -> tuple[tuple[float, float], ...]:
        """Signed terms of the variance, each with its degrees of freedom."""
        G, K, T = self.clusters, self.baseline_seeds, self.trained_seeds
        baseline = (
            (self.draw * self.baseline / K, K - 1.0),
            (-self.draw * self.baseline_error / (G * K), (G - 1.0) * (K - 1.0)),
        )
        trained = ((self.trained / T, T - 1.0), (-self.trained_error / (G * T), (G - 1.0) * (T - 1.0)))
        return (
            (self.cluster / G, G - 1.0),
            *baseline,
            *(trained if self.trained or self.trained_error else ()),
        )

    def variance(self) -> float:
        """Variance of the difference, never below what clusters alone or seeds alone account for."""
        terms = [value for value, _ in self.terms()]
        seeds = sum(value for value in terms[1:] if value > 0)
        return max(sum(terms), terms[0], seeds)

    def df(self) -> float:
        """Satterthwaite degrees of freedom of `variance`, within the range that is possible.

        A component that the floor leaves out of the variance still counts here: seeds that happened to agree
        do not show that seeds never differ, so they must not lengthen the degrees of freedom.
        """
        used = [(value, df) for value, df in self.terms() if value]
        if not used:
            return self.clusters - 1.0
        spread = sum(value**2 / df for value, df in used)
        free = [df for value, df in used if value > 0]
        df = float(np.clip(self.variance() ** 2 / spread, min(free), sum(free)))
        # A prediction is the classical t interval of one more seed: what two seeds show of a third is 1 df, however
        # many clusters there are. Satterthwaite here called .05 to .09 of sound assays invalid at 3 seeds.
        return min(df, self.baseline_seeds - 1.0) if self.draw > 1 else df

    def at(self, *, clusters: int | None = None, baseline_seeds: int | None = None) -> Components:
        """Expected mean squares with another number of clusters or baseline seeds, the populations unchanged.

        Args:
            clusters: Clusters G; unchanged if None.
            baseline_seeds: Seeds K of the baseline; unchanged if None.

        Returns:
            The components that a run of that size would have on average.
        """
        G, K = clusters or self.clusters, baseline_seeds or self.baseline_seeds
        pure_baseline = max(self.baseline - self.baseline_error / self.clusters, 0.0)
        pure_trained = max(self.trained - self.trained_error / self.clusters, 0.0)
        fixed_error = self.trained_error / self.trained_seeds
        pure_cluster = max(self.cluster - self.baseline_error / self.baseline_seeds - fixed_error, 0.0)
        return replace(
            self,
            clusters=G,
            baseline_seeds=K,
            cluster=pure_cluster + self.baseline_error / K + fixed_error,
            baseline=pure_baseline + self.baseline_error / G,
            trained=pure_trained + self.trained_error / G,
        )


def seed_mean_squares(scores: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the seed means and residual mean square of one arm.

    Args:
        scores: Cluster means, shape (clusters, seeds), at least 2 x 2.

    Returns:
        (sample variance of the seed means, residual mean square of the additive model).
    """
    G, K = scores.shape
    rows, columns = scores.mean(axis=1, keepdims=True), scores.mean(axis=0, keepdims=True)
    residual = scores - rows - columns + scores.mean()
    return float(columns.var(ddof=1)), float((residual**2).sum() / ((G - 1) * (K - 1)))
