"""The written-out gradients against SAELens' own losses and autograd, in float64."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from sae_lens.saes.sae import TrainStepInput
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import Schedule, Shape, new_learner, parse_arm, train_together
from sae_sanity.baselines.architecture import SPARSITY_COEFFICIENT
from sae_sanity.baselines.sparse_learner import has_sparse_step, sparse_learner

sparse_learner_module = importlib.import_module("sae_sanity.baselines.sparse_learner")  # its function has its name
SPARSE = ("topk", "batchtopk", "matryoshka_batchtopk", "jumprelu")


def _to_double(learner):
    learner.sae.double()
    if hasattr(learner.sae, "threshold"):
        learner.sae.threshold.data = learner.sae.threshold.data.double()  # SAELens keeps it in float32
    learner.start = learner.start.double()


def _learner(shape, moments, *, arm="trained", moved=True):
    learner = sparse_learner(new_learner(parse_arm(arm), shape, moments, 0, sparse_world(512, 9) * moments.scale))
    _to_double(learner)
    sae = learner.sae
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in sae.parameters() if moved else ():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return learner


def _oracle(sae, batch, dead, coefficient):
    """Loss and gradients by SAELens' forward pass and autograd."""
    output = sae.training_forward_pass(
        TrainStepInput(
            sae_in=batch,
            coefficients={SPARSITY_COEFFICIENT.get(sae.cfg.architecture(), ""): coefficient},
            dead_neuron_mask=dead,
            n_training_steps=0,
            is_logging_step=False,
        )
    )
    sae.zero_grad()
    output.loss.backward()
    return output, {name: p.grad.clone() for name, p in sae.named_parameters() if p.grad is not None}


CASES = {
    "plain": {},
    "not_rescaled": {"options": (("rescale_acts_by_decoder_norm", False),)},
    "input_not_centred": {"apply_b_dec_to_input": False},
    "input_centred": {"apply_b_dec_to_input": True},
    "ste_to_input": {"options": (("jumprelu_ste_to_input", True), ("jumprelu_bandwidth", 0.5))},
    "wide_kernel": {"options": (("jumprelu_bandwidth", 1.0),)},
}


def _fits(architecture, case):
    names = {name for name, _ in CASES[case].get("options", ())}
    return all(name.startswith("jumprelu") == (architecture == "jumprelu") for name in names)


@pytest.mark.parametrize("n_dead", [0, 5, 40])
@pytest.mark.parametrize("arm", ["trained", "frozen_decoder@iso", "frozen_encoder@iso"])
@pytest.mark.parametrize(("architecture", "case"), [(a, c) for a in SPARSE for c in CASES if _fits(a, c)])
def test_loss_and_every_gradient_against_saelens(architecture, case, arm, n_dead, moments):
    shape = replace(Shape(architecture, D_IN, D_SAE, L0), **CASES[case])
    learner = _learner(shape, moments, arm=arm)
    batch = (sparse_world(200, 4) * moments.scale).double()
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[:n_dead] = True
    output, expected = _oracle(learner.sae, batch, dead, 0.7)
    buffers = {name: b.clone() for name, b in learner.sae.named_buffers()}
    again = _learner(shape, moments, arm=arm)
    again.coefficient = 0.7
    loss, codes = again.gradients(batch, dead)
    assert loss == pytest.approx(float(output.loss.detach()), rel=1e-9)
    active = output.feature_acts.detach().nonzero()
    order = torch.argsort(codes.rows * D_SAE + codes.columns)
    assert torch.equal(torch.stack([codes.rows, codes.columns], 1)[order], active)
    got = {name: p.grad for name, p in again.sae.named_parameters() if p.grad is not None}
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-8, atol=1e-10, msg=lambda text, n=name: f"{n}: {text}")
    for name, buffer in again.sae.named_buffers():
        torch.testing.assert_close(buffer, buffers[name])


@pytest.mark.parametrize("architecture", SPARSE)
@pytest.mark.parametrize("arm", ["trained", "soft_frozen@0.8", "frozen_decoder@iso", "frozen_encoder@iso"])
def test_trains_to_where_the_dense_learner_trains_to(architecture, arm, moments, stream, monkeypatch):
    monkeypatch.setattr(sparse_learner_module, "FAR_OFF", -1.0)  # JumpReLU is held as by `Learner`
    schedule = Schedule(steps=40, batch_size=256, lr=3e-3, dead_after=5)
    shape = Shape(architecture, D_IN, D_SAE, L0)
    first = sparse_world(512, 9) * moments.scale
    dense = new_learner(parse_arm(arm), shape, moments, 0, first)
    ours = sparse_learner(new_learner(parse_arm(arm), shape, moments, 0, first))
    assert has_sparse_step(ours.sae)
    for learner in (dense, ours):
        _to_double(learner)
    train_together([dense, ours], lambda start: (b.double() for b in stream(start)), moments, schedule)
    for name, value in dense.sae.state_dict().items():
        # Sums in another order: the arms drift apart by rounding, which Adam's first steps enlarge.
        torch.testing.assert_close(ours.sae.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert torch.equal(ours.since_fired, dense.since_fired)
    assert ours.coefficient == pytest.approx(dense.coefficient, rel=1e-6)


@pytest.mark.parametrize(("l0", "moves"), [(L0 * 1.2, False), (L0 / 1.3, False), (L0 * 1.4, True), (L0 / 1.4, True)])
def test_jumprelu_thresholds_are_moved_only_while_l0_is_far_off(l0, moves, moments):
    learner = _learner(Shape("jumprelu", D_IN, D_SAE, L0), moments)
    before = learner.sae.threshold.detach().clone()
    learner._control(l0)
    ratio = learner.sae.threshold / before
    assert torch.equal(learner.sae.threshold, before) != moves
    if moves:
        assert (ratio > 1).all() == (l0 > L0)
    assert learner.coefficient == 1.0


@pytest.mark.parametrize("architecture", ["standard", "gated", "abstopk", "matching_pursuit"])
def test_other_architectures_are_stepped_as_ever(architecture, moments, stream):
    shape = Shape(architecture, D_IN, D_SAE, L0)
    first = sparse_world(512, 9) * moments.scale
    dense = new_learner(parse_arm("trained"), shape, moments, 0, first)
    ours = sparse_learner(new_learner(parse_arm("trained"), shape, moments, 0, first))
    assert not has_sparse_step(ours.sae)
    train_together([dense, ours], stream, moments, Schedule(steps=5, batch_size=256))
    for name, value in dense.sae.state_dict().items():
        assert torch.equal(ours.sae.state_dict()[name], value)


def test_options_without_a_written_gradient_are_stepped_as_ever(moments):
    for architecture, option in (
        ("jumprelu", ("jumprelu_sparsity_loss_mode", "tanh")),
        ("jumprelu", ("pre_act_loss_coefficient", 0.1)),
        ("matryoshka_batchtopk", ("use_matryoshka_aux_loss", True)),
    ):
        shape = Shape(architecture, D_IN, D_SAE, L0, options=(option,))
        assert not has_sparse_step(_learner(shape, moments, moved=False).sae)
