"""Calibration of AutoInterp's two-sample comparison: SAEs between which nothing differs but how often they fire.

    python benchmarks/autointerp_null.py --replicates 2000

Every SAE draws its own latents. How well a latent is explained falls with its stratum of firing rate, the arms' mixes
of strata differ, scores scatter more in rare strata and more in the baseline, and every SAE has its own luck (none for
a single trained SAE: the claim is then about that SAE). lo>0 is the share of false BEATS (mc: its
Monte-Carlo error), cover that of 90 % intervals that hold 0, EQUIV that of intervals inside the margin, MDE the median
detectable difference and found the share found at a truth of that size (nominal .8), raw>0 the false BEATS of the same
test without standardisation, none the runs without an interval.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np

from sae_sanity.results.stats import common_weights, mde, standardise, two_sample
from sae_sanity.results.stats.crossed import RECIPE_SEEDS

TRAINED_MIX = np.array([0.3, 0.25, 0.2, 0.15, 0.07, 0.03])
BASELINE_MIX = np.array([0.05, 0.1, 0.15, 0.25, 0.25, 0.2])
EFFECT = np.linspace(0.72, 0.60, 6)
"""Mean score of a latent of each stratum, in either arm."""
SPREAD = np.linspace(0.10, 0.18, 6)
WILDER = 1.3
"""Scores of the baseline's latents scatter so much more."""
STEP = 0.025
"""Scores are shares of 40 answers."""
MARGIN, BOUND = 0.02, 0.06


@dataclass(frozen=True)
class Shape:
    """One setting."""

    trained: int
    baseline: int
    latents: int
    seed_sd: float


def sae(rng: np.random.Generator, latents: int, mix: np.ndarray, luck: float, wilder: float) -> dict[str, np.ndarray]:
    """Scores of the latents of one SAE, by stratum; as many in each as the mix gives by chance."""
    counts = rng.multinomial(latents, mix)
    return {f"f{h}": _scores(rng, n, EFFECT[h] + luck, SPREAD[h] * wilder) for h, n in enumerate(counts)}


def _scores(rng: np.random.Generator, n: int, mean: float, sd: float) -> np.ndarray:
    """Beta-distributed shares with this mean and about this deviation, rounded without bias."""
    size = mean * (1 - mean) / sd**2 - 1
    return np.floor(rng.beta(mean * size, (1 - mean) * size, n) / STEP + rng.random(n)) * STEP


def arm(rng: np.random.Generator, shape: Shape, *, trained: bool) -> list[dict[str, np.ndarray]]:
    """The SAEs of one arm."""
    seeds, mix = (shape.trained, TRAINED_MIX) if trained else (shape.baseline, BASELINE_MIX)
    sd = 0.0 if trained and shape.trained < RECIPE_SEEDS else shape.seed_sd
    return [sae(rng, shape.latents, (mix + TRAINED_MIX + BASELINE_MIX) / 3, luck, 1.0 if trained else WILDER)
            for luck in rng.normal(0, 1, seeds) * sd]  # fmt: skip


@dataclass(frozen=True)
class Ends:
    """What one replicate gave."""

    lo: float
    hi: float
    mde: float
    raw_lo: float


def replicate(shape: Shape, seed: int) -> Ends:
    """One run under H0."""
    rng = np.random.default_rng([seed, shape.trained, shape.baseline, shape.latents, round(shape.seed_sd * 1e6)])
    ours, theirs = arm(rng, shape, trained=True), arm(rng, shape, trained=False)
    claim = "recipe" if shape.trained >= RECIPE_SEEDS else "artefact"
    mix = {f"f{h}": w for h, w in enumerate(TRAINED_MIX)}
    weights = common_weights(mix, [*ours, *theirs])
    pooled = [[standardise({"all": np.concatenate(list(s.values()))}, {"all": 1.0}) for s in a] for a in (ours, theirs)]
    raw = two_sample(*pooled, claim=claim)
    # So few latents that the SAEs share no stratum, or one of them has a single latent there: inconclusive.
    if not weights:
        return Ends(-np.inf, np.inf, np.inf, raw.lo or 0.0)
    result = two_sample(*([standardise(s, weights) for s in a] for a in (ours, theirs)), claim=claim)
    if result.lo is None or result.hi is None or result.standard_error is None or result.df is None:
        return Ends(-np.inf, np.inf, np.inf, raw.lo or 0.0)
    return Ends(result.lo, result.hi, mde(result.standard_error, result.df), raw.lo or 0.0)


def line(shape: Shape, replicates: int) -> str:
    """One row of the table."""
    runs = [replicate(shape, seed) for seed in range(replicates)]
    lo, hi, raw = (np.array([getattr(run, name) for run in runs]) for name in ("lo", "hi", "raw_lo"))
    detectable = float(np.median([run.mde for run in runs]))
    rate = float(np.mean(lo > 0))
    error = np.sqrt(rate * (1 - rate) / replicates)
    equivalent = np.mean((lo > -MARGIN) & (hi < MARGIN) & (lo <= 0))
    covered, found = np.mean((lo <= 0) & (hi >= 0)), np.mean(lo + detectable > 0)
    values = (rate, error, covered, equivalent, detectable, found, np.mean(raw > 0), np.mean(np.isinf(lo)))
    setting = f"{shape.trained:3d} {shape.baseline:3d} {shape.latents:5d} {shape.seed_sd:6.3f}"
    flag = "  > bound" if rate > BOUND else ""
    return f"{setting} | " + " ".join(f"{v:7.3f}" for v in values) + flag


NAMES = ("lo>0", "mc", "cover", "EQUIV", "MDE", "found", "raw>0", "none")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--trained-seeds", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--baseline-seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--latents", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.0, 0.01, 0.03])
    args = parser.parse_args()
    print("  S   K     n seedSD | " + " ".join(f"{name:>7}" for name in NAMES))
    for values in itertools.product(args.trained_seeds, args.baseline_seeds, args.latents, args.seed_sd):
        print(line(Shape(*values), args.replicates), flush=True)


if __name__ == "__main__":
    main()
