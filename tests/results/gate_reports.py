"""Reports of simulated rows, with everything that a policy adds: a suite without a vote, a plan, an earlier run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from synthetic_scores import SUITE, scores

from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.decision import LockStatus, RunComparison, SuiteComparison
from sae_sanity.results.design import Design
from sae_sanity.results.outcome import CheckReport, Manifest, Skip, SuiteResult
from sae_sanity.results.policy import Policy

MANIFEST = Manifest(
    command="sae-sanity check my-sae --results r",
    config_hash="4f" * 32,
    settings={"seeds": 5},
    versions={"python": "3.11.7"},
    hashes={"weights/trained/0": "ab" * 32, "weights/random/0": "cd" * 32},
)
LOCK = LockStatus(sha256="e1" * 32, departures=("seeds: registered 5, run with 3",))


@cache
def suite(name="probing", *, votes=True, margin=0.02, **levels) -> SuiteResult:
    """A suite judged from rows; `levels` as in `synthetic_scores.scores`."""
    design = Design(suites=(replace(SUITE, suite=name, votes=votes, margin=margin),))
    (result,) = analyse(scores(suite=name, rng=len(name), **levels), design)
    return result


def blind(name="blind") -> SuiteResult:
    """A suite whose assay could not tell: its ceiling is its floor."""
    return suite(name, trained=0.6, random=0.6, _dense_probe=0.6)


def since(one: SuiteResult) -> RunComparison:
    """The suite's first comparison as if it were against an earlier run."""
    compared = one.comparisons[0].model_copy(update={"baseline": "the last release"})
    pairs = (SuiteComparison(suite=one.label, comparison=compared),)
    return RunComparison(
        ours="my-sae", theirs="the last release", comparisons=pairs, skipped=("autointerp: not there",)
    )


def report(*suites: SuiteResult, policy: Policy | None = None, **options) -> CheckReport:
    skipped = (Skip(what="autointerp", reason="no judge was given"),)
    return conclude(suites, target="my-sae", manifest=MANIFEST, policy=policy, skipped=skipped, **options)


@cache
def kinds() -> dict[str, CheckReport]:
    """A report for every verdict and decision that a format must tell apart."""
    good, bad = suite("good"), suite("bad", trained=0.61)
    unsure = suite("unsure", trained=0.62, margin=0.001)
    lenient = Policy(on_inconclusive="warn", on_invalid="warn")
    return {
        "pass": report(good),
        "fail": report(good, bad),
        "inconclusive": report(good, unsure),
        "invalid": report(good, blind()),
        "inconclusive, warn": report(good, unsure, policy=lenient),
        "invalid, warn": report(good, blind(), policy=lenient),
        "fail, warn": report(unsure, bad, policy=lenient),
        "worse": report(good, since=since(suite("good", trained=0.57))),
        "departed": report(good, lock=LOCK, policy=Policy(require_lock=True)),
        "no vote": report(good, suite("bad", trained=0.61, votes=False), policy=Policy(suites=("good",)), lock=LOCK),
        "nothing": report(),
        "several": report(*(one.model_copy(update={"subject": f"layer {i}"}) for i, one in enumerate((good, bad)))),
    }
