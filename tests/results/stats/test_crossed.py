from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from sae_sanity.results.stats import Components, crossed_t, paired_t


def scores(clusters=12, trained_seeds=1, baseline_seeds=5, *, seed=0, cluster_sd=0.03, seed_sd=0.01, noise=0.02):
    rng = np.random.default_rng(seed)
    own = rng.normal(0, cluster_sd, (clusters, 1))
    trained = 0.7 + own + rng.normal(0, seed_sd, trained_seeds) + rng.normal(0, noise, (clusters, trained_seeds))
    baseline = 0.7 + rng.normal(0, seed_sd, baseline_seeds) + rng.normal(0, noise, (clusters, baseline_seeds))
    return trained, baseline


def anova_mean_squares(matrix):
    """(clusters, seeds, residual) from statsmodels' two-way table."""
    G, K = matrix.shape
    long = pd.DataFrame(
        {"x": matrix.ravel(), "g": np.repeat(np.arange(G), K).astype(str), "s": np.tile(np.arange(K), G).astype(str)}
    )
    table = anova_lm(ols("x ~ C(g) + C(s)", long).fit())
    return (table["sum_sq"] / table["df"]).to_numpy()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0005, 0.02, 0.2])
def test_one_trained_seed_is_the_formula_of_the_method_with_statsmodels_mean_squares(seed, noise):
    trained, baseline = scores(seed=seed, noise=noise)
    G, K = baseline.shape
    difference = trained - baseline
    cluster, seeds, error = anova_mean_squares(difference)
    wanted = max((cluster + seeds - error) / (G * K), cluster / (G * K), seeds / (G * K))
    result = crossed_t(trained, baseline)
    assert result.estimate == pytest.approx(difference.mean())
    assert result.standard_error**2 == pytest.approx(wanted, rel=1e-9)


def test_satterthwaite_df_by_hand_where_no_floor_binds():
    trained, baseline = scores(seed=1, seed_sd=0.03)
    G, K = baseline.shape
    cluster, seeds, error = anova_mean_squares(trained - baseline)
    assert cluster > error
    assert seeds > error
    top = (cluster + seeds - error) ** 2
    wanted = top / (cluster**2 / (G - 1) + seeds**2 / (K - 1) + error**2 / ((G - 1) * (K - 1)))
    assert crossed_t(trained, baseline).df == pytest.approx(wanted, rel=1e-9)


def test_interval_and_p_are_those_of_a_t_with_this_error_and_df():
    result = crossed_t(*scores(seed=3), alpha=0.025)
    t = stats.t(result.df, loc=result.estimate, scale=result.standard_error)
    assert (result.lo, result.hi) == pytest.approx(t.interval(0.95))
    assert result.pvalue == pytest.approx(t.cdf(0))


def test_without_seed_variance_it_is_the_paired_t_test():
    rng = np.random.default_rng(5)
    trained, own = rng.normal(0.7, 0.05, (20, 1)), rng.normal(0.69, 0.05, (20, 1))
    result = crossed_t(trained, np.repeat(own, 4, axis=1))
    oracle = stats.ttest_rel(trained[:, 0], own[:, 0], alternative="greater")
    assert result.pvalue == pytest.approx(oracle.pvalue)
    assert result.df == pytest.approx(19)
    interval = stats.ttest_rel(trained[:, 0], own[:, 0]).confidence_interval(0.9)
    assert (result.lo, result.hi) == pytest.approx(tuple(interval))


def test_without_cluster_variance_it_is_the_t_of_the_seed_means():
    baseline = 0.5 + np.array([[-0.02, 0.01, 0.0, 0.03]]).repeat(30, axis=0)
    result = crossed_t(np.full((30, 1), 0.6), baseline)
    oracle = stats.ttest_1samp(0.6 - baseline[0], 0, alternative="greater")
    assert result.standard_error == pytest.approx(stats.sem(baseline[0]))
    assert result.pvalue == pytest.approx(oracle.pvalue)


