"""Sampled sign patterns against scipy's own test, from which they may not differ in a single bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sae_sanity.results.stats import sign_flip


def by_scipy(x, seed, n):
    flipped = stats.permutation_test(
        (x,),
        lambda d, axis: np.mean(d, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(flipped.pvalue)


@pytest.mark.parametrize("clusters", [14, 41, 500])
@pytest.mark.parametrize("n", [99, 128, 129, 999])
@pytest.mark.parametrize("step", [0.0, 0.1, 1.0])
def test_the_same_bits_as_scipy(clusters, n, step):
    x = np.random.default_rng([clusters, n]).normal(0.1, 1, clusters)
    x = np.round(x / step) * step / 3 if step else x  # coarse scores, so that sums tie
    assert sign_flip(x, rng=np.random.default_rng(7), n_resamples=n) == by_scipy(x, 7, n)


def test_differences_that_all_tie_count_every_pattern():
    assert sign_flip(np.zeros(30), rng=np.random.default_rng(0), n_resamples=200) == 1


def test_a_strided_view_is_read_as_it_stands():
    table = np.random.default_rng(1).normal(0.1, 1, (60, 2))
    ours = [sign_flip(x, rng=np.random.default_rng(3), n_resamples=500) for x in (table[:, 1], table[:, 1].copy())]
    assert ours[0] == ours[1] == by_scipy(table[:, 1].copy(), 3, 500)
