from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sampled_rows
import synthetic_rows
import synthetic_scores
from statsmodels.stats.power import TTestPower

from sae_sanity.results.analysis import analyse
from sae_sanity.results.design import Design, SuiteDesign
from sae_sanity.results.scores import COLUMNS, TRIAL
from sae_sanity.results.stats import clusters_needed, mde
from sae_sanity.results.variance import Variances, parts_for, published_variances, variances_of

ROOT = Path(__file__).parents[2]
PLAIN = SuiteDesign(suite="s", metric="m", margin=0.02, unit="", required=("random",))


def sees(parts) -> float:
    return mde(parts.variance() ** 0.5, parts.df())


def drawn(rng, *, clusters, trained, baseline, cluster_sd, seed_sd, noise_sd, trials=0):
    """Rows of two arms whose difference is made of known parts."""
    found, own = [], rng.normal(0, cluster_sd, clusters)
    for arm, seeds, sd in (("trained", trained, seed_sd[0]), ("random", baseline, seed_sd[1])):
        luck, noise = rng.normal(0, sd, seeds), rng.normal(0, noise_sd, (clusters, seeds))
        table = luck + noise + (own[:, None] if arm == "trained" else 0)
        for trial in range(max(trials, 1)):
            extra = rng.normal(0, 0.01, (clusters, seeds)) + rng.normal(0, 0.02, seeds) if trials else 0
            name = f"i{TRIAL}{trial}" if trials else "i"
            found += [("s", "m", name, f"c{c:04d}", arm, s, v) for (c, s), v in np.ndenumerate(table + extra)]
    return pd.DataFrame(found, columns=list(COLUMNS))


@pytest.mark.parametrize("trained_seeds", [1, 2, 3, 5])
def test_at_the_run_s_own_size_a_plan_sees_what_the_report_says(trained_seeds):
    frame, design = synthetic_scores.scores(trained_seeds=trained_seeds), synthetic_scores.design()
    variance = variances_of(frame, design, source="a run").suites["probing"]
    (suite,) = analyse(frame, design)
    required = [c for c in suite.comparisons if c.required]
    assert set(variance.arms) == {c.baseline for c in required}
    for comparison in required:
        parts = parts_for(variance.arms[comparison.baseline], claim=comparison.claim)
        assert sees(parts) == pytest.approx(comparison.estimate.mde, rel=1e-12)
        needed = clusters_needed(parts, margin=0.02)
        assert needed == comparison.estimate.clusters_needed
    assert (variance.clusters, variance.items_per_cluster, variance.source) == (12, 3, "a run")


@pytest.mark.parametrize("trained", [1, 3])
def test_the_same_where_latents_are_sampled(trained):
    frame, design = sampled_rows.rows(trained_seeds=trained), Design((sampled_rows.SUITE,))
    variance = variances_of(frame, design).suites["autointerp"]
    (suite,) = analyse(frame, design)
    for comparison in (c for c in suite.comparisons if c.required):
        parts = parts_for(variance.arms[comparison.baseline], claim=comparison.claim)
        assert sees(parts) == pytest.approx(comparison.estimate.mde, rel=1e-12)
    one = variance.arms["random"]
    assert one.cluster_sd == 0
    assert (one.seed_sd_trained is None) == (trained == 1)


def test_the_same_with_trials():
    rng = np.random.default_rng(0)
    sizes = {"clusters": 30, "trained": 1, "baseline": 4, "cluster_sd": 0.1, "seed_sd": (0, 0.01), "noise_sd": 0.05}
    frame = drawn(rng, **sizes, trials=4)
    design = Design((replace(PLAIN, trials=True),))
    (suite,), found = analyse(frame, design), variances_of(frame, design).suites["s"].arms["random"]
    estimate = suite.comparisons[0].estimate
    assert found.trials.trained_seeds == 4
    assert sees(parts_for(found, claim="artefact")) == pytest.approx(estimate.mde, rel=1e-12)
    more = parts_for(found, claim="artefact", trained_seeds=40)
    assert sees(more) < estimate.mde


def test_the_same_in_worlds_and_statsmodels_agrees():
    frame, design = synthetic_rows.rows(n_features=200, worlds=5), synthetic_rows.design()
    variance = variances_of(frame, design).suites["synthetic"]
    (suite,) = analyse(frame, design)
    arm = suite.comparisons[0].baseline
    parts = parts_for(variance.arms[arm], claim="recipe")
    assert sees(parts) == pytest.approx(suite.comparisons[0].estimate.mde, rel=1e-12)
    sd, oracle = variance.arms[arm].cluster_sd, TTestPower()
    for worlds in (4, 9, 30):
        size = oracle.solve_power(nobs=worlds, alpha=0.05, power=0.8, alternative="larger")
        assert sees(parts_for(variance.arms[arm], claim="recipe", clusters=worlds)) == pytest.approx(
            size * sd, rel=1e-4
        )
    wanted = 0.8 * sd
    n = oracle.solve_power(effect_size=wanted / sd, alpha=0.05, power=0.8, alternative="larger")
    assert clusters_needed(parts, margin=wanted) == int(np.ceil(n))