def test_recipe_of_pure_seed_variance_is_the_welch_test():
    rng = np.random.default_rng(8)
    trained_means, baseline_means = rng.normal(0.7, 0.03, 4), rng.normal(0.68, 0.01, 6)
    result = crossed_t(np.tile(trained_means, (9, 1)), np.tile(baseline_means, (9, 1)), claim="recipe")
    oracle = stats.ttest_ind(trained_means, baseline_means, equal_var=False, alternative="greater")
    assert result.pvalue == pytest.approx(oracle.pvalue)
    assert result.df == pytest.approx(oracle.df)


def test_recipe_adds_the_trained_seeds_and_artefact_does_not():
    trained, baseline = scores(40, 3, 5, seed=2, seed_sd=0.05)
    artefact, recipe = crossed_t(trained, baseline), crossed_t(trained, baseline, claim="recipe")
    assert artefact.estimate == recipe.estimate
    averaged = crossed_t(trained.mean(axis=1, keepdims=True), baseline)
    assert artefact.standard_error == pytest.approx(averaged.standard_error)
    _, seeds, error = anova_mean_squares(trained)
    added = (seeds - error) / (40 * 3)
    assert recipe.standard_error**2 == pytest.approx(artefact.standard_error**2 + added, rel=1e-9)


def test_new_draw_adds_the_variance_of_one_more_seed():
    rng = np.random.default_rng(1)
    K, means = 4, rng.normal(0, 0.02, 4)
    baseline = np.tile(means, (25, 1))
    result = crossed_t(np.full((25, 1), 0.1), baseline, new_draw=True)
    assert result.standard_error**2 == pytest.approx(means.var(ddof=1) * (1 + 1 / K))
    assert result.df == pytest.approx(K - 1)


def test_new_draw_never_has_more_df_than_seeds_minus_one():
    trained, baseline = scores(40, 1, 4, seed_sd=0.002)
    assert crossed_t(trained, baseline).df > 3
    assert crossed_t(trained, baseline, new_draw=True).df == 3


@pytest.mark.parametrize(
    ("shape", "claim"),
    [
        pytest.param((12, 1, 1), "artefact", id="one baseline seed"),
        pytest.param((1, 1, 5), "artefact", id="one cluster"),
        pytest.param((12, 1, 5), "recipe", id="recipe from one seed"),
        pytest.param((12, 2, 5), "recipe", id="recipe from two seeds"),
    ],
)
def test_an_unknown_variance_gives_no_interval(shape, claim):
    result = crossed_t(*scores(*shape), claim=claim)
    assert np.isfinite(result.estimate)
    assert (result.standard_error, result.df, result.lo, result.hi, result.pvalue) == (None,) * 5


@pytest.mark.parametrize(("shift", "pvalue"), [(0.1, 0.0), (0.0, 1.0), (-0.1, 1.0)])
def test_degenerate_without_any_variance(shift, pvalue):
    result = crossed_t(np.full((6, 1), 0.3 + shift), np.full((6, 3), 0.3))
    assert result.standard_error == 0
    assert result.lo == result.hi == result.estimate == pytest.approx(shift, abs=1e-15)
    assert result.pvalue == pvalue


def test_rounding_noise_between_equal_arms_is_no_difference():
    column = np.random.default_rng(0).normal(0.7, 0.1, (50, 1)) / 3
    result = crossed_t(np.repeat(column, 3, axis=1), np.repeat(column, 7, axis=1))
    assert (result.estimate, result.lo, result.hi, result.pvalue) == (0, 0, 0, 1)


def test_seeds_that_happen_to_agree_do_not_lengthen_the_df():
    """Floored at the clusters, the df still falls short of G - 1."""
    parts = Components(12, 3, 1, cluster=0.12, baseline=0.01, baseline_error=0.3)
    assert parts.variance() == pytest.approx(0.01)
    assert parts.df() < 11


