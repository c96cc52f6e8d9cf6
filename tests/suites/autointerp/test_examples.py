"""Windows that are shown; that SAEBench's own are chosen as SAEBench does is in `test_parity.py`."""

from __future__ import annotations

import random

import jaxtyping
import numpy as np
import pytest
import torch
from sae_bench.sae_bench_utils.indexing_utils import get_k_largest_indices

from sae_sanity.suites.autointerp import examples
from sae_sanity.suites.autointerp.examples import Layout, Missing, gather
from sae_sanity.suites.autointerp.latent import Latent
from sae_sanity.suites.autointerp.strata import Choice
from sae_sanity.suites.autointerp.survey import Corpus, Firings, Survey

SMALL = Layout(buffer=3, n_balanced=20)
WIDTH, DOCS = 40, 150


@pytest.fixture(scope="module")
def corpus():
    """Texts of different lengths; token ids tell document and position."""
    lengths = torch.randint(5, WIDTH + 1, (DOCS,), generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(DOCS * WIDTH).view(DOCS, WIDTH) + 1
    return Corpus(tokens * (torch.arange(WIDTH) < lengths[:, None]), lengths)


def fire(corpus, *rates, seed=1):
    """Latents that fire at random places at these rates, never at BOS or on padding."""
    generator = torch.Generator().manual_seed(seed)
    cells, values = [], []
    for rate in rates:
        acts = torch.rand(corpus.tokens.shape, generator=generator)
        on = torch.rand(corpus.tokens.shape, generator=generator) < rate
        acts = acts * on * (corpus.tokens > 0) * (torch.arange(WIDTH) > 0)
        cells.append(acts.flatten().nonzero().squeeze(1))
        values.append(acts.flatten()[cells[-1]])
    return Firings((DOCS, WIDTH), tuple(cells), tuple(values))


def run(firings, corpus, layout=SMALL, *, pool=None, seed=0):
    n = len(firings.cells)
    survey = Survey(5000, np.array([len(c) for c in firings.cells]), np.ones(n, dtype=np.float32), np.ones(n, bool))
    choice = Choice(tuple(range(n)), (0,) * n, (n,), 0, 0, 0)
    pool = corpus.random_windows(2000, layout.buffer, 9) if pool is None else pool
    decode = lambda ids: tuple(map(str, ids))  # noqa: E731
    return list(gather(firings, corpus, choice, survey, pool, layout=layout, decode=decode, seed=seed))


@pytest.fixture(scope="module")
def firings(corpus):
    return fire(corpus, 0.03, 0.05, 0.1)


@pytest.fixture(scope="module")
def latents(firings, corpus):
    return run(firings, corpus)


def cells(shown):
    return [(e.document, p) for e in shown for p in range(e.position - 3, e.position + 4)]


def test_every_window_is_what_it_says(latents, firings, corpus):
    assert [type(each) for each in latents] == [Latent] * 3
    for latent in latents:
        acts = firings.dense(latent.number)
        for each in (*latent.generation, *latent.saebench, *latent.balanced):
            places = range(each.position - 3, each.position + 4)
            assert places[0] >= 0
            assert places[-1] < corpus.lengths[each.document]
            assert each.tokens == tuple(str(each.document * WIDTH + p + 1) for p in places)
            assert each.activations == tuple(acts[each.document, places[0] : places[-1] + 1].tolist())


def test_layouts(latents):
    for latent in latents:
        kinds = [[each.kind for each in shown] for shown in (latent.generation, latent.saebench, latent.balanced)]
        counts = [{kind: found.count(kind) for kind in set(found)} for found in kinds]
        assert counts == [
            {"top": 10, "weighted": 5},
            {"top": 2, "weighted": 2, "random": 10},
            {"activating": 10, "random": 10},
        ]
        strongest = [max(each.activations) for each in latent.generation]
        assert strongest == sorted(strongest, reverse=True)
        assert kinds[2] != sorted(kinds[2])
        assert len({each.threshold for each in (*latent.generation, *latent.saebench, *latent.balanced)}) == 1


def test_labels_of_the_balanced_layout_are_right(latents):
    for latent in latents:
        assert all(each.is_active == (each.kind == "activating") for each in latent.balanced)
        assert all(max(each.activations) == 0 for each in latent.balanced if not each.is_active)


def test_activating_windows_share_no_token_with_those_explained(latents):
    for latent in latents:
        active = [each for each in latent.balanced if each.is_active]
        assert not set(cells(active)) & set(cells(latent.generation))
        assert len(set(cells(active))) == 7 * len(active)


def test_activating_windows_are_of_all_strengths(corpus):
    (latent,) = run(fire(corpus, 0.2), corpus, Layout(buffer=1, n_balanced=100))
    active = sorted(each.activations[1] for each in latent.balanced if each.is_active)
    # activations are uniform on [0, 1], so that 50 spread over their ranks are, too
    np.testing.assert_allclose(active, (np.arange(50) + 0.5) / 50, atol=0.08)


def test_random_windows_come_from_one_pool_at_the_same_place_for_every_sae(latents, corpus):
    others = run(fire(corpus, 0.02, 0.04, 0.06, seed=2), corpus)
    pool = [tuple(cell) for cell in corpus.random_windows(2000, 3, 9).tolist()]
    for place, (one, other) in enumerate(zip(latents, others, strict=True)):
        shown = [
            {(each.document, each.position) for each in latent.saebench if each.kind == "random"}
            for latent in (one, other)
        ]
        assert shown[0] == shown[1] == set(pool[10 * place : 10 * place + 10])
        for latent in (one, other):
            silent = {(each.document, each.position) for each in latent.balanced if each.kind == "random"}
            assert silent <= set(pool)


def test_a_random_window_in_which_it_fires_is_kept_as_it_is(corpus):
    (latent,) = run(fire(corpus, 0.3), corpus, Layout(buffer=3, n_balanced=2))
    assert any(each.is_active for each in latent.saebench if each.kind == "random")


def test_the_top_is_saebenchs_top(latents, firings, corpus):
    for latent in latents:
        top = [each for each in (*latent.generation, *latent.saebench) if each.kind == "top"]
        acts = firings.dense(latent.number)
        position = torch.arange(WIDTH)
        inside = torch.where((position >= 3) & (position + 3 < corpus.lengths[:, None]), acts, 0.0)
        expected = get_k_largest_indices(inside, k=12, buffer=3, no_overlap=True)
        assert sorted((each.document, each.position) for each in top) == sorted(map(tuple, expected.tolist()))
        assert top[0].threshold == pytest.approx(0.01 * max(max(each.activations) for each in top))


def test_weighted_windows_are_drawn_by_squared_activation(corpus):
    firings = fire(corpus, 0.1)
    counted = {}
    for seed in range(300):
        (latent,) = run(firings, corpus, Layout(buffer=3, n_balanced=2), seed=seed)
        for each in (*latent.generation, *latent.saebench):
            if each.kind == "weighted":
                counted[each.document, each.position] = counted.get((each.document, each.position), 0) + 1
                assert each.activations[3] < min(max(e.activations) for e in latent.generation if e.kind == "top")
    acts = firings.dense(0)
    strength = np.array([acts[cell].item() for cell in counted])
    # E[x^3] / E[x^2] of a uniform x; the top is missing
    mean = np.average(strength, weights=list(counted.values()))
    assert 0.70 < mean < 0.77


def test_the_same_again(firings, corpus, monkeypatch):
    # beartype draws the item of a list that it checks from the global random numbers
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    latents = run(firings, corpus)
    state = torch.get_rng_state(), random.getstate()
    assert run(firings, corpus) == latents
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert run(firings, corpus, seed=1) != latents


def test_texts_owe_nothing_to_what_is_drawn_when_saebench_is_imported(firings, corpus, latents, monkeypatch):
    library, imported = examples.library, []

    def importing():
        if not imported:
            imported.append((random.random(), torch.rand(3)))  # noqa: S311  (as an import may draw)
        return library()

    monkeypatch.setattr(examples, "library", importing)
    assert run(firings, corpus) == latents
    assert imported


def test_latents_that_fire_in_too_few_places_are_counted(corpus):
    found = run(fire(corpus, 0.0, 0.003, 0.008, 0.9), corpus)
    assert [(type(each), each.number) for each in found] == [
        (Missing, 0),
        (Missing, 1),
        (Latent, 2),
        (Missing, 2),
        (Latent, 3),
        (Missing, 3),
    ]
    assert {each.layout for each in found if isinstance(each, Missing)} == {"all", "balanced"}
    assert "too few places" in found[0].reason
    assert "in which it fires are left" in found[3].reason
    assert "at random are silent" in found[5].reason
    assert found[2].balanced == found[4].balanced == ()


def test_texts_that_are_too_short(corpus):
    found = run(fire(corpus, 0.1), corpus, Layout(buffer=25))
    assert [type(each) for each in found] == [Missing]
    assert found[0].reason == "the texts hold 0 windows of 10"


def test_hard_negatives_are_neighbours(corpus):
    tokens = torch.where(corpus.tokens > 0, corpus.tokens % 50 + 1, 0)
    again = Corpus(tokens, corpus.lengths)
    acts = (
        (tokens == 7)
        * (torch.arange(DOCS) % 2)[:, None]
        * torch.rand(tokens.shape, generator=torch.Generator().manual_seed(0))
    ).flatten()
    acts[: WIDTH * 20] = 0
    cell = acts.nonzero().squeeze(1)
    (latent,) = run(Firings((DOCS, WIDTH), (cell,), (acts[cell],)), again, Layout(buffer=3, n_balanced=20, hard=True))
    fires = (acts.view(DOCS, WIDTH) > 0).any(1)
    hard = [each for each in latent.balanced if each.kind == "hard"]
    assert len(hard) == 10
    by_text = [each for each in hard if each.tokens[3] == "7"]
    assert all(fires[each.document] for each in hard if each not in by_text)
    assert len(by_text) == 5
    assert all(max(each.activations) == 0 for each in hard)


def test_frequent_latents_are_thinned_without_bias(corpus, monkeypatch):
    firings = fire(corpus, 0.5)
    monkeypatch.setattr(examples, "_CANDIDATES", 3)
    (latent, *_) = run(firings, corpus, Layout(buffer=1, n_balanced=20))
    active = sorted(each.activations[1] for each in latent.balanced if each.is_active)
    np.testing.assert_allclose(active, (np.arange(10) + 0.5) / 10, atol=0.2)


@pytest.mark.parametrize("wrong", [{"buffer": 0}, {"n_balanced": 3}, {"n_balanced": 0}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive, and n_balanced even"):
        Layout(**wrong)
