from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from sae_sanity.results.stats import (
    SaeMean,
    clusters_needed,
    common_weights,
    label_permutation,
    mde,
    mean_above,
    rank_superiority,
    seeds_needed,
    standardise,
    tost,
    two_sample,
)

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import autointerp_null as null


def saes(means, variance=0.0, df=50.0, latents=100):
    return [SaeMean(float(m), variance, df, latents) for m in means]


def drawn(seed, n, mean=0.7, sd=0.1):
    return np.random.default_rng(seed).normal(mean, sd, n)


OURS, THEIRS = [0.74, 0.71, 0.76, 0.73], [0.66, 0.71, 0.60]


def test_recipe_claim_is_welchs_t_of_the_sae_means():
    result = two_sample(saes(OURS), saes(THEIRS), claim="recipe")
    oracle = stats.ttest_ind(OURS, THEIRS, equal_var=False, alternative="greater")
    ends = stats.ttest_ind(OURS, THEIRS, equal_var=False).confidence_interval(0.9)
    assert (result.pvalue, result.df) == pytest.approx((oracle.pvalue, oracle.df))
    assert (result.lo, result.hi) == pytest.approx((ends.low, ends.high))
    lo, hi = CompareMeans(DescrStatsW(OURS), DescrStatsW(THEIRS)).tconfint_diff(0.1, usevar="unequal")
    assert (result.lo, result.hi) == pytest.approx((lo, hi))


def test_tost_against_statsmodels():
    result = two_sample(saes(OURS), saes(THEIRS), claim="recipe")
    means = CompareMeans(DescrStatsW(OURS), DescrStatsW(THEIRS))
    assert tost(result, margin=0.05) == pytest.approx(means.ttost_ind(-0.05, 0.05, usevar="unequal")[0])


def test_artefact_claim_takes_the_given_saes_as_they_are():
    ours = [standardise({"a": drawn(s, 30)}, {"a": 1.0}) for s in (1, 2)]
    result = two_sample(ours, saes(THEIRS))
    within = sum(drawn(s, 30).var(ddof=1) / 30 for s in (1, 2)) / 4
    assert result.standard_error**2 == pytest.approx(within + np.var(THEIRS, ddof=1) / 3)
    one = two_sample([standardise({"a": drawn(1, 30)}, {"a": 1.0})], saes(THEIRS))
    # Welch again: one sample of latents, one of SAE means.
    oracle = stats.ttest_ind(drawn(1, 30), THEIRS, equal_var=False, alternative="greater")
    assert (one.pvalue, one.df) == pytest.approx((oracle.pvalue, oracle.df))


def test_saes_that_agree_to_the_last_bit_do_not_make_latents_certain():
    ours = saes([0.7], 1e-9)
    result = two_sample(ours, saes([0.6, 0.6, 0.6], variance=9e-4))
    assert result.standard_error**2 == pytest.approx(3e-4, rel=1e-4)
    assert result.df == pytest.approx(2, rel=1e-3)


def test_one_stratum_is_a_plain_mean():
    x = drawn(0, 25)
    one = standardise({"a": x, "left out": drawn(1, 5)}, {"a": 1.0})
    assert (one.mean, one.variance, one.df, one.latents) == pytest.approx((x.mean(), stats.sem(x) ** 2, 24, 25))


def test_standardising_against_welchs_t_of_two_strata():
    """Half of one stratum minus half of another is half a difference, of which scipy knows error and df."""
    x, y = drawn(0, 9, 0.8, 0.05), drawn(1, 30, 0.5, 0.2)
    ours = standardise({"a": x, "b": -y}, {"a": 0.5, "b": 0.5})
    oracle = stats.ttest_ind(x, y, equal_var=False)
    assert ours.df == pytest.approx(oracle.df)
    assert ours.mean / np.sqrt(ours.variance) == pytest.approx(oracle.statistic)


def test_a_single_latent_borrows_its_variance():
    x, y = drawn(0, 9), drawn(1, 6)
    got = standardise({"a": x, "b": y, "c": drawn(2, 1)}, {"a": 0.4, "b": 0.4, "c": 0.2})
    pooled = (8 * x.var(ddof=1) + 5 * y.var(ddof=1)) / 13
    expected = 0.16 * x.var(ddof=1) / 9 + 0.16 * y.var(ddof=1) / 6 + 0.04 * pooled
    assert got.variance == pytest.approx(expected)
    assert got.df <= 8 + 5 + 13
    singles = standardise({"a": np.array([0.5]), "b": np.array([0.9])}, {"a": 0.5, "b": 0.5})
    assert (singles.variance, singles.df) == pytest.approx((0.5 * np.var([0.5, 0.9], ddof=1), 1))
    alone = standardise({"a": np.array([0.5])}, {"a": 1.0})
    assert (alone.mean, alone.variance, alone.df) == (0.5, None, None)
    assert two_sample([alone], saes(THEIRS)).lo is None


