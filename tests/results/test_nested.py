"""Starts nested in worlds: worlds are the replicates, whatever the starts are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from synthetic_rows import ARMS, SUITE, Fake, design, facts, rows

from sae_sanity.results.advice import advice
from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.compare import compare, unmatched
from sae_sanity.results.design import ArmFacts, Design
from sae_sanity.results.gate import run_gate
from sae_sanity.results.outcome import Manifest, Verdict
from sae_sanity.results.stats import ArmScores, arm_scores, paired_t

NOISY = {"trained": Fake(0.7, -2.0, starts=2), "random": Fake(0.6, -1.9, starts=3)}


def table(values, arm="x"):
    """World means, (worlds, starts), as the scores of an arm with one item in each world."""
    index = pd.MultiIndex.from_tuples([(f"world-{w}", "i") for w in range(len(values))], names=["cluster", "item"])
    return ArmScores(arm, pd.DataFrame(np.asarray(values, dtype=float), index=index))


def versus(ours, theirs, *, margin=0.05, **options):
    rng = np.random.default_rng(0)
    options = {"metric": "m", "arm": "random", "required": True, "nested": True} | options
    return compare(ours, theirs, margin=margin, rng=rng, **options)


def arms(frame, metric="matched_cosine"):
    mine = frame[frame["metric"] == metric]
    return {arm: arm_scores(group, arm) for arm, group in mine.groupby("arm")}


def checks(frame, suite=SUITE):
    tables = {key: arm_scores(group, key[1]) for key, group in frame.groupby(["metric", "arm"])}
    return {check.name: check for check in run_gate(tables, suite, trained="trained")}


@pytest.fixture(scope="module")
def small():
    return rows(n_features=200, worlds=4)


def test_against_scipys_paired_t_over_world_means():
    frame = rows(n_features=150, worlds=5, arms=NOISY, start_sd=0.05)
    means = frame[frame["metric"] == "matched_cosine"].groupby(["arm", "cluster"])["value"].mean()
    result = stats.ttest_rel(means["trained"], means["random"])
    ends = result.confidence_interval(0.9)
    e = versus(arms(frame)["trained"], arms(frame)["random"]).estimate
    assert (e.lo, e.hi) == pytest.approx((ends.low, ends.high), abs=1e-12)
    greater = stats.ttest_rel(means["trained"], means["random"], alternative="greater").pvalue
    assert (e.p_crossed, e.df) == pytest.approx((greater, 4))
    assert (e.n_clusters, e.n_trained, e.n_baseline, e.seeds_needed) == (5, 2, 3, None)


def test_what_a_start_is_called_in_its_world_means_nothing():
    frame = rows(n_features=60, worlds=4, arms=NOISY, start_sd=0.1)
    renamed = frame.copy()
    odd = renamed["cluster"].isin(["world-101", "world-103"]) & renamed["arm"].eq("random")
    renamed.loc[odd, "seed"] = renamed.loc[odd, "seed"].map({0: 2, 1: 0, 2: 1})
    first, second = (versus(arms(f)["trained"], arms(f)["random"]).estimate for f in (frame, renamed))
    ours, theirs = (one.model_dump(exclude_none=True) for one in (first, second))
    assert ours == pytest.approx(theirs, rel=1e-9)
    crossed = [versus(arms(f)["trained"], arms(f)["random"], nested=False).estimate.lo for f in (frame, renamed)]
    assert crossed[0] != pytest.approx(crossed[1]), "the crossed t does depend on it, so it would be wrong here"


def test_worlds_needed_against_statsmodels():
    rng = np.random.default_rng(3)
    d = rng.normal(0.01, 0.08, (6, 1))
    e = versus(table(0.5 + d), table(np.full((6, 2), 0.5))).estimate
    effect = 0.05 / d.std(ddof=1)
    n = TTestPower().solve_power(effect, power=0.8, alpha=0.05, alternative="larger")
    assert e.clusters_needed == int(np.ceil(n))
    assert e.mde > 0.05


@pytest.mark.parametrize(("worlds", "claim"), [(2, "artefact"), (3, "recipe"), (8, "recipe")])
@pytest.mark.parametrize("starts", [1, 4])
def test_the_claim_is_about_the_recipe_from_three_worlds_on(worlds, claim, starts):
    comparison = versus(table(np.full((worlds, starts), 0.5)), table(np.zeros((worlds, 1))))
    assert (comparison.claim, comparison.nested) == (claim, True)


def test_one_world_is_inconclusive_with_the_reason():
    comparison = versus(table([[0.9, 0.8, 0.85]]), table([[0.1, 0.2, 0.1]]))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert comparison.reason == "one world: how much another world would differ is not known"
    assert comparison.estimate.lo is None


def test_one_start_of_the_baseline_is_enough():
    ours = table([[0.5], [0.52], [0.51]])
    assert versus(ours, table([[0.3], [0.31], [0.32]])).verdict is Verdict.BEATS
    assert "one baseline seed" in versus(ours, table([[0.3], [0.31], [0.32]]), nested=False).reason


def test_a_whole_run_beats_and_speaks_of_worlds(small):
    (suite,) = analyse(small, design(small))
    assert suite.verdict is Verdict.BEATS
    assert all(check.passed for check in suite.gate), suite.gate
    assert [c.nested for c in suite.comparisons] == [True] * 4
    summary = {arm.arm: arm for arm in suite.arms}
    assert (summary["random"].seeds, summary["trained"].l0, summary["trained"].matched) == (5, 20.0, True)
    assert (summary["@mean_direction"].role, summary["@oracle"].role) == ("chance", "ceiling")
    manifest = Manifest(command="x", config_hash="0", settings={}, versions={}, hashes={})
    result = conclude([suite], target="a recipe", manifest=manifest)
    assert (result.claim, result.verdict) == ("recipe", "PASS")
    assert not [line for line in result.advice if "seed" in line]


def test_a_given_saes_recipe_is_not_asked_for_twice(small):
    (suite,) = analyse(small, replace(design(small), recipe="retrained"))
    assert suite.recipe is None


def test_l0_is_looked_up_by_world(small):
    off = Design(suites=(SUITE,), facts=facts(small, off={("random", "world-102")}))
    (suite,) = analyse(small, off)
    reason = next(c.reason for c in suite.comparisons if c.baseline == "random")
    assert reason.startswith("unmatched L0: random world-102 start 0 has 30, target 20; random world-102 start 1")
    assert "world-101" not in reason
    known = tuple(fact for fact in facts(small) if fact.cluster != "world-103")
    (suite,) = analyse(small, Design(suites=(SUITE,), facts=known))
    assert "trained world-103 start 0 has not been measured" in suite.reason
    assert unmatched([ArmFacts("a", 1, 30.0, 20.0, 0.0)]) == "unmatched L0: a seed 1 has 30, target 20"


def test_range_takes_the_larger_of_worlds_and_starts():
    worlds = table([[0.1, 0.1], [0.3, 0.3], [0.5, 0.5]])
    assert worlds.reseed_sd(nested=True) == pytest.approx(0.2)
    assert worlds.reseed_sd() == worlds.seed_sd == 0
    starts = table([[0.1, 0.5], [0.5, 0.1]])
    assert starts.reseed_sd(nested=True) == pytest.approx(np.std([0.1, 0.5], ddof=1))
    assert starts.reseed_sd() == pytest.approx(0), "start labels average out over worlds"
    assert table([[0.5]]).reseed_sd(nested=True) is None


def test_range_fails_where_worlds_differ_as_much_as_ceiling_and_floor():
    frame = rows(n_features=80)
    assert checks(frame)["range"].passed
    shifts = frame["cluster"].map({"world-101": 0.0, "world-102": 0.3, "world-103": 0.6})
    frame.loc[frame["arm"] == "random", "value"] += shifts[frame["arm"] == "random"]
    assert not checks(frame)["range"].passed
    one = rows(n_features=80, worlds=1, arms={k: replace(v, starts=1) for k, v in ARMS.items()})
    assert checks(one)["range"].detail == "no arm has two worlds or starts, so reseeding is unknown"


def test_a_permuted_decoder_loses_in_one_metric_and_equals_in_the_other(small):
    check = checks(small)["controls"]
    assert check.passed
    assert "trained above permuted_decoder: +0.9" in check.detail
    assert "permuted_decoder equals trained: largest difference 0" in check.detail
    assert not checks(small, replace(SUITE, control_metric=""))["controls"].passed


@pytest.mark.parametrize(("metric", "by"), [("matched_cosine", 1e-16), ("explained_variance", 2.0)])
def test_controls_fail_where_either_is_not_so(small, metric, by):
    frame = small.copy()
    touched = frame["arm"].eq("permuted_decoder") & frame["metric"].eq(metric)
    frame.loc[touched, "value"] = (
        frame.loc[touched, "value"] + by if by > 1 else np.nextafter(frame.loc[touched, "value"], 1)
    )
    assert not checks(frame)["controls"].passed


def test_seeds_holds_one_start_against_the_others_over_worlds():
    frame = rows(n_features=80, worlds=6)
    assert checks(frame)["seeds"].passed
    lucky = frame["arm"].eq("random") & frame["seed"].eq(3) & frame["metric"].eq("matched_cosine")
    frame.loc[lucky, "value"] += 0.1
    check = checks(frame)["seeds"]
    assert not check.passed
    assert check.detail.startswith("random: best start 3 against the other 4: +0.0998")
    assert check.detail.endswith("; starts that beat the others: 3")


def test_seeds_needs_two_starts_and_two_worlds():
    single = {name: replace(fake, starts=1) for name, fake in ARMS.items()}
    assert checks(rows(n_features=50, arms=single))["seeds"].detail == (
        "random has 1 start(s); holding one against the others takes 2"
    )
    two = single | {"random": replace(ARMS["random"], starts=2)}
    assert checks(rows(n_features=50, arms=two))["seeds"].passed
    assert "one world" in checks(rows(n_features=50, worlds=1))["seeds"].detail


def test_advice_asks_for_worlds():
    frame = rows(n_features=60, worlds=2, arms=ARMS | {"trained": Fake(0.7, -1.6)}, world_sd=0.08)
    (suite,) = analyse(frame, design(frame))
    text = " ".join(advice([suite]))
    assert "baseline seed" not in text
    assert "clusters" not in text
    assert "The verdict is about these worlds; three or more worlds would let it speak of the recipe." in text
    unsure = versus(table([[0.5], [0.7], [0.51]]), table([[0.5], [0.5], [0.52]]))
    told = " ".join(advice([suite.model_copy(update={"comparisons": (unsure,), "gate": ()})]))
    assert f"about {unsure.estimate.clusters_needed} worlds (have 3) would resolve a difference of 0.05" in told
    one = versus(table([[0.5]]), table([[0.4]]))
    told = " ".join(advice([suite.model_copy(update={"comparisons": (one,), "gate": ()})]))
    assert "is not known; measure at least 3 worlds" in told


@pytest.mark.parametrize(("worlds", "said"), [(3, True), (5, False)])
def test_advice_says_when_signs_alone_keep_p_large(worlds, said):
    frame = rows(n_features=60, worlds=worlds)
    (suite,) = analyse(frame, design(frame))
    line = "the sign-flip p of 3 worlds cannot be below 0.125, however clear the difference; 5 worlds can reach 0.0312."
    assert suite.verdict is Verdict.BEATS
    assert any(line in one for one in advice([suite])) is said


WILD = 0.4


def null_arm(rng, base, wildness, starts):
    """World means of one arm: what the world shares, the arm's own luck in it, starts; worlds differ in noise."""
    own = rng.normal(0, 0.02, len(base)) * wildness
    return (base + own)[:, None] + rng.standard_t(5, (len(base), starts)) * 0.02 * wildness[:, None]


