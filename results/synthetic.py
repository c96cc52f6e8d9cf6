"""From the rows of the synthetic suite to what its report draws: curves, histograms, scores of every arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from .design import ALPHA
from .synthetic_detail import Curve, Histogram, RateBin, SyntheticDetail, WorldScore

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

SUITE = "synthetic"
"""Name of the suite."""

ORACLE, CHANCE, WORLD, MEAN_DIRECTION = "@oracle", "@chance", "@world", "@mean_direction"
"""References: the true dictionary, a random one, the world itself (its rows are firing rates), no information."""

BROKEN_COPY = "permuted"
"""Beginning of the names of controls that are copies of the trained SAE with its rows shuffled."""

WIDTHS = (0.25, 0.5, 1.0)
"""Widths that a bin of firing rates may have, in decades, the finest first."""

FEATURES_PER_BIN = 40
"""Features of one world that the median bin should hold: a share of fewer is a coarse number."""

FEWEST = 10
"""Bins at either end with fewer features of a world than this join their neighbour."""

COSINE_BINS = 50
"""Bins of a cosine histogram between 0 and 1."""

MEANS = {
    "explained_variance": "explained_variance",
    "explained_variance_ls": "explained_variance_ls",
    "explained_variance_omp": "explained_variance_omp",
    "recovered_08": "recovered_0.8",
    "recovered_09": "recovered_0.9",
    "matched_08": "matched_0.8",
    "matched_09": "matched_0.9",
    "weighted_recovery": "weighted_recovery_0.8",
    "mean_best_cosine": "best_cosine",
    "mean_matched_cosine": "matched_cosine",
    "firing_precision": "firing_precision",
    "firing_recall": "firing_recall",
    "firing_f1": "firing_f1",
    "mcc": "mcc",
    "uniqueness": "uniqueness",
    "l0": "l0",
    "dead_share": "dead_share",
}
"""The metric behind each mean of a `WorldScore`."""


def summarise(
    rows: pd.DataFrame,
    *,
    world: str,
    n_features: int,
    d_in: int,
    true_l0: float,
    chance_mean_cosine: float | None = None,
    arms: Sequence[str] = (),
    alpha: float = ALPHA,
) -> SyntheticDetail:
    """Everything that the report draws of one run of the synthetic suite.

    Args:
        rows: Score rows, columns as in `scores.COLUMNS`; those of other suites are not read.
        world: Kind of world.
        n_features: True features of a world.
        d_in: Dimensions of the activations.
        true_l0: Expected number of active true features per sample.
        chance_mean_cosine: Expected largest cosine with a random dictionary of that size; by default the mean of
            `@chance`, or null without it.
        arms: Arms to show, in this order; by default all: trained, the others by name, references, broken copies.
        alpha: One-sided level of the intervals, 1 - 2 alpha over worlds.

    Returns:
        The detail; an arm that lacks a metric lacks the curve, the histogram or the number. Neither is made of
        `@mean_direction`, which has no dictionary, and of broken copies, whose dictionary is that of the trained SAE.
    """
    mine = rows.loc[rows["suite"] == SUITE]
    names = list(arms) or _ordered(mine)
    drawn = [name for name in names if name != MEAN_DIRECTION and not name.startswith(BROKEN_COPY)]
    rates = _rates(mine)
    per_world = {metric: _world_means(mine, metric) for metric in MEANS.values()}
    chance = _mean(per_world["best_cosine"].get(CHANCE)) if chance_mean_cosine is None else chance_mean_cosine
    return SyntheticDetail(
        world=world,
        n_worlds=int(mine["cluster"].nunique()),
        n_features=n_features,
        d_in=d_in,
        true_l0=true_l0,
        chance_mean_cosine=chance,
        curves=_curves(mine, "recovered_0.8", drawn, rates, alpha=alpha),
        matched_curves=_curves(mine, "matched_0.8", drawn, rates, alpha=alpha),
        histograms=_histograms(mine, drawn),
        scores=_scores(per_world, names, alpha=alpha),
    )


def t_interval(
    values: npt.NDArray[np.float64] | Sequence[float], *, alpha: float = ALPHA
) -> tuple[float, float | None, float | None]:
    """Mean of independent values with its two-sided 1 - 2 alpha t interval.

    Args:
        values: One number per world.
        alpha: One-sided level.

    Returns:
        (mean, lo, hi); no interval with fewer than two values.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) < 2:
        return mean, None, None
    half = float(stats.t.isf(alpha, len(sample) - 1)) * float(sample.std(ddof=1)) / len(sample) ** 0.5
    return mean, mean - half, mean + half


