"""Codes of every kind of SAE, against the SAE's own way from activations to reconstructions."""

from __future__ import annotations

import pytest
import torch
from linear_runs import FakeRuns
from tiny_saes import D_IN, INFERENCE, activations, make_sae

from sae_sanity.suites.causal_editing import coded
from sae_sanity.suites.causal_editing.coded import code
from sae_sanity.suites.causal_editing.mdbm import Wanted, edited, train_mask

KINDS = ("none", "layer_norm", "constant_norm_rescale")


@pytest.fixture
def clean():
    return activations(24) + 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", INFERENCE)
def test_codes_and_reconstructions_are_the_saes_own(architecture, kind, clean, monkeypatch):
    monkeypatch.setattr(coded, "ROWS", 7)
    sae = make_sae(architecture, normalize_activations=kind)
    found = code(sae, clean)
    with torch.no_grad():
        expected = torch.cat([sae.encode(rows) for rows in clean.split(7)])
        reconstruction = sae.decode(sae.encode(clean))
    assert torch.equal(found.codes, expected)
    every = range(len(clean))
    torch.testing.assert_close(
        found.activations(every, found.decode(found.codes)), reconstruction, atol=1e-4, rtol=1e-4
    )
    kept = found.activations(every, found.decode(found.codes) + found.error)
    torch.testing.assert_close(kept, clean, atol=1e-4, rtol=1e-4)


def test_without_normalisation_nothing_is_changed_by_one_bit(clean):
    sae = make_sae("topk")
    found = code(sae, clean)
    rows = sae.decode(sae.encode(clean))
    assert torch.equal(found.decode(found.codes), rows)
    assert torch.equal(found.activations(range(len(clean)), rows), rows)
    assert torch.equal(found.error, clean - rows)


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_is_decoded_with_the_bases_own_normalisation(kind, clean):
    """As in SAEBench, whose hook encodes the source first and the base last."""
    sae = make_sae("topk", normalize_activations=kind)
    mask = torch.arange(sae.cfg.d_sae) % 2 == 0
    base, source = [3, 1, 1], [0, 2, 5]
    found = code(sae, clean)
    rows = edited(found.codes[base], found.codes[source], mask, found.decode)
    with torch.no_grad():
        source_codes = sae.encode(clean[source])
        base_codes = sae.encode(clean[base])
        expected = sae.decode(torch.where(mask, source_codes, base_codes))
    torch.testing.assert_close(found.activations(base, rows), expected, atol=1e-4, rtol=1e-4)


def test_runs_take_rows_as_decoded(clean):
    found = code(make_sae("topk", normalize_activations="layer_norm"), clean)
    rows, which, seen = found.decode(found.codes[[4, 2]]), [4, 2], []

    class Inner(FakeRuns):
        def generate(self, which, rows, n_tokens):
            seen.append(rows)
            return torch.zeros(len(which), n_tokens, dtype=torch.long)

    runs = found.runs(Inner(lambda which, rows: rows))
    expected = found.activations(which, rows)
    assert torch.equal(runs.logits(which, rows), expected)
    runs.generate(which, rows, 2)
    runs.generate(which, None, 2)
    assert torch.equal(seen[0], expected)
    assert seen[1] is None


@pytest.mark.parametrize("kind", KINDS)
def test_the_sae_stays_as_it_was_and_gets_no_gradient(kind, clean):
    sae = make_sae("topk", normalize_activations=kind)
    before = sae.decode(sae.encode(clean))
    state = set(vars(sae))
    found = code(sae, clean)
    wanted = Wanted((0, 1, 2), (3, 4, 5), (1, 2, 3))
    runs = found.runs(FakeRuns(lambda which, rows: rows @ torch.eye(D_IN)))
    train_mask(runs, wanted, found.codes, found.decode, epochs=2, lr=0.1, batch_size=2, generator=torch.Generator())
    assert set(vars(sae)) == state
    assert all(parameter.grad is None for parameter in sae.parameters())
    assert torch.equal(sae.decode(sae.encode(clean)), before)
    assert not found.codes.requires_grad
    assert not found.error.requires_grad
