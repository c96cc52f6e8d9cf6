from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_rows import ARMS, rows

from sae_sanity.results.synthetic import rate_edges, summarise, t_interval
from sae_sanity.results.synthetic_detail import SyntheticDetail

DRAWN = ["trained", "frozen_decoder@iso", "frozen_encoder@iso", "random", "soft_frozen@0.8", "@oracle", "@chance"]


def made(frame, **options):
    return summarise(frame, **{"world": "variable", "n_features": 600, "d_in": 100, "true_l0": 20.0} | options)


@pytest.fixture(scope="module")
def frame():
    return rows(n_features=600)


@pytest.fixture(scope="module")
def detail(frame):
    return made(frame)


def of(items, arm):
    return next(one for one in items if one.arm == arm)


def test_t_interval_against_scipy():
    values = np.random.default_rng(0).normal(0.4, 0.1, 7)
    mean, lo, hi = t_interval(values)
    ends = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (mean, lo, hi) == pytest.approx((values.mean(), ends.low, ends.high))
    assert t_interval([0.25]) == (0.25, None, None)


def test_every_bin_against_plain_pandas(frame, detail):
    world = frame[frame["metric"] == "firing_rate"].set_index("item")["value"]
    mine = frame[(frame["metric"] == "recovered_0.8") & (frame["arm"] == "random")]
    mine = pd.concat([mine, frame[(frame["metric"] == "recovered_0.8") & (frame["arm"] == "soft_frozen@0.8")]])
    mine = mine.assign(rate=mine["item"].map(world))
    for curve in (of(detail.curves, "random"), of(detail.curves, "soft_frozen@0.8")):
        for one in curve.bins:
            inside = mine[(mine["arm"] == curve.arm) & (mine["rate"] >= one.low) & (mine["rate"] < one.high)]
            worlds = inside.groupby("cluster")["value"].mean()
            assert (one.value, one.lo, one.hi) == pytest.approx(t_interval(worlds.to_numpy()))
            assert one.n_features == round(inside.groupby("cluster")["item"].nunique().mean())


def test_bins_meet_hold_everything_and_are_the_same_in_every_arm(frame, detail):
    assert [curve.arm for curve in detail.curves] == DRAWN
    bins = detail.curves[0].bins
    assert all(a.high == b.low for a, b in itertools.pairwise(bins))
    assert sum(one.n_features for one in bins) == pytest.approx(600, abs=len(bins))
    rates = frame.loc[frame["metric"] == "firing_rate", "value"]
    assert bins[0].low <= rates.min() < rates.max() <= bins[-1].high
    edges = {tuple((b.low, b.high) for b in c.bins) for c in (*detail.curves, *detail.matched_curves)}
    assert len(edges) == 1


def test_starts_of_a_world_are_averaged_before_worlds(frame):
    only = frame[(frame["arm"] != "random") | (frame["seed"] == 0)]
    doubled = pd.concat([only, only[only["arm"] == "random"].assign(seed=1)])
    assert of(made(only).curves, "random") == of(made(doubled).curves, "random")


@pytest.mark.parametrize(("n", "width"), [(3200, 0.25), (600, 0.5), (150, 1.0), (20, 1.0)])
def test_bins_are_as_fine_as_the_features_allow(n, width):
    rates = 10.0 ** np.random.default_rng(0).uniform(-5, -1, 3 * n)
    edges = np.log10(rate_edges(rates, n_worlds=3))
    assert np.diff(edges)[1:-1] == pytest.approx(width) if len(edges) > 3 else True
    counts = np.histogram(rates, 10.0**edges)[0] / 3
    assert counts.sum() == pytest.approx(n)
    assert min(counts[0], counts[-1]) >= 10 or len(counts) == 1


def test_a_constant_world_has_one_bin_and_all_of_its_features():
    detail = made(rows(n_features=200, constant=True), world="constant")
    assert [len(curve.bins) for curve in detail.curves] == [1] * len(DRAWN)
    one = detail.curves[0].bins[0]
    assert (one.low, one.high, one.n_features) == (0.00625, 0.00625, 200)
    assert one.value == pytest.approx(of(detail.scores, "trained").recovered_08)


def test_measured_rates_that_nearly_agree_are_one_bin():
    assert len(rate_edges(np.random.default_rng(0).normal(0.00625, 2e-4, 500))) == 2


def test_features_that_never_fire_have_no_bin(frame):
    silent = frame.copy()
    rates = silent["metric"].eq("firing_rate") & silent["value"].lt(1e-4)
    silent.loc[rates, "value"] = 0.0
    detail = made(silent)
    assert detail.curves[0].bins[0].low >= 10**-4.5
    assert of(detail.scores, "trained") == of(made(frame).scores, "trained"), "scores count them all"


