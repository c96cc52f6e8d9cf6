from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import (
    Schedule,
    Shape,
    calibrate_l0,
    measure_moments,
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


ARMS = ["trained", "frozen_decoder@iso", "frozen_decoder@cov", "soft_frozen", "frozen_encoder", "random"]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_of_every_architecture_is_matched_on_other_text(arm, shape, moments, stream, exists):
    exists(arm)
    sae = _inference(arm, shape, moments, stream)
    calibrate_l0(sae, sparse_world(8192, 50).split(1000), L0, n_tokens=8192)
    assert measure_sparsity(sae, [sparse_world(8192, 51)]).l0 == pytest.approx(L0, rel=0.05)


@pytest.mark.parametrize("arm", ["trained", "random"])
@pytest.mark.parametrize("kind", ["layer_norm", "constant_norm_rescale"])
def test_matched_behind_run_time_normalisation_and_without_a_centre(arm, kind, shape, stream):
    moments = measure_moments([sparse_world(4096, 100)], normalize_activations=kind)
    shape = replace(shape, normalize_activations=kind, apply_b_dec_to_input=False)
    learner = new_learner(parse_arm(arm), shape, moments, 0, moments.seen(sparse_world(512, 9)))
    if arm == "trained":
        train_together([learner], stream, moments, Schedule(steps=10, batch_size=256))
    sae = to_inference(learner.sae, moments)
    calibrate_l0(sae, sparse_world(8192, 50).split(1000), L0, n_tokens=8192)
    assert sae.cfg.normalize_activations == kind
    assert measure_sparsity(sae, [sparse_world(8192, 51)]).l0 == pytest.approx(L0, rel=0.05)


@pytest.mark.parametrize(
    "architecture", ["batchtopk", "matryoshka_batchtopk", "jumprelu", "standard", "gated", "matching_pursuit"]
)
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


def test_the_gate_is_moved_and_magnitudes_are_not(moments, stream):
    """What fires before and after has the same value: only the gate's bias was calibrated."""
    sae = _inference("trained", Shape("gated", D_IN, D_SAE, L0), moments, stream)
    x = sparse_world(2000, 50)
    with torch.no_grad():
        before = sae.encode(x)
        calibrate_l0(sae, x.split(300), 3.0, n_tokens=2000)
        after = sae.encode(x)
    assert torch.equal(after[after > 0], before[after > 0])


def test_a_gate_cannot_open_what_the_magnitude_keeps_shut(moments, stream):
    """Latents whose magnitude is cut off do not count as active, whatever their gate says."""
    sae, x = _inference("trained", Shape("gated", D_IN, D_SAE, L0), moments, stream), sparse_world(1000, 50)
    with torch.no_grad():
        sae.b_mag[48:] = -1e6
        sae.r_mag.add_(torch.linspace(-1, 1, D_SAE))
        sae.b_mag.sub_(torch.linspace(0, 1, D_SAE))
    calibrate_l0(sae, x.split(300), 3.0, n_tokens=1000)
    assert measure_sparsity(sae, [x]).l0 == pytest.approx(3.0, abs=2e-3)
    before = sae.b_gate.clone()
    calibrate_l0(sae, [x], 60.0, n_tokens=1000)  # more than is positive at all
    assert torch.equal(sae.b_gate, before)


def test_every_architecture_starts_at_the_target(shape, moments):
    """Or learns from another L0 than it is measured at: no controller is that fast in a short run."""
    first = sparse_world(512, 9) * moments.scale
    sae = new_learner(parse_arm("trained"), shape, moments, 0, first).sae
    with torch.no_grad():
        assert float((sae.encode(first) != 0).sum()) / len(first) == pytest.approx(L0, rel=0.01)


@pytest.mark.parametrize("architecture", ["topk", "abstopk"])
def test_k_stays(architecture, moments, stream):
    sae = _inference("trained", Shape(architecture, D_IN, D_SAE, L0), moments, stream)
    before = {k: v.clone() for k, v in sae.state_dict().items()}
    calibrate_l0(sae, [sparse_world(1000, 50)], 3.0, n_tokens=1000)
    assert sae.cfg.k == L0
    assert all(torch.equal(v, sae.state_dict()[k]) for k, v in before.items())


def test_the_jumprelu_controller_holds_l0_while_training(moments, stream):
    """Before any calibration: a baseline that learned at a fraction of the L0 would be a weak one."""
    shape = Shape("jumprelu", D_IN, D_SAE, L0)
    for mode in ("quadratic", "step", "tanh"):
        recipe = replace(shape, options=(("jumprelu_sparsity_loss_mode", mode),))
        sae = _inference("frozen_decoder@cov", recipe, moments, stream, steps=120)
        assert measure_sparsity(sae, [sparse_world(4096, 51)]).l0 == pytest.approx(L0, rel=0.1), mode


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
