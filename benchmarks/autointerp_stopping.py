"""Errors, power and savings of stopping early by betting, with a look after every answer.

`python benchmarks/autointerp_stopping.py` simulates differences of detection scores (trained minus baseline, one
latent each), feeds them to the fractions of `results.stats.e_process`, and prints how often the test decides: under the
null its error, beside that of a t test that peeks as often; under effects its power and the share of answers that it
saves, beside the power of one t test at the end.
"""

from __future__ import annotations

import argparse

import numpy as np

from sae_sanity.results.stats.e_process import FRACTIONS

ALPHA = 0.05
T = 1.645
LEAST = 10
"""Answers before the peeking t test first looks."""


def scores(rng: np.random.Generator, mean: float, sd: float, shape: tuple[int, int]) -> np.ndarray:
    """Detection scores of latents: beta-distributed with this mean and deviation."""
    size = mean * (1 - mean) / sd**2 - 1
    return rng.beta(mean * size, (1 - mean) * size, shape)


def differences(kind: str, effect: float, sd: float, shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "beta":
        return scores(rng, 0.65 + effect, sd, shape) - scores(rng, 0.65, sd, shape)
    if kind == "two-valued":
        return 2.0 * (rng.random(shape) < (1 + effect) / 2) - 1
    return np.where(rng.random(shape) < 0.05, -0.95, 0.05) + effect  # skewed: seldom far below


def decided_at(found: np.ndarray) -> np.ndarray:
    """After how many answers the evidence against "no better" reaches 1 / alpha; infinite where it never does."""
    runs, n = found.shape
    wealth, first = np.zeros((runs, len(FRACTIONS))), np.full(runs, np.inf)
    for i in range(n):
        wealth += np.log1p(FRACTIONS * found[:, [i]])
        top = wealth.max(1)
        evidence = top + np.log(np.exp(wealth - top[:, None]).mean(1))
        first[(evidence >= -np.log(ALPHA)) & np.isinf(first)] = i + 1
    return first


def peeking_t(found: np.ndarray) -> float:
    n = np.arange(1, found.shape[1] + 1)
    mean = found.cumsum(1) / n
    variance = ((found**2).cumsum(1) / n - mean**2) * n / np.maximum(n - 1, 1)
    return float((mean / np.sqrt(np.maximum(variance, 1e-12) / n) > T)[:, LEAST - 1 :].any(1).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="errors, power and savings of stopping early")
    parser.add_argument("--runs", type=int, default=2000)
    runs = parser.parse_args().runs
    for kind in ("beta", "two-valued", "skewed"):
        found = differences(kind, 0.0, 0.15, (runs, 1000), 0)
        error = np.isfinite(decided_at(found)).mean()
        print(f"null, {kind:<10}: error {error:.3f}; a t test that peeks {peeking_t(found):.3f}")
    for n in (200, 1000):
        for effect in (0.02, 0.05, 0.1):
            found = differences("beta", effect, 0.15, (runs, n), 3)
            at = decided_at(found)
            fixed = (found.mean(1) / (found.std(1, ddof=1) / n**0.5) > T).mean()
            saved = 1 - np.minimum(at, n).mean() / n
            power = np.isfinite(at).mean()
            print(f"effect {effect:.2f}, {n} latents: power {power:.2f} (fixed {fixed:.2f}), saves {saved:.0%}")


if __name__ == "__main__":
    main()
