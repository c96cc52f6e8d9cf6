from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sae_sanity.results.stats import Components, clusters_needed, mde, seeds_needed


@pytest.mark.parametrize("n", [3, 8, 41, 500])
@pytest.mark.parametrize("power", [0.8, 0.95])
def test_mde_of_a_paired_t_against_statsmodels(n, power):
    effect = TTestPower().solve_power(nobs=n, alpha=0.05, power=power, alternative="larger")
    assert mde(1 / np.sqrt(n), n - 1.0, power=power) == pytest.approx(effect, rel=1e-4)


@pytest.mark.parametrize("df", [1.0, 2.7, 400.0])
def test_mde_is_found_by_simulated_t_tests_with_the_stated_power(df):
    rng = np.random.default_rng(2)
    shift, draws = mde(1.0, df), 40_000
    t = (rng.normal(size=draws) + shift) / np.sqrt(rng.chisquare(df, draws) / df)
    assert np.mean(t > stats.t.isf(0.05, df)) == pytest.approx(0.8, abs=0.008)


def test_mde_solves_its_own_equation_to_all_digits():
    shift = mde(1.0, 499.0)
    assert stats.nct.sf(stats.t.isf(0.05, 499), 499, shift) == pytest.approx(0.8, abs=1e-10)


def test_mde_scales_with_the_error_and_vanishes_with_it():
    assert mde(0.02, 9.0) == pytest.approx(2 * mde(0.01, 9.0))
    assert mde(0.0, 9.0) == 0


PARTS = Components(12, 5, 1, cluster=0.002, baseline=4e-5, baseline_error=1e-4)


@pytest.mark.parametrize(
    ("needed", "change"),
    [
        pytest.param(clusters_needed, lambda n: PARTS.at(clusters=n), id="clusters"),
        pytest.param(seeds_needed, lambda n: Components(200, 2, 1, 0.001, 3e-4, 0.0).at(baseline_seeds=n), id="seeds"),
    ],
)
def test_needed_is_the_smallest_size_whose_mde_is_within_the_margin(needed, change):
    n = needed(change(None), margin=0.02)
    sizes = [mde(np.sqrt(change(m).variance()), change(m).df()) for m in (n - 1, n)]
    assert sizes[0] > 0.02 >= sizes[1]


def test_no_number_of_clusters_helps_where_seeds_alone_exceed_the_margin():
    parts = Components(12, 2, 1, cluster=0.002, baseline=0.01, baseline_error=1e-4)
    assert clusters_needed(parts, margin=0.02) is None


def test_no_number_of_seeds_helps_where_clusters_alone_exceed_the_margin():
    parts = Components(12, 5, 1, cluster=0.02, baseline=1e-5, baseline_error=1e-5)
    assert seeds_needed(parts, margin=0.02) is None


def test_without_variance_the_smallest_sample_is_enough():
    assert clusters_needed(Components(5, 3, 1, 0.0, 0.0, 0.0), margin=0.02) == 2
    assert seeds_needed(Components(5, 3, 1, 0.0, 0.0, 0.0), margin=0.02) == 2