def test_the_variance_is_floored_at_clusters_alone_and_at_seeds_alone():
    by_seeds = Components(12, 3, 1, cluster=0.001, baseline=0.1, baseline_error=0.3)
    assert by_seeds.variance() == pytest.approx(0.1 / 3)
    by_both_arms = Components(12, 3, 4, 0.001, 0.1, 0.3, trained=0.2, trained_error=0.4)
    assert by_both_arms.variance() == pytest.approx(0.1 / 3 + 0.2 / 4)


def test_expected_mean_squares_at_the_present_size_leave_the_variance_alone():
    parts = crossed_t(*scores(15, 3, 5, seed=4), claim="recipe").components
    assert parts.at().variance() == pytest.approx(parts.variance())
    assert parts.at().df() == pytest.approx(parts.df())


def test_expected_mean_squares_at_another_size_by_hand():
    parts = Components(10, 5, 1, cluster=0.5, baseline=0.04, baseline_error=0.1)
    larger = parts.at(clusters=40, baseline_seeds=10)
    # sigma2 clusters = .5 - .1/5 = .48; sigma2 seeds = .04 - .1/10 = .03; error .1
    assert larger.cluster == pytest.approx(0.48 + 0.01)
    assert larger.baseline == pytest.approx(0.03 + 0.1 / 40)
    assert larger.variance() == pytest.approx(0.48 / 40 + 0.03 / 10 + 0.1 / 400)


@pytest.mark.parametrize(
    ("clusters", "trained_seeds", "baseline_seeds", "seed_sd"),
    [(16, 1, 3, 0.01), (16, 1, 5, 0.02), (41, 3, 5, 0.01), (41, 1, 5, 0.01)],
)
def test_coverage_and_false_positives_by_simulation(clusters, trained_seeds, baseline_seeds, seed_sd):
    claim, runs = ("recipe" if trained_seeds > 1 else "artefact"), 600
    covered = above = items_only = 0
    rng = np.random.default_rng(11)
    for _ in range(runs):
        own = rng.normal(0, 0.03, (clusters, 1))
        shift = rng.normal(0, seed_sd, trained_seeds) if claim == "recipe" else 0.0
        trained = own + shift + rng.normal(0, 0.01, (clusters, trained_seeds))
        baseline = rng.normal(0, seed_sd, baseline_seeds) + rng.normal(0, 0.01, (clusters, baseline_seeds))
        result = crossed_t(trained, baseline, claim=claim)
        covered += result.lo <= 0 <= result.hi
        above += result.lo > 0
        items_only += paired_t(trained, baseline).lo > 0
    assert covered / runs == pytest.approx(0.9, abs=0.035)
    assert above / runs <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / runs)
    assert items_only > above, "seeds must cost something"


def test_paired_t_is_scipys():
    trained, other = scores(18, 2, 3, seed=9)
    result = paired_t(trained, other)
    oracle = stats.ttest_rel(trained.mean(axis=1), other.mean(axis=1), alternative="greater")
    assert (result.pvalue, result.df) == pytest.approx((oracle.pvalue, 17))
    assert paired_t(trained[:1], other[:1]).lo is None


@pytest.mark.parametrize(
    ("trained", "baseline", "message"),
    [
        pytest.param(np.zeros(3), np.zeros((3, 2)), "shape", id="one-dimensional"),
        pytest.param(np.zeros((3, 0)), np.zeros((3, 2)), "shape", id="empty"),
        pytest.param(np.zeros((3, 1)), np.zeros((4, 2)), "3 clusters and baseline 4", id="unequal"),
        pytest.param(np.full((3, 1), np.nan), np.zeros((3, 2)), "not finite", id="nan"),
    ],
)
def test_input_validation(trained, baseline, message):
    with pytest.raises(ValueError, match=message):
        crossed_t(trained, baseline)
