"""A small hand-made report with every kind of row, and its variations."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sae_sanity.results.outcome import (
    ArmSummary,
    CheckReport,
    Comparison,
    Estimate,
    GateCheck,
    Manifest,
    Skip,
    SuiteResult,
    Verdict,
)
from sae_sanity.results.report import render_text

NONE = {"lo": None, "hi": None, "standard_error": None, "df": None, "p_crossed": None, "p_tost": None, "mde": None}
NONE |= {"clusters_needed": None, "seeds_needed": None}


def estimate(difference, half_width=None, **changes):
    ends = {"lo": difference - half_width, "hi": difference + half_width} if half_width is not None else {}
    fields = {
        "difference": difference,
        "standard_error": 0.005,
        "df": 9.5,
        "p_crossed": 0.0123,
        "p_signflip": 0.0002,
        "p_wilcoxon": 0.0312,
        "p_tost": 0.9996,
        "d_z": 1.318,
        "superiority": 0.976,
        "mde": 0.0152,
        "clusters_needed": 24,
        "seeds_needed": 4,
        "n_clusters": 41,
        "n_trained": 3,
        "n_baseline": 5,
    }
    return Estimate(**{**fields, **(NONE if half_width is None else {}), **ends, **changes})


def comparison(baseline, verdict, numbers, required=True, **changes):
    fields = {
        "metric": "accuracy",
        "baseline": baseline,
        "required": required,
        "claim": "recipe",
        "margin": 0.02,
        "verdict": Verdict(verdict),
        "estimate": numbers,
    }
    return Comparison(**{**fields, **changes})


def arm(name, role, score, **changes):
    fields = {
        "arm": name,
        "role": role,
        "seeds": 5,
        "score": score,
        "seed_sd": 0.0031,
        "normalised": (score - 0.6) / 0.35,
        "secondary": {"auc": score + 0.03, "loss_recovered": score + 0.1},
        "l0": 32.04,
        "dead_share": 0.0312,
        "matched": True,
    }
    return ArmSummary(**{**fields, **changes})


def reference(name, role, score):
    return arm(name, role, score, seeds=1, seed_sd=None, l0=None, dead_share=None, matched=None, secondary={})


def probing():
    return SuiteResult(
        suite="sparse_probing",
        metric="accuracy",
        verdict=Verdict.INCONCLUSIVE,
        reason="Not shown to beat frozen_encoder@iso: the interval holds both 0 and the margin.",
        p=0.131,
        p_holm=0.262,
        unit="an item is a dataset, a cluster is a family of datasets",
        note="encoder-only: a frozen decoder says nothing here.",
        floor=0.6,
        chance=0.5,
        ceiling=0.95,
        arms=(
            arm("trained", "trained", 0.8123, seeds=3),
            arm("frozen_encoder@iso", "baseline", 0.8013, dead_share=0.0),
            arm("random", "baseline", 0.6, seed_sd=0.0112),
            arm(
                "soft_frozen@0.8",
                "baseline",
                0.8056,
                matched=False,
                l0=45.2,
                note="L0 45.2 at the last step, target 32.",
            ),
            arm("permuted_decoder", "control", 0.8123, seeds=3),
            reference("@majority_class", "chance", 0.5),
            reference("@dense_probe", "ceiling", 0.95),
        ),
        comparisons=(
            comparison("frozen_decoder@iso", "EQUIVALENT", estimate(0.0004, 0.008, p_crossed=0.47), required=False),
            comparison(
                "frozen_encoder@iso",
                "INCONCLUSIVE",
                estimate(0.011, 0.017, p_crossed=0.131, mde=0.0289, clusters_needed=84, seeds_needed=None),
            ),
            comparison("random", "BEATS", estimate(0.212, 0.011, p_crossed=2e-9, superiority=1.0)),
            comparison(
                "soft_frozen@0.8",
                "INVALID",
                estimate(0.0067, 0.01),
                required=False,
                reason="L0 unmatched: 45.2, target 32",
            ),
            comparison("one_seed", "INVALID", estimate(-0.0123), required=False, reason="one baseline seed"),
        ),
        exploratory=(
            comparison("random", "BEATS", estimate(0.08, 0.01), metric="auc", required=False, p_adjusted=0.0002),
            comparison("frozen_encoder@iso", "WORSE", estimate(-0.03, 0.01), False, metric="auc", p_adjusted=0.991),
        ),
        gate=(
            GateCheck(name="range", passed=True, detail="0.350 is 31 times the reseed sd 0.011"),
            GateCheck(name="controls", passed=True, detail="permuted_decoder equals trained in all 123 rows"),
        ),
    )


def reconstruction(verdict="BEATS"):
    return probing().model_copy(
        update={
            "suite": "reconstruction",
            "metric": "explained_variance",
            "verdict": Verdict(verdict),
            "reason": "Beats every required baseline.",
            "p": 0.00004,
            "p_holm": 0.00008,
            "unit": "an item and a cluster are a document",
            "note": "",
            "comparisons": (
                comparison("frozen_decoder@iso", "BEATS", estimate(0.061, 0.0102)),
                comparison("frozen_decoder@cov", "BEATS", estimate(0.024, 0.0102)),
                comparison("random", "BEATS", estimate(0.402, 0.02)),
            ),
            "exploratory": (),
            "gate": (GateCheck(name="off_floor", passed=True, detail="0.812 is 0.212 above 0.600"),),
        }
    )


MANIFEST = Manifest(
    command="sae-sanity check demo --suites reconstruction,sparse_probing --profile demo --seeds 3 --device cpu",
    config_hash="4f" * 32,
    settings={"profile": "demo", "seeds": 3, "tau": [0.8], "architecture": "batchtopk", "judge": None},
    versions={"python": "3.11.7", "torch": "2.6.0", "sae-lens": "6.54.12", "sae-sanity": "0.1.0"},
    hashes={"model": "ab" * 32, "texts": "cd" * 32},
    notes=("position 0 excluded everywhere: 400 tokens", "norm above 10 times the median: 12 tokens dropped"),
)


def small(**changes):
    fields = {
        "target": "demo: SmolLM2-135M-Instruct, layer 12, batchtopk 4,096 latents",
        "verdict": "INCONCLUSIVE",
        "exit_code": 3,
        "headline": "Too little data to say whether trained beats random in sparse_probing.",
        "claim": "recipe",
        "suites": (reconstruction(), probing()),
        "skipped": (Skip(what="autointerp", reason="no judge was given (--judge)"),),
        "advice": ("sparse_probing against frozen_encoder@iso needs 84 clusters; 41 were measured.",),
        "manifest": MANIFEST,
    }
    return CheckReport(**{**fields, **changes})


class Make:
    """The builders above, for tests that vary one thing."""

    estimate = staticmethod(estimate)
    comparison = staticmethod(comparison)
    arm = staticmethod(arm)
    probing = staticmethod(probing)
    reconstruction = staticmethod(reconstruction)
    report = staticmethod(small)


@pytest.fixture
def make():
    return Make


@pytest.fixture
def report():
    return small()


def shown(report, width=100, encoding="utf-8", **options):
    """What `render_text` writes to a file of that width and encoding."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, **{"force_terminal": False, "legacy_windows": False, **options})
    render_text(report, console)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.fixture
def show():
    return shown


@pytest.fixture
def console_of():
    """A console of a width that writes to a string, and a function that gives the string."""

    def made(width, **options):
        file = io.StringIO()
        return Console(file=file, width=width, **{"legacy_windows": False, **options}), file.getvalue

    return made
