"""Permutation, Wilcoxon, TOST, effect sizes, Holm and BH against their oracles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from sae_sanity.results.stats import (
    benjamini_hochberg,
    crossed_t,
    d_z,
    holm,
    sign_flip,
    superiority,
    tost,
    wilcoxon,
)
from sae_sanity.results.stats.crossed import CrossedT


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("n", [2, 5, 9])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 1.0])
def test_sign_flip_against_exact_enumeration(n, shift):
    x = rng(n).normal(shift, 1, n)
    signs = np.array(list(itertools.product([-1, 1], repeat=n)))
    wanted = np.mean((signs * x).mean(axis=1) >= x.mean() - 1e-12)
    assert sign_flip(x, rng=rng()) == pytest.approx(wanted)


def test_sign_flip_random_against_exact():
    x = rng(1).normal(0.4, 1, 12)
    exact, drawn = sign_flip(x, rng=rng()), sign_flip(x, rng=rng(), n_resamples=4000)
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 4000))
    assert drawn == sign_flip(x, rng=rng(), n_resamples=4000), "the same generator gives the same p"


def test_sign_flip_p_never_zero():
    assert sign_flip(np.full(60, 1.0), rng=rng(), n_resamples=99) == pytest.approx(1 / 100)
    assert sign_flip(np.full(5, 1.0), rng=rng()) == pytest.approx(1 / 32)


def test_sign_flip_degenerate():
    assert sign_flip(np.zeros(6), rng=rng()) == 1
    assert sign_flip(np.array([0.3]), rng=rng()) == 0.5
    assert sign_flip(np.array([-0.3]), rng=rng()) == 1


def test_sign_flip_is_uniform_at_most_under_the_null():
    p = np.array([sign_flip(rng(i).normal(0, 1, 8), rng=rng()) for i in range(400)])
    assert np.mean(p <= 0.05) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize("n", [6, 30, 80])
def test_wilcoxon_against_scipy(n):
    x = rng(n).normal(0.2, 1, n)
    assert wilcoxon(x) == stats.wilcoxon(x, alternative="greater", zero_method="zsplit").pvalue


def test_wilcoxon_splits_zeros_between_the_signs():
    x = np.r_[np.zeros(10), rng(2).normal(0.4, 1, 12)]
    oracles = {zero: stats.wilcoxon(x, alternative="greater", zero_method=zero).pvalue for zero in ("zsplit", "wilcox")}
    assert oracles["zsplit"] != oracles["wilcox"]
    assert wilcoxon(x) == oracles["zsplit"]


def test_wilcoxon_exact_by_enumeration():
    x = rng(3).normal(0.5, 1, 7)
    ranks = stats.rankdata(np.abs(x))
    observed = ranks[x > 0].sum()
    sums = [np.dot(ranks, on) for on in itertools.product([0, 1], repeat=7)]
    assert wilcoxon(x) == pytest.approx(np.mean(np.array(sums) >= observed))


@pytest.mark.parametrize(("x", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.2], 0.5), ([-0.2], 1.0)])
def test_wilcoxon_degenerate(x, p):
    assert wilcoxon(np.array(x)) == p


@pytest.mark.parametrize("shift", [-0.03, 0.0, 0.005, 0.03])
def test_tost_against_statsmodels_without_seed_variance(shift):
    trained, own = rng(1).normal(0.7 + shift, 0.02, (25, 1)), rng(2).normal(0.7, 0.02, (25, 1))
    result = crossed_t(trained, np.repeat(own, 3, axis=1))
    wanted = ttost_paired(trained[:, 0], own[:, 0], -0.02, 0.02)[0]
    assert tost(result, margin=0.02) == pytest.approx(wanted)


@pytest.mark.parametrize("estimate", np.linspace(-0.03, 0.03, 13))
def test_tost_is_below_alpha_exactly_when_the_interval_is_inside_the_margin(estimate):
    half = stats.t.isf(0.05, 7.3) * 0.006
    result = CrossedT(estimate, 0.006, 7.3, estimate - half, estimate + half, None)
    inside = result.lo > -0.02 and result.hi < 0.02
    assert (tost(result, margin=0.02) < 0.05) == inside


def test_tost_degenerate():
    assert tost(CrossedT(0.0, None, None, None, None, None), margin=0.1) is None
    assert tost(CrossedT(0.05, 0.0, 4.0, 0.05, 0.05, 0.0), margin=0.1) == 0
    assert tost(CrossedT(0.1, 0.0, 4.0, 0.1, 0.1, 0.0), margin=0.1) == 1


def test_d_z_by_hand_and_degenerate():
    assert d_z(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert d_z(np.array([0.1])) is None
    assert d_z(np.full(7, 0.1) + 1e-18) is None


def test_superiority_counts_ties_half_and_matches_the_sign_test_statistic():
    assert superiority(np.array([1.0, -1.0, 0.0, 2.0])) == pytest.approx((2 + 0.5) / 4)
    x = rng(4).normal(0.3, 1, 50)
    assert superiority(x) == np.mean(x > 0)


def test_holm_by_hand():
    # sorted .01 x 3, .02 x 2, .04 x 1, each at least the one before
    assert holm([0.04, 0.01, 0.02]) == pytest.approx((0.04, 0.03, 0.04))
    assert holm([0.6, 0.5]) == pytest.approx((1.0, 1.0))
    assert holm([]) == ()


def test_benjamini_hochberg_against_scipy():
    p = list(rng(6).uniform(0, 0.2, 9))
    assert benjamini_hochberg(p) == pytest.approx(tuple(stats.false_discovery_control(p)))
    assert benjamini_hochberg([]) == ()
