"""Calibration and power of the whole gate: two suites, two required baselines each, rows -> analyse -> conclude.

    python benchmarks/gate_calibration.py results/published/gate_calibration.json --images docs/images
    python benchmarks/gate_calibration.py --from results/published/gate_calibration.json --images docs/images

Shapes are real ones: paired items nested in families of unequal size, noise that differs between families, few seeds,
the standard deviations of our own runs (results/published/variance_components.json); or latents that every SAE draws
anew, in strata that the arms fill differently (`autointerp_null`). The null is the least favourable one: the SAE is as
good as one baseline of one suite and beats all others by far, so that nothing else can keep the check from a PASS.
Truths other than that need no new data: a constant added to every trained score moves an interval by that constant, and
verdicts are folded anew by the gate's own functions. A shape above the bound is run again, ten times
as often.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import autointerp_null as latents_null
import null_simulation as paired_null
import numpy as np
import pandas as pd

from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.compare import compare
from sae_sanity.results.design import Design, SuiteDesign
from sae_sanity.results.few_seeds import too_few_seeds
from sae_sanity.results.files import write_atomically
from sae_sanity.results.outcome import Estimate, Manifest, SuiteResult, Verdict
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import arm_scores
from sae_sanity.results.stats.crossed import RECIPE_SEEDS
from sae_sanity.results.variance import published_variances
from sae_sanity.results.verdict import fold_comparisons, fold_suites, verdict_of

MARGIN, BOUND = 0.02, 0.06
FROZEN, RANDOM = "frozen", "random"
RANDOM_SEEDS = 5
"""Fewest seeds of `random`, as in the profiles."""
DOCUMENTS = 40
"""Of the second suite, which is reconstruction in every shape."""
LATENTS_SEED_SD = 0.01
"""Of AutoInterp, assumed: our own runs of it have too few latents to show it."""
FAR = 0.3
"""How far the baselines lie below that are beaten for certain."""
SIZES = tuple(np.arange(0, 3.01, 0.25))
"""True differences of the power curves, in margins."""


@dataclass(frozen=True)
class Shape:
    """One setting."""

    trained: int
    """SAEs under test: one or two are given SAEs, three speak of a recipe."""
    baseline: int
    """Seeds of a trained baseline."""
    families: int = 0
    """Clusters of the first suite, paired as sparse probing is; 0 where latents are sampled."""
    latents: int = 0
    """Latents of every SAE, sampled as AutoInterp does; 0 where families are paired."""
    seed_sd: float = -1.0
    """Standard deviation of a seed's luck in the first suite; below 0 as measured in our own run."""


@dataclass(frozen=True)
class Moved:
    """One required comparison of one replicate, had the true difference been another."""

    estimate: Estimate
    shift: float
    """True difference that the rows were given."""
    given: bool
    """Whether the claim is about given SAEs: too few baseline seeds then carry no verdict."""

    def ends(self, truth: float = 0.0) -> tuple[float, float]:
        """The interval had the true difference been `truth`."""
        move, e = truth - self.shift, self.estimate
        return (e.lo or 0.0) + move, (e.hi or 0.0) + move

    def silent(self, truth: float) -> bool:
        """Whether the gate says INCONCLUSIVE for want of seeds."""
        lo, hi = self.ends(truth)
        moved = self.estimate.model_copy(update={"difference": (lo + hi) / 2, "lo": lo, "hi": hi})
        return self.given and bool(too_few_seeds(moved, margin=MARGIN))

    def verdict(self, truth: float) -> Verdict:
        """Verdict of this replicate."""
        return Verdict.INCONCLUSIVE if self.silent(truth) else verdict_of(*self.ends(truth), margin=MARGIN)


@dataclass(frozen=True)
class Replicate:
    """One simulated check."""

    passed: bool
    """PASS of the report itself, where the SAE is no better than one baseline of one suite."""
    suites: tuple[tuple[Moved, ...], ...]
    """Intervals by suite, the one of the null first."""
    valid: tuple[bool, ...]
    """Whether the assay gate of each suite passed."""

    @property
    def null(self) -> Moved:
        """The comparison in which nothing differs."""
        return self.suites[0][0]

    def check(self, truth: float) -> str:
        """Verdict of the check had every true difference been `truth`."""
        folded = [
            fold_comparisons([one.verdict(truth) for one in suite]) if valid else Verdict.INVALID
            for suite, valid in zip(self.suites, self.valid, strict=True)
        ]
        return fold_suites(folded)


