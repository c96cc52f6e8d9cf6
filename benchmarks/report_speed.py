"""Statistics and report of a million score rows, in a fresh process on one core: at most 10 s and 2 GiB.

    python benchmarks/report_speed.py [--scale 1.0] [--formats table,json,markdown,html] [--profile 25] [--no-peers]

Writes a results folder as a release check leaves it (Parquet cells, manifests, run.json; 5 seeds of what is trained, 19
of what is not), then judges and renders it as `sae-sanity report FOLDER` does. `import` is what Python and the packages
take before the first row is read. Beside it stands what one would write by hand for a part of the same rows: a mixed
model (statsmodels) and a sign-flip test (scipy), one comparison each, times the comparisons of the report.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from figures import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sae_sanity.results.design import Design

SECONDS, GIB = 10.0, 2.0
"""What a report of a million rows may take."""
TRAINED = ("trained", "frozen_decoder@iso", "frozen_encoder@iso", "soft_frozen@0.8")
CONTROLS = ("permuted_decoder", "permuted_encoder", "random_latents")
SEEDS = dict.fromkeys((*TRAINED, *CONTROLS), 5) | {"random": 19}
LEVEL = {"trained": 0.70, "random": 0.60, "permuted_decoder": 0.40, "permuted_encoder": 0.40}
"""Mean score of an arm; .65 where none is given."""


@dataclass(frozen=True)
class Part:
    """The rows of one suite."""

    suite: str
    metrics: tuple[str, ...]
    clusters: int
    items: int
    """Items of each cluster."""
    references: tuple[str, ...]
    trials: int = 0
    strata: int = 1


PARTS = (
    Part("reconstruction", ("explained_variance", "ce_recovered", "l0"), 2000, 1, ("@mean_ablation", "@identity")),
    Part(
        "sparse_probing",
        tuple(f"{score}_k{k}" for score in ("auc", "accuracy") for k in (5, 1, 16)),
        41,
        3,
        ("@shuffled_labels", "@dense_probe"),
    ),
    Part(
        "causal_editing",
        ("disentangle", "cause", "isolation", "first_token", "first_token_random_latents"),
        200,
        2,
        ("@identity", "@subspace"),
        trials=3,
        strata=2,
    ),
)
LATENTS, STRATA, SEQUENCES = 200, 8, 30
"""AutoInterp: latents of each SAE, strata of firing rate, sequences of each latent that nobody analyses."""


def designs() -> Design:
    """How a release check judges these suites."""
    from sae_sanity.results.design import ArmFacts, Design, SuiteDesign

    decoder, encoder = ("frozen_decoder@iso", "random"), ("frozen_encoder@iso", "random")
    broken = CONTROLS[:2]

    def suite(part: Part, required: tuple[str, ...], **more: object) -> SuiteDesign:
        fields = {"margin": 0.02, "unit": "item in cluster", "exploratory": part.metrics[1:], "controls": CONTROLS}
        fields |= {"chance": part.references[0], "ceiling": part.references[1]} | more
        shown = tuple(arm for arm in TRAINED[1:] if arm not in required)
        return SuiteDesign(suite=part.suite, metric=part.metrics[0], required=required, shown=shown, **fields)  # pyright: ignore[reportArgumentType]

    reconstruction, probing, editing = PARTS
    judged = Part("autointerp", ("detection", "detection_saebench"), LATENTS, 1, ("@none", "@planted"))
    suites = (
        suite(reconstruction, decoder, must_lose=broken),
        suite(probing, encoder, must_equal=("permuted_decoder",)),
        suite(editing, decoder, must_lose=broken, trials=True, strata=True, floor="@identity"),
        suite(judged, encoder, must_equal=("permuted_decoder",), sampled=True, floor="@none"),
    )
    facts = tuple(ArmFacts(arm, s, 32.0, 32.0, 0.1) for arm, n in SEEDS.items() for s in range(n))
    return Design(suites=suites, facts=facts)


def cells(part: Part, scale: float, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """Rows of every SAE and reference in one paired suite."""
    clusters = max(8, round(part.clusters * scale)) if part.clusters > 100 else part.clusters
    names = [
        (f"c{g:05d}", f"{f'attribute{i % part.strata}|' if part.strata > 1 else ''}c{g:05d}<-{i}")
        for g in range(clusters)
        for i in range(part.items)
    ]
    base = rng.normal(0, 0.08, len(names))
    effects = {arm: rng.normal(0, 0.03, (len(part.metrics), len(names))) for arm in SEEDS}
    for arm, seeds in SEEDS.items():
        for seed in range(seeds):
            noise = rng.normal(0, 0.02, (max(part.trials, 1), len(part.metrics), len(names)))
            values = LEVEL.get(arm, 0.65) + base + effects[arm] + rng.normal(0, 0.004) + noise
            if part.suite == "sparse_probing" and arm == "trained":
                effects["=", seed] = values  # pyright: ignore[reportArgumentType]
            if part.suite == "sparse_probing" and arm == "permuted_decoder":
                values = effects["=", seed]  # pyright: ignore[reportArgumentType]
            yield _frame(part, names, arm, seed, values)
    shape = max(part.trials, 1), len(part.metrics), len(names)
    for arm, level in zip(part.references, (0.3, 0.95), strict=True):
        yield _frame(part, names, arm, 0, np.broadcast_to(level + base, shape))


def _frame(part: Part, names: list[tuple[str, str]], arm: str, seed: int, values: np.ndarray) -> pd.DataFrame:
    trials, metrics, items = values.shape
    ending = [f"#{t}" for t in range(trials)] if part.trials else [""]
    columns = {
        "suite": part.suite,
        "metric": np.tile(np.repeat(part.metrics, items), trials),
        "item": [f"{item}{end}" for end in ending for _ in part.metrics for _, item in names],
        "cluster": [cluster for _ in range(trials * metrics) for cluster, _ in names],
        "arm": arm,
        "seed": seed,
        "value": values.ravel(),
    }
    return pd.DataFrame(columns)


def sampled_cells(scale: float, rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    """Rows of every SAE and reference in AutoInterp: its own latents, and the sequences behind each score."""
    latents = max(20, round(LATENTS * scale))
    kept: dict[int, pd.DataFrame] = {}
    for arm, seeds in SEEDS.items():
        if arm in CONTROLS[1:]:
            continue
        for seed in range(seeds):
            frame = _sae(latents, arm, seed, rng)
            if arm == "trained":
                kept[seed] = frame
            yield kept[seed].assign(arm=arm) if arm == "permuted_decoder" else frame
    yield from _trial(rng)


def _sae(latents: int, arm: str, seed: int, rng: np.random.Generator) -> pd.DataFrame:
    number = rng.choice(16_384, latents, replace=False)
    stratum = np.arange(latents) % STRATA
    names, strata = [f"{n:05d}" for n in number], [f"f{h}" for h in stratum]
    score = LEVEL.get(arm, 0.65) - 0.01 * stratum + rng.normal(0, 0.1, latents) + rng.normal(0, 0.004)
    parts = [
        _long(metric, names, strata, values)
        for metric, values in (
            ("detection", score),
            ("detection_saebench", score / 2 + 0.4),
            ("missing", np.zeros(latents)),
        )
    ]
    every = [f"{name}/{i}" for name in names for i in range(SEQUENCES)]
    parts.append(_long("sequence", every, np.repeat(strata, SEQUENCES), rng.integers(0, 2, len(every)).astype(float)))
    mix = rng.integers(500, 1500, STRATA).astype(float)
    parts.append(_long("alive", [f"f{h}" for h in range(STRATA)], [f"f{h}" for h in range(STRATA)], mix))
    return _cell("autointerp", arm, seed, pd.concat(parts, ignore_index=True))


def _trial(rng: np.random.Generator) -> Iterator[pd.DataFrame]:
    for arm, level, n in (("@planted", 0.92, 6), ("@shuffled", 0.5, 6), ("@nothing", 0.5, 1), ("@none", 0.5, 1)):
        names = [f"{arm}-{i}" for i in range(n)]
        parts = [_long("detection", names, ["planted"] * n, level + rng.normal(0, 0.01, n))]
        if level == 0.5:
            parts.append(_long("chance_sd", names, ["planted"] * n, np.full(n, 0.05)))
        yield _cell("autointerp", arm, 0, pd.concat(parts, ignore_index=True))


def _long(metric: str, items: object, clusters: object, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"metric": metric, "item": items, "cluster": clusters, "value": values})


def _cell(suite: str, arm: str, seed: int, rows: pd.DataFrame) -> pd.DataFrame:
    from sae_sanity.results.scores import COLUMNS

    return rows.assign(suite=suite, arm=arm, seed=seed).loc[:, list(COLUMNS)]


def write(folder: Path, scale: float) -> int:
    """Write the run; number of its rows."""
    from sae_sanity.harness.record import RunRecord, save_record
    from sae_sanity.results.outcome import Manifest
    from sae_sanity.results.store import Store, content_key

    rng, store, keys, rows = np.random.default_rng(0), Store(folder), [], 0
    for frames in (*(cells(part, scale, rng) for part in PARTS), sampled_cells(scale, rng)):
        for frame in frames:
            key = content_key({"cell": len(keys)})
            store.write(key, frame, {"suite": str(frame["suite"].iloc[0])})
            keys.append(key)
            rows += len(frame)
    manifest = Manifest(command="report_speed", config_hash="", settings={}, versions={}, hashes={})
    save_record(folder, RunRecord("simulated", designs(), tuple(keys), manifest))
    return rows


def judge(folder: Path, formats: list[str], lines: int) -> dict[str, object]:
    """Import, judge and render, timed; in the process that is measured. A busy machine shows in the processor time."""
    begun = time.perf_counter()
    from sae_sanity.harness.record import report_of

    seconds = {"import": time.perf_counter() - begun}
    profile = _started(lines)
    begun = time.perf_counter()
    report = report_of(folder)
    seconds["judge"] = time.perf_counter() - begun
    for name in formats:
        begun = time.perf_counter()
        from sae_sanity.results.report.formats import FORMATS

        if name in FORMATS:
            FORMATS[name](report)
            seconds[name] = time.perf_counter() - begun
    if profile is not None:
        profile.disable()
        _print(profile, lines)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    peak, processor = usage.ru_maxrss / 2**20, usage.ru_utime + usage.ru_stime
    comparisons = sum(len(s.comparisons) + len(s.exploratory) for s in report.suites)
    verdicts = {s.suite: s.verdict.value for s in report.suites}
    return {"seconds": seconds, "gib": peak, "processor": processor, "comparisons": comparisons, "verdicts": verdicts}


def _started(lines: int):  # noqa: ANN202 - cProfile's type is private
    if not lines:
        return None
    import cProfile

    profile = cProfile.Profile()
    profile.enable()
    return profile


def _print(profile: object, lines: int) -> None:
    import pstats

    for order in ("cumulative", "tottime"):
        pstats.Stats(profile, stream=sys.stderr).sort_stats(order).print_stats(lines)  # pyright: ignore[reportArgumentType]


def peers(folder: Path) -> dict[str, float]:
    """Seconds of one comparison written by hand: trained against random, explained variance, every document."""
    import warnings

    from scipy import stats
    from statsmodels.formula.api import mixedlm

    begun = time.perf_counter()
    rows = pd.concat([pd.read_parquet(path) for path in sorted((folder / "cells").glob("*.parquet"))])
    mine = rows[rows["metric"].eq("explained_variance") & rows["arm"].isin(["trained", "random"])]
    seconds = {"read": time.perf_counter() - begun}
    begun = time.perf_counter()
    means = mine.groupby(["arm", "cluster"])["value"].mean()
    gap = np.asarray(means["trained"] - means["random"])
    stats.permutation_test((gap,), np.mean, permutation_type="samples", alternative="greater", rng=0)
    seconds["groupby and sign-flip"] = time.perf_counter() - begun
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Documents alone: crossed with seeds, statsmodels needs a dense column for every document.
        mixedlm("value ~ arm", mine, groups=mine["cluster"], re_formula="~arm").fit()
    seconds["mixed model"] = time.perf_counter() - begun
    return seconds


def on_one_core(arguments: list[str]) -> dict[str, object]:
    """Run this file again in a fresh process on one core; what it prints."""
    environ = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = ["taskset", "-c", "0", sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of documents, entities and latents")
    parser.add_argument("--formats", default="table,json,markdown,html")
    parser.add_argument("--profile", type=int, default=0, help="print so many lines of a profile")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the run here; used again if it is there")
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--peers", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge or options.peers:
        formats = [name for name in options.formats.split(",") if name]
        found = judge(options.judge, formats, options.profile) if options.judge else peers(options.peers)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        rows = write(folder, options.scale) if not (folder / "run.json").exists() else 0
        show(rows, folder, options)


def show(rows: int, folder: Path, options: argparse.Namespace) -> None:
    """Measure and print."""
    flags = ["--formats", options.formats, "--profile", str(options.profile)]
    found = on_one_core(["--judge", str(folder), *flags])
    seconds: dict[str, float] = found["seconds"]  # pyright: ignore[reportAssignmentType]
    whole = sum(seconds.values())
    print(f"{rows:,} rows, {found['comparisons']} comparisons: {found['verdicts']}")
    print("  ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
    spent, gib = float(str(found["processor"])), float(str(found["gib"]))
    print(f"in all {whole:.2f} s, {spent:.2f} s of processor time (at most {SECONDS:g})")
    print(f"peak {gib:.2f} GiB (at most {GIB:g})")
    figures = {"processor": spent, "seconds": whole, "memory": gib}
    if not options.no_peers:
        by_hand: dict[str, float] = on_one_core(["--peers", str(folder)])  # pyright: ignore[reportAssignmentType]
        print("by hand, one comparison: " + "  ".join(f"{name} {value:.2f} s" for name, value in by_hand.items()))
        each = seconds["judge"] / int(str(found["comparisons"]))
        times = "  ".join(f"{name} {by_hand[name] / each:.1f} times as long" for name in list(by_hand)[1:])
        print(f"ours, one comparison with its share of reading and the gate: {each:.3f} s; by hand: {times}")
        figures |= {name.removeprefix("groupby and "): by_hand[name] / each for name in list(by_hand)[1:]}
    emit("report_speed", figures)
    sys.exit(spent > SECONDS or gib > GIB)


if __name__ == "__main__":
    main()
