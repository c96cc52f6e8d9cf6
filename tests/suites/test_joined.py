from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_site import tiny_texts

from sae_sanity.suites import collector
from sae_sanity.suites.autointerp.examples import Layout
from sae_sanity.suites.autointerp.suite import AutoInterp
from sae_sanity.suites.joined import JoinedSets
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Spent
from sae_sanity.suites.judges.openai_judge import OpenAIJudge
from sae_sanity.suites.suite import Judging
from sae_sanity.suites.texts import TextSet

CAP = 1e6


@pytest.fixture
def site(make_site, monkeypatch):
    monkeypatch.setattr(collector, "SHARD_BYTES", 4 * 32 * 16 * 2)
    return make_site()


@pytest.fixture
def texts():
    return tiny_texts("train", 30, 1)


def cut(texts, *borders):
    ends = [0, *borders, len(texts.documents)]
    return [TextSet(str(a), texts.documents[a:b]) for a, b in pairwise(ends)]


def everything(activations):
    parts = list(zip(*activations.chunks(50), strict=True))
    return torch.cat(parts[0]), np.concatenate(parts[1]), np.concatenate(parts[2])


@pytest.mark.parametrize("borders", [(), (11,), (1, 9, 29)])
def test_joined_sets_against_one_set_of_all_documents(site, texts, borders):
    one = site.collect(texts, norm_cap=CAP)
    joined = JoinedSets(tuple(site.collect(part, norm_cap=CAP) for part in cut(texts, *borders)))
    for found, wanted in zip(everything(joined), everything(one), strict=True):
        # In other batches the last digit of a bfloat16 may differ.
        np.testing.assert_allclose(found, wanted, rtol=2**-7)
    assert (joined.n_tokens, joined.n_documents) == (one.n_tokens, one.n_documents)
    tokens = [row[:n].tolist() for b in joined.splice_batches(4) for row, n in zip(b.tokens, b.lengths, strict=True)]
    assert tokens == site.tokenise(texts.documents)
    assert sum(int(b.kept.sum()) for b in joined.splice_batches(4)) == one.n_tokens


def test_sets_of_another_width_or_norm_cap_are_not_joined(site, texts):
    first, second = cut(texts, 15)
    with pytest.raises(ValueError, match="one width and norm cap"):
        JoinedSets((site.collect(first, norm_cap=CAP), site.collect(second, norm_cap=2 * CAP)))
    collected = site.collect(first, norm_cap=CAP)
    with pytest.raises(ValueError, match="one width and norm cap"):
        JoinedSets((collected, replace(collected, d_in=8)))
    with pytest.raises(ValueError, match="one width and norm cap"):
        JoinedSets(())


@pytest.fixture
def latents_in(site, tmp_path):
    judging = Judging(OpenAIJudge("any", "http://127.0.0.1:1/v1"), AnswerStore(tmp_path / "answers.sqlite"), Spent())
    return lambda texts: AutoInterp(site, texts, judging, n_latents=5, layout=Layout(), seed=0, norm_cap=None)


def test_where_no_cap_is_given_all_sets_have_that_of_the_first(site, texts, latents_in):
    parts = cut(texts, 11)
    first = site.collect(parts[0])
    keys = [first.key, site.collect(parts[1], norm_cap=first.norm_cap).key]
    assert latents_in(parts).settings()["activations"] == keys


def test_no_texts_to_read_latents_in(latents_in):
    with pytest.raises(ValueError, match="needs texts"):
        latents_in([])
