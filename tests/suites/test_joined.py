from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_site import tiny_texts

from sae_sanity.suites import collector
from sae_sanity.suites.autointerp.suite import AutoInterp
from sae_sanity.suites.joined import JoinedSets
from sae_sanity.suites.judges.answers import AnswerStore
from sae_sanity.suites.judges.budget import Spent
from sae_sanity.suites.judges.openai_judge import OpenAIJudge
from sae_sanity.suites.suite import Judging, SuiteContext
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


def test_sets_with_another_norm_cap_are_not_joined(site, texts):
    first, second = cut(texts, 15)
    with pytest.raises(ValueError, match="one width and norm cap"):
        JoinedSets((site.collect(first, norm_cap=CAP), site.collect(second, norm_cap=2 * CAP)))
    with pytest.raises(ValueError, match="one width and norm cap"):
        JoinedSets(())


def test_autointerp_has_no_text_read_that_the_check_has_read(site, texts, tmp_path, monkeypatch):
    parts = cut(texts, 11)
    keys = [site.collect(part, norm_cap=CAP).key for part in parts]
    monkeypatch.setattr(site.model, "forward", lambda *_, **__: pytest.fail("the language model reads again"))
    judging = Judging(OpenAIJudge("any", "http://127.0.0.1:1/v1"), AnswerStore(tmp_path / "answers.sqlite"), Spent())
    options = {"latents": 5, "detection_examples": 8, "hard_negatives": False, "seed": 0}
    suite = AutoInterp.build(SuiteContext(site, parts[0], CAP, options, tuple(parts), judging))
    assert suite.settings()["activations"] == keys
