from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sae_sanity.suites import pooling
from sae_sanity.suites.pooling import pool


@dataclass
class Fake:
    """Activations of documents in memory, with the methods of an ActivationSet that pooling uses."""

    documents: list[torch.Tensor]
    d_in: int = 3

    @property
    def n_documents(self):
        return len(self.documents)

    def chunks(self, max_tokens=5):
        held, index = [], []
        for number, acts in enumerate(self.documents):
            if held and sum(map(len, held)) + len(acts) > max_tokens:
                yield self._chunk(held, index)
                held, index = [], []
            held, index = [*held, acts], [*index, *[number] * len(acts)]
        if index:
            yield self._chunk(held, index)

    def _chunk(self, held, index):
        return torch.cat(held), np.array(index, dtype=np.int64), np.zeros(len(index), dtype=np.int64)


@pytest.fixture
def documents():
    lengths = (3, 1, 0, 7, 2, 4)
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 3, generator=generator) for n in lengths]


def identity(acts):
    return acts


def wider(acts):
    return torch.relu(acts @ torch.ones(3, 8)) * torch.arange(8)


@pytest.mark.parametrize("rows", [1, 2, 1000])
@pytest.mark.parametrize("encode", [identity, wider])
def test_mean_against_a_loop_over_documents(documents, encode, rows, monkeypatch):
    monkeypatch.setattr(pooling, "ENCODE_ROWS", rows)
    expected = [encode(d).mean(0) if len(d) else encode(torch.zeros(1, 3))[0] * 0 for d in documents]
    torch.testing.assert_close(pool(Fake(documents), encode, "mean"), torch.stack(expected))


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_last_is_exactly_the_last_kept_token(documents, rows, monkeypatch):
    monkeypatch.setattr(pooling, "ENCODE_ROWS", rows)
    expected = [d[-1] if len(d) else torch.zeros(3) for d in documents]
    assert torch.equal(pool(Fake(documents), identity, "last"), torch.stack(expected))


@pytest.mark.parametrize("how", ["mean", "last"])
def test_a_document_without_tokens_is_zero(documents, how):
    assert torch.equal(pool(Fake(documents), lambda acts: acts + 1, how)[2], torch.zeros(3))


def test_a_set_without_any_token_is_all_zero():
    assert torch.equal(pool(Fake([torch.zeros(0, 3)] * 2), wider, "mean"), torch.zeros(2, 8))


def test_no_more_than_the_limit_is_encoded_at_once(documents, monkeypatch):
    monkeypatch.setattr(pooling, "ENCODE_ROWS", 2)
    sizes = []

    def encode(acts):
        sizes.append(len(acts))
        return acts

    pool(Fake(documents), encode, "mean")
    assert max(sizes) == 2


def test_last_encodes_one_token_per_document(documents):
    sizes = []

    def encode(acts):
        sizes.append(len(acts))
        return acts

    pool(Fake(documents), encode, "last")
    assert sum(sizes[1:]) == sum(len(d) > 0 for d in documents)
