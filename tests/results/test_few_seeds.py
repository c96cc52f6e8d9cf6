"""Two or three baseline seeds of a given SAE: a verdict must hold with the few degrees of freedom that they have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from sae_sanity.results.compare import compare
from sae_sanity.results.few_seeds import DF_AT_MOST, ENOUGH_SEEDS, FewSeeds, reach_of
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.stats import ArmScores, Components, SaeMean, clusters_needed, mde, two_sample

MARGIN = 0.02


def arm(values, name="x"):
    index = pd.MultiIndex.from_tuples([(f"c{g}", "i") for g in range(len(values))], names=["cluster", "item"])
    return ArmScores(name, pd.DataFrame(np.asarray(values, dtype=float), index=index))


def versus(ours, theirs, **options):
    options = {"metric": "m", "arm": "random", "required": True, "margin": MARGIN} | options
    return compare(arm(ours), arm(theirs), rng=np.random.default_rng(0), n_resamples=99, **options)


def tables(seeds, *, trained=1, difference=0.0, spread=0.02, clusters=30):
    rng = np.random.default_rng([seeds, trained])
    ours = 0.7 + difference + rng.normal(0, spread, (clusters, 1)) + np.zeros((1, trained))
    return ours + rng.normal(0, 1e-3, ours.shape), 0.7 + rng.normal(0, 0.002, (clusters, seeds))


def centred(seeds, difference, **options):
    """The same with the estimate exactly where it is wanted."""
    ours, theirs = tables(seeds, **options)
    return versus(ours + difference - (ours.mean() - theirs.mean()), theirs)


def at_df(c, df):
    """scipy's own interval of the same estimate."""
    return stats.t.interval(0.9, df, loc=c.estimate.difference, scale=c.estimate.standard_error)


@pytest.mark.parametrize(("seeds", "df"), sorted(DF_AT_MOST.items()))
def test_an_interval_above_zero_that_the_seeds_cannot_carry_is_inconclusive(seeds, df):
    e = centred(seeds, 0.0).estimate
    between = (stats.t.isf(0.05, e.df) + stats.t.isf(0.05, df)) / 2
    c = centred(seeds, e.standard_error * between)
    assert c.estimate.df > df
    assert c.estimate.lo > 0
    assert at_df(c, df)[0] < 0
    assert c.verdict is Verdict.INCONCLUSIVE
    assert c.reason.startswith(f"{seeds} baseline seeds show too little")
    assert "{:+.4f} to {:+.4f}".format(*at_df(c, df)) in c.reason
    assert c.reason.endswith(f"from {ENOUGH_SEEDS} seeds on the interval alone decides")


@pytest.mark.parametrize("seeds", [2, 3])
@pytest.mark.parametrize(("difference", "verdict"), [(0.2, Verdict.BEATS), (-0.2, Verdict.WORSE)])
def test_a_difference_that_is_clear_all_the_same_keeps_its_verdict(seeds, difference, verdict):
    c = centred(seeds, difference)
    assert c.verdict is verdict
    assert c.reason == ""


def test_equivalence_must_hold_as_well():
    wide, narrow = (centred(2, 0.0, spread=spread) for spread in (0.03, 0.001))
    assert max(-wide.estimate.lo, wide.estimate.hi) < MARGIN
    assert (wide.verdict, narrow.verdict) == (Verdict.INCONCLUSIVE, Verdict.EQUIVALENT)


def test_what_was_inconclusive_anyway_gets_no_second_reason():
    c = centred(2, 0.001, spread=0.2)
    assert (c.verdict, c.reason) == (Verdict.INCONCLUSIVE, "")


@pytest.mark.parametrize(("seeds", "trained"), [(ENOUGH_SEEDS, 1), (2, 3), (3, 3)])
def test_enough_seeds_and_recipes_are_judged_by_the_interval_alone(seeds, trained):
    c = centred(seeds, 0.0, trained=trained)
    error = c.estimate.standard_error
    c = centred(seeds, error * stats.t.isf(0.05, c.estimate.df) * 1.05, trained=trained)
    assert c.estimate.lo > 0
    assert c.reason == ""
    assert c.verdict is Verdict.NEGLIGIBLE if c.estimate.hi < MARGIN else Verdict.BEATS


def test_scores_that_agree_exactly_are_no_luck():
    c = versus(np.full((5, 1), 0.7), np.full((5, 2), 0.7))
    assert (c.verdict, c.reason) == (Verdict.EQUIVALENT, "")


@pytest.mark.parametrize(("seeds", "df"), sorted(DF_AT_MOST.items()))
def test_what_a_given_sae_s_run_could_find_is_what_its_verdict_may_rest_on(seeds, df):
    """The noncentral t of statsmodels at the capped degrees of freedom, for one more observation than those."""
    e = centred(seeds, 0.0).estimate
    assert e.df > df
    power = TTestPower().power(e.mde / e.standard_error / np.sqrt(df + 1), df + 1, 0.05, alternative="larger")
    assert power == pytest.approx(0.8, abs=1e-6)


def test_two_seeds_see_much_less_than_their_interval_says():
    e = centred(2, 0.0).estimate
    assert e.mde > 2.5 * mde(e.standard_error, e.df)


@pytest.mark.parametrize(("seeds", "trained"), [(ENOUGH_SEEDS, 1), (2, 3), (3, 3)])
def test_enough_seeds_and_recipes_see_what_their_interval_sees(seeds, trained):
    e = centred(seeds, 0.0, trained=trained).estimate
    assert e.mde == mde(e.standard_error, e.df)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.001, 0.02])
def test_fewer_than_enough_seeds_are_never_advised(seeds, spread):
    """However clear the difference: with fewer the verdict would have to hold with the few degrees of freedom too."""
    e = centred(seeds, 0.0, spread=spread).estimate
    assert e.seeds_needed is None or e.seeds_needed >= ENOUGH_SEEDS
    assert centred(seeds, 0.0, spread=0.001).estimate.seeds_needed == ENOUGH_SEEDS


def test_more_clusters_do_not_help_what_two_seeds_cannot_show():
    """Their number is that at which the margin is found with a single degree of freedom."""
    ours, theirs = tables(2, spread=0.02)
    parts = Components(30, 2, 1, 0.0004, 1e-6, 1e-6)
    assert clusters_needed(FewSeeds(parts, 2), margin=MARGIN) > 3 * clusters_needed(parts, margin=MARGIN)
    found = versus(ours, theirs).estimate.clusters_needed
    assert found is None or found > 30


def test_latents_that_are_sampled_are_held_to_the_same():
    rng = np.random.default_rng(5)
    saes = [SaeMean(0.6 + rng.normal(0, 0.001), 1e-4, 300.0, 300) for _ in range(3)]
    result = two_sample(saes[:1], saes[1:])
    assert result.df > 1
    reach = reach_of(result, result.sides, seeds=2, given=True, margin=MARGIN)
    assert reach.mde == mde(result.standard_error, 1.0)
    assert reach_of(result, result.sides, seeds=2, given=False, margin=MARGIN).mde == mde(
        result.standard_error, result.df
    )
