"""Calibration: the whole procedure (rows -> analyse -> verdicts) on data in which nothing differs.

    python benchmarks/null_simulation.py --replicates 600 --clusters 12 16 41 --trained-seeds 1 3 --baseline-seeds 3 5

The data have the shape of real ones: items nested in clusters of unequal size, a cluster's own difference between the
arms, an item's own difference, noise that differs between clusters, and a few seeds that shift a whole arm. With one
trained seed the claim is about that SAE, so its own shift is 0 under H0; with three it is one more draw of each.
Truths other than 0 need no new data: a constant added to every trained score moves the interval by that constant.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import gc
import itertools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from sae_sanity.results.analysis import analyse
from sae_sanity.results.design import Design, SuiteDesign
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import crossed_t
from sae_sanity.results.stats.crossed import RECIPE_SEEDS
from sae_sanity.results.verdict import verdict_of

MARGIN = 0.02
CLUSTER_SD, ITEM_SD, NOISE_SD = 0.03, 0.04, 0.02
BOUND = 0.06
ARMS = ("random", "frozen_encoder@iso")
DESIGN = Design(
    suites=(
        SuiteDesign(
            suite="simulated",
            metric="accuracy",
            margin=MARGIN,
            unit="dataset in family",
            required=ARMS,
            must_lose=("permuted",),
            must_equal=("same",),
            chance="shuffled_labels",
            ceiling="dense_probe",
        ),
    )
)


@dataclass(frozen=True)
class Shape:
    """One setting of the simulation."""

    clusters: int
    trained_seeds: int
    baseline_seeds: int
    seed_sd: float


class Spread(NamedTuple):
    """Standard deviations of the difference of two arms."""

    cluster: float = CLUSTER_SD
    item: float = ITEM_SD
    noise: float = NOISE_SD
    """Of one item and seed of one arm."""


@dataclass(frozen=True)
class Outcome:
    """What one replicate gave for trained against `random`, and the suite."""

    lo: float
    hi: float
    mde: float
    equivalent: bool
    beats: bool
    suite_beats: bool
    failed: tuple[str, ...]


def replicate(shape: Shape, seed: int) -> Outcome:
    """One run under H0, through the same function that a real run goes through."""
    rng = generator(shape, seed)
    (suite,) = analyse(simulate(shape, rng), DESIGN, n_resamples=99)
    first = suite.comparisons[0]
    e = first.estimate
    if e is None or e.lo is None or e.hi is None or e.mde is None:
        msg = f"no interval for {shape}"
        raise RuntimeError(msg)
    failed = tuple(check.name for check in suite.gate if not check.passed)
    verdict = first.verdict
    return Outcome(
        e.lo,
        e.hi,
        e.mde,
        verdict is Verdict.EQUIVALENT,
        verdict is Verdict.BEATS,
        suite.verdict is Verdict.BEATS,
        failed,
    )


def generator(shape: Shape, seed: int) -> np.random.Generator:
    """One stream per shape and replicate."""
    return np.random.default_rng(
        [seed, shape.clusters, shape.trained_seeds, shape.baseline_seeds, round(shape.seed_sd * 1e6)]
    )


SPREAD = Spread()


@dataclass(frozen=True, eq=False)
class World:
    """What the arms of one replicate share: clusters, their items, how noisy each cluster is."""

    cluster: np.ndarray
    wildness: np.ndarray
    base: np.ndarray

    @classmethod
    def draw(cls, shape: Shape, rng: np.random.Generator) -> World:
        """Clusters of 1 to about 10 items, noise that differs between them by a factor of about 3."""
        cluster = np.repeat(np.arange(shape.clusters), 1 + rng.negative_binomial(1, 0.35, shape.clusters))
        wildness = np.exp(rng.normal(0, 0.4, shape.clusters))
        base = 0.7 + rng.normal(0, 0.08, shape.clusters)[cluster] + rng.normal(0, 0.05, len(cluster))
        return cls(cluster, wildness, base)

    def arm(self, rng: np.random.Generator, seeds: int, seed_sd: float, spread: Spread = SPREAD) -> np.ndarray:
        """Item scores, (items, seeds). The cluster and item effects of an arm are shared by its seeds."""
        own = rng.normal(0, spread.cluster / np.sqrt(2), len(self.wildness)) * self.wildness
        items = rng.normal(0, spread.item / np.sqrt(2), len(self.cluster))
        noise = rng.normal(0, spread.noise, (len(self.cluster), seeds)) * self.wildness[self.cluster, None]
        return (self.base + own[self.cluster] + items)[:, None] + rng.normal(0, 1, seeds) * seed_sd + noise

    def means(self, table: np.ndarray) -> np.ndarray:
        """Cluster means, (clusters, seeds)."""
        starts = np.flatnonzero(np.diff(self.cluster, prepend=-1))
        return np.add.reduceat(table, starts, axis=0) / np.bincount(self.cluster)[:, None]


def trained_sd(shape: Shape) -> float:
    """Seed deviation of the trained arm: none where one SAE is the whole claim."""
    return shape.seed_sd if shape.trained_seeds > 1 else 0.0


def simulate(shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    """Score rows of one run: trained, two baselines, controls, references."""
    world = World.draw(shape, rng)
    trained = world.arm(rng, shape.trained_seeds, trained_sd(shape))
    tables = {"trained": trained, **{name: world.arm(rng, shape.baseline_seeds, shape.seed_sd) for name in ARMS}}
    tables |= {"same": trained, "permuted": world.arm(rng, 1, 0.0) - 0.15}
    tables |= {"@shuffled_labels": world.arm(rng, 1, 0.0) - 0.2, "@dense_probe": world.arm(rng, 1, 0.0) + 0.15}
    return pd.concat([rows(name, table, world.cluster) for name, table in tables.items()], ignore_index=True)


def interval_line(shape: Shape, replicates: int) -> str:
    """False positives and coverage of the interval alone, which is quick enough for small Monte-Carlo errors."""
    above = covered = 0
    for seed in range(replicates):
        rng = generator(shape, seed)
        world = World.draw(shape, rng)
        trained = world.means(world.arm(rng, shape.trained_seeds, trained_sd(shape)))
        baseline = world.means(world.arm(rng, shape.baseline_seeds, shape.seed_sd))
        result = crossed_t(trained, baseline, claim="recipe" if shape.trained_seeds >= RECIPE_SEEDS else "artefact")
        if result.lo is not None and result.hi is not None:
            above, covered = above + (result.lo > 0), covered + (result.lo <= 0 <= result.hi)
    rate = above / replicates
    values = (rate, np.sqrt(rate * (1 - rate) / replicates), covered / replicates)
    return f"{setting(shape)} | " + " ".join(f"{value:7.4f}" for value in values)


def setting(shape: Shape) -> str:
    """The left columns of a table."""
    return f"{shape.clusters:4d} {shape.trained_seeds:2d} {shape.baseline_seeds:3d} {shape.seed_sd:6.3f}"


def rows(
    arm: str, table: np.ndarray, cluster: np.ndarray, *, suite: str = "simulated", metric: str = "accuracy"
) -> pd.DataFrame:
    """One arm as long rows."""
    items, seeds = table.shape
    columns = {
        "suite": suite,
        "metric": metric,
        "item": np.repeat([f"i{i:04d}" for i in range(items)], seeds),
        "cluster": np.repeat([f"c{c:03d}" for c in cluster], seeds),
        "arm": arm,
        "seed": np.tile(np.arange(seeds), items),
        "value": table.ravel(),
    }
    return pd.DataFrame(columns, columns=pd.Index(COLUMNS))


def batch(task: tuple[Shape, range]) -> list[Outcome]:
    """The replicates of one shape that one process runs."""
    shape, seeds = task
    return [replicate(shape, seed) for seed in seeds]


def line(shape: Shape, outcomes: list[Outcome]) -> str:
    """One row of the table."""
    lo, hi = (np.array([getattr(o, name) for o in outcomes]) for name in ("lo", "hi"))
    mde = float(np.median([o.mde for o in outcomes]))
    at_margin = [verdict_of(a + MARGIN, b + MARGIN, margin=MARGIN) for a, b in zip(lo, hi, strict=True)]
    rates = [
        np.mean(lo > 0),
        np.sqrt(np.mean(lo > 0) * np.mean(lo <= 0) / len(lo)),
        np.mean([o.beats for o in outcomes]),
        np.mean([o.suite_beats for o in outcomes]),
        np.mean([bool(o.failed) for o in outcomes]),
        np.mean(["seeds" in o.failed for o in outcomes]),
        np.mean((lo <= 0) & (hi >= 0)),
        np.mean([o.equivalent for o in outcomes]),
        *(np.mean([v is wanted for v in at_margin]) for wanted in (Verdict.BEATS, Verdict.EQUIVALENT)),
        np.mean([v is Verdict.INCONCLUSIVE for v in at_margin]),
        mde,
        np.mean(lo + mde > 0),
    ]
    flag = "  > bound" if rates[0] > BOUND or rates[2] > BOUND else ""
    return f"{setting(shape)} | " + " ".join(f"{rate:7.3f}" for rate in rates) + flag


NAMES = (
    "lo>0",
    "mc",
    "BEATS",
    "suite",
    "gate",
    "seeds",
    "cover",
    "EQUIV",
    "d:BEAT",
    "d:EQUI",
    "d:INCO",
    "MDE",
    "found",
)
COLUMN_LINE = "   G  T   K seedSD | " + " ".join(f"{name:>7}" for name in NAMES)
HEADER = f"""H0: trained = baseline. Bound on false BEATS {BOUND}. Margin {MARGIN}; SD of clusters {CLUSTER_SD},
items {ITEM_SD}, noise {NOISE_SD} per item and seed. lo>0: an interval above 0 (nominal .05), mc: its Monte-Carlo error.
BEATS: its verdict; suite: the suite's, over {len(ARMS)} required baselines and the gate; gate: INVALID, seeds: by the
seed check; cover: the 90 % interval holds 0; EQUIV: power of the equivalence verdict at truth 0; d: verdicts at
truth = margin; MDE: median detectable difference; found: share found at a truth of that size (nominal .8).
{COLUMN_LINE}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=600)
    parser.add_argument("--clusters", type=int, nargs="+", default=[12, 16, 41])
    parser.add_argument("--trained-seeds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--baseline-seeds", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--seed-sd", type=float, nargs="+", default=[0.005, 0.01])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--interval-replicates", type=int, default=6000, help="0: leave out the second table")
    args = parser.parse_args()
    axes = (args.clusters, args.trained_seeds, args.baseline_seeds, args.seed_sd)
    shapes = [Shape(*values) for values in itertools.product(*axes)]
    print(HEADER, flush=True)
    parts = [range(p, args.replicates, args.processes) for p in range(args.processes)]
    # statsmodels collects garbage on every call; frozen, the libraries' own objects are not walked each time.
    with ProcessPoolExecutor(args.processes, initializer=gc.freeze) as pool:
        for shape in shapes:
            outcomes = list(itertools.chain(*pool.map(batch, [(shape, part) for part in parts])))
            print(line(shape, outcomes), flush=True)
    if args.interval_replicates:
        print(f"\nThe interval alone, {args.interval_replicates} replicates.")
        print("   G  T   K seedSD |    lo>0      mc   cover")
        for shape in shapes:
            print(interval_line(shape, args.interval_replicates), flush=True)


if __name__ == "__main__":
    main()
