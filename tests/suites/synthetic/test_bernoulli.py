from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from sae_sanity.suites.synthetic.bernoulli import draw_support, make_buckets
from sae_sanity.suites.synthetic.draws import draws_of

CPU = torch.device("cpu")
MIXED = torch.tensor([0.5, 0.03, 0.31, 0.9, 0.12, 0.26], dtype=torch.float64)  # several buckets, out of order


def dense(rates, n, key="a", **options):
    """The support as a 0/1 matrix."""
    keys = draw_support(make_buckets(rates), n, draws_of(key, CPU), **options)
    return torch.zeros(n * len(rates)).index_fill_(0, keys, 1.0).view(n, -1)


class Counting:
    """Draws that remember how many uniform numbers were asked for."""

    def __init__(self, key):
        self.inner, self.uniforms = draws_of(key, CPU), 0

    def uniform(self, n):
        self.uniforms += n
        return self.inner.uniform(n)

    def normal(self, n):
        return self.inner.normal(n)


@pytest.mark.parametrize("slack", [6.0, -4.0], ids=["usual", "gaps-run-out"])
def test_joint_distribution_of_all_patterns_is_the_product(slack):
    n = 200_000
    patterns = dense(MIXED, n, slack=slack) @ 2.0 ** torch.arange(6)
    observed = torch.bincount(patterns.long(), minlength=64).numpy()
    bits = np.array([[pattern >> i & 1 for i in range(6)] for pattern in range(64)])
    p = MIXED.numpy()
    expected = n * np.where(bits, p, 1 - p).prod(1)
    common = expected > 5
    observed, expected = (np.r_[each[common], each[~common].sum()] for each in (observed, expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_every_rate_is_met():
    rates = torch.from_numpy(10 ** np.random.default_rng(0).uniform(-4, 0, 400))
    n = 50_000
    counts = dense(rates, n).sum(0).numpy()
    p_values = [stats.binomtest(int(count), n, float(rate)).pvalue for count, rate in zip(counts, rates, strict=True)]
    assert min(p_values) > 1e-3 / 400
    assert stats.kstest(p_values[:200], "uniform").pvalue > 1e-4


def test_pairs_of_features_are_independent():
    rates = torch.from_numpy(10 ** np.random.default_rng(1).uniform(-2, -0.5, 40))
    n = 100_000
    fired = dense(rates, n).double()
    both = (fired.T @ fired).numpy()
    p = fired.mean(0).numpy()
    z = (both - n * np.outer(p, p)) / np.sqrt(n * np.outer(p * (1 - p), p * (1 - p)))
    upper = z[np.triu_indices(40, 1)]
    assert np.abs(upper).max() < 5
    assert abs(upper.std() - 1) < 0.12


def test_successive_samples_are_independent():
    fired = dense(MIXED, 100_000).numpy()
    for feature, other in itertools.product(range(6), repeat=2):
        table = np.histogram2d(fired[:-1, feature], fired[1:, other], bins=2)[0]
        assert stats.chi2_contingency(table, correction=False).pvalue > 1e-4 / 36


def test_active_counts_against_torch_bernoulli():
    rates = torch.from_numpy(10 ** np.random.default_rng(2).uniform(-3, -0.5, 100))
    n = 40_000
    ours = torch.bincount(dense(rates, n).sum(1).long(), minlength=101)
    drawn = torch.bernoulli(rates.expand(n, -1), generator=torch.Generator().manual_seed(0))
    theirs = torch.bincount(drawn.sum(1).long(), minlength=101)
    table = torch.stack([ours, theirs]).numpy()
    common = table.sum(0) > 20
    assert stats.chi2_contingency(np.c_[table[:, common], table[:, ~common].sum(1)]).pvalue > 1e-4


def test_gaps_are_geometric_at_one_rate():
    keys = draw_support(make_buckets(torch.full((50,), 0.02, dtype=torch.float64)), 20_000, draws_of("g", CPU))
    gaps = np.diff(keys.numpy())
    edges = np.arange(1, 200)
    observed = np.r_[[np.sum(gaps == e) for e in edges], np.sum(gaps >= 200)]
    expected = len(gaps) * np.r_[stats.geom.pmf(edges, 0.02), stats.geom.sf(199, 0.02)]
    assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_keys_ascend_and_none_comes_twice():
    keys = draw_support(make_buckets(MIXED), 1000, draws_of("k", CPU))
    assert (keys.diff() > 0).all()
    assert keys.min() >= 0
    assert keys.max() < 6000


def test_always_never_and_hardly_ever():
    rates = torch.tensor([1.0, 0.0, 1e-300, 1.0, 1e-12], dtype=torch.float64)
    fired = dense(rates, 1000)
    assert (fired[:, [0, 3]] == 1).all()
    assert (fired[:, [1, 2, 4]] == 0).all()


@pytest.mark.parametrize(("rates", "n"), [([0.0, 0.0], 10), ([0.5], 0), ([1e-9], 1)])
def test_nothing_fires(rates, n):
    assert draw_support(make_buckets(torch.tensor(rates, dtype=torch.float64)), n, draws_of("z", CPU)).tolist() == []


def test_buckets_hold_rates_within_a_factor_of_two():
    rates = torch.from_numpy(10 ** np.random.default_rng(3).uniform(-6, 0, 1000))
    buckets = make_buckets(rates)
    assert sorted(buckets.order.tolist()) == list(range(1000))
    assert buckets.keep.min() > 0.5
    assert buckets.keep.max() == 1
    recovered = buckets.keep * buckets.top.repeat_interleave(buckets.width)
    assert torch.allclose(rates[buckets.order], recovered, rtol=1e-14, atol=0)


def test_work_grows_with_what_fires():
    used = []
    for n_features in (1000, 100_000):
        exponents = np.random.default_rng(4).uniform(-2, 0, n_features)
        rates = torch.from_numpy(10**exponents)
        draws = Counting("w")
        fired = len(draw_support(make_buckets(rates * 20 / rates.sum()), 1000, draws))
        assert 18_000 < fired < 22_000
        used.append(draws.uniforms)
    # A coin for each would be 1,000,000 and 100,000,000; gaps and the thinning of them are below 4 per firing.
    assert max(used) < 4 * 22_000


def test_key_decides():
    first, again, other = (dense(MIXED, 500, key) for key in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_key_has_numbers_of_its_own():
    # Of 32 bits, which is all that torch's CPU generator reads of a seed, five pairs among these would be the same.
    first = [float(draws_of(f"sample/0/{seed}", CPU).uniform(1)[0]) for seed in range(200_000)]
    assert len(set(first)) == len(first)
