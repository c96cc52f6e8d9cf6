"""False BEATS of two to five baseline seeds, by how much seeds add to the variance: why `DF_AT_MOST` is what it is.

    python benchmarks/few_seeds.py --replicates 200000

The mean squares of normal data are drawn from their chi-square distributions and put together as `Components` (paired
clusters) and `Sides` (sampled latents) do, a whole table of replicates at once. `ratio` is the variance that seeds add
to the difference over what clusters (latents) add. First number: the interval alone; second: with `DF_AT_MOST`.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from sae_sanity.results.few_seeds import DF_AT_MOST

if TYPE_CHECKING:
    import numpy.typing as npt

    Draws = npt.NDArray[np.float64]

ALPHA = 0.05
RATIOS = (0.1, 0.3, 1, 3, 10, 30, 100)
CLUSTER_SD, NOISE_SD = 0.03, 0.02
LATENTS_DF = 190.0


def mean_square(rng: np.random.Generator, expected: float, df: float, n: int) -> tuple[Draws, float]:
    """Draws of a mean square with its degrees of freedom."""
    return expected * rng.chisquare(df, n) / df, df


def paired(rng: np.random.Generator, clusters: int, seeds: int, ratio: float, n: int) -> tuple[Draws, Draws]:
    """Student t and degrees of freedom of one given SAE against paired clusters, as `Components` has them."""
    G, K, noise = clusters, seeds, NOISE_SD**2
    seed = ratio * K * CLUSTER_SD**2 / G
    by_cluster = (CLUSTER_SD**2 + noise + noise / K) / G
    estimate = rng.normal(0, np.sqrt(by_cluster + seed / K), n)
    first, df0 = mean_square(rng, by_cluster, G - 1, n)
    second, df1 = mean_square(rng, (seed + noise / G) / K, K - 1, n)
    error, df2 = mean_square(rng, noise / (G * K), (G - 1) * (K - 1), n)
    variance = np.maximum(first + second - error, np.maximum(first, second))
    df = variance**2 / (first**2 / df0 + second**2 / df1 + error**2 / df2)
    return estimate / np.sqrt(variance), np.clip(df, min(df0, df1), df0 + df1)


def sampled(rng: np.random.Generator, saes: int, seeds: int, ratio: float, n: int) -> tuple[Draws, Draws]:
    """The same of given SAEs against sampled latents, as `Sides` has them."""
    within = 1.0
    estimate = rng.normal(0, np.sqrt(within / saes + within * (1 + ratio) / seeds), n)
    ours, df0 = mean_square(rng, within / saes, LATENTS_DF * saes, n)
    theirs, df1 = mean_square(rng, within * (1 + ratio) / seeds, seeds - 1, n)
    return estimate / np.sqrt(ours + theirs), (ours + theirs) ** 2 / (ours**2 / df0 + theirs**2 / df1)


def false_beats(t: Draws, df: Draws, most: float) -> float:
    """Share of intervals above 0 with no more than `most` degrees of freedom."""
    return float(np.mean(t > -special.stdtrit(np.minimum(df, most), ALPHA)))


def cell(t: Draws, df: Draws, seeds: int) -> str:
    """Without and with the rule."""
    without = f"{false_beats(t, df, np.inf):.3f}"
    return f"{without} {false_beats(t, df, DF_AT_MOST[seeds]):.3f}" if seeds in DF_AT_MOST else f"{without}      "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200_000)
    n, rng = parser.parse_args().replicates, np.random.default_rng(0)
    print(f"{'ratio':24} " + "  ".join(f"{ratio:>11g}" for ratio in RATIOS))
    for seeds in (2, 3, 4, 5):
        for clusters in (8, 41, 160):
            cells = [cell(*paired(rng, clusters, seeds, ratio, n), seeds) for ratio in RATIOS]
            print(f"{f'{seeds} seeds, {clusters} clusters':24} {'  '.join(cells)}".rstrip())
        for saes in (1, 2):
            cells = [cell(*sampled(rng, saes, seeds, ratio, n), seeds) for ratio in RATIOS]
            print(f"{f'{seeds} seeds, latents, {saes} SAE':24} {'  '.join(cells)}".rstrip())


if __name__ == "__main__":
    main()