def test_weights_are_those_of_the_strata_that_all_share():
    one, two = {"a": np.ones(2), "b": np.ones(1)}, {"a": np.ones(1), "b": np.ones(3), "c": np.ones(1)}
    assert common_weights({"a": 30, "b": 10, "c": 60}, [one, two]) == {"a": 0.75, "b": 0.25}
    assert common_weights({"c": 1}, [one, two]) == {}
    assert common_weights({"a": 1, "b": 0}, [two]) == {"a": 1.0}


@pytest.mark.parametrize("weights", [{}, {"a": 0.5, "b": 0.5}])
def test_nothing_is_made_of_an_empty_stratum(weights):
    with pytest.raises(ValueError, match="no latents in a stratum"):
        standardise({"a": np.ones(3)}, weights)


def test_what_is_unknown_is_not_zero():
    assert two_sample(saes(OURS), saes([0.6]), claim="recipe").lo is None
    assert two_sample(saes(OURS[:2]), saes(THEIRS), claim="recipe").lo is None
    with pytest.raises(ValueError, match="an arm without SAEs"):
        two_sample([], saes(THEIRS))


def test_equal_saes_differ_by_exactly_nothing():
    result = two_sample(saes([0.7]), saes([0.7, 0.7, 0.7]))
    assert (result.estimate, result.lo, result.hi, result.pvalue) == (0, 0, 0, 1)
    assert two_sample(saes([0.8]), saes([0.7, 0.7])).pvalue == 0


def test_one_more_draw_is_the_classical_prediction_interval():
    result = two_sample(saes([0.8], variance=1e-6), saes(OURS), new_draw=True)
    half = stats.t.isf(0.05, 3) * np.std(OURS, ddof=1) * np.sqrt(1 + 1 / 4)
    assert (result.lo, result.hi) == pytest.approx((0.8 - np.mean(OURS) - half, 0.8 - np.mean(OURS) + half))


def test_mean_above_is_scipys_one_sample_t():
    x = drawn(0, 12, 0.55)
    result = mean_above([standardise({"a": x}, {"a": 1.0})], 0.5)
    oracle = stats.ttest_1samp(x, 0.5, alternative="greater")
    assert (result.pvalue, result.lo + 0.5) == pytest.approx((oracle.pvalue, oracle.confidence_interval(0.95).low))


def test_permutation_of_labels_is_exact():
    rng = np.random.default_rng(0)
    assert label_permutation(saes(OURS), saes([0.1, 0.2, 0.3]), rng=rng) == pytest.approx(1 / 35)
    assert label_permutation(saes([0.1, 0.2]), saes([0.3, 0.4]), rng=rng) == 1


def test_seeds_and_latents_needed_reach_the_margin_and_no_sooner():
    result = two_sample(saes([0.7], 1e-3, 99.0), saes([0.62, 0.67, 0.72, 0.68], 1e-4, 99.0))
    sides = result.sides
    assert sides.at().variance() == pytest.approx(result.standard_error**2)

    def reach(**size):
        return mde(np.sqrt(sides.at(**size).variance()), sides.at(**size).df())

    n = clusters_needed(sides, margin=0.08)
    assert reach(clusters=n) <= 0.08 < reach(clusters=n - 1)
    assert seeds_needed(sides, margin=0.02) is None, "the latents of the given SAE alone blur more than that"
    k = seeds_needed(sides, margin=0.09)
    assert reach(baseline_seeds=k) <= 0.09 < reach(baseline_seeds=k - 1)


def test_superiority_against_statsmodels_and_mann_whitney():
    x, y = np.round(drawn(0, 40, 0.72), 1), np.round(drawn(1, 55, 0.7), 1)
    probability, p = rank_superiority(x, y)
    assert probability == pytest.approx(stats.mannwhitneyu(x, y).statistic / (40 * 55))
    assert p == pytest.approx(rank_compare_2indep(x, y).tost_prob_superior(0.45, 0.55).pvalue)
    assert rank_superiority(np.ones(5), np.ones(4)) == (0.5, None)
    assert rank_superiority(np.ones(1), np.zeros(4)) == (1.0, None)
    assert rank_superiority(np.arange(5.0) + 9, np.arange(4.0))[0] == 1


def null_rates(shape, replicates):
    runs = [null.replicate(shape, seed) for seed in range(replicates)]
    lo, hi, raw = (np.array([getattr(run, name) for run in runs]) for name in ("lo", "hi", "raw_lo"))
    return np.mean(lo > 0), np.mean((lo <= 0) & (hi >= 0)), np.mean(raw > 0)


def test_false_beats_where_only_frequencies_differ():
    rate, cover, raw = null_rates(null.Shape(1, 5, 200, 0.0), 600)
    assert rate <= 0.06
    assert cover >= 0.88
    assert raw > 0.15, "without standardisation the same data fake a gap"


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "baseline", "latents"), [(1, 3, 20), (3, 3, 200), (5, 5, 20)])
def test_false_beats_under_the_null(trained, baseline, latents):
    rate, cover, _ = null_rates(null.Shape(trained, baseline, latents, 0.01), 600)
    assert rate <= 0.06
    assert cover >= 0.88
