"""BatchTopK of a bfloat16 product with exact candidates, against the float64 product, numpy's sort and SAELens."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens.saes.batchtopk_sae import BatchTopK
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import Schedule, Shape, new_learner, parse_arm, train_together
from sae_sanity.baselines.codes import largest_of_batch
from sae_sanity.baselines.rough_topk import largest_of_product, may_be_rough
from sae_sanity.baselines.sparse_learner import sparse_learner
from sae_sanity.baselines.training import fast_matmul

N, WIDTH, LATENTS = 96, 40, 70


def _inputs(seed=0, *, offset=0.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, WIDTH, generator=generator) + offset
    encoder = torch.randn(WIDTH, LATENTS, generator=generator) / WIDTH**0.5
    bias = 0.3 * torch.randn(LATENTS, generator=generator)
    return x, encoder, bias, torch.rand(LATENTS, generator=generator) + 0.5


def _dense(x, encoder, bias):
    return x.double() @ encoder.double() + bias.double()


def _mask(codes):
    assert (codes.rows.diff() >= 0).all(), "rows must rise"
    found = torch.zeros(N, LATENTS, dtype=torch.int64)
    return found.index_put((codes.rows, codes.columns), torch.ones(len(codes.rows), dtype=torch.int64), accumulate=True)


def _entries(k, hidden):
    """What SAELens' BatchTopK keeps."""
    return (BatchTopK(k)(hidden) > 0).long()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("k", [0.5, 3.0, 7.5, 20.0])
def test_against_saelens_on_the_exact_product(k, scaled):
    x, encoder, bias, scale = _inputs(int(10 * k))
    codes, values, threshold = largest_of_product(x, encoder, bias, scale if scaled else None, k, 0.0)
    hidden = _dense(x, encoder, bias)
    ranked = hidden * scale.double() if scaled else hidden
    assert torch.equal(_mask(codes), _entries(k, ranked))
    torch.testing.assert_close(values.double(), hidden[codes.rows, codes.columns], rtol=1e-5, atol=1e-5)
    assert threshold == pytest.approx(float(ranked[codes.rows, codes.columns].min()), rel=1e-5)


def test_values_are_more_exact_than_the_product_that_finds_them():
    """The point of it: what is chosen has float32's precision, not bfloat16's."""
    x, encoder, bias, _ = _inputs(1)
    codes, values, _ = largest_of_product(x, encoder, bias, None, 5.0, 0.0)
    exact = _dense(x, encoder, bias)[codes.rows, codes.columns]
    rough = torch.addmm(bias.bfloat16(), x.bfloat16(), encoder.bfloat16())[codes.rows, codes.columns]
    assert float((rough.double() - exact).abs().max()) > 1000 * float((values.double() - exact).abs().max())


def test_the_guess_changes_nothing():
    x, encoder, bias, scale = _inputs(2)
    first = largest_of_product(x, encoder, bias, scale, 4.0, 0.0)
    for factor in (1e-3, 0.5, 0.9, 0.97, 1.0, 1.01, 1.03, 1.06, 1.1, 2.0, 1e3):
        again = largest_of_product(x, encoder, bias, scale, 4.0, factor * first.threshold)
        assert torch.equal(torch.stack(again.codes), torch.stack(first.codes)), factor
        assert torch.equal(again.values, first.values)
        assert again.threshold == first.threshold


