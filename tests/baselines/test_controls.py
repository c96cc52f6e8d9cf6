from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from sae_lens import SAE
from sparse_world import D_IN, D_SAE, L0, sparse_world
from torch import nn

from sae_sanity.baselines import (
    CONTROLS,
    AnySAE,
    Shape,
    calibrate_l0,
    measure_moments,
    measure_sparsity,
    new_learner,
    parse_arm,
    to_inference,
)
from sae_sanity.baselines.interface import clone


def _make(shape):
    moments = measure_moments([sparse_world(4096, 100)], normalize_activations=shape.normalize_activations)
    learner = new_learner(parse_arm("trained"), shape, moments, 0, moments.seen(sparse_world(512, 9)))
    with torch.no_grad():
        if shape.architecture != "matching_pursuit":  # whose rows have to be near unit norm
            learner.sae.W_dec.mul_(torch.linspace(0.5, 2, D_SAE)[:, None])
        for name in ("b_enc", "b_gate", "b_mag", "r_mag"):
            if hasattr(learner.sae, name):
                getattr(learner.sae, name).add_(torch.linspace(0, 0.1, D_SAE))
    return to_inference(learner.sae, moments)


@pytest.fixture(params=["none", "layer_norm"])
def sae(request, shape):
    return _make(replace(shape, normalize_activations=request.param))


def _derive(name, sae, seed=0):
    return CONTROLS[name].derive(sae, torch.Generator().manual_seed(seed))


def _error(sae, x):
    with torch.no_grad():
        return float((sae.decode(sae.encode(x)) - x).pow(2).sum())


def _control(name, sae, seed=0):
    if reason := CONTROLS[name].applies_to(sae.cfg.architecture()):
        pytest.skip(reason)
    return _derive(name, sae, seed)


def test_permuted_decoder_encodes_exactly_alike_and_decodes_worse(sae):
    control, x = _derive("permuted_decoder", sae), sparse_world(256, 5)
    with torch.no_grad():
        assert torch.equal(control.encode(x), sae.encode(x))
        assert torch.equal(control(x), control.decode(control.encode(x)))
    assert _error(control, x) > _error(sae, x)
    # An arm of ours can be saved with its decoder shuffled, but for matching pursuit, which has no other dictionary.
    assert isinstance(control, SAE) == (sae.cfg.architecture() != "matching_pursuit")
    assert torch.equal(control.W_dec.sort(0).values, sae.W_dec.sort(0).values)
    assert not torch.equal(control.W_dec, sae.W_dec)


def test_permuted_decoder_decodes_with_the_shuffled_rows(sae):
    """Against the sum over latents written out, in the space behind the run-time normalisation."""
    control, x = _derive("permuted_decoder", sae), sparse_world(32, 5)
    with torch.no_grad():
        out = control.decode(control.encode(x))
        inner = sae.encode(x) @ control.W_dec + sae.b_dec
        expected = sae.run_time_activation_norm_fn_out(inner)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)


def test_permuted_decoder_of_a_topk_that_rescales_still_encodes_alike():
    """A foreign release whose norms were not folded: its encode multiplies by the norms of W_dec."""
    trained, norms = _make(Shape("topk", D_IN, D_SAE, L0)), torch.linspace(0.5, 2, D_SAE)
    trained.cfg.rescale_acts_by_decoder_norm = True
    with torch.no_grad():
        trained.W_dec.mul_(norms[:, None])
        trained.W_enc.div_(norms)
        trained.b_enc.div_(norms)
        control, x = _derive("permuted_decoder", trained), sparse_world(64, 5)
        assert torch.equal(control.encode(x), trained.encode(x))
    assert _error(control, x) > _error(trained, x)


def test_permuted_encoder_shuffles_input_coordinates_and_is_matched_again(sae):
    control = _control("permuted_encoder", sae)
    assert not torch.equal(control.W_enc, sae.W_enc)
    assert torch.equal(control.W_enc.sort(0).values, sae.W_enc.sort(0).values)
    assert torch.equal(control.W_dec, sae.W_dec)
    calibrate_l0(control, sparse_world(8192, 50).split(1000), L0, n_tokens=8192)
    assert measure_sparsity(control, [sparse_world(8192, 51)]).l0 == pytest.approx(L0, rel=0.05)


