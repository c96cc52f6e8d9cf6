"""The true dictionary as an arm, and the one factor that its decoder needs, against numpy's least squares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from sae_sanity.baselines import (
    ARCHITECTURES,
    Oracle,
    Shape,
    baseline_classes,
    calibrate_l0,
    fit_scale,
    measure_moments,
    measure_sparsity,
    new_learner,
    parse_arm,
    random_directions,
    to_inference,
)
from sae_sanity.suites.synthetic import WorldSpec, make_world

N_FEATURES, D_IN, L0 = 96, 24, 3.0
WITH_ENCODER = [name for name in ARCHITECTURES if name != "matching_pursuit"]


@pytest.fixture(scope="module")
def world():
    return make_world(WorldSpec("variable", N_FEATURES, D_IN, L0), 0)


@pytest.fixture(scope="module")
def acts(world):
    """Draw activations; `seed` says which."""
    return lambda n, seed: world.sample(n, seed=seed).activations


@pytest.fixture(scope="module")
def moments(acts):
    return measure_moments([acts(4096, 0)])


def _sae(baseline, architecture, acts, moments, *, d_sae=N_FEATURES):
    shape = Shape(architecture, D_IN, d_sae, L0)
    learner = new_learner(baseline, shape, moments, 0, moments.seen(acts(512, 1)))
    sae = to_inference(learner.sae, moments)
    calibrate_l0(sae, acts(4000, 2).split(512), L0, n_tokens=4000)
    return sae


def _explained(sae, x):
    with torch.no_grad():
        return 1 - float((sae(x) - x).square().sum() / (x - x.mean(0)).square().sum())


@pytest.mark.parametrize("architecture", WITH_ENCODER)
def test_every_architecture_holds_the_truth_at_the_matched_l0(architecture, world, acts, moments):
    sae = _sae(Oracle(truth=world.features), architecture, acts, moments)
    fit_scale(sae, acts(4000, 2).split(512))
    ones = torch.ones(N_FEATURES)
    torch.testing.assert_close(cosine_similarity(sae.W_dec, world.features), ones, rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine_similarity(sae.W_enc.T, world.features), ones, rtol=0, atol=1e-6)
    assert measure_sparsity(sae, [acts(4000, 3)]).l0 == pytest.approx(L0, rel=0.05)


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_a_ceiling_for_a_random_dictionary(architecture, world, acts, moments):
    found = {}
    for baseline in (Oracle(truth=world.features), parse_arm("random")):
        sae = _sae(baseline, architecture, acts, moments)
        fit_scale(sae, [acts(4000, 2)])
        found[baseline.name] = _explained(sae, acts(4000, 3))
    assert found["oracle"] > found["random"] + 0.1


@pytest.mark.parametrize("d_sae", [40, N_FEATURES, 130])
def test_the_first_features_are_held_and_the_rest_is_random(d_sae, world, moments):
    shape = Shape("topk", D_IN, d_sae, L0)
    oracle = Oracle(truth=world.features)
    rows = oracle.start(shape, moments, 5).W_dec
    held = min(d_sae, N_FEATURES)
    assert rows.shape == (d_sae, D_IN)
    assert torch.equal(rows[:held], world.features[:held])
    drawn = random_directions(d_sae, moments, "iso", torch.Generator().manual_seed(5))
    assert torch.equal(rows[held:], drawn[held:])
    assert not torch.equal(oracle.start(shape, moments, 6).W_dec[held:], rows[held:]) or d_sae <= N_FEATURES


def test_the_order_of_the_truth_is_the_order_of_the_latents(world, moments):
    order = world.rates.argsort(descending=True, stable=True)
    rows = Oracle(truth=world.features[order]).start(Shape("topk", D_IN, 10, L0), moments, 0).W_dec
    assert torch.equal(rows, world.features[np.argsort(-world.rates.numpy(), kind="stable")[:10]])


def test_it_is_no_null_learns_nothing_and_is_in_no_registry():
    assert not Oracle.trains
    assert Oracle.null_for == ()
    assert "oracle" not in baseline_classes()


@pytest.mark.parametrize("architecture", WITH_ENCODER)
@pytest.mark.parametrize("name", ["oracle", "random"])
def test_scale_against_numpy(architecture, name, world, acts, moments):
    baseline = Oracle(truth=world.features) if name == "oracle" else parse_arm(name)
    sae = _sae(baseline, architecture, acts, moments)
    x = acts(1000, 4)
    with torch.no_grad():
        sae.b_dec.add_(0.3)  # worlds have no mean, data has
        latents, rows = sae.encode(x), sae.W_dec.clone()
        written = (latents @ rows).double().numpy().reshape(-1, 1)
    expected = np.linalg.lstsq(written, (x - sae.b_dec).detach().double().numpy().ravel(), rcond=None)[0][0]
    factor = fit_scale(sae, x.split(300))
    assert factor == pytest.approx(expected, rel=1e-5)
    # A tied dictionary in superposition overshoots; what Standard's bias takes from every latent is more than that.
    assert (factor < 1) == (architecture != "standard")
    assert torch.equal(sae.W_dec, rows * factor)
    with torch.no_grad():
        assert torch.equal(sae.encode(x), latents)


def test_no_other_factor_explains_more(world, acts, moments):
    sae, x = _sae(Oracle(truth=world.features), "batchtopk", acts, moments), acts(2000, 4)
    fit_scale(sae, [x])
    best = _explained(sae, x)
    for factor in (0.98, 1.02):
        with torch.no_grad():
            sae.W_dec.mul_(factor)
            assert _explained(sae, x) < best
            sae.W_dec.div_(factor)


def test_the_scale_is_found_once(world, acts, moments):
    sae, x = _sae(Oracle(truth=world.features), "jumprelu", acts, moments), acts(1000, 4)
    fit_scale(sae, [x])
    assert fit_scale(sae, [x]) == pytest.approx(1.0, abs=1e-6)


def test_nothing_written_is_left_as_it_is(world, acts, moments):
    sae = _sae(Oracle(truth=world.features), "jumprelu", acts, moments)
    with torch.no_grad():
        sae.threshold.fill_(1e6)
    before = sae.W_dec.clone()
    assert fit_scale(sae, [acts(100, 4)]) == 1.0
    assert torch.equal(sae.W_dec, before)


def test_no_tokens(world, acts, moments):
    sae = _sae(Oracle(truth=world.features), "topk", acts, moments)
    with pytest.raises(ValueError, match="no tokens"):
        fit_scale(sae, [])


def test_the_centre_is_the_datas(world, acts, moments):
    """As every arm: an oracle that had to write the mean would be no ceiling."""
    raw = replace(moments, mean=moments.mean + 2.0)
    sae = Oracle(truth=world.features).start(Shape("topk", D_IN, N_FEATURES, L0), raw, 0)
    torch.testing.assert_close(sae.b_dec, raw.mean * raw.scale)


def test_fit_scale_leaves_matching_pursuit_whole(world, acts, moments):
    sae = _sae(Oracle(truth=world.features), "matching_pursuit", acts, moments)
    before = sae.W_dec.clone()
    assert fit_scale(sae, [acts(100, 4)]) == 1.0
    assert torch.equal(sae.W_dec, before)
