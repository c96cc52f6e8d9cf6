"""Would hard_probing find something else with L1, the penalty of sae-probes' README, than with L2, which it takes?

    sae-sanity check demo --suites hard_probing --results FOLDER
    python benchmarks/probe_penalty.py FOLDER [--arms trained random] [--datasets 8]     # 20 minutes on one core

Shoots the arrows of SAEs of a finished check with either penalty at the standard, scarce and unbalanced problems of the
first families, on the activations that the check has cached, and prints for each k the mean differences (L1 minus L2)
of validation and test AUC with 90 % t intervals over families, and the ratio of their times.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from sae_lens import SAE
from scipy import stats

from sae_sanity.harness.baseline_store import cache_folder
from sae_sanity.harness.config import resolve
from sae_sanity.harness.measures import make_suites
from sae_sanity.harness.progress import PlainProgress
from sae_sanity.harness.subject import demo
from sae_sanity.suites.hard_probing.arrows import Shot
from sae_sanity.suites.hard_probing.features import Features
from sae_sanity.suites.hard_probing.problems import Problem, problems
from sae_sanity.suites.hard_probing.sae_arrow import KS, Penalty, shoot_sae
from sae_sanity.suites.hard_probing.suite import HardProbing
from sae_sanity.suites.pooling import encoder_of

PENALTIES: tuple[Penalty, ...] = ("l1", "l2")
REGIMES = ("standard", "scarcity", "imbalance")


def main() -> None:
    """Print a line for each arm and k."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a finished check of the demo")
    parser.add_argument("--arms", nargs="+", default=["trained", "random"], help="seed 0 of each is read")
    parser.add_argument("--datasets", type=int, default=8, help="how many, in the suite's order; one of each family")
    options = parser.parse_args()
    settings = resolve({"target": "demo", "suites": ["hard_probing"]}, environ={})
    subject = demo(settings, cache_folder(), PlainProgress())
    (suite,) = make_suites(settings, subject)
    assert isinstance(suite, HardProbing)
    probed, names = suite.probed, suite.probed.datasets[: options.datasets]
    posed = problems(names, probed.conditions_of, probed.seeds, suite.sampling)
    chosen = [each for each in posed if isinstance(each, Problem) and each.condition.regime in REGIMES]
    features = Features(suite.sampling, suite.norm_cap)
    print(f"{len(chosen)} problems in {len({p.family for p in chosen})} families")
    for arm in options.arms:
        encode = encoder_of(SAE.load_from_disk(options.results / "arms" / arm / "seed-0"))
        seconds: dict[tuple[int, str], float] = defaultdict(float)
        found: dict[int, dict[str, list[tuple[float, float]]]] = {k: defaultdict(list) for k in KS}
        for one in features.of(subject.site, encode, [(problem, "mean") for problem in chosen]):
            p = one.problem
            for k in KS:
                shots: list[Shot] = []
                for penalty in PENALTIES:
                    begun = time.process_time()
                    shot = shoot_sae(one.x_train, p.y_train, one.x_test, p.y_test, p.seed, k, penalty)
                    seconds[k, penalty] += time.process_time() - begun
                    if isinstance(shot, Shot):
                        shots.append(shot)
                if len(shots) == len(PENALTIES):
                    first, second = shots
                    difference = (first.validation_auc - second.validation_auc, first.test_auc - second.test_auc)
                    found[k][p.family].append(difference)
        for k in KS:
            validation, test = (interval(np.array([np.mean(each, 0)[n] for each in found[k].values()])) for n in (0, 1))
            ratio = seconds[k, "l1"] / seconds[k, "l2"]
            print(
                f"{arm:<10} k {k:>3}  validation {validation}  test {test}  L1 takes {ratio:.1f} times as long",
                flush=True,
            )


def interval(means: np.ndarray) -> str:
    """Mean over families with its 90 % interval."""
    half = stats.t.ppf(0.95, len(means) - 1) * stats.sem(means)
    return f"{means.mean():+.4f} [{means.mean() - half:+.4f}, {means.mean() + half:+.4f}]"


if __name__ == "__main__":
    main()
