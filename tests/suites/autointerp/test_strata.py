from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sae_sanity.suites.autointerp.strata import allocate, choose, in_steps, strata_edges, stratum_of
from sae_sanity.suites.autointerp.survey import Survey

N_TOKENS = 100_000
COUNTS = st.lists(st.one_of(st.integers(0, 20), st.integers(15, N_TOKENS // 2)), min_size=1, max_size=80)


def make_survey(counts, lacking=()):
    """A survey in which the latents of some numbers do not have the windows to be shown."""
    askable = ~np.isin(np.arange(len(counts)), list(lacking))
    return Survey(N_TOKENS, np.array(counts, dtype=np.int64), np.ones(len(counts), dtype=np.float32), askable)


def log_uniform(n, low, high, seed):
    return make_survey((N_TOKENS * 10 ** np.random.default_rng(seed).uniform(low, high, n)).astype(int))


@given(
    st.lists(COUNTS, min_size=1, max_size=5),
    st.sets(st.integers(0, 80)),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_what_always_holds(counts, lacking, n_latents, n_strata, seed):
    surveys = [make_survey(each, lacking) for each in counts]
    found = choose(surveys, n_latents, seed=seed, n_strata=n_strata)
    edges = np.array(found.edges)
    assert len(edges) <= n_strata + 1
    assert (np.diff(edges) > 0).all() or len(edges) == 2
    for survey, choice in zip(surveys, found.choices, strict=True):
        alive = survey.counts >= 15
        # nobody is lost
        assert sum(choice.mix) + choice.outside + choice.ineligible + choice.dead == len(survey.counts)
        assert choice.dead == (~alive).sum()
        assert choice.ineligible == (alive & ~survey.askable).sum()
        # as many as there are, each once, each in the stratum it is said to be from
        assert len(choice.latents) == len(choice.strata) == min(n_latents, sum(choice.mix))
        assert len(set(choice.latents)) == len(choice.latents)
        drawn = np.bincount(np.array(choice.strata, dtype=int), minlength=len(choice.mix))
        assert (drawn <= np.array(choice.mix, dtype=int)).all()
        for latent, stratum in zip(choice.latents, choice.strata, strict=True):
            assert alive[latent]
            assert survey.askable[latent]
            assert edges[stratum] <= np.log10(survey.counts[latent] / N_TOKENS) <= edges[stratum + 1]


@given(st.lists(COUNTS, min_size=1, max_size=4), st.integers(0, 3))
def test_equal_surveys_get_equal_latents(counts, seed):
    first, *others = [make_survey(each) for each in counts]
    found = choose([first, *others, make_survey(counts[0])], 20, seed=seed).choices
    assert found[0] == found[-1]


@given(st.lists(COUNTS, min_size=1, max_size=4), st.randoms())
def test_the_order_of_the_saes_says_nothing(counts, rng):
    surveys = [make_survey(each) for each in counts]
    order = list(range(len(surveys)))
    rng.shuffle(order)
    plain, mixed = choose(surveys, 15, seed=1), choose([surveys[i] for i in order], 15, seed=1)
    assert plain.edges == mixed.edges
    assert [plain.choices[i] for i in order] == list(mixed.choices)


def test_every_sae_has_enough_in_every_stratum():
    surveys = [log_uniform(400, -3.7, -1, 0), log_uniform(300, -3, -0.5, 1), log_uniform(3000, -3.5, -2, 2)]
    found = choose(surveys, 100, seed=0, n_strata=12, at_least=10)
    assert len(found.edges) > 3
    assert all(n >= 10 for choice in found.choices for n in choice.mix)
    rates = [np.log10(s.firing_rate[s.counts >= 15]) for s in surveys]
    assert found.edges[0] == max(r.min() for r in rates)
    assert found.edges[-1] == min(r.max() for r in rates)


def test_all_saes_get_the_same_mix_where_they_can():
    surveys = [log_uniform(4000, -3, -1, seed) for seed in range(3)]
    strata = [np.bincount(choice.strata) for choice in choose(surveys, 200, seed=0).choices]
    assert strata[0].tolist() == strata[1].tolist() == strata[2].tolist()
    assert strata[0].sum() == 200
    # log-uniform rates fill equal bins equally
    assert strata[0].min() >= 20


def test_an_sae_without_alive_latents_takes_nothing_from_the_others():
    alone = choose([log_uniform(300, -3, -1, 0)], 50, seed=0)
    beside = choose([log_uniform(300, -3, -1, 0), make_survey([0, 3, 14])], 50, seed=0)
    assert alone.edges == beside.edges
    assert alone.choices[0] == beside.choices[0]
    assert beside.choices[1].dead == 3
    assert beside.choices[1].latents == ()


def test_latents_that_cannot_be_asked_about_decide_nothing():
    """Neither the overlap, nor the strata, nor the mix: it is as if they were not there."""
    whole = log_uniform(600, -3, -1, 0)
    rare = set(np.flatnonzero(whole.counts < 1000).tolist())
    other = log_uniform(600, -3.5, -1, 1)
    with_them = choose([make_survey(whole.counts, rare), other], 60, seed=3)
    without = choose([make_survey(whole.counts[whole.counts >= 1000]), other], 60, seed=3)
    assert with_them.edges == without.edges
    assert with_them.edges[0] >= -2
    mine, theirs = with_them.choices[0], without.choices[0]
    assert (mine.mix, mine.strata, mine.ineligible) == (theirs.mix, theirs.strata, len(rare))
    assert not set(mine.latents) & rare


def test_without_an_overlap_nothing_is_drawn():
    found = choose([make_survey([20, 30, 2]), make_survey([400, 500])], 5, seed=0)
    assert found.edges == ()
    assert [(c.latents, c.outside, c.dead) for c in found.choices] == [((), 2, 1), ((), 2, 0)]


def test_another_seed_draws_others():
    survey = log_uniform(500, -3, -1, 0)
    assert choose([survey], 50, seed=0) != choose([survey], 50, seed=1)


def test_draws_are_uniform_inside_a_stratum():
    survey = make_survey([100] * 10)
    hits = np.zeros(10)
    for seed in range(2000):
        hits[list(choose([survey], 3, seed=seed).choices[0].latents)] += 1
    assert np.abs(hits - 600).max() < 5 * np.sqrt(2000 * 0.3 * 0.7)


def test_edges_by_hand():
    one, other = np.array([-4.0, -3.9, -2.1, -2.0, -1.9, -1.0]), np.array([-4.0, -3.2, -3.1, -1.5, -1.2, -1.0])
    # thirds are -3 and -2: the middle third holds -2.1 alone, and none of the other
    assert strata_edges([one, other], 3, 2).tolist() == [-4, -3, -1]
    assert strata_edges([one, other], 3, 7).tolist() == [-4, -1]
    assert stratum_of(np.array([-4.1, -4.0, -3.0, -1.0, -0.9, np.nan]), np.array([-4.0, -3, -1])).tolist() == [
        -1,
        0,
        1,
        1,
        -1,
        -1,
    ]


@given(st.lists(st.tuples(st.floats(0.01, 1), st.integers(0, 30)), min_size=1, max_size=8), st.integers(0, 60))
def test_allocation(strata, total):
    weights, room = (np.array(each) for each in zip(*strata, strict=True))
    share = allocate(weights / weights.sum(), room, total)
    assert share.sum() == min(total, room.sum())
    assert (share <= room).all()
    if total >= 2 * len(room):
        assert (share >= np.minimum(2, room)).all()


def test_allocation_by_hand():
    assert allocate(np.array([0.5, 0.3, 0.2]), np.array([99, 99, 99]), 10).tolist() == [5, 3, 2]
    assert allocate(np.array([0.9, 0.1]), np.array([3, 99]), 10).tolist() == [3, 7]
    assert allocate(np.array([0.98, 0.02]), np.array([99, 99]), 20).tolist() == [18, 2]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="n_latents is 0"):
        choose([make_survey([20])], 0, seed=0)


# step by step


@given(st.lists(COUNTS, min_size=1, max_size=4), st.sets(st.integers(0, 80)), st.integers(1, 40), st.integers(0, 3))
def test_what_always_holds_of_steps(counts, lacking, n_latents, seed):
    surveys = [make_survey(each, lacking) for each in counts]
    found = in_steps(surveys, n_latents, seed=seed)
    walked = [choice for choice in found.choices if sum(choice.mix)]
    # step k is of the same stratum for every SAE that takes one
    assert len({choice.strata for choice in walked}) <= 1
    assert all(not choice.latents for choice in found.choices if not sum(choice.mix))
    for survey, choice in zip(surveys, found.choices, strict=True):
        assert len(set(choice.latents)) == len(choice.latents) == len(choice.strata) <= n_latents
        rates = np.log10(survey.firing_rate[list(choice.latents)])
        assert stratum_of(rates, np.array(found.edges)).tolist() == list(choice.strata)
        assert survey.askable[list(choice.latents)].all()
    if walked and len(walked[0].latents) < n_latents:
        drawn = np.bincount(walked[0].strata, minlength=len(walked[0].mix))
        assert any((drawn == np.array(choice.mix)).any() for choice in walked), "it ends only where one is used up"


def test_steps_follow_the_mean_mix_whoever_has_most_latents():
    """By chi square; where one SAE has no more latents the steps end."""
    surveys = [log_uniform(4000, -3, -1, 0), make_survey(np.r_[np.full(300, 200), np.full(9000, 9000)])]
    found = in_steps(surveys, 4000, seed=3)
    assert [len(choice.latents) for choice in found.choices] == [sum(found.choices[0].mix)] * 2
    found = in_steps(surveys, 150, seed=3)
    shares = np.mean([np.array(choice.mix) / sum(choice.mix) for choice in found.choices], axis=0)
    drawn = np.bincount(found.choices[0].strata, minlength=len(shares))
    some = shares > 0
    assert drawn.sum() == 150
    assert stats.chisquare(drawn[some], 150 * shares[some]).pvalue > 0.001


def test_fewer_steps_are_the_beginning_of_more_where_the_strata_are_the_same():
    surveys = [log_uniform(3000, -3, -1, i) for i in range(3)]
    short, long = (in_steps(surveys, n, seed=1) for n in (160, 167))
    assert short.edges == long.edges
    assert [c.latents for c in short.choices] == [c.latents[:160] for c in long.choices]
    assert (
        in_steps([surveys[0], *surveys], 160, seed=1).choices[0]
        == in_steps([*surveys, surveys[0]], 160, seed=1).choices[0]
    )


def test_steps_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="both must be at least 1"):
        in_steps([log_uniform(50, -3, -1, 0)], 0, seed=0)
    assert in_steps([], 5, seed=0).choices == ()
