from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from gain_rows import DESIGN, judged, made

from sae_sanity.results.analysis import analyse
from sae_sanity.results.hard_probing import gains


@pytest.fixture(scope="module")
def scores():
    return made()


def one(found, arm, regime, level=None):
    return next(g for g in found if (g.arm, g.regime, g.level) == (arm, regime, level))


def test_interval_is_scipys_over_family_means(scores):
    found = one(gains(scores), "trained", "scarcity")
    rows = scores[(scores["arm"] == "trained") & (scores["metric"] == "gain_scarcity")]
    families = [group["value"].mean() for _, group in rows.groupby("cluster")]
    expected = stats.ttest_1samp(families, 0).confidence_interval(0.9)
    assert found.gain == pytest.approx(np.mean(families))
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high))
    assert (found.n_problems, found.n_families) == (20, 5)


def test_wins_losses_and_choices_are_counted_over_problems_and_seeds(scores):
    found = one(gains(scores), "random", "noise")
    rows = scores[(scores["arm"] == "random") & (scores["metric"] == "gain_noise")]["value"]
    assert (found.win_rate, found.loss_rate) == ((rows > 0).mean(), (rows < 0).mean())
    assert found.chosen == pytest.approx(found.win_rate + found.loss_rate)
    assert one(gains(scores), "@clean_probe", "noise").chosen is None


def test_every_level_apart(scores):
    found = gains(scores, by_level=True)
    assert {g.level for g in found if g.regime == "scarcity"} == {15.0, 56.0}
    both = [one(found, "trained", "scarcity", level).gain for level in (15.0, 56.0)]
    assert np.mean(both) == pytest.approx(one(gains(scores), "trained", "scarcity").gain)


def test_a_single_family_has_no_interval():
    found = one(gains(made(families=1)), "trained", "standard")
    assert (found.lo, found.hi) == (None, None)


def test_other_suites_and_other_metrics_are_not_read(scores):
    assert {g.regime for g in gains(scores)} == {"standard", "scarcity", "noise"}
    assert gains(scores[scores["suite"] != "hard_probing"]) == ()


def test_a_result_gets_every_gain_in_the_order_of_its_arms(scores):
    found = judged(scores)
    by_regime = [one for one in found.gains if one.level is None]
    by_level = [one for one in found.gains if one.level is not None]
    assert sorted(map(str, by_regime)) == sorted(map(str, gains(scores)))
    assert sorted(map(str, by_level)) == sorted(map(str, gains(scores, by_level=True)))
    assert found.gains == (*by_regime, *by_level)
    order = [arm.arm for arm in found.arms]
    assert list(dict.fromkeys(one.arm for one in by_regime)) == order == list(dict.fromkeys(g.arm for g in by_level))


def test_nothing_else_of_a_result_changes_but_the_order_of_metrics(scores):
    (before,) = analyse(scores, DESIGN)
    after = judged(scores)
    assert after.model_copy(update={"gains": ()}) == before
    assert list(before.arms[0].secondary)[:2] == ["chosen", "gain_noise"]
    metrics = ["chosen", "precision_at_n", "spurious_at_n", "gain_noise", "gain_scarcity", "gain_standard"]
    assert list(after.arms[0].secondary) == metrics


def test_a_report_that_has_no_gains_loads_no_scipy():
    code = "import sys, sae_sanity.results.outcome; assert 'scipy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