def test_permuted_encoder_is_refused_in_one_line_where_there_is_none():
    sae = _make(Shape("matching_pursuit", D_IN, D_SAE, L0))
    with pytest.raises(ValueError, match=r"^permuted_encoder does not exist for matching_pursuit: .*W_dec$"):
        _derive("permuted_encoder", sae)
    with pytest.raises(ValueError, match=r"^permuted_encoder does not exist for foreign: "):
        _derive("permuted_encoder", Foreign(sae))


def test_random_latents_are_a_subset_of_the_trained_latents(sae, tmp_path):
    control, x = _derive("random_latents", sae), sparse_world(64, 5)
    assert control.cfg.d_sae == sae.cfg.d_sae // 2
    kept = [int((sae.W_dec == row).all(1).nonzero()) for row in control.W_dec]
    assert kept == sorted(set(kept))
    if sae.cfg.architecture() not in ("topk", "abstopk", "matching_pursuit"):  # which let others in
        with torch.no_grad():
            assert torch.equal(control.encode(x) != 0, (sae.encode(x) != 0)[:, kept])
            assert torch.equal(control.decode(control.encode(x)).isfinite(), torch.ones(64, D_IN).bool())
    control.save_model(tmp_path / "control")
    loaded = SAE.load_from_disk(tmp_path / "control")
    assert {k: v.shape for k, v in loaded.state_dict().items()} == {k: v.shape for k, v in control.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(loaded.encode(x), control.encode(x))


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_k_is_capped_by_the_number_of_latents(architecture, tmp_path):
    sae = _make(Shape(architecture, D_IN, D_SAE, 60.0))
    control = _derive("random_latents", sae)
    assert (control.cfg.k, sae.cfg.k) == (D_SAE // 2, 60)
    control.save_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(SAE.load_from_disk(tmp_path)(sparse_world(8, 5)), control(sparse_world(8, 5)))


@pytest.mark.parametrize("name", list(CONTROLS))
def test_the_trained_sae_is_left_as_it_is_and_seeds_decide(name, sae):
    before, cfg = {k: v.clone() for k, v in sae.state_dict().items()}, sae.cfg.to_dict()
    one, same, other = _control(name, sae), _control(name, sae), _control(name, sae, seed=1)
    assert all(torch.equal(v, sae.state_dict()[k]) for k, v in before.items())
    assert sae.cfg.to_dict() == cfg
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in one.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_a_clone_shares_no_tokens_with_its_original():
    """SAELens keeps a token's mean and deviation on the object its closures were made for."""
    sae = _make(Shape("standard", D_IN, D_SAE, L0, normalize_activations="layer_norm"))
    twin, x, y = clone(sae), sparse_world(8, 5), sparse_world(8, 6) * 3
    with torch.no_grad():
        latents = sae.encode(x)
        twin.encode(y)
        torch.testing.assert_close(sae.decode(latents), clone(sae)(x), rtol=0, atol=0)


class Foreign(nn.Module):
    """What `wrap.ForeignSAE` promises and no more."""

    def __init__(self, sae) -> None:
        super().__init__()
        self.W_enc, self.W_dec = nn.Parameter(sae.W_enc.detach().clone()), nn.Parameter(sae.W_dec.detach().clone())
        self.cfg = SimpleNamespace(d_in=D_IN, d_sae=len(self.W_dec), metadata=SimpleNamespace())

    def encode(self, x):
        return (x @ self.W_enc).relu()

    def decode(self, feature_acts):
        return feature_acts @ self.W_dec

    def keep_latents(self, indices):
        part = copy.deepcopy(self)
        part.W_enc = nn.Parameter(self.W_enc.data[:, indices])
        part.W_dec = nn.Parameter(self.W_dec.data[indices])
        part.cfg.d_sae = len(indices)
        return part


def test_foreign_saes_have_the_controls_that_exist_for_them():
    foreign, x = Foreign(_make(Shape("standard", D_IN, D_SAE, L0))), sparse_world(64, 5)
    assert isinstance(foreign, AnySAE)
    shuffled, half = _derive("permuted_decoder", foreign), _derive("random_latents", foreign)
    with torch.no_grad():
        assert torch.equal(shuffled.encode(x), foreign.encode(x))
        assert not torch.equal(shuffled.decode(shuffled.encode(x)), foreign.decode(foreign.encode(x)))
    assert half.cfg.d_sae == D_SAE // 2
    assert foreign.cfg.d_sae == D_SAE
    sparsity = measure_sparsity(half, [x])
    assert 0 < sparsity.l0 < D_SAE // 2
    weights = half.W_enc.clone()
    calibrate_l0(half, [x], 1.0, n_tokens=64)
    assert torch.equal(half.W_enc, weights)
