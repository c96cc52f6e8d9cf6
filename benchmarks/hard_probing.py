"""Where hard_probing's time goes, and whether it would find something else with L1, the penalty of sae-probes' README.

    sae-sanity check demo --suites hard_probing --results FOLDER
    python benchmarks/hard_probing.py FOLDER [--arms trained random] [--datasets 8]     # 20 minutes on one core

On the activations and dense shots that the check has cached, in one process: first every SAE is measured as the suite
does it, and the seconds of each part are printed. Then its arrows are shot with either penalty at the standard, scarce
and unbalanced problems of the first families; for each k the mean differences (L1 minus L2) of validation and test AUC
with 90 % t intervals over families are printed, and the ratio of CPU times. With `--width N` an untrained TopK SAE of N
latents is measured instead, for its time and the peak memory of a process.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE, TopKSAE, TopKSAEConfig
from scipy import stats

from sae_sanity.harness.baseline_store import cache_folder
from sae_sanity.harness.config import resolve
from sae_sanity.harness.measures import make_suites
from sae_sanity.harness.progress import PlainProgress
from sae_sanity.harness.subject import demo
from sae_sanity.suites.hard_probing import features, quality, sae_arrow
from sae_sanity.suites.hard_probing.arrows import Shot
from sae_sanity.suites.hard_probing.problems import Problem, problems
from sae_sanity.suites.hard_probing.sae_arrow import KS, Penalty, shoot_sae
from sae_sanity.suites.hard_probing.suite import HardProbing
from sae_sanity.suites.pooling import encoder_of
from sae_sanity.suites.site import Site

PENALTIES: tuple[Penalty, ...] = ("l1", "l2")
REGIMES = ("standard", "scarcity", "imbalance")
PARTS = (
    ("validation", sae_arrow, "_reselected"),
    ("test", sae_arrow, "_tested"),
    ("encoding and pooling", features.Features, "pooled"),
    ("wrong labels", quality.Search, "shoot"),
)
SPENT: dict[str, float] = defaultdict(float)


def main() -> None:
    """Print the seconds of each arm's parts, and a line for each arm and k."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a finished check of the demo")
    parser.add_argument("--arms", nargs="+", default=["trained", "random"], help="seed 0 of each is read")
    parser.add_argument("--datasets", type=int, default=8, help="how many are shot at twice, one of each family")
    parser.add_argument("--width", type=int, help="measure an untrained SAE of so many latents instead")
    options = parser.parse_args()
    settings = resolve({"target": "demo", "suites": ["hard_probing"]}, environ={})
    subject = demo(settings, cache_folder(), PlainProgress())
    (built,) = make_suites(settings, subject)
    assert isinstance(built, HardProbing)
    tables, cap = built.quality_tables, built.norm_cap
    suite = HardProbing(built.probed, sampling=built.sampling, quality_tables=tables, norm_cap=cap)
    for what, owner, name in PARTS:
        setattr(owner, name, timed(what, getattr(owner, name)))
    if options.width:
        torch.manual_seed(0)
        measure(
            "untrained", TopKSAE(TopKSAEConfig(d_in=subject.site.d_in, d_sae=options.width, k=32)), suite, subject.site
        )
        print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
        return
    for arm in options.arms:
        sae = SAE.load_from_disk(options.results / "arms" / arm / "seed-0")
        measure(arm, sae, suite, subject.site)
        compare(arm, sae, suite, subject.site, options.datasets)


def measure(arm: str, sae: SAE[Any], suite: HardProbing, site: Site) -> None:
    """Print how long the suite takes for one SAE, and for what."""
    SPENT.clear()
    begun = time.monotonic()
    suite.measure(sae, site, np.random.default_rng(0))
    parts = ", ".join(f"{what} {seconds:.1f}" for what, seconds in SPENT.items())
    print(f"{arm:<14} {time.monotonic() - begun:.1f} s: {parts}", flush=True)


def timed(what: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose seconds are added up under a name."""

    def around(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        begun = time.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            SPENT[what] += time.monotonic() - begun

    return around


def compare(arm: str, sae: SAE[Any], suite: HardProbing, site: Site, n_datasets: int) -> None:
    """Shoot with either penalty."""
    probed = suite.probed
    posed = problems(probed.datasets[:n_datasets], probed.conditions_of, probed.seeds, suite.sampling)
    chosen = [each for each in posed if isinstance(each, Problem) and each.condition.regime in REGIMES]
    seconds: dict[tuple[int, str], float] = defaultdict(float)
    found: dict[int, dict[str, list[tuple[float, float]]]] = {k: defaultdict(list) for k in KS}
    pooled = features.Features(suite.sampling, suite.norm_cap)
    for one in pooled.of(site, encoder_of(sae), [(problem, "mean") for problem in chosen]):
        p = one.problem
        for k in KS:
            shots: list[Shot] = []
            for penalty in PENALTIES:
                begun = time.process_time()
                shot = shoot_sae(one.x_train, p.y_train, one.x_test, p.y_test, p.seed, k, penalty)
                seconds[k, penalty] += time.process_time() - begun
                shots += [shot] if isinstance(shot, Shot) else []
            if len(shots) == len(PENALTIES):
                l1, l2 = shots
                found[k][p.family].append((l1.validation_auc - l2.validation_auc, l1.test_auc - l2.test_auc))
    print(f"{len(chosen)} problems in {len({p.family for p in chosen})} families, L1 minus L2:")
    for k in KS:
        means = np.array([np.mean(each, axis=0) for each in found[k].values()])
        ratio = seconds[k, "l1"] / seconds[k, "l2"]
        figures = f"validation {interval(means[:, 0])}, test {interval(means[:, 1])}"
        print(f"{arm:<14} k = {k:<3} {figures}; L1 takes {ratio:.1f} times as long", flush=True)


def interval(means: np.ndarray) -> str:
    """Mean over families with its 90 % interval."""
    half = stats.t.ppf(0.95, len(means) - 1) * stats.sem(means)
    return f"{means.mean():+.4f} [{means.mean() - half:+.4f}, {means.mean() + half:+.4f}]"


if __name__ == "__main__":
    main()
