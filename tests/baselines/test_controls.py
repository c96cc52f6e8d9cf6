from __future__ import annotations

import pytest
import torch
from sae_lens import SAE
from sparse_world import sparse_world

from sae_sanity.baselines import CONTROLS, new_learner, parse_arm, to_inference


@pytest.fixture
def sae(shape, moments):
    learner = new_learner(parse_arm("trained"), shape, moments, 0, sparse_world(512, 9) * moments.scale)
    with torch.no_grad():
        learner.sae.W_dec.mul_(torch.linspace(0.5, 2, len(learner.sae.W_dec))[:, None])
        learner.sae.b_enc.add_(torch.linspace(0, 0.1, len(learner.sae.b_enc)))
    return to_inference(learner.sae, moments)


def _derive(name, sae, seed=0):
    return CONTROLS[name].derive(sae, torch.Generator().manual_seed(seed))


def test_permuted_decoder_encodes_exactly_alike_and_decodes_worse(sae):
    control, x = _derive("permuted_decoder", sae), sparse_world(256, 5)
    with torch.no_grad():
        assert torch.equal(control.encode(x), sae.encode(x))
        assert (control(x) - x).pow(2).sum() > (sae(x) - x).pow(2).sum()
    assert torch.equal(control.W_dec.sort(0).values, sae.W_dec.sort(0).values)


def test_permuted_encoder_shuffles_input_coordinates(sae):
    control = _derive("permuted_encoder", sae)
    assert not torch.equal(control.W_enc, sae.W_enc)
    assert torch.equal(control.W_enc.sort(0).values, sae.W_enc.sort(0).values)
    assert torch.equal(control.W_dec, sae.W_dec)


def test_random_latents_are_a_subset_of_the_trained_latents(sae, tmp_path):
    control, x = _derive("random_latents", sae), sparse_world(64, 5)
    assert control.cfg.d_sae == sae.cfg.d_sae // 2
    kept = [int((sae.W_dec == row).all(1).nonzero()) for row in control.W_dec]
    assert kept == sorted(set(kept))
    if sae.cfg.architecture() != "topk":  # with fewer rivals, top-k of the subset lets others in
        with torch.no_grad():
            assert torch.equal(control.encode(x) != 0, (sae.encode(x) != 0)[:, kept])
    control.save_model(tmp_path / "control")
    loaded = SAE.load_from_disk(tmp_path / "control")
    assert torch.equal(loaded.W_enc, control.W_enc)


@pytest.mark.parametrize("name", list(CONTROLS))
def test_the_trained_sae_is_left_as_it_is_and_seeds_decide(name, sae):
    before = {k: v.clone() for k, v in sae.state_dict().items()}
    one, same, other = _derive(name, sae), _derive(name, sae), _derive(name, sae, seed=1)
    assert all(torch.equal(v, sae.state_dict()[k]) for k, v in before.items())
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in one.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())
