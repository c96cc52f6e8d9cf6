from __future__ import annotations

import numpy as np
import pytest
import torch
from sae_lens.registry import get_sae_class
from tiny_saes import OPTIONS, randomise
from tiny_site import tiny_texts

from sae_sanity.suites import collector
from sae_sanity.suites.autointerp import survey as module
from sae_sanity.suites.autointerp.examples import Layout
from sae_sanity.suites.autointerp.survey import Corpus, collect_firings, survey
from sae_sanity.suites.joined import JoinedSets
from sae_sanity.suites.texts import TextSet


def make_sae(architecture, *, d_sae):
    sae_class, cfg_class = get_sae_class(architecture)
    return randomise(sae_class(cfg_class(d_in=16, d_sae=d_sae, **OPTIONS.get(architecture, {}))), 0)


@pytest.fixture
def saes():
    kinds = (("topk", 48), ("jumprelu", 30), ("standard", 7), ("abstopk", 20))
    return [make_sae(architecture, d_sae=d_sae) for architecture, d_sae in kinds]


@pytest.fixture
def collected(make_site, monkeypatch):
    monkeypatch.setattr(collector, "SHARD_BYTES", 7 * 32 * 16 * 2)
    site, documents = make_site(), tiny_texts("train", 30, 1).documents
    first = site.collect(TextSet("held_out", documents[:11]))
    return JoinedSets((first, site.collect(TextSet("calibration", documents[11:]), norm_cap=first.norm_cap)))


@pytest.fixture
def everything(collected):
    parts = list(zip(*collected.chunks(), strict=True))
    return torch.cat(parts[0]), np.concatenate(parts[1]), np.concatenate(parts[2])


LAYOUT = Layout(buffer=3, n_top_generation=2, n_weighted_generation=1, n_random=4, n_balanced=4)


def surveyed(collected, saes):
    corpus = Corpus.of(collected)
    return survey(collected, saes, corpus, corpus.random_windows(200, LAYOUT.buffer, 0), LAYOUT)


@pytest.mark.parametrize("limit", [30_000_000, 2_000])
def test_who_is_askable_is_so_by_the_dense_activations(saes, collected, limit, monkeypatch):
    monkeypatch.setattr(module, "_BYTES", limit)
    corpus = Corpus.of(collected)
    pool = corpus.random_windows(200, LAYOUT.buffer, 0)
    every = [range(sae.cfg.d_sae) for sae in saes]
    surveys = surveyed(collected, saes)
    for found, firings in zip(surveys, collect_firings(collected, saes, every, corpus), strict=True):
        for latent, could in enumerate(found.askable):
            acts = firings.dense(latent)
            silent = sum(not acts[d, p - 3 : p + 4].any() for d, p in pool.tolist())
            inside = (acts > 0.02 * acts.max()) & corpus.centres(3)
            texts = int(inside.any(1).sum())  # one window of each text: no two share a token
            if texts >= 2 + 3 + 4 and silent >= 2:
                assert could
            if silent < 2 or not inside.any():
                assert not could
    assert 0 < sum(found.askable.sum() for found in surveys) < sum(map(len, every))


@pytest.mark.parametrize("limit", [30_000_000, 2_000, 1])
def test_one_pass_is_every_sae_on_its_own(saes, collected, everything, limit, monkeypatch):
    monkeypatch.setattr(module, "_BYTES", limit)
    for sae, found in zip(saes, surveyed(collected, saes), strict=True):
        with torch.no_grad():
            latents = sae.encode(everything[0])
        assert found.n_tokens == len(everything[0])
        assert found.counts.tolist() == (latents > 0).sum(0).tolist()
        np.testing.assert_allclose(found.largest, latents.clamp(min=0).amax(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.firing_rate, (latents > 0).double().mean(0))
        assert found.dead(40).tolist() == ((latents > 0).sum(0) < 40).tolist()


def test_no_tensor_of_latents_is_larger_than_the_bound(saes, collected, monkeypatch):
    monkeypatch.setattr(module, "_BYTES", 4 * 48 * 10)
    sizes = {(part.sae, part.latents.shape[0]) for part in module.slices(collected, saes)}
    assert max(n for sae, n in sizes if sae == 0) == 10
    assert max(n for sae, n in sizes if sae == 2) == 4 * 48 * 10 // (4 * 7)


def test_activations_are_read_once(saes, collected, monkeypatch):
    read = []
    chunks = type(collected).chunks
    monkeypatch.setattr(type(collected), "chunks", lambda self, *a: (read.append(1), chunks(self, *a))[1])
    corpus = Corpus.of(collected)
    read.clear()
    survey(collected, saes, corpus, corpus.random_windows(50, 3, 0), LAYOUT)
    assert len(read) == 1


def test_a_dead_sae():
    found = module.Survey(100, np.array([0, 14, 15]), np.zeros(3, dtype=np.float32), np.zeros(3, bool))
    assert found.dead().tolist() == [True, True, False]


def test_corpus_against_the_site(collected, make_site):
    corpus = Corpus.of(collected)
    rows = make_site().tokenise(tiny_texts("train", 30, 1).documents)
    assert corpus.lengths.tolist() == [len(row) for row in rows]
    assert all(corpus.tokens[i, : len(row)].tolist() == row for i, row in enumerate(rows))
    assert {len(row) for row in rows} == {21, 22, 23, 24, 25}


def test_centres_are_those_with_a_whole_window_around_them(collected):
    corpus = Corpus.of(collected)
    found = corpus.centres(3)
    for document, length in enumerate(corpus.lengths.tolist()):
        whole = [p for p in range(corpus.tokens.shape[1]) if p - 3 >= 0 and p + 3 < length]
        assert found[document].nonzero().squeeze(1).tolist() == whole


def test_random_windows(collected):
    corpus = Corpus.of(collected)
    few, all_of_them = corpus.random_windows(20, 10, 5), corpus.random_windows(10**6, 10, 5)
    assert torch.equal(few, all_of_them[:20])
    assert len({tuple(cell) for cell in all_of_them.tolist()}) == len(all_of_them) == corpus.centres(10).sum()
    assert not torch.equal(few, corpus.random_windows(20, 10, 6))


@pytest.mark.parametrize("limit", [30_000_000, 700])
def test_firings_against_dense_activations(saes, collected, everything, limit, monkeypatch):
    monkeypatch.setattr(module, "_BYTES", limit)
    corpus = Corpus.of(collected)
    chosen = [[5, 3, 11], [29, 0], [], [1, 2, 3]]
    for sae, latents, found in zip(saes, chosen, collect_firings(collected, saes, chosen, corpus), strict=True):
        with torch.no_grad():
            acts = sae.encode(everything[0]).clamp(min=0)
        assert len(found.cells) == len(latents)
        for place, latent in enumerate(latents):
            dense = torch.zeros(corpus.tokens.shape)
            dense[torch.from_numpy(everything[1]).long(), torch.from_numpy(everything[2]).long()] = acts[:, latent]
            torch.testing.assert_close(found.dense(place), dense)
            assert (found.dense(place)[:, 0] == 0).all()
            assert (found.cells[place].diff() > 0).all()
