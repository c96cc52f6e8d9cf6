from __future__ import annotations

import pytest

from sae_sanity.results.decision import Decision
from sae_sanity.results.outcome import (
    ArmSummary,
    CheckReport,
    Comparison,
    Estimate,
    Manifest,
    SuiteResult,
    Verdict,
)

CODES = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


def comparison(baseline, difference, verdict="BEATS", *, required=True, sampled=False):
    numbers = dict.fromkeys(Estimate.model_fields) | {"difference": difference, "superiority": 0.9}
    numbers |= {"lo": difference - 0.01, "hi": difference + 0.01, "n_clusters": 9, "n_trained": 1, "n_baseline": 5}
    fields = {"metric": "m", "baseline": baseline, "required": required, "claim": "artefact", "margin": 0.02}
    estimate = Estimate.model_validate(numbers)
    return Comparison(**fields, verdict=Verdict(verdict), estimate=estimate, sampled=sampled)


def suite(name="reconstruction", verdict="BEATS", score=0.75, comparisons=None, **changes):
    trained = ArmSummary(
        arm="trained", role="trained", seeds=1, score=score, seed_sd=None, normalised=0.8, secondary={}, l0=32.0,
        dead_share=0.0, matched=True,
    )  # fmt: skip
    fields = {
        "suite": name,
        "metric": "explained_variance",
        "verdict": Verdict(verdict),
        "reason": "Beats every required baseline.",
        "p": 0.001,
        "p_holm": 0.001,
        "unit": "document",
        "note": "",
        "floor": 0.1,
        "chance": 0.0,
        "ceiling": 1.0,
        "arms": (trained,),
        "comparisons": (comparison("random", 0.6), comparison("frozen_decoder@iso", 0.05))
        if comparisons is None
        else comparisons,
        "exploratory": (),
        "gate": (),
    }
    return SuiteResult(**fields | changes)


def report(verdict="PASS", *suites, **changes):
    manifest = Manifest(
        command="sae-sanity check demo --profile demo --results '/home/me/my results'",
        config_hash="ab" * 32,
        settings={"profile": "demo", "model": ""},
        versions={"sae-sanity": "0.1.0", "torch": "2.13.0"},
        hashes={},
    )
    fields = {
        "target": "my-sae",
        "verdict": verdict,
        "exit_code": CODES[verdict],
        "headline": "my-sae beats every required random baseline.",
        "claim": "artefact",
        "suites": suites or (suite(),),
        "skipped": (),
        "advice": (),
        "manifest": manifest,
        "decision": Decision(action="pass" if verdict == "PASS" else "fail"),
    }
    return CheckReport(**fields | changes)


class Make:
    suite = staticmethod(suite)
    report = staticmethod(report)
    comparison = staticmethod(comparison)


@pytest.fixture
def make():
    return Make