def null_pair(rng, worlds, starts):
    base, wildness = rng.normal(0.4, 0.1, worlds), np.exp(rng.normal(0, WILD, worlds))
    return null_arm(rng, base, wildness, 1), null_arm(rng, base, wildness, starts)


@pytest.mark.parametrize("worlds", [3, 4, 5, 8])
@pytest.mark.parametrize("starts", [1, 3])
def test_false_beats_of_the_interval_under_the_null(worlds, starts):
    """The generator makes what the test does not assume: heavy tails, noise that differs between worlds."""
    rng = np.random.default_rng([worlds, starts])
    results = [paired_t(*null_pair(rng, worlds, starts)) for _ in range(3000)]
    assert np.mean([t.lo > 0 for t in results]) <= 0.06
    assert np.mean([t.lo <= 0 <= t.hi for t in results]) >= 0.89


@pytest.mark.parametrize(("worlds", "starts"), [(3, 1), (8, 3)])
def test_false_beats_of_the_whole_comparison_under_the_null(worlds, starts):
    rng = np.random.default_rng([7, worlds, starts])
    pairs = (null_pair(rng, worlds, starts) for _ in range(600))
    verdicts = [versus(table(ours), table(theirs), margin=0.01).verdict for ours, theirs in pairs]
    assert np.mean([verdict is Verdict.BEATS for verdict in verdicts]) <= 0.06
