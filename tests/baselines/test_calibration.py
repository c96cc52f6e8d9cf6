from __future__ import annotations

import pytest
import torch
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import (
    Schedule,
    Shape,
    calibrate_l0,
    measure_sparsity,
    new_learner,
    parse_arm,
    to_inference,
    train_together,
)
from sae_sanity.baselines.calibration import excess_at_l0


def _inference(arm, shape, moments, stream, steps=25):
    learner = new_learner(parse_arm(arm), shape, moments, 0, sparse_world(512, 9) * moments.scale)
    if parse_arm(arm).trains:
        train_together([learner], stream, moments, Schedule(steps=steps, batch_size=256, lr=3e-3))
    return to_inference(learner.sae, moments)


@pytest.mark.parametrize("arm", ["trained", "frozen_decoder", "soft_frozen", "frozen_encoder", "random"])
def test_every_arm_of_every_architecture_is_matched_on_other_text(arm, shape, moments, stream):
    sae = _inference(arm, shape, moments, stream)
    calibrate_l0(sae, sparse_world(8192, 50).split(1000), L0, n_tokens=8192)
    assert measure_sparsity(sae, [sparse_world(8192, 51)]).l0 == pytest.approx(L0, rel=0.05)


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu", "standard"])
def test_calibrated_l0_is_exact_on_the_calibration_text(architecture, moments, stream):
    sae = _inference("trained", Shape(architecture, D_IN, D_SAE, L0), moments, stream)
    chunks = sparse_world(2000, 50).split(300)
    calibrate_l0(sae, chunks, 5.0, n_tokens=2000)
    assert measure_sparsity(sae, chunks).l0 == pytest.approx(5.0, abs=1e-3)


def test_standard_is_matched_from_below_too(moments, stream):
    """A bias can make what is silent fire again, which no threshold of JumpReLU can."""
    sae = _inference("trained", Shape("standard", D_IN, D_SAE, L0), moments, stream)
    with torch.no_grad():
        sae.b_enc.sub_(5.0)
    x = sparse_world(2000, 50)
    assert measure_sparsity(sae, [x]).l0 < 0.5 * L0
    calibrate_l0(sae, x.split(300), L0, n_tokens=2000)
    assert measure_sparsity(sae, [x]).l0 == pytest.approx(L0, abs=1e-3)


def test_excess_against_a_full_sort(moments, stream):
    sae = _inference("trained", Shape("batchtopk", D_IN, D_SAE, L0), moments, stream)
    x = sparse_world(900, 60)
    with torch.no_grad():
        hidden = (x - sae.b_dec) @ sae.W_enc + sae.b_enc
        ordered = (hidden - sae.threshold)[hidden > 0].sort(descending=True).values
    expected = float(ordered[899 * 4 + 3] + ordered[900 * 4]) / 2
    assert excess_at_l0(sae, x.split(100), 4.0, n_tokens=900) == pytest.approx(expected, abs=1e-6)


def test_saelens_inference_threshold_lags_without_calibration(moments, stream):
    """The trap of STACK.md that calibration is for: if SAELens ever mends it, this test says so."""
    sae = _inference("trained", Shape("batchtopk", D_IN, D_SAE, L0), moments, stream, steps=60)
    assert abs(measure_sparsity(sae, [sparse_world(4096, 51)]).l0 / L0 - 1) > 0.05


def test_dead_share_counts_latents_that_never_fire(moments, stream):
    sae = _inference("trained", Shape("topk", D_IN, D_SAE, L0), moments, stream)
    with torch.no_grad():
        sae.b_enc[:24] = -1e6
    sparsity = measure_sparsity(sae, sparse_world(4096, 51).split(500))
    assert sparsity.dead_share == pytest.approx(0.25, abs=1e-9)
    assert sparsity.l0 == pytest.approx(L0)


def test_an_l0_out_of_reach_stays_unmatched(moments, stream):
    """A target above what fires at all leaves the thresholds at 0 and the measured L0 below the target."""
    sae = _inference("trained", Shape("jumprelu", D_IN, D_SAE, L0), moments, stream)
    with torch.no_grad():
        sae.b_enc[10:] = -1e6
    calibrate_l0(sae, [sparse_world(1000, 50)], 30.0, n_tokens=1000)
    assert measure_sparsity(sae, [sparse_world(1000, 50)]).l0 <= 10
    assert float(sae.threshold.min()) >= 0


def test_no_tokens(moments, stream):
    sae = _inference("random", Shape("topk", D_IN, D_SAE, L0), moments, stream)
    with pytest.raises(ValueError, match="no tokens"):
        measure_sparsity(sae, [])
