"""Codes of every kind of SAE, against the SAE's own way from activations to reconstructions."""

from __future__ import annotations

import pytest
import torch
from linear_runs import FakeRuns
from tiny_saes import D_IN, D_SAE, INFERENCE, activations, make_sae

from sae_sanity.baselines.interface import clone
from sae_sanity.baselines.permuted_decoder import PermutedDecoder
from sae_sanity.baselines.permuted_encoder import PermutedEncoder
from sae_sanity.baselines.random_latents import RandomLatents
from sae_sanity.baselines.wrap.foreign import ForeignConfig, new_foreign
from sae_sanity.suites.causal_editing import coded
from sae_sanity.suites.causal_editing.coded import code
from sae_sanity.suites.causal_editing.mdbm import Wanted, edited, train_mask

KINDS = ("none", "layer_norm", "constant_norm_rescale")
SAES = {name: (name, {}) for name in INFERENCE} | {"topk_rescaled": ("topk", {"rescale_acts_by_decoder_norm": True})}
DERIVED = {
    f"{control.name}-{name}": (control, name)
    for control in (PermutedDecoder(), PermutedEncoder(), RandomLatents())
    for name, (architecture, _) in SAES.items()
    if not control.applies_to(architecture)
}
DTYPES = (torch.bfloat16, torch.float16, torch.float64)


@pytest.fixture
def clean():
    return activations(24) + 3


def make(name, kind="none"):
    """An SAE by its own name, or a control by `control-name`."""
    control, name = DERIVED.get(name, (None, name))
    architecture, options = SAES[name]
    sae = make_sae(architecture, normalize_activations=kind, **options)
    return control.derive(sae, torch.Generator().manual_seed(1)) if control else sae


def parts(sae):
    return (sae.reader, sae.writer) if hasattr(sae, "writer") else (sae,)


def tensors(sae):
    return {name: (value.clone(), value.dtype, value.device) for name, value in sae.state_dict().items()}


def assert_same_tensors(sae, before):
    after = tensors(sae)
    assert before.keys() == after.keys()
    for name, (value, *rest) in before.items():
        assert torch.equal(after[name][0], value)
        assert list(after[name][1:]) == rest


def assert_as_the_sae_has_it(found, sae, clean):
    """Codes are those of `encode`, and all of the way there and back is that of SAELens."""
    with torch.no_grad():
        expected = torch.cat([sae.encode(rows) for rows in clean.split(7)])
        reconstruction = sae.decode(sae.encode(clean))
    assert torch.equal(found.codes, expected)
    every = range(len(clean))
    rows = found.decode(found.codes)
    torch.testing.assert_close(found.activations(every, rows), reconstruction, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.activations(every, rows + found.error), clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [*SAES, *DERIVED])
def test_codes_and_reconstructions_are_the_saes_own(name, kind, clean, monkeypatch):
    monkeypatch.setattr(coded, "ROWS", 7)
    sae = make(name, kind)
    before = tensors(sae)
    assert_as_the_sae_has_it(code(sae, clean), sae, clean)
    assert_same_tensors(sae, before)


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["standard", "topk", "matching_pursuit", "permuted_decoder-topk_rescaled"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_sae_of_another_dtype_counts_in_float32(name, kind, dtype, clean, monkeypatch):
    monkeypatch.setattr(coded, "ROWS", 7)
    sae = make(name, kind)
    # As SAELens has it, an SAE at a time: its `to` alone tells an SAE of its dtype.
    in_float32 = clone(sae)
    for each in (sae, in_float32):
        for part in parts(each):
            part.to(dtype)
            part.to(torch.float32 if each is in_float32 else dtype)
    before, was, held = tensors(sae), sae.dtype, [set(vars(part)) for part in parts(sae)]
    found = code(sae, clean)
    assert [set(vars(part)) for part in parts(sae)] == held
    assert {each.dtype for each in (found.codes, found.error, found.scale, found.shift)} == {torch.float32}
    assert_as_the_sae_has_it(found, in_float32, clean)
    assert_same_tensors(sae, before)
    assert sae.dtype == was == dtype


def test_a_module_that_was_cast_behind_saelens_back(clean):
    """`half()` changes the weights and not what the SAE says of them."""
    sae, other = make_sae("topk").half(), make_sae("topk").to(torch.float16).to(torch.float32)
    assert sae.dtype == torch.float32
    assert torch.equal(code(sae, clean).codes, other.encode(clean))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["topk", "permuted_decoder-topk_rescaled"])
def test_an_sae_on_another_device_goes_to_the_activations(name, kind, clean):
    sae = make(name, kind)
    before = tensors(sae)
    found = code(sae, clean.to("meta"))
    everything = (found.codes, found.error, found.scale, found.shift, found.decode(found.codes))
    assert {each.device.type for each in everything} == {"meta"}
    assert found.codes.shape == (len(clean), D_SAE)
    assert_same_tensors(sae, before)
    assert str(sae.device) == str(sae.cfg.device) == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
@pytest.mark.parametrize("name", ["topk", "permuted_decoder-topk_rescaled"])
def test_an_sae_on_the_cpu_and_activations_on_a_gpu(name, clean):
    sae = make(name, "layer_norm")
    found, expected = code(sae, clean.cuda()), code(sae, clean)
    assert found.codes.is_cuda
    torch.testing.assert_close(found.codes.cpu(), expected.codes, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.decode(found.codes).cpu(), expected.decode(expected.codes), atol=1e-3, rtol=1e-3)


def test_an_sae_that_is_float32_already_is_not_copied(clean):
    sae = make_sae("topk")
    codes = torch.zeros(1, D_SAE)
    found = code(sae, clean)
    with torch.no_grad():
        sae.b_dec += 1
    assert torch.equal(found.decode(codes), sae.b_dec[None])


def test_a_foreign_sae(clean):
    inner = make_sae("jumprelu").to(torch.bfloat16)
    sae = new_foreign(_Foreign(inner.W_enc, inner.W_dec), ForeignConfig(D_IN, D_SAE), "an object")
    found = code(sae, clean)
    assert torch.equal(found.codes, sae.encode(clean))
    assert torch.equal(found.activations([2], found.decode(found.codes[[2]])), sae.decode(sae.encode(clean[[2]])))


class _Foreign:
    """Somebody else's object, which takes bfloat16 alone."""

    def __init__(self, w_enc, w_dec):
        self.W_enc, self.W_dec = w_enc.detach(), w_dec.detach()

    def encode(self, x):
        return torch.relu(x @ self.W_enc)

    def decode(self, acts):
        return acts @ self.W_dec


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_learn_where_the_caller_is_in_inference_mode(dtype, clean):
    sae = make_sae("topk").to(dtype)
    with torch.inference_mode():
        found = code(sae, clean)
        runs = found.runs(FakeRuns(lambda which, rows: rows))
        wanted = Wanted((0, 1), (3, 4), (1, 2))
        mask = train_mask(
            runs, wanted, found.codes, found.decode, epochs=1, lr=0.1, batch_size=2, generator=torch.Generator()
        )
    assert mask.shape == (D_SAE,)