def test_the_parts_that_data_were_drawn_from_are_found():
    known = {"cluster_sd": 0.05, "seed_sd": (0.02, 0.03), "noise_sd": 0.01}
    frame = drawn(np.random.default_rng(1), clusters=400, trained=150, baseline=200, **known)
    found = variances_of(frame, Design((PLAIN,))).suites["s"]
    arm = found.arms["random"]
    assert found.note == ""
    assert arm.cluster_sd == pytest.approx(0.05, rel=0.1)
    assert (arm.seed_sd_trained, arm.seed_sd_baseline) == pytest.approx((0.02, 0.03), rel=0.15)
    assert (arm.noise_sd_trained, arm.noise_sd) == pytest.approx((0.01, 0.01), rel=0.02)


@pytest.mark.parametrize("size", [(40, 3, 5), (160, 8, 8), (2000, 5, 19)])
def test_another_size_has_the_variance_of_the_formula(size):
    """Var = cluster²/G + seed_t²/T + seed_b²/K + noise_t²/(G T) + noise_b²/(G K), of a crossed layout (Searle 1992)."""
    known = {"cluster_sd": 0.05, "seed_sd": (0.02, 0.03), "noise_sd": 0.04}
    frame = drawn(np.random.default_rng(2), clusters=200, trained=30, baseline=40, **known)
    arm = variances_of(frame, Design((PLAIN,))).suites["s"].arms["random"]
    G, T, K = size
    parts = parts_for(arm, claim="recipe", clusters=G, trained_seeds=T, baseline_seeds=K)
    by_hand = arm.cluster_sd**2 / G + arm.seed_sd_trained**2 / T + arm.seed_sd_baseline**2 / K
    by_hand += arm.noise_sd_trained**2 / (G * T) + arm.noise_sd**2 / (G * K)
    assert parts.variance() == pytest.approx(by_hand, rel=1e-9)
    fixed = parts_for(arm, claim="artefact", clusters=G, trained_seeds=T, baseline_seeds=K)
    assert fixed.variance() == pytest.approx(by_hand - arm.seed_sd_trained**2 / T, rel=1e-9)


def test_of_one_trained_seed_another_is_taken_to_differ_as_the_baseline_s_do():
    known = {"cluster_sd": 0.01, "seed_sd": (0.0, 0.03), "noise_sd": 0.01}
    frame = drawn(np.random.default_rng(3), clusters=100, trained=1, baseline=20, **known)
    arm = variances_of(frame, Design((PLAIN,))).suites["s"].arms["random"]
    assert arm.seed_sd_trained is None
    recipe = parts_for(arm, claim="recipe", clusters=100, trained_seeds=5, baseline_seeds=5).variance()
    assert recipe == pytest.approx(2 * arm.seed_sd_baseline**2 / 5, rel=0.05)


def test_what_varies_in_an_unknown_way_is_left_out():
    frame = synthetic_scores.scores(seeds=1)
    assert variances_of(frame, synthetic_scores.design()).suites == {}
    lacking = frame[frame["arm"] != "trained"]
    assert variances_of(lacking, synthetic_scores.design()).suites == {}


def test_few_seeds_are_said():
    few = variances_of(synthetic_scores.scores(trained_seeds=2, seeds=3), synthetic_scores.design())
    assert few.suites["probing"].note == "2 trained seeds and 3 baseline seeds: the SDs over seeds are hardly known"


def test_components_survive_their_file():
    for frame, design in (
        (synthetic_scores.scores(trained_seeds=3), synthetic_scores.design()),
        (sampled_rows.rows(), Design((sampled_rows.SUITE,))),
    ):
        found = variances_of(frame, design)
        assert Variances.model_validate_json(found.model_dump_json()) == found


def test_published_components_are_those_of_the_published_report():
    """What the report of the run that they were taken from printed as its MDE must come out of them."""
    published = published_variances().suites
    assert set(published) >= {"reconstruction", "sparse_probing", "autointerp", "causal_editing", "synthetic"}
    assert all(suite.source.startswith("sae-sanity ") for suite in published.values())
    printed = {("reconstruction", "random"): "0.012", ("sparse_probing", "frozen_encoder@iso"): "0.034"}
    for (suite, arm), size in printed.items():
        assert f"{sees(parts_for(published[suite].arms[arm], claim='recipe')):.3f}" == size