def test_histograms_are_shares_of_numpys_counts(frame, detail):
    cosines = frame[(frame["metric"] == "best_cosine") & (frame["arm"] == "random")]
    one = of(detail.histograms, "random")
    counts = np.histogram(cosines["value"], np.array(one.edges))[0]
    assert one.shares == pytest.approx(counts / len(cosines))
    assert all(sum(h.shares) == pytest.approx(1) for h in detail.histograms)
    assert of(detail.histograms, "@oracle").shares[-1] == 1.0
    assert one.edges[0] == 0.0
    assert {len(h.edges) for h in detail.histograms} == {51}


def test_cosines_out_of_the_ordinary_stay_inside(frame):
    odd = frame.copy()
    cosines = odd.index[(odd["metric"] == "best_cosine") & (odd["arm"] == "trained")]
    odd.loc[cosines[0], "value"] = 1.0000002
    odd.loc[cosines[1], "value"] = -0.31
    one = of(made(odd).histograms, "trained")
    assert one.edges[0] == pytest.approx(-0.32)
    assert sum(one.shares) == pytest.approx(1)


def test_scores_against_plain_means(frame, detail):
    means = frame.groupby(["metric", "arm"])["value"].mean()
    for score in detail.scores:
        assert score.recovered_08 == pytest.approx(means["recovered_0.8", score.arm])
        assert score.mean_matched_cosine == pytest.approx(means["matched_cosine", score.arm])
        assert score.weighted_recovery == pytest.approx(means["weighted_recovery_0.8", score.arm])
        assert score.explained_variance == pytest.approx(means["explained_variance", score.arm])
        assert score.n_worlds == 3
    low, high = means["explained_variance", "@chance"], means["explained_variance", "@oracle"]
    trained = of(detail.scores, "trained")
    assert trained.normalised == pytest.approx((means["explained_variance", "trained"] - low) / (high - low))
    assert (of(detail.scores, "@chance").normalised, of(detail.scores, "@oracle").normalised) == (0, 1)
    assert (trained.explained_variance_ls, trained.lo < trained.explained_variance < trained.hi) == (None, True)
    assert of(detail.scores, "@oracle").explained_variance_omp == pytest.approx(0.939, abs=0.01)


def test_order_of_the_arms(frame, detail):
    assert [score.arm for score in detail.scores] == [*DRAWN, "@mean_direction", "permuted_decoder"]
    chosen = made(frame, arms=["random", "trained"])
    assert [score.arm for score in chosen.scores] == [curve.arm for curve in chosen.curves] == ["random", "trained"]


def test_chance_is_theory_where_given_else_measured(frame, detail):
    assert detail.chance_mean_cosine == pytest.approx(0.348, abs=0.002)
    assert made(frame, chance_mean_cosine=0.25).chance_mean_cosine == 0.25
    assert made(frame[frame["arm"] != "@chance"]).chance_mean_cosine is None


def test_what_was_not_measured_is_missing_and_nothing_raises(frame):
    without = made(frame[~frame["arm"].isin(["@world", "@chance", "@oracle"])])
    assert without.curves == without.matched_curves == ()
    assert {score.normalised for score in without.scores} == {None}
    bare = made(frame[frame["metric"] == "l0"])
    assert (bare.histograms, bare.scores[0].recovered_08, bare.scores[0].l0) == ((), None, 20.0)
    empty = made(frame.iloc[:0])
    assert (empty.n_worlds, empty.scores) == (0, ())


def test_rows_of_other_suites_are_not_read(frame, detail):
    foreign = frame.assign(suite="reconstruction", value=9.0)
    assert made(pd.concat([frame, foreign])) == detail


def test_one_world_has_no_intervals():
    detail = made(rows(n_features=100, worlds=1))
    assert detail.n_worlds == 1
    assert {(b.lo, b.hi) for curve in detail.curves for b in curve.bins} == {(None, None)}
    assert of(detail.scores, "trained").lo is None


def test_json_round_trip(detail):
    assert SyntheticDetail.model_validate_json(detail.model_dump_json()) == detail


def test_the_order_of_rows_does_not_matter(frame, detail):
    shuffled = made(frame.sample(frac=1, random_state=0))
    pairs = zip(shuffled.scores, detail.scores, strict=True)
    for first, second in pairs:
        ours, theirs = (one.model_dump(exclude={"arm"}, exclude_none=True) for one in (first, second))
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert [b.value for b in shuffled.curves[0].bins] == pytest.approx([b.value for b in detail.curves[0].bins])


def test_every_fake_arm_is_scored(detail):
    assert {score.arm for score in detail.scores} == set(ARMS)


def test_a_rate_on_an_edge_belongs_to_the_bin_above_it():
    frame = rows(n_features=400, worlds=1)
    rates = frame.index[frame["metric"] == "firing_rate"]
    frame.loc[rates[:200], "value"], frame.loc[rates[200:], "value"] = 0.002, 0.01
    bins = made(frame).curves[0].bins
    assert [(one.low, one.n_features) for one in bins] == [(pytest.approx(10**-2.75), 200), (0.01, 200)]
