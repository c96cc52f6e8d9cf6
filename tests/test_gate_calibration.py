"""The error rates of the gate, in the small; in full they are in what `benchmarks/gate_calibration.py` published."""

from __future__ import annotations

import json
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from scipy import stats

from sae_sanity.results.analysis import analyse
from sae_sanity.results.outcome import Verdict

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import gate_calibration as gate

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
REAL = [gate.Shape(3, 3, families=41), gate.Shape(5, 5, families=41), gate.Shape(5, 5, latents=200)]
SURELY = 1e-3
"""Chance that a rate of .05 is called wrong."""


def highest(n, rate=0.05):
    return int(stats.binom.isf(SURELY, n, rate))


def published():
    text = (files("sae_sanity.results") / "published" / "gate_calibration.json").read_text(encoding="utf-8")
    return json.loads(text)


@pytest.mark.slow
def test_an_sae_like_its_baseline_beats_it_in_one_check_of_twenty():
    n = 200
    beaten = sum(gate.comparison_alone(shape, seed) for shape in REAL for seed in range(n))
    assert beaten <= highest(len(REAL) * n)
    assert beaten >= 0.02 * len(REAL) * n, "an interval that never rejects would pass the line above"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [gate.Shape(3, 3, families=8), gate.Shape(3, 3, latents=200)])
def test_the_check_passes_no_more_often_than_its_weakest_comparison(shape):
    runs = [gate.replicate(shape, seed) for seed in range(25)]
    assert sum(run.passed for run in runs) <= highest(len(runs))
    assert all(run.null.verdict(0.0) is Verdict.BEATS for run in runs if run.passed)
    assert sum(run.check(0.0) == "PASS" for run in runs) <= 1, "four comparisons at once, none of which differs"
    assert sum(run.check(20 * gate.MARGIN) == "PASS" for run in runs) >= 23, "and it can pass"


@pytest.mark.slow
@pytest.mark.parametrize("shape", [gate.Shape(1, 2, families=12), gate.Shape(1, 3, latents=60)])
def test_a_moved_interval_is_the_interval_of_moved_rows(shape):
    rows, truth = gate.simulate(shape, 5), 0.031
    first = gate.design(shape).suites[0]
    higher = rows["suite"].eq(first.suite) & rows["arm"].isin(["trained", "same"]) & rows["metric"].eq(first.metric)
    moved = rows.assign(value=rows["value"].where(~higher, rows["value"] + truth))
    ours, c = gate.replicate(shape, 5).null, analyse(moved, gate.design(shape), seed=5)[0].comparisons[0]
    assert ours.ends(truth) == pytest.approx((c.estimate.lo, c.estimate.hi), abs=1e-9)
    assert ours.verdict(truth) is c.verdict


def test_one_shape_in_numbers():
    run = gate.replicate(gate.Shape(3, 3, families=8), 0)
    row = gate.summary(gate.Shape(3, 3, families=8), [run, run])
    lo, hi = run.null.ends()
    assert row["covered"] == float(lo <= 0 <= hi)
    assert row["interval_above_0"] == float(lo > 0)
    assert row["mde"] == pytest.approx(run.null.estimate.mde, abs=1e-5)
    for point in row["power"]:
        assert sum(point[v.value.lower()] for v in list(Verdict)[:5]) == 1
    assert gate.line(row).startswith("  3  3    8f    own |")


def test_the_published_table_holds_every_shape_that_was_asked_for():
    found = published()
    rows = found["shapes"]
    assert {(r["families"], r["latents"]) for r in rows} >= {(8, 0), (41, 0), (0, 200), (0, 1000)}
    assert {r["baseline"] for r in rows} >= {2, 3, 5, 10}
    assert all(r["replicates"] >= 600 for r in rows)
    assert found["manifest"]["command"].startswith("python benchmarks/gate_calibration.py ")


def test_no_published_shape_is_above_the_bound():
    """A single shape of 600 may be by chance; ten times as many decide, with two of their own errors."""
    for row in published()["shapes"]:
        decides = row.get("again", row)
        assert decides["false_beats"] <= gate.BOUND + 2 * decides["error"] * ("again" in row), row
        assert "again" in row or row["false_beats"] <= gate.BOUND


def test_the_published_rates_of_equivalence_and_power_are_as_stated():
    for row in published()["shapes"]:
        n = row["replicates"]
        assert row["false_below_margin"] * n <= highest(n), row
        assert row["pass_if_nothing_differs"] * n <= highest(n, 0.01), row
        assert row["false_pass"] * n <= highest(n), row
