from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from synthetic_scores import scores

from sae_sanity.results.compare import compare, iut_p
from sae_sanity.results.design import ArmFacts
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.stats import arm_scores, crossed_t


def arm(frame, name, metric="accuracy"):
    return arm_scores(frame[(frame["arm"] == name) & (frame["metric"] == metric)], name)


def versus(frame, name="random", *, ours=None, theirs=None, **options):
    options = {"metric": "accuracy", "arm": name, "required": True, "margin": 0.02} | options
    ours, theirs = ours or arm(frame, "trained"), theirs or arm(frame, name)
    return compare(ours, theirs, rng=np.random.default_rng(0), **options)


def test_a_clear_difference_beats_and_every_number_is_that_of_its_oracle():
    frame = scores()
    comparison = versus(frame)
    table = frame[frame["metric"] == "accuracy"].groupby(["arm", "cluster", "seed"])["value"].mean()
    ours, theirs = table["trained"].unstack(), table["random"].unstack()
    d = (ours.mean(axis=1) - theirs.mean(axis=1)).to_numpy()
    result = crossed_t(ours.to_numpy(), theirs.to_numpy())
    e = comparison.estimate
    assert comparison.verdict is Verdict.BEATS
    assert (e.difference, e.lo, e.hi, e.p_crossed) == pytest.approx(
        (result.estimate, result.lo, result.hi, result.pvalue)
    )
    assert e.p_signflip == pytest.approx(2.0**-12)
    assert e.p_wilcoxon == stats.wilcoxon(d, alternative="greater").pvalue
    assert e.d_z == pytest.approx(d.mean() / d.std(ddof=1))
    assert e.superiority == 1
    assert e.mde == pytest.approx(2.6 * e.standard_error, rel=0.15)
    assert (e.n_clusters, e.n_trained, e.n_baseline) == (12, 1, 5)
    assert comparison.reason == ""


def test_equal_arms_are_equivalent_and_a_worse_one_is_worse():
    assert versus(scores(0.6)).verdict is Verdict.EQUIVALENT
    assert versus(scores(0.55)).verdict is Verdict.WORSE


def test_an_arm_against_itself_differs_by_exactly_nothing():
    frame = scores()
    copy = arm(frame[frame["arm"] == "random"], "random")
    e = versus(frame, ours=copy, theirs=copy).estimate
    assert (e.difference, e.superiority, e.p_signflip, e.p_wilcoxon, e.d_z) == (0, 0.5, 1, 1, None)


def test_three_trained_seeds_make_it_a_recipe_claim():
    assert versus(scores(trained_seeds=2)).claim == "artefact"
    assert versus(scores(trained_seeds=3)).claim == "recipe"


def test_one_baseline_seed_is_inconclusive_with_the_reason():
    comparison = versus(scores(seeds=1))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert "one baseline seed" in comparison.reason
    assert comparison.estimate.lo is None
    assert iut_p(comparison.estimate) is None
    assert comparison.estimate.difference == pytest.approx(0.1, abs=0.02)


def test_one_cluster_is_inconclusive_with_the_reason():
    comparison = versus(scores(clusters=1))
    assert comparison.verdict is Verdict.INCONCLUSIVE
    assert "one cluster" in comparison.reason


def test_items_that_one_arm_lacks_make_it_invalid_and_are_never_dropped():
    frame = scores()
    torn = frame[~((frame["arm"] == "random") & (frame["item"] == "i2") & (frame["cluster"] == "c03"))]
    comparison = versus(torn)
    assert comparison.verdict is Verdict.INVALID
    assert comparison.estimate is None
    assert comparison.reason == "items differ: 1 only in trained, 0 only in random, 35 in both"


def test_an_item_that_one_seed_lacks_makes_it_invalid():
    frame = scores()
    lacking = (frame["arm"] == "random") & (frame["item"] == "i0") & (frame["seed"] == 2)
    assert versus(frame[~lacking]).reason == "random: of 36 items seed 2 lacks 12"


@pytest.mark.parametrize("which", ["trained", "random"])
def test_unmatched_l0_in_either_arm_carries_no_verdict(which):
    matched = ArmFacts("other", 0, 20.9, 20.0, 0.0)
    comparison = versus(scores(), facts=[matched, ArmFacts(which, 3, 21.1, 20.0, 0.0)])
    assert comparison.verdict is Verdict.INVALID
    assert comparison.reason == f"unmatched L0: {which} seed 3 has 21.1, target 20"
    assert comparison.estimate is not None, "the numbers are still shown"


def test_an_arm_without_rows_is_invalid():
    assert compare(
        arm(scores(), "trained"), None, metric="m", arm="gone", required=True, margin=0.1, rng=np.random.default_rng()
    ).reason == ("no scores of gone")


def test_the_p_is_never_smaller_than_either_test():
    for seed in range(5):
        e = versus(scores(0.605, rng=seed)).estimate
        assert iut_p(e) == max(e.p_signflip, e.p_crossed)