@cache
def measured(suite: str) -> tuple[paired_null.Spread, float]:
    """Spread and seed SD of a suite in our own runs: of each the largest over its required baselines."""
    arms = published_variances().suites[suite].arms.values()
    cluster, noise = (max(getattr(arm, name) for arm in arms) for name in ("cluster_sd", "noise_sd"))
    seed = max(max(arm.seed_sd_baseline or 0.0, arm.seed_sd_trained or 0.0) for arm in arms)
    return paired_null.Spread(cluster, cluster, noise), seed


def design(shape: Shape) -> Design:
    """Two suites; `random` is the floor of both."""
    fields = {"margin": MARGIN, "unit": "item in cluster", "required": (FROZEN, RANDOM), "ceiling": "best"}
    latents = SuiteDesign(
        suite="autointerp", metric="detection", must_equal=("same",), floor="none", chance="none", sampled=True,
        **fields | {"ceiling": "planted"},  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    paired = [
        SuiteDesign(suite=name, metric="score", must_lose=("permuted",), chance="shuffled", **fields)  # pyright: ignore[reportArgumentType]
        for name in ("sparse_probing", "reconstruction")
    ]
    return Design(suites=(latents, paired[1]) if shape.latents else tuple(paired))


def simulate(shape: Shape, seed: int) -> pd.DataFrame:
    """Rows of one check."""
    rng = np.random.default_rng(
        [seed, shape.trained, shape.baseline, shape.families, shape.latents, round((shape.seed_sd + 1) * 1e6)]
    )
    spread, luck = measured("reconstruction")
    documents = paired_null.World(
        np.arange(DOCUMENTS), np.exp(rng.normal(0, 0.4, DOCUMENTS)), 0.7 + rng.normal(0, 0.08, DOCUMENTS)
    )
    second = paired_rows("reconstruction", documents, shape, spread._replace(item=0.0), luck, FAR, rng)
    if shape.latents:
        return pd.concat([sampled_rows(shape, rng), second], ignore_index=True)
    spread, luck = measured("sparse_probing")
    world = paired_null.World.draw(paired_null.Shape(shape.families, 0, 0, 0.0), rng)
    luck = luck if shape.seed_sd < 0 else shape.seed_sd
    return pd.concat([paired_rows("sparse_probing", world, shape, spread, luck, 0.0, rng), second], ignore_index=True)


def paired_rows(
    suite: str,
    world: paired_null.World,
    shape: Shape,
    spread: paired_null.Spread,
    luck: float,
    ahead: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """One paired suite; the SAE is `ahead` of the frozen baseline."""
    own = luck if shape.trained >= RECIPE_SEEDS else 0.0
    random_seeds = max(RANDOM_SEEDS, shape.baseline)
    tables = {
        "trained": world.arm(rng, shape.trained, own, spread),
        FROZEN: world.arm(rng, shape.baseline, luck, spread) - ahead,
        RANDOM: world.arm(rng, random_seeds, luck, spread) - FAR,
        "permuted": world.arm(rng, 1, 0.0, spread) - FAR,
        "@shuffled": world.arm(rng, 1, 0.0, spread) - 2 * FAR,
        "@best": world.arm(rng, 1, 0.0, spread) + FAR,
    }
    made = [paired_null.rows(a, t, world.cluster, suite=suite, metric="score") for a, t in tables.items()]
    return pd.concat(made, ignore_index=True)


def sampled_rows(shape: Shape, rng: np.random.Generator) -> pd.DataFrame:
    """One suite of sampled latents, as AutoInterp leaves it; the SAE is as good as the frozen baseline."""
    sizes = {"trained": shape.trained, FROZEN: shape.baseline, RANDOM: max(RANDOM_SEEDS, shape.baseline)}
    saes = _arms_of_latents(shape, sizes, rng)
    same = saes[saes["arm"].eq("trained") & saes["seed"].eq(0)].assign(arm="same")
    return pd.concat([saes, same, *_judge_rows(rng)], ignore_index=True)


def _arms_of_latents(shape: Shape, sizes: dict[str, int], rng: np.random.Generator) -> pd.DataFrame:
    luck = LATENTS_SEED_SD if shape.seed_sd < 0 else shape.seed_sd
    made = []
    for arm, seeds in sizes.items():
        known = latents_null.Shape(shape.trained, seeds, shape.latents, luck)
        saes = latents_null.arm(rng, known, trained=arm == "trained")
        mix = latents_null.TRAINED_MIX if arm == "trained" else latents_null.BASELINE_MIX
        made += [_latent_rows(sae, mix, arm, s, FAR if arm == RANDOM else 0.0) for s, sae in enumerate(saes)]
    return pd.concat(made, ignore_index=True)


def _latent_rows(sae: dict[str, np.ndarray], mix: np.ndarray, arm: str, seed: int, below: float) -> pd.DataFrame:
    strata = np.repeat(list(sae), [len(values) for values in sae.values()])
    values, alive = np.concatenate(list(sae.values())) - below, [f"f{h}" for h in range(len(mix))]
    names = [f"latent {i}" for i in range(len(values))]
    columns = {
        "suite": "autointerp",
        "metric": np.repeat(["detection", "missing", "alive"], [len(values), len(values), len(mix)]),
        "item": [*names, *names, *alive],
        "cluster": [*strata, *strata, *alive],
        "arm": arm,
        "seed": seed,
        "value": np.concatenate([values, np.zeros(len(values)), np.round(1e4 * mix)]),
    }
    return pd.DataFrame(columns, columns=pd.Index(COLUMNS))


def _judge_rows(rng: np.random.Generator) -> list[pd.DataFrame]:
    """A judge that finds what is planted, and nothing where there is nothing."""
    made = []
    for reference, level, n in (("planted", 0.92, 10), ("shuffled", 0.5, 10), ("nothing", 0.5, 3), ("none", 0.5, 1)):
        sd = 0.0 if reference == "none" else 0.05
        tables = {"detection": level + sd * rng.normal(size=n)} | ({"chance_sd": np.full(n, sd)} if sd else {})
        cluster = np.zeros(n, dtype=int)
        for metric, values in tables.items():
            frame = paired_null.rows(f"@{reference}", values[:, None], cluster, suite="autointerp", metric=metric)
            made.append(frame.assign(cluster="planted"))
    return made


def replicate(shape: Shape, seed: int) -> Replicate:
    """One run through the functions that a real run goes through."""
    results = analyse(simulate(shape, seed), design(shape), seed=seed, n_resamples=99)
    manifest = Manifest(command="", config_hash="", settings={}, versions={}, hashes={})
    report = conclude(results, target="simulated", manifest=manifest)
    suites = tuple(_moved(suite, 0.0 if i == 0 else FAR) for i, suite in enumerate(results))
    valid = tuple(all(check.passed for check in suite.gate) for suite in results)
    return Replicate(report.verdict == "PASS", suites, valid)


def _moved(suite: SuiteResult, first: float) -> tuple[Moved, ...]:
    """The required comparisons of a suite; `first` is the true difference from the frozen baseline."""
    made = []
    for c in suite.comparisons:
        if c.estimate is None or c.estimate.lo is None or c.estimate.mde is None:
            msg = f"no interval: {c.reason}"
            raise RuntimeError(msg)
        made.append(Moved(c.estimate, first if c.baseline == FROZEN else FAR, c.claim == "artefact"))
        if made[-1].verdict(made[-1].shift) is not c.verdict:
            msg = f"moved by nothing the verdict is not {c.verdict}"
            raise RuntimeError(msg)
    return tuple(made)


def comparison_alone(shape: Shape, seed: int) -> bool:
    """Whether the comparison in which nothing differs BEATS, without the rest of the check: many replicates in time."""
    rng = np.random.default_rng([seed, 1, shape.trained, shape.baseline, shape.families, shape.latents])
    spread, luck = measured("sparse_probing")
    sizes, mix = {"trained": shape.trained, FROZEN: shape.baseline}, None
    if shape.latents:
        rows = _arms_of_latents(shape, sizes, rng)
        found = {arm: rows[rows["arm"].eq(arm) & rows["metric"].eq("detection")] for arm in sizes}
        mix = {f"f{h}": float(share) for h, share in enumerate(latents_null.TRAINED_MIX)}
    else:
        world = paired_null.World.draw(paired_null.Shape(shape.families, 0, 0, 0.0), rng)
        luck = luck if shape.seed_sd < 0 else shape.seed_sd
        own = {"trained": luck if shape.trained >= RECIPE_SEEDS else 0.0, FROZEN: luck}
        tables = {arm: world.arm(rng, seeds, own[arm], spread) for arm, seeds in sizes.items()}
        found = {arm: paired_null.rows(arm, table, world.cluster) for arm, table in tables.items()}
    trained, baseline = (arm_scores(rows, arm) for arm, rows in found.items())  # pyright: ignore[reportArgumentType]
    facts = {"metric": "score", "arm": FROZEN, "required": True, "margin": MARGIN}
    return compare(trained, baseline, rng=rng, n_resamples=99, mix=mix, **facts).verdict is Verdict.BEATS  # pyright: ignore[reportArgumentType]


def share(found: list[bool]) -> float:
    """Share of replicates, to four digits."""
    return round(float(np.mean(found)), 4)


def summary(shape: Shape, runs: list[Replicate]) -> dict[str, object]:
    """One row of the table."""
    nulls = [run.null for run in runs]
    detectable = float(np.median([one.estimate.mde for one in nulls]))  # pyright: ignore[reportArgumentType, reportCallIssue]
    ends = [one.ends() for one in nulls]
    at = {size: [one.verdict(size * MARGIN) for one in nulls] for size in SIZES}
    false = share([v is Verdict.BEATS for v in at[0.0]])
    return {
        **asdict(shape),
        "replicates": len(runs),
        "false_beats": false,
        "error": round(float(np.sqrt(false * (1 - false) / len(runs))), 4),
        "interval_above_0": share([lo > 0 for lo, _ in ends]),
        "false_pass": share([run.passed for run in runs]),
        "pass_if_nothing_differs": share([run.check(0.0) == "PASS" for run in runs]),
        "invalid": share([not all(run.valid) for run in runs]),
        "too_few_seeds": share([one.silent(0.0) for one in nulls]),
        "covered": share([lo <= 0 <= hi for lo, hi in ends]),
        "false_equivalent": share([v is Verdict.EQUIVALENT for v in at[1.0]]),
        "false_below_margin": share([v in (Verdict.EQUIVALENT, Verdict.NEGLIGIBLE) for v in at[1.0]]),
        "mde": round(detectable, 5),
        "found_at_mde": share([lo + detectable > 0 for lo, _ in ends]),
        "power": [
            {"margins": float(size)}
            | {v.value.lower(): share([x is v for x in at[size]]) for v in list(Verdict)[:5]}
            | {"check_passes": share([run.check(size * MARGIN) == "PASS" for run in runs])}
            for size in SIZES
        ],
    }


RECIPES, GIVEN = ((3, 3), (5, 5), (10, 10)), ((1, 2), (1, 3), (1, 5))
SHAPES = (
    *(Shape(t, k, families=41) for t, k in (*RECIPES, *GIVEN)),
    *(Shape(t, k, latents=200) for t, k in (*RECIPES, *GIVEN)),
    *(Shape(t, k, families=8) for t, k in (*RECIPES, *GIVEN)),
    *(Shape(t, k, latents=1000) for t, k in RECIPES),
)
"""What seeds do that differ much more than families or latents do is in few_seeds.py."""

NAMES = {
    "false_beats": "BEATS",
    "error": "mc",
    "interval_above_0": "lo>0",
    "false_pass": "PASS",
    "pass_if_nothing_differs": "PASS0",
    "invalid": "INVAL",
    "too_few_seeds": "few",
    "covered": "cover",
    "false_below_margin": "TOST",
    "mde": "MDE",
    "found_at_mde": "found",
}
COLUMN_LINE = "  T  K    n seedSD | " + " ".join(f"{name:>6}" for name in NAMES.values()) + "  again"


def line(row: dict[str, object]) -> str:
    """One shape as a line of a text table."""
    size = f"{row['families']}f" if row["families"] else f"{row['latents']}l"
    seed_sd = float(str(row["seed_sd"]))
    luck = f"{seed_sd:.3f}" if seed_sd >= 0 else "  own"
    values = " ".join(f"{float(str(row[name])):6.3f}" for name in NAMES)
    again = row.get("again")
    more = f"  {again['false_beats']:.4f} ± {again['error']:.4f}" if isinstance(again, dict) else ""
    return f"{row['trained']:3} {row['baseline']:2} {size:>5}  {luck} | {values}{more}"


def batch(task: tuple[Shape, range]) -> list[Replicate]:
    """The replicates of one shape that one process runs."""
    shape, seeds = task
    return [replicate(shape, seed) for seed in seeds]


def batch_alone(task: tuple[Shape, range]) -> list[bool]:
    """The same of one comparison alone."""
    shape, seeds = task
    return [comparison_alone(shape, seed) for seed in seeds]


def parts(replicates: int, processes: int) -> list[range]:
    """Seeds for every process."""
    return [range(p, replicates, processes) for p in range(processes)]


def calibrate(shapes: tuple[Shape, ...], replicates: int, processes: int, path: Path | None) -> dict[str, object]:
    """Run every shape; the file is whole after each."""
    rows: list[dict[str, object]] = []
    found: dict[str, object] = {"manifest": manifest(replicates), "shapes": rows}
    print(COLUMN_LINE, flush=True)
    # Frozen, the libraries' own objects are not walked at each of statsmodels' collections.
    with ProcessPoolExecutor(processes, initializer=gc.freeze) as pool:
        for shape in shapes:
            begun = time.monotonic()
            runs = chain(*pool.map(batch, [(shape, part) for part in parts(replicates, processes)]))
            row = summary(shape, list(runs))
            if float(str(row["false_beats"])) > BOUND:
                many = list(chain(*pool.map(batch_alone, [(shape, p) for p in parts(10 * replicates, processes)])))
                rate = share(many)
                error = round(float(np.sqrt(rate * (1 - rate) / len(many))), 4)
                row["again"] = {"replicates": len(many), "false_beats": rate, "error": error}
            rows.append(row)
            print(f"{line(row)}   ({time.monotonic() - begun:.0f} s)", flush=True)
            if path is not None:
                write_atomically(path, json.dumps(found, indent=1).encode() + b"\n")
    return found


def manifest(replicates: int) -> dict[str, object]:
    """What another person needs to get the same numbers."""
    packages = ("numpy", "scipy", "pandas", "statsmodels")
    return {
        "command": shlex.join(["python", "benchmarks/gate_calibration.py", *_shown(sys.argv[1:])]),
        "replicates": replicates,
        "seeds": f"replicate number, 0 to {replicates - 1}, with the shape",
        "margin": MARGIN,
        "bound": BOUND,
        "components": {name: [*measured(name)[0], measured(name)[1]] for name in ("sparse_probing", "reconstruction")},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "cores": os.cpu_count(),
    }


def _shown(arguments: list[str]) -> list[str]:
    """Arguments without the folders of this machine."""
    return [Path(each).name if each.startswith("/") else each for each in arguments]


def plots(found: dict[str, object], folder: Path) -> None:
    """Error rates by shape, and power curves."""
    from gate_plots import error_rates, power_curves

    rows: list[dict[str, object]] = found["shapes"]  # pyright: ignore[reportAssignmentType]
    folder.mkdir(parents=True, exist_ok=True)
    error_rates(rows, folder / "gate_errors.svg")
    power_curves(rows, folder / "gate_power.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="where to write the numbers")
    parser.add_argument("--replicates", type=int, default=600)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--images", type=Path, help="folder of the plots")
    parser.add_argument("--from", type=Path, dest="known", help="plot and print these numbers, run nothing")
    options = parser.parse_args()
    if options.known:
        found = json.loads(options.known.read_text(encoding="utf-8"))
        print("\n".join([COLUMN_LINE, *map(line, found["shapes"])]))
    else:
        found = calibrate(SHAPES, options.replicates, options.processes, options.file)
    if options.images:
        plots(found, options.images)


if __name__ == "__main__":
    main()
