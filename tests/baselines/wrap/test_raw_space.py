"""in_raw_space against SAELens' own SAE on the same raw activations."""

from __future__ import annotations

import dataclasses

import einops
import pytest
import torch
from sae_lens.saes.sae import SAE
from tiny_saes import D_SAE, INFERENCE, activations, make_sae, save

from sae_sanity.baselines.wrap import BadSAE, in_raw_space, load_folder, wrap_object

SCALE = 0.37


def close(one, other):
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * other.detach().abs().max().item())


def firing(one, other):
    assert torch.equal(one != 0, other != 0)
    assert (one != 0).any()


@pytest.mark.parametrize("architecture", INFERENCE)
@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize("normalize", ["none", "expected_average_only_in", "layer_norm", "constant_norm_rescale"])
def test_the_same_as_sae_lens_on_raw_activations(architecture, apply_b_dec, normalize, tmp_path):
    options = {"residual_threshold": 1.0} if architecture == "matching_pursuit" else {}
    save(make_sae(architecture, normalize_activations=normalize, apply_b_dec_to_input=apply_b_dec, **options), tmp_path)
    theirs = SAE.load_from_disk(tmp_path)
    raw = in_raw_space(load_folder(tmp_path, name="x"), SCALE)
    # SAELens leaves this one to the caller: activations are multiplied before, reconstructions divided after.
    scale = SCALE if normalize == "expected_average_only_in" else 1.0
    x = activations()
    acts = theirs.encode(x * scale)
    expected = theirs.decode(acts) / scale
    firing(raw.sae.encode(x), acts)
    close(raw.sae.decode(raw.sae.encode(x)), expected)
    if architecture != "matching_pursuit":
        close(raw.sae.encode(x), acts)


def test_the_factor_of_the_recipe_is_preferred_to_the_measured_one(tmp_path):
    save(make_sae("standard", normalize_activations="expected_average_only_in"), tmp_path)
    artefact = load_folder(tmp_path, name="x")
    measured = in_raw_space(artefact, 0.5)
    name = "norm_scaling_factor"
    assert (measured.recipe.get(name), measured.recipe.source(name)) == (0.5, "measured")
    known = dataclasses.replace(artefact, recipe=artefact.recipe.with_values("registry", norm_scaling_factor=0.5))
    assert in_raw_space(known, 2.0).sha256 == measured.sha256 != in_raw_space(artefact, 2.0).sha256
    assert measured.recipe.get("normalize_activations") == "expected_average_only_in"
    assert measured.sae.cfg.normalize_activations == "none"
    theirs = SAE.load_from_disk(tmp_path)
    theirs.fold_activation_norm_scaling_factor(0.5)
    assert torch.equal(measured.sae.encode(activations()), theirs.encode(activations()))


def test_the_artefact_is_left_as_it_is(tmp_path):
    normalize = "expected_average_only_in"
    save(make_sae("topk", normalize_activations=normalize, rescale_acts_by_decoder_norm=True), tmp_path)
    artefact = load_folder(tmp_path, name="x")
    before = {n: t.clone() for n, t in artefact.sae.state_dict().items()}
    in_raw_space(artefact, 0.5)
    assert artefact.sae.cfg.normalize_activations == "expected_average_only_in"
    assert artefact.sae.cfg.rescale_acts_by_decoder_norm is True
    assert all(torch.equal(t, before[n]) for n, t in artefact.sae.state_dict().items())


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
@pytest.mark.parametrize("unit", [True, False])
def test_a_permuted_decoder_does_not_change_encode_by_one_bit(architecture, unit):
    sae = make_sae(architecture, rescale_acts_by_decoder_norm=True)
    if unit:
        with torch.no_grad():
            sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
    raw = in_raw_space(wrap_object(sae, name="x"), 1.0).sae
    x = activations()
    acts = raw.encode(x)
    firing(acts, sae.encode(x))
    close(raw.decode(acts), sae(x))
    with torch.no_grad():
        raw.W_dec.copy_(raw.W_dec[torch.randperm(D_SAE)])
    assert torch.equal(raw.encode(x), acts)
    assert not torch.allclose(raw.decode(acts), sae(x))


def test_unit_rows_are_not_touched():
    sae = make_sae("topk", rescale_acts_by_decoder_norm=True)
    with torch.no_grad():
        sae.W_dec /= sae.W_dec.norm(dim=-1, keepdim=True)
    raw = in_raw_space(wrap_object(sae, name="x"), 1.0).sae
    assert all(torch.equal(t, sae.state_dict()[n]) for n, t in raw.state_dict().items())
    assert raw.cfg.rescale_acts_by_decoder_norm is False


def test_rows_of_zeros_stay_silent():
    sae = make_sae("topk", rescale_acts_by_decoder_norm=True, k=D_SAE)
    with torch.no_grad():
        sae.W_dec[4] = 0
    raw = in_raw_space(wrap_object(sae, name="x"), 1.0).sae
    acts = raw.encode(activations())
    firing(acts, sae.encode(activations()))
    assert raw.decode(acts).isfinite().all()


def test_hook_z_reads_flat_vectors(tmp_path):
    sae = make_sae("jumprelu", reshape_activations="hook_z", metadata={"hook_name": "blocks.0.attn.hook_z"})
    raw = in_raw_space(load_folder(save(sae, tmp_path), name="x"), 1.0)
    x = activations()
    heads = einops.rearrange(x, "n (heads d_head) -> n heads d_head", heads=2)
    assert torch.equal(raw.sae.encode(x), sae.encode(heads))
    assert torch.equal(raw.sae(x), einops.rearrange(sae(heads), "n heads d_head -> n (heads d_head)"))
    assert raw.sae.cfg.reshape_activations == "none"
    # Loaded, before it is brought into raw space, it still reads heads as SAELens' does.
    assert torch.equal(load_folder(tmp_path, name="x").sae.encode(heads), sae.encode(heads))


def test_run_time_normalisation_belongs_to_the_copy():
    sae = make_sae("standard", normalize_activations="layer_norm")
    raw = in_raw_space(wrap_object(sae, name="x"), 1.0).sae
    x, y = activations(seed=1), activations(seed=2)
    expected = sae(x)
    acts = raw.encode(x)
    sae.encode(y)
    close(raw.decode(acts), expected)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_scale(scale):
    with pytest.raises(ValueError, match="scale is"):
        in_raw_space(wrap_object(make_sae("standard"), name="x"), scale)


def test_a_reconstruction_that_overflows():
    sae = make_sae("standard")
    with torch.no_grad():
        for weight in (sae.W_enc, sae.W_dec, sae.b_dec):
            weight.fill_(9e14)
        sae.b_dec.fill_(-9e14)
    with pytest.raises(BadSAE, match="decode gives"):
        in_raw_space(wrap_object(sae, name="x"), 1.0)