def rate_edges(rates: npt.NDArray[np.float64], *, n_worlds: int = 1) -> npt.NDArray[np.float64]:
    """Edges of the bins of firing rates, at round exponents of ten, fine where there are features enough.

    Args:
        rates: Positive firing rates of all worlds together, shape (worlds x features,).
        n_worlds: Worlds that they come from.

    Returns:
        Ascending edges as rates; the lowest and the highest rate themselves where all lie within one narrow bin.
    """
    low, high = float(rates.min()), float(rates.max())
    if np.log10(high / low) < WIDTHS[0]:
        return np.array([low, high])
    candidates = [_round_edges(np.log10(rates), width, n_worlds) for width in WIDTHS]
    good = (c for c in candidates if np.median(c[1]) >= FEATURES_PER_BIN)
    return 10.0 ** _without_thin_ends(*next(good, candidates[-1]))


def _round_edges(
    logs: npt.NDArray[np.float64], width: float, n_worlds: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Edges at multiples of a width around all logarithms, and the features of one world between them."""
    edges = width * np.arange(np.floor(logs.min() / width), np.floor(logs.max() / width) + 2)
    return edges, np.histogram(logs, edges)[0] / n_worlds


def _without_thin_ends(edges: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The first or last bins joined with their neighbour until each holds FEWEST features of a world."""
    kept, held = list(edges), list(counts)
    for inner, outer in ((1, 0), (-2, -1)):
        while len(held) > 1 and held[outer] < FEWEST:
            thin = held.pop(outer)
            held[outer] += thin
            kept.pop(inner)
    return np.array(kept)


def _ordered(rows: pd.DataFrame) -> list[str]:
    """Arms as a report lists them: trained, the others by name, references with the truth first, broken copies last."""
    order = {"trained": 0, ORACLE: 2, CHANCE: 3}

    def key(arm: str) -> tuple[int, str]:
        return order.get(arm, 4 if arm.startswith("@") else 5 if arm.startswith(BROKEN_COPY) else 1), arm

    return sorted((str(arm) for arm in rows["arm"].unique() if arm != WORLD), key=key)


def _rates(rows: pd.DataFrame) -> pd.Series:
    """Firing rate by (cluster, item), but for features that never fire: a logarithm has no place for them."""
    of_world = rows.loc[(rows["arm"] == WORLD) & (rows["metric"] == "firing_rate")]
    rates = of_world.set_index(["cluster", "item"])["value"]
    return rates.loc[rates > 0]


def _world_means(rows: pd.DataFrame, metric: str) -> dict[str, npt.NDArray[np.float64]]:
    """Mean of one metric by arm, one number per world, starts of a world averaged."""
    means = rows.loc[rows["metric"] == metric].groupby(["arm", "cluster"], observed=True)["value"].mean()
    return {str(arm): group.to_numpy(dtype=np.float64) for arm, group in means.groupby(level="arm", observed=True)}


def _mean(values: npt.NDArray[np.float64] | None) -> float | None:
    return None if values is None else float(values.mean())


def _curves(
    rows: pd.DataFrame, metric: str, arms: Sequence[str], rates: pd.Series, *, alpha: float
) -> tuple[Curve, ...]:
    """Shares by firing rate; none without rates."""
    if rates.empty:
        return ()
    edges = rate_edges(rates.to_numpy(dtype=np.float64), n_worlds=rates.index.get_level_values("cluster").nunique())
    of_bin = rates.to_frame("rate").assign(bin=_bin_of(rates.to_numpy(dtype=np.float64), edges))
    mine = rows.loc[rows["metric"] == metric].set_index(["cluster", "item"])[["arm", "value"]]
    shares = mine.join(of_bin["bin"], how="inner").groupby(["arm", "bin", "cluster"], observed=True)["value"].mean()
    sizes = of_bin.groupby(["bin", "cluster"], observed=True).size().groupby(level="bin").mean().to_dict()
    known = set(shares.index.get_level_values("arm"))
    return tuple(Curve(arm=arm, bins=_bins(shares.loc[arm], edges, sizes, alpha)) for arm in arms if arm in known)


def _bin_of(rates: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index of the bin of each rate; the last bin holds its upper edge."""
    return np.clip(np.searchsorted(edges, rates, side="right") - 1, 0, len(edges) - 2)


def _bins(
    shares: pd.Series, edges: npt.NDArray[np.float64], sizes: dict[int, float], alpha: float
) -> tuple[RateBin, ...]:
    bins = []
    for index, of_worlds in shares.groupby(level="bin"):
        i = int(index)  # pyright: ignore[reportArgumentType]
        value, lo, hi = t_interval(of_worlds.to_numpy(dtype=np.float64), alpha=alpha)
        n = round(sizes[i])
        bins.append(RateBin(low=float(edges[i]), high=float(edges[i + 1]), n_features=n, value=value, lo=lo, hi=hi))
    return tuple(bins)


def _histograms(rows: pd.DataFrame, arms: Sequence[str]) -> tuple[Histogram, ...]:
    mine = rows.loc[(rows["metric"] == "best_cosine") & rows["arm"].isin(list(arms))]
    cosines = {str(arm): group for arm, group in mine.groupby("arm", observed=True)}
    if not cosines:
        return ()
    lowest = min(float(group["value"].min()) for group in cosines.values())
    # Few latents in few dimensions may leave a feature with no latent on its side.
    first = min(0, int(np.floor(round(lowest * COSINE_BINS, 6))))
    edges = np.arange(first, COSINE_BINS + 1) / COSINE_BINS
    return tuple(
        Histogram(arm=arm, edges=tuple(edges.tolist()), shares=_shares(cosines[arm], edges))
        for arm in arms
        if arm in cosines
    )


def _shares(group: pd.DataFrame, edges: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Shares of one arm, each SAE counting alike inside its world and each world alike."""
    saes = group.groupby(["cluster", "seed"], observed=True)["value"]
    counts = saes.apply(lambda v: np.histogram(np.clip(v, edges[0], 1.0), edges)[0] / len(v))
    worlds = counts.groupby(level="cluster").apply(lambda several: np.mean(np.stack(list(several)), axis=0))
    return tuple(np.mean(np.stack(list(worlds)), axis=0).tolist())


def _scores(
    per_world: dict[str, dict[str, npt.NDArray[np.float64]]], arms: Sequence[str], *, alpha: float
) -> tuple[WorldScore, ...]:
    of_ev = per_world["explained_variance"]
    chance, oracle = _mean(of_ev.get(CHANCE)), _mean(of_ev.get(ORACLE))
    return tuple(_score(arm, per_world, chance, oracle, alpha) for arm in arms)


def _score(
    arm: str,
    per_world: dict[str, dict[str, npt.NDArray[np.float64]]],
    chance: float | None,
    oracle: float | None,
    alpha: float,
) -> WorldScore:
    ev = per_world["explained_variance"].get(arm)
    _, lo, hi = (None, None, None) if ev is None else t_interval(ev, alpha=alpha)
    measured = [len(of_metric[arm]) for of_metric in per_world.values() if arm in of_metric]
    return WorldScore(
        arm=arm,
        n_worlds=max(measured, default=0),
        lo=lo,
        hi=hi,
        normalised=_normalised(_mean(ev), chance, oracle),
        **{field: _mean(per_world[metric].get(arm)) for field, metric in MEANS.items()},
    )


def _normalised(value: float | None, chance: float | None, oracle: float | None) -> float | None:
    """Where a value lies between chance (0) and oracle (1); None where there is no range."""
    if value is None or chance is None or oracle is None or chance == oracle:
        return None
    return (value - chance) / (oracle - chance)
