"""From long rows of one arm to a matrix, clusters x seeds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..scores import STRATUM, TRIAL

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

ITEM = ["cluster", "item"]
"""What identifies an item: items are named inside their cluster."""


@dataclass(frozen=True, eq=False)
class ArmScores:
    """One metric of one arm."""

    arm: str
    """Name of the arm."""
    items: pd.DataFrame
    """Scores, index (cluster, item), one column per seed, both sorted; NaN where a seed lacks an item."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds measured, ascending."""
        return tuple(int(seed) for seed in self.items.columns)

    @cached_property
    def clusters(self) -> npt.NDArray[np.float64]:
        """Cluster means, shape (clusters, seeds): items averaged inside clusters, whatever their number."""
        return self.items.groupby(level="cluster", sort=True).mean().to_numpy(dtype=np.float64)

    @cached_property
    def trials(self) -> npt.NDArray[np.float64]:
        """Cluster means of every trial, shape (clusters, seeds x trials); one trial where items name none."""
        cluster, item = (self.items.index.get_level_values(level) for level in ITEM)
        trial = item.str.extract(f"{TRIAL}([^{TRIAL}]*)$", expand=False).fillna("")
        columns = self.items.groupby([cluster, trial], sort=True).mean().unstack()
        return columns.dropna(axis=1, how="all").to_numpy(dtype=np.float64)

    @property
    def score(self) -> float:
        """Mean over clusters, then seeds."""
        return float(np.mean(self.seed_means))

    @cached_property
    def seed_means(self) -> npt.NDArray[np.float64]:
        """Mean over clusters of every seed, shape (seeds,)."""
        return np.asarray(np.nanmean(self.clusters, axis=0))

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation of the seed means; None with one seed."""
        return float(self.seed_means.std(ddof=1)) if len(self.seeds) > 1 else None

    def reseed_sd(self, *, nested: bool = False) -> float | None:
        """Standard deviation of the arm's score over reseeding; None where there is nothing to compare.

        Args:
            nested: Whether seeds are starts nested in clusters. Reseeding is then a new world or a new start: the
                larger of the deviation of the world means and the pooled deviation of starts inside a world.
        """
        if not nested:
            return self.seed_sd
        scores = self.clusters
        worlds = [float(np.nanmean(scores, axis=1).std(ddof=1))] if len(scores) > 1 else []
        starts = [float(np.sqrt(np.nanvar(scores, axis=1, ddof=1).mean()))] if len(self.seeds) > 1 else []
        return max([*worlds, *starts], default=None)

    @cached_property
    def ragged(self) -> str:
        """Which seeds lack items that another seed of the arm has; empty where none does."""
        if not np.isnan(self.items.to_numpy(dtype=np.float64)).any():
            return ""
        lacking = self.items.isna().sum()
        parts = [f"seed {seed} lacks {n}" for seed, n in lacking.items() if n]
        return f"{self.arm}: of {len(self.items)} items {', '.join(parts)}" if parts else ""


def arm_scores(rows: pd.DataFrame, arm: str) -> ArmScores:
    """Arrange the rows of one metric and one arm.

    Args:
        rows: Rows of one suite, one metric and one arm, columns as in `scores.COLUMNS`.
        arm: Name of the arm.

    Returns:
        Its scores as a table, (cluster, item) x seed.

    Raises:
        ValueError: If an item occurs twice under one seed, or a value is not finite.
    """
    table = rows.set_index([*ITEM, "seed"])["value"]
    if not np.isfinite(table.to_numpy(dtype=np.float64)).all():
        msg = f"{arm}: {int((~np.isfinite(table.to_numpy(dtype=np.float64))).sum())} scores are not finite"
        raise ValueError(msg)
    if not table.index.is_unique:
        repeated = rows.loc[rows.duplicated([*ITEM, "seed"])]
        cluster, item, seed = (repeated[name].iloc[0] for name in (*ITEM, "seed"))
        msg = f"{arm}: item {item!r} of cluster {cluster!r} occurs twice under seed {seed}"
        raise ValueError(msg)
    return ArmScores(arm, table.unstack("seed").sort_index().sort_index(axis=1))  # pyright: ignore[reportArgumentType]


def stratified(scores: ArmScores) -> ArmScores:
    """Weigh items so that the mean over clusters is the mean over strata, each of which counts alike.

    With G clusters, H strata and G_h clusters that have stratum h, the mean of h is (1 / G) sum_g (G / G_h) x_gh, so
    that a cluster's score becomes sum_h G / (H G_h) x_gh over the strata that it has. Arms with the same items get the
    same weights. A cluster with few strata has a small score, with many a large one, and that is in its variance.
    """
    cluster, item = (scores.items.index.get_level_values(level).to_series(index=scores.items.index) for level in ITEM)
    stratum = item.str.partition(STRATUM)[0]
    have = stratum.groupby([cluster, stratum]).size()
    clusters_of = have.groupby(level=1).size()
    weight = cluster.nunique() / (len(clusters_of) * clusters_of)
    of_cluster = cluster.map(cluster.value_counts())
    of_stratum = have.reindex(zip(cluster, stratum, strict=True)).to_numpy()
    factor = stratum.map(weight) * of_cluster / of_stratum
    return ArmScores(scores.arm, scores.items.mul(factor, axis=0))


def mismatch(first: ArmScores, second: ArmScores) -> str:
    """Why two arms cannot be paired item by item; empty where they can.

    Items that only one arm has are informative missingness: dropping them would compare a selection, so
    nothing is ever joined silently.

    Args:
        first: One arm.
        second: The other.

    Returns:
        One line with counts, or "".
    """
    if first.ragged or second.ragged:
        return "; ".join(filter(None, (first.ragged, second.ragged)))
    ours, theirs = first.items.index, second.items.index
    if ours.equals(theirs):
        return ""
    shared = len(ours.intersection(theirs))
    return (
        f"items differ: {len(ours) - shared} only in {first.arm}, "
        f"{len(theirs) - shared} only in {second.arm}, {shared} in both"
    )
