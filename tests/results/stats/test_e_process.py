from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import log

import numpy as np
import pytest
from betting import BettingTest, log_growth

from sae_sanity.results.stats.e_process import FRACTIONS


def fed(values, **options):
    test = BettingTest(**options)
    for value in values:
        test.update(float(value))
    return test


def first_decisions(differences, alpha=0.05, margin=0.0):
    """Looks after which each run, a row, is decided; inf where it never is. Written with products, not with logs."""
    stakes = FRACTIONS / (1 + margin)
    capital, decided = np.ones((len(differences), len(FRACTIONS))), np.full(len(differences), np.inf)
    for look, column in enumerate(differences.T, 1):
        capital *= 1 + stakes * (column[:, None] - margin)
        decided[(capital.mean(axis=1) >= 1 / alpha) & np.isinf(decided)] = look
    return decided


@pytest.mark.parametrize("margin", [0.0, 0.05, -0.1])
def test_the_capital_is_a_fair_game_at_the_margin(margin):
    """Exactly: over all sequences of two outcomes with mean `margin` the mean capital is 1."""
    up = (1 + margin) / 2
    total = sum(
        fed(path, margin=margin).e_value * float(np.prod([up if step > 0 else 1 - up for step in path]))
        for path in product((1.0, -1.0), repeat=6)
    )
    assert total == pytest.approx(1)


def test_the_capital_by_hand():
    values = (Fraction(1, 2), Fraction(-1, 4), Fraction(1, 1))
    by_hand = [float(np.prod([1 + f * float(v) for v in values])) for f in FRACTIONS]
    assert fed(values).e_value == pytest.approx(np.mean(by_hand))


def test_it_is_the_same_as_the_products():
    differences = np.random.default_rng(0).normal(0.1, 0.3, (5, 200)).clip(-1, 1)
    for row, look in zip(differences, first_decisions(differences), strict=True):
        test, mine = BettingTest(), np.inf
        for n, value in enumerate(row, 1):
            if test.update(float(value)) and np.isinf(mine):
                mine = n
        assert mine == look


def test_the_mean_that_it_finds_stays_found():
    test = fed([0.9] * 20)
    assert test.decided
    assert test.p_value <= 0.05
    for _ in range(200):
        test.update(-0.9)
    assert test.decided
    assert test.e_value < 1, "the capital is lost again, the decision is not"


@pytest.mark.parametrize("kind", ["beta", "coins", "skewed"])
def test_error_rate_when_every_look_counts(kind):
    rng = np.random.default_rng(5)
    shape = (3000, 400)
    differences = {
        "beta": lambda: rng.beta(6, 2, shape) - rng.beta(6, 2, shape),
        "coins": lambda: rng.choice([-1.0, 1.0], shape),
        "skewed": lambda: np.where(rng.random(shape) < 0.05, -0.95, 0.05),
    }[kind]()
    assert np.mean(np.isfinite(first_decisions(differences))) <= 0.05


def test_a_t_test_that_peeks_is_what_it_replaces():
    d = np.random.default_rng(5).normal(0, 0.2, (1000, 400))
    n = np.arange(1, 401)
    mean = d.cumsum(axis=1) / n
    sd = np.sqrt(((d**2).cumsum(axis=1) / n - mean**2).clip(1e-12))
    assert np.mean(((mean / sd * np.sqrt(n))[:, 20:] > 1.645).any(axis=1)) > 0.2


def test_large_effects_save_most_of_the_calls():
    rng = np.random.default_rng(1)
    for effect, most in ((0.1, 0.15), (0.05, 0.35)):
        looks = first_decisions((rng.normal(effect, 0.2, (300, 1000))).clip(-1, 1))
        assert np.mean(np.minimum(looks, 1000)) <= most * 1000


@pytest.mark.parametrize("truth", [-0.3, 0.0, 0.1])
def test_the_confidence_sequence_holds_the_mean_at_every_look(truth):
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(30):
        test = fed(rng.normal(truth, 0.25, 120).clip(-1, 1))
        lo, hi = test.interval
        missed += not lo <= truth <= hi
    assert missed <= 30 * 0.15


def test_the_confidence_sequence_narrows_and_agrees_with_the_test():
    rng = np.random.default_rng(0)
    test, before = BettingTest(), (-1.0, 1.0)
    for value in rng.normal(0.2, 0.2, 500).clip(-1, 1):
        test.update(float(value))
        assert before[0] <= test.interval[0] <= test.interval[1] <= before[1]
        before = test.interval
        assert test.decided == (test.interval[0] >= 0)
    assert before[1] - before[0] < 0.12


def test_mirrored_data_have_the_mirrored_sequence():
    values = np.random.default_rng(2).normal(0.1, 0.3, 200).clip(-1, 1)
    lo, hi = fed(values).interval
    assert fed(-values).interval == pytest.approx((-hi, -lo))


def test_ends_of_the_range_break_nothing():
    assert fed([1.0] * 400).interval[1] == 1
    assert fed([-1.0] * 400).interval[0] == -1
    assert fed([1.0] * 1500).e_value < np.inf
    assert np.isfinite(log_growth(1.0, np.array([-1.0, 1.0]))).all()
    assert fed([]).e_value == pytest.approx(1)


@pytest.mark.parametrize("value", [1.01, -2.0, float("nan")])
def test_values_out_of_range_are_refused(value):
    with pytest.raises(ValueError, match="must lie in"):
        BettingTest().update(value)


@pytest.mark.parametrize("options", [{"margin": 1.0}, {"margin": -1.0}, {"alpha": 0.0}, {"alpha": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must lie in"):
        BettingTest(**options)


def test_alpha_is_the_fortune_that_decides():
    test = BettingTest(alpha=0.01)
    while not test.decided:
        test.update(0.5)
    assert log(test.e_value) >= log(100)
