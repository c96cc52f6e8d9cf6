"""Two or three baseline seeds of a given SAE: a verdict must hold with the few degrees of freedom that they have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sae_sanity.results.compare import DF_AT_MOST, ENOUGH_SEEDS, compare
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.stats import ArmScores

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
    assert c.reason.endswith(f"{ENOUGH_SEEDS} seeds would do")


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
