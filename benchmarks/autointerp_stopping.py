"""Errors, power and savings of autointerp when it stops where the verdict is there.

    python benchmarks/autointerp_stopping.py --runs 1000 --effect-runs 300 --workers 2

Every run is a whole check against one baseline: SAEs with luck of their own (none for a single trained SAE: the claim
is then about that SAE), strata drawn from the mean mix with a frequency effect on the scores of all arms, one latent
of each SAE at each step, beta-distributed scores, a look after every block, the production interval and verdict. One
line for each shape: the share of BEATS where nothing differs, and for effects of .02, .05 and .1 the power and the
share of steps saved; in brackets the same of the fixed design, which asks all latents and uses `two_sample`.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass
from multiprocessing import Pool

import numpy as np
from scipy import stats

from sae_sanity.results.outcome import Verdict
from sae_sanity.results.stats import standardise, two_sample
from sae_sanity.results.stats.anytime import Anytime, seed_error
from sae_sanity.results.stats.crossed import RECIPE_SEEDS
from sae_sanity.results.stats.e_process import GRID, Evidence
from sae_sanity.results.verdict import verdict_of

MIX = np.array([0.175, 0.175, 0.175, 0.2, 0.16, 0.115])
"""Mean mix of the arms of autointerp_null.py."""
LEVELS = np.linspace(0.72, 0.60, 6)
"""Mean score of a latent of each stratum, in either arm."""
MARGIN, BOUND, BLOCK = 0.02, 0.06, 20
EFFECTS = (0.0, 0.02, 0.05, 0.1)
NEAR = GRID[(GRID >= -0.1) & (GRID <= 0.3)]
"""Means that matter here; an end beyond them is taken for -1 or 1, which decides nothing."""


@dataclass(frozen=True)
class Shape:
    """One setting."""

    trained: int
    baseline: int
    latents: int
    seed_sd: float
    latent_sd: float
    effect: float = 0.0


def scores(rng: np.random.Generator, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of both arms, steps x SAEs, and the stratum of each step."""
    strata = rng.choice(len(MIX), shape.latents, p=MIX)
    given = shape.trained < RECIPE_SEEDS
    ours, theirs = (rng.normal(0, 1, n).clip(-3, 3) * shape.seed_sd for n in (shape.trained, shape.baseline))
    level = LEVELS[strata, None]
    scored = _beta(rng, level + shape.effect + (0.0 if given else ours), shape.latent_sd, (shape.latents, len(ours)))
    return scored, _beta(rng, level + theirs, shape.latent_sd, (shape.latents, len(theirs))), strata


def _beta(rng: np.random.Generator, mean: np.ndarray, sd: float, shape: tuple[int, int]) -> np.ndarray:
    size = mean * (1 - mean) / sd**2 - 1
    return rng.beta(mean * size, (1 - mean) * size, shape)


def stopping(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, bool]:
    """Steps that were taken, and whether they end with BEATS: `StoppingRule`, going on from look to look."""
    evidence, claim = Evidence(NEAR), "recipe" if ours.shape[1] >= RECIPE_SEEDS else "artefact"
    differences = ours.mean(1) - theirs.mean(1)
    verdict, done = Verdict.INCONCLUSIVE, 0
    while verdict is Verdict.INCONCLUSIVE and done < len(ours):
        evidence.update(differences[done : done + BLOCK])
        done = min(len(ours), done + BLOCK)
        result = Anytime(evidence, *seed_error(ours[:done], theirs[:done], claim=claim))
        verdict = verdict_of(*(result.interval() or (None, None)), margin=MARGIN)
    return done, verdict is Verdict.BEATS


def fixed(ours: np.ndarray, theirs: np.ndarray, strata: np.ndarray) -> bool:
    """Whether all steps, as the fixed design would read them, end with BEATS."""
    weights = dict(zip(map(str, range(len(MIX))), MIX, strict=True))
    saes = [[standardise({h: x[strata == int(h)] for h in weights}, weights) for x in arm.T] for arm in (ours, theirs)]
    result = two_sample(*saes, claim="recipe" if ours.shape[1] >= RECIPE_SEEDS else "artefact")
    return verdict_of(result.lo, result.hi, margin=MARGIN) is Verdict.BEATS


def replicate(shape: Shape, seed: int) -> tuple[float, bool, bool]:
    """Share of the steps saved, BEATS when stopping, BEATS of the fixed design."""
    numbers = (shape.trained, shape.baseline, shape.latents, *(round(1e4 * x) for x in (shape.seed_sd, shape.effect)))
    ours, theirs, strata = scores(np.random.default_rng([seed, *numbers, round(1e4 * shape.latent_sd)]), shape)
    done, beats = stopping(ours, theirs)
    return 1 - done / shape.latents, beats, fixed(ours, theirs, strata)


def measured(job: tuple[Shape, int]) -> tuple[float, float, float]:
    """Means over runs."""
    shape, runs = job
    found = np.array([replicate(shape, seed) for seed in range(runs)], dtype=float).mean(axis=0)
    return tuple(map(float, found))  # pyright: ignore[reportReturnType]


def line(shape: Shape, found: list[tuple[float, float, float]], runs: int) -> str:
    """One row of the table, in Markdown."""
    (_, error, error_fixed), *effects = found
    cells = [f"{beats:.2f} ({every:.2f}), {saved:.0%}" for saved, beats, every in effects]
    # One-sided: more false BEATS than chance gives a test whose rate is the bound.
    flag = " **over**" if error > stats.binom.isf(0.05, runs, BOUND) / runs else ""
    name = f"{shape.trained} × {shape.baseline} | {shape.latents} | {shape.seed_sd:g}"
    return " | ".join([f"| {name}", f"{error:.3f} ({error_fixed:.3f}){flag}", *cells]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--effect-runs", type=int, default=300, help="0: the null alone")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--shapes", nargs="+", default=["3x3", "1x5", "5x5"], help="trained x baseline seeds")
    parser.add_argument("--latents", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.0, 0.01, 0.03])
    parser.add_argument("--latent-sd", type=float, default=0.15)
    args = parser.parse_args()
    sizes = [[int(part) for part in each.split("x")] for each in args.shapes]
    effects = EFFECTS if args.effect_runs else EFFECTS[:1]
    jobs = [
        (Shape(s, k, n, sd, args.latent_sd, effect), args.effect_runs if effect else args.runs)
        for s, k in sizes
        for n, sd, effect in itertools.product(args.latents, args.seed_sd, effects)
    ]
    with Pool(args.workers) as pool:
        found = pool.imap(measured, jobs)
        for shape, _ in jobs[:: len(effects)]:
            print(line(shape, [next(found) for _ in effects], args.runs), flush=True)


if __name__ == "__main__":
    main()
