from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from sae_sanity.suites.synthetic import PAPER, World, WorldSpec, make_world, stream
from sae_sanity.suites.synthetic.truth import Truth

CONSTANT, VARIABLE = PAPER["constant"], PAPER["variable"]
SMALL = WorldSpec("variable", 200, 20, 4.0)
OF_ALL_KINDS = [
    SMALL,
    replace(SMALL, kind="constant"),
    replace(SMALL, kind="correlated"),
    replace(SMALL, kind="hierarchical"),
    replace(SMALL, kind="synthsaebench", orthogonal_steps=2),
]


@pytest.fixture(scope="module", params=["constant", "variable"])
def world(request):
    return make_world(PAPER[request.param], 0)


def bits(sample):
    return [sample.activations, sample.rows, sample.features, sample.magnitudes]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(bits(first), bits(second), strict=True))


def test_papers_worlds(world):
    assert isinstance(world, World)
    assert isinstance(world, Truth)
    assert world.features.shape == (3200, 100)
    assert world.features.dtype == torch.float32
    assert world.rates.dtype == torch.float64
    assert torch.allclose(world.features.norm(dim=1), torch.ones(3200), atol=1e-6)
    assert (world.bias == 0).all()


def test_features_are_uniform_on_the_sphere(world):
    # The cosine with any fixed direction is 2 Beta((d-1)/2, (d-1)/2) - 1, and the Gram matrix is that of the identity.
    for direction in np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))[0][:5]:
        cosine = world.features.double().numpy() @ direction
        assert stats.kstest((cosine + 1) / 2, stats.beta(49.5, 49.5).cdf).pvalue > 1e-4
    pairs = (world.features[:400] @ world.features[400:800].T).flatten().double().numpy()
    assert stats.kstest((pairs[:20_000] + 1) / 2, stats.beta(49.5, 49.5).cdf).pvalue > 1e-4
    # Marchenko-Pastur: eigenvalues of d F'F / n lie within (1 +- sqrt(d / n))^2.
    eigenvalues = torch.linalg.eigvalsh(world.features.T @ world.features * 100 / 3200)
    edge = (100 / 3200) ** 0.5
    assert eigenvalues.min() > (1 - edge) ** 2 - 0.05
    assert eigenvalues.max() < (1 + edge) ** 2 + 0.05


def test_rates_of_the_constant_world():
    world = make_world(CONSTANT, 3)
    assert (world.rates == 0.00625).all()


def test_rates_of_the_variable_world_are_log_uniform_on_the_papers_interval():
    exponents = torch.log10(make_world(VARIABLE, 3).rates).numpy()
    assert exponents.min() >= -5.5
    assert exponents.max() <= -1.2
    assert stats.kstest(exponents, stats.uniform(-5.5, 4.3).cdf).pvalue > 1e-4
    sums = [float(make_world(VARIABLE, seed).rates.sum()) for seed in range(40)]
    # 3,200 times the mean of the log-uniform density, by quadrature.
    expected = 3200 * np.mean(10 ** np.linspace(-5.5, -1.2, 1_000_001))
    assert abs(np.mean(sums) - expected) < 4 * 0.72 / 40**0.5


@pytest.mark.parametrize("l0", [1.0, 8.0, 60.0])
def test_other_l0s_are_met_in_every_world(l0):
    for seed in range(3):
        assert float(make_world(WorldSpec("variable", 800, 10, l0), seed).rates.sum()) == pytest.approx(l0)


def test_firing_counts_and_l0(world):
    n = 50_000
    sample = world.sample(n, seed=1)
    counts = torch.bincount(sample.features, minlength=3200).double()
    sd = (n * world.rates * (1 - world.rates)).sqrt()
    assert ((counts - n * world.rates).abs() <= 6 * sd + 6).all()
    l0 = len(sample.rows) / n
    assert abs(l0 - float(world.rates.sum())) < 5 * float(sd.square().sum()) ** 0.5 / n


def test_magnitudes_are_log_normal(world):
    logs = world.sample(2000, seed=2).magnitudes.log().numpy()[:30_000]
    assert stats.kstest(logs, stats.norm(0, 0.25).cdf).pvalue > 1e-4


def test_constant_magnitudes():
    sample = make_world(replace(SMALL, magnitude_sigma=0.0), 0).sample(100, seed=0)
    assert (sample.magnitudes == 1).all()


@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_activations_are_the_firing_features_times_their_magnitudes(spec):
    world = make_world(spec, 1)
    sample = world.sample(300, seed=5)
    codes = torch.zeros(300, spec.n_features, dtype=torch.float64)
    codes[sample.rows, sample.features] = sample.magnitudes.double()
    assert (codes > 0).sum() == len(sample.rows)
    expected = codes @ world.features.double() + world.bias
    assert torch.allclose(sample.activations.double(), expected, atol=1e-4)
    assert sample.activations.dtype == torch.float32
    assert ((sample.rows * spec.n_features + sample.features).diff() > 0).all()


