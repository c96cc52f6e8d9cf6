"""A paper's numbers beside ours: what counts as met."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae_sanity.results.replication import (
    Published,
    arm_lines,
    compare_with,
    per_world,
    prediction_interval,
    published_numbers,
)

METHOD_3 = {
    ("constant", "batchtopk", "explained_variance"): 0.67,
    ("constant", "jumprelu", "explained_variance"): 0.67,
    ("variable", "batchtopk", "explained_variance"): 0.71,
    ("variable", "jumprelu", "explained_variance"): 0.71,
    ("constant", "batchtopk", "recovered_0.8"): 3 / 3200,
    ("constant", "jumprelu", "recovered_0.8"): 3 / 3200,
    ("constant", "topk", "recovered_0.8"): 0.999,
    ("constant", "matryoshka_batchtopk", "recovered_0.8"): 0.0003,
    ("variable", "batchtopk", "recovered_0.8"): 297 / 3200,
    ("variable", "jumprelu", "recovered_0.8"): 225 / 3200,
    ("variable", "topk", "recovered_0.8"): 0.43,
}
"""METHOD section 3: constant EV .67, BatchTopK and JumpReLU recover 3 of 3,200 (cos > .8), TopK 99.9 %,
Matryoshka-BatchTopK .03 %; variable EV .71, BatchTopK 297 (9.3 %), JumpReLU 225 (7.0 %), TopK ~43 %."""


def number(value, metric="recovered_0.8"):
    return Published(world="constant", architecture="topk", metric=metric, value=value, reported=str(value))


def frame(*rows):
    names = pd.Index(["arm", "metric", "cluster", "item", "seed", "value"])
    return pd.DataFrame(rows, columns=names)


def test_the_published_table_is_method_section_3():
    found = {(p.world, p.architecture, p.metric): p.value for p in published_numbers()}
    assert found == pytest.approx(METHOD_3, abs=1e-12)
    assert len(published_numbers()) == len(METHOD_3)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_next_draw_lies_in_the_prediction_interval_as_often_as_it_says(n, level):
    draws = np.random.default_rng(n).normal(0.3, 0.05, (3000, n + 1))
    inside = [lo <= last <= hi for *first, last in draws for lo, hi in [prediction_interval(first, level=level)]]
    assert np.mean(inside) == pytest.approx(level, abs=4 * (level * (1 - level) / 3000) ** 0.5)


def test_the_prediction_interval_by_scipy():
    values = [0.1, 0.13, 0.22, 0.16]
    expected = stats.t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) * 1.25**0.5)
    assert prediction_interval(values) == pytest.approx(expected, abs=1e-12)


def test_equal_draws_do_not_claim_no_spread():
    lo, hi = prediction_interval([0.5, 0.5, 0.5], least_sd=0.01)
    expected = stats.t.interval(0.95, 2, 0.5, 0.01 * (4 / 3) ** 0.5)
    assert (lo, hi) == pytest.approx(expected)
    wide = [0.3, 0.5, 0.7]
    assert prediction_interval(wide, least_sd=0.01) == prediction_interval(wide)
    assert prediction_interval([0.5], least_sd=0.01) is None
    assert prediction_interval([]) is None


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.65, "PASS"), (0.69, "PASS"), (0.67, "PASS"), (0.6499, "DIFFERS"), (0.6901, "DIFFERS")]
)
def test_explained_variance_is_met_within_two_hundredths(ours, verdict):
    line = compare_with(number(0.67, "explained_variance"), [ours - 0.01, ours + 0.01], n_features=3200)
    assert line.verdict == verdict
    assert line.ours == pytest.approx(ours)
    assert (line.lo, line.hi) == pytest.approx((0.65, 0.69))


def test_recovery_is_met_inside_the_prediction_interval():
    ours = [0.40, 0.44, 0.46]
    lo, hi = prediction_interval(ours)
    for share, verdict in ((lo, "PASS"), (hi, "PASS"), (lo - 1e-6, "DIFFERS"), (hi + 1e-6, "DIFFERS")):
        line = compare_with(number(share), ours, n_features=3200)
        assert (line.verdict, line.lo, line.hi) == (verdict, lo, hi)
    assert line.by_world == tuple(ours)


def test_a_count_of_three_is_met_by_a_count_of_none():
    """3 of 3,200 has a binomial standard deviation of 1.7: worlds that all found none do not contradict it."""
    assert compare_with(number(3 / 3200), [0.0, 0.0, 0.0], n_features=3200).verdict == "PASS"
    assert compare_with(number(300 / 3200), [0.0, 0.0, 0.0], n_features=3200).verdict == "DIFFERS"


def test_what_was_not_run_and_one_world():
    missing = compare_with(number(0.5), [], n_features=100)
    assert (missing.verdict, missing.ours, missing.lo, missing.hi, missing.by_world) == (
        "NOT RUN",
        None,
        None,
        None,
        (),
    )
    one = compare_with(number(0.5), [0.5], n_features=100)  # no spread is known
    assert (one.verdict, one.ours, one.lo, one.hi) == ("DIFFERS", 0.5, None, None)
    assert compare_with(number(0.5, "explained_variance"), [0.5], n_features=100).verdict == "PASS"


def test_per_world_averages_items_then_starts():
    rows = frame(
        ("trained", "m", "world-0", "a", 0, 1.0),
        ("trained", "m", "world-0", "b", 0, 0.0),
        ("trained", "m", "world-0", "a", 1, 0.25),  # a start with one item counts as much as one with two
        ("trained", "m", "world-1", "a", 0, 0.5),
        ("trained", "other", "world-1", "a", 0, 9.0),
        ("random", "m", "world-1", "a", 0, 9.0),
    )
    assert per_world(rows, "trained", "m") == (0.375, 0.5)
    assert per_world(rows, "nobody", "m") == ()


def test_every_arm_is_a_line():
    rows = frame(
        ("trained", "recovered_0.8", "world-0", "a", 0, 1.0),
        ("trained", "recovered_0.8", "world-1", "a", 0, 0.5),
        ("trained", "explained_variance", "world-0", "world-0", 0, 0.7),
        ("trained", "l0", "world-0", "world-0", 0, 20.0),
        ("@world", "firing_rate", "world-0", "a", 0, 0.1),
        ("@chance", "recovered_0.8", "world-0", "a", 0, 0.0),
    )
    trained, chance = arm_lines(rows, world="constant", architecture="topk")
    assert (trained.arm, chance.arm) == ("trained", "@chance")
    assert (trained.recovered, trained.n_worlds, trained.explained_variance, trained.l0) == (0.75, 2, 0.7, 20.0)
    assert trained.recovered_sd == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert (chance.recovered, chance.recovered_sd, chance.matched_cosine) == (0.0, None, None)