@given(st.integers(0, 2**31), st.floats(0.02, 60.0), st.floats(0.0, 10.0), st.floats(-3.0, 1.0))
def test_against_a_sort_whatever_the_matrix_and_the_guess(seed, k, last, shift):
    """Only where fewer are positive than wanted may one of rounding's size be left out."""
    x, encoder, bias, scale = _inputs(seed)
    bias = bias + shift
    codes, _, threshold = largest_of_product(x, encoder, bias, scale, k, last)
    ranked = (_dense(x, encoder, bias) * scale.double()).numpy()
    least = 0.02 if threshold == 0 else 0.0
    positive = np.sort(ranked[ranked > least])[::-1][: int(k * N)]
    got = np.sort(ranked[codes.rows.numpy(), codes.columns.numpy()])[::-1]
    np.testing.assert_allclose(got[got > least], positive, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("last", [0.0, 0.5, 100.0])
def test_fewer_positive_than_wanted_keeps_all_positive(last):
    x, encoder, bias, _ = _inputs(3)
    bias = bias - 2.5
    codes, _, threshold = largest_of_product(x, encoder, bias, None, 60.0, last)
    assert torch.equal(_mask(codes), (_dense(x, encoder, bias) > 0).long())
    assert threshold == 0


@pytest.mark.parametrize("last", [0.0, 1.0])
def test_nothing_to_choose_from(last):
    x, encoder, bias, _ = _inputs(4)
    codes, values, threshold = largest_of_product(x, encoder, bias - 100, None, 3.0, last)
    assert len(codes.rows) == len(values) == threshold == 0


@pytest.mark.parametrize("last", [0.0, 0.2])
def test_a_product_that_rounding_spoils_is_looked_at_more_widely(last):
    """Activations far from their centre: bfloat16 is off by much of the threshold; the choice is right."""
    x, encoder, bias, _ = _inputs(6, offset=40.0)
    bias = bias - 40 * encoder.sum(0)
    codes, _, threshold = largest_of_product(x, encoder, bias, None, 4.0, last)
    exact = _dense(x, encoder, bias)
    rough = torch.addmm(bias.bfloat16(), x.bfloat16(), encoder.bfloat16())
    assert float((rough - exact).abs().max()) > 0.1 * threshold
    missed = (_entries(4.0, exact) - _mask(codes)).clamp(min=0)
    assert int(missed.sum()) <= 1


def test_bits_of_positive_bfloat16_are_ordered_as_the_numbers():
    """What finding candidates rests on."""
    numbers = torch.cat(
        [torch.tensor([-torch.inf, -1.0, -0.0, 0.0]), torch.logspace(-30, 30, 999), torch.tensor([torch.inf])]
    )
    bits = numbers.bfloat16().view(torch.int16)
    positive = bits[numbers > 0].tolist()
    assert all(a <= b for a, b in pairwise(positive))
    assert (bits[numbers < 0] < 0).all()


def test_only_where_the_caller_lets_products_be_rough(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    batch = torch.zeros(2, 3)
    assert not may_be_rough(batch)
    with fast_matmul():
        assert may_be_rough(batch)
        assert not may_be_rough(batch.double())
        assert not may_be_rough(batch.to("meta"))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
        assert not may_be_rough(batch)
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
        assert not may_be_rough(batch)


@pytest.fixture
def rough(monkeypatch):
    """Choose by the bfloat16 product whatever the CPU, and count how often."""
    calls = []
    sparse = __import__("sae_sanity.baselines.sparse_learner", fromlist=["x"])

    def chosen(*arguments):
        calls.append(arguments)
        return largest_of_product(*arguments)

    monkeypatch.setattr(sparse, "may_be_rough", lambda batch: True)
    monkeypatch.setattr(sparse, "largest_of_product", chosen)
    return calls


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_chooses_what_the_exact_step_chooses(architecture, centred, rescaled, moments, rough):
    options = (("rescale_acts_by_decoder_norm", rescaled),)
    shape = Shape(architecture, D_IN, D_SAE, L0, apply_b_dec_to_input=centred, options=options)
    first = sparse_world(512, 9) * moments.scale
    learner = sparse_learner(new_learner(parse_arm("trained"), shape, moments, 0, first))
    sae, batch = learner.sae, sparse_world(256, 4) * moments.scale
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        norm = sae.W_dec.norm(dim=-1) if rescaled else torch.ones(D_SAE)
        hidden = (batch - sae.b_dec * centred) @ sae.W_enc + sae.b_enc
        expected, threshold = largest_of_batch(hidden * norm, L0, 0.0)
    _, codes = learner.gradients(batch, torch.zeros(D_SAE, dtype=torch.bool))
    assert len(rough) == 1
    assert torch.equal(torch.stack(codes), torch.stack(expected))
    assert learner.last_threshold == pytest.approx(threshold, rel=1e-5)


@pytest.mark.parametrize("arm", ["trained", "soft_frozen@0.8", "frozen_decoder@iso", "frozen_encoder@iso"])
def test_explains_what_the_dense_step_explains(arm, moments, stream, rough):
    """The tolerance that is stated: .002 of explained variance, on batches that were not trained on."""
    shape, first = Shape("batchtopk", D_IN, D_SAE, L0), sparse_world(512, 9) * moments.scale
    learners = [new_learner(parse_arm(arm), shape, moments, 0, first) for _ in range(2)]
    learners[1] = sparse_learner(learners[1])
    train_together(learners, stream, moments, Schedule(steps=60, batch_size=256, lr=3e-3, dead_after=20))
    assert len(rough) == 60
    held_out = sparse_world(4096, 77) * moments.scale
    total = float((held_out - held_out.mean(0)).square().sum())
    with torch.no_grad():
        dense, sparse = (1 - float((m.sae(held_out) - held_out).square().sum()) / total for m in learners)
    assert abs(dense - sparse) < 0.002


def test_a_killed_training_resumes_to_the_same_bytes(moments, stream, rough, tmp_path):
    shape, first = Shape("batchtopk", D_IN, D_SAE, L0), sparse_world(512, 9) * moments.scale
    schedule = Schedule(steps=30, batch_size=256, lr=3e-3, dead_after=5)

    def make():
        return [sparse_learner(new_learner(parse_arm(a), shape, moments, 0, first)) for a in ("trained", "soft_frozen")]

    class KilledError(Exception):
        pass

    def kill(step):
        if step == 17:
            raise KilledError

    whole, killed, resumed, steps = make(), make(), make(), []
    train_together(whole, stream, moments, schedule)
    ticks = iter(range(0, 10**6, 40))  # every second step is more than a minute after the last checkpoint
    options = {"checkpoint": tmp_path / "state", "key": "k"}
    with pytest.raises(KilledError):
        train_together(killed, stream, moments, schedule, on_step=kill, clock=lambda: float(next(ticks)), **options)
    train_together(resumed, stream, moments, schedule, on_step=steps.append, **options)
    assert 1 < steps[0] <= 17
    for one, other in zip(whole, resumed, strict=True):
        state = other.state()
        assert all(torch.equal(value, state[name]) for name, value in one.state().items())
        assert one.last_threshold > 0


def test_where_to_look_next_is_part_of_the_state(moments, stream, rough):
    shape, first = Shape("batchtopk", D_IN, D_SAE, L0), sparse_world(512, 9) * moments.scale
    one, other = (sparse_learner(new_learner(parse_arm("trained"), shape, moments, 0, first)) for _ in range(2))
    train_together([one], stream, moments, Schedule(steps=3, batch_size=256))
    other.restore(one.state())
    assert other.last_threshold == one.last_threshold > 0