@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_same_seeds_same_bits_whatever_came_before(spec):
    world = make_world(spec, 1)
    first = world.sample(50, seed=7)
    torch.manual_seed(123)
    world.sample(30, seed=8)
    assert same(first, world.sample(50, seed=7))
    again = make_world(spec, 1)
    assert torch.equal(again.features, world.features)
    assert torch.equal(again.rates, world.rates)
    assert same(first, again.sample(50, seed=7))
    assert not torch.equal(first.activations, world.sample(50, seed=8).activations)
    assert not torch.equal(make_world(spec, 2).features, world.features)


@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_global_generators_are_left_alone(spec):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    world = make_world(spec, 1)
    world.sample(20, seed=0)
    _ = world.rates
    next(stream(world, 10, seed=0, n_batches=1)(0))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


def test_bits_do_not_depend_on_threads():
    world = make_world(VARIABLE, 0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = world.sample(5000, seed=1)
        torch.set_num_threads(3)
        assert same(one, world.sample(5000, seed=1))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_batch_of_a_stream_does_not_depend_on_where_it_started(spec):
    batches = stream(make_world(spec, 1), 16, seed=3, n_batches=5)
    all_of_them = list(batches(0))
    assert len(all_of_them) == 5
    assert all(torch.equal(a, b) for a, b in zip(batches(2), all_of_them[2:], strict=True))
    assert len({float(batch.sum()) for batch in all_of_them}) == 5
    assert list(batches(5)) == []


def test_streams_of_other_seeds_and_samples_are_others():
    world = make_world(SMALL, 1)
    drawn = [next(stream(world, 16, seed=seed, n_batches=1)(0)) for seed in range(3)]
    drawn += [world.sample(16, seed=seed).activations for seed in range(3)]
    assert len({float(batch.sum()) for batch in drawn}) == 6


@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_no_samples(spec):
    sample = make_world(spec, 0).sample(0, seed=0)
    assert sample.activations.shape == (0, 20)
    assert len(sample.rows) == 0


def test_sample_in_which_nothing_fires():
    world = make_world(WorldSpec("constant", 5, 3, 1e-9), 0)
    sample = world.sample(4, seed=0)
    assert (sample.activations == 0).all()
    assert len(sample.magnitudes) == 0


BAD = {
    "world is 'flat'; it must be one of constant, variable": {"kind": "flat"},
    "n_features is 0": {"n_features": 0},
    "d_in is -3": {"d_in": -3},
    "l0 is 0": {"l0": 0.0},
    "l0 is nan": {"l0": float("nan")},
    "l0 is 201.0": {"l0": 201.0, "kind": "constant"},
    "l0 is 30.0": {"l0": 30.0},
    "magnitude_sigma is -1": {"magnitude_sigma": -1.0},
    "low is -1.0": {"low": -1.0},
    "high is 0.5": {"high": 0.5},
    "rank is 0": {"rank": 0},
    "correlation is 0.5; it must be in [0, 0.2) at rank 25": {"correlation": 0.5},
    "branching is 1": {"branching": 1},
    "depth is 0": {"depth": 0},
    "exclusive is 1.5": {"exclusive": 1.5},
    "orthogonal_steps is -1": {"orthogonal_steps": -1},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_specs_are_refused_in_one_line(message):
    with pytest.raises(ValueError) as refused:
        make_world(replace(SMALL, **BAD[message]), 0)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_negative_world_seed():
    with pytest.raises(ValueError, match="seed of a world is -1"):
        make_world(SMALL, -1)


def test_rates_above_one_are_refused():
    with pytest.raises(ValueError, match=r"^l0 is 2.0; it must be at most .* in the world of seed 1$"):
        make_world(WorldSpec("variable", 20, 5, 2.0), 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("spec", OF_ALL_KINDS, ids=lambda spec: spec.kind)
def test_gpu_has_the_same_world(spec):
    here, there = make_world(spec, 1), make_world(spec, 1, device="cuda")
    assert torch.allclose(here.features, there.features.cpu(), atol=1e-4)
    assert torch.allclose(here.rates, there.rates.cpu(), rtol=1e-3)
    sample = there.sample(20_000, seed=0)
    assert sample.activations.device.type == "cuda"
    assert same(sample, there.sample(20_000, seed=0))
    counts = torch.bincount(sample.features, minlength=spec.n_features).double().cpu()
    sd = (20_000 * here.rates * (1 - here.rates)).sqrt()
    assert ((counts - 20_000 * here.rates).abs() <= 6 * sd + 6).all()
