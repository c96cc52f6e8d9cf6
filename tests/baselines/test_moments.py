from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_sanity.baselines import Moments, measure_moments, random_directions
from sae_sanity.baselines.moments import parse_init


def test_moments_against_numpy():
    rows = torch.randn(999, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2, 3, 4, 5]) + 7
    moments = measure_moments(rows.split(100))
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.numpy().T, bias=True), rtol=1e-4)
    np.testing.assert_allclose((rows * moments.scale).norm(dim=-1).mean(), 5**0.5, rtol=1e-6)


def test_scale_is_saelens_scaling_factor():
    from sae_lens.training.activation_scaler import ActivationScaler

    rows = torch.randn(512, 8, generator=torch.Generator().manual_seed(0)) + 3
    scaler = ActivationScaler()
    scaler.estimate_scaling_factor(d_in=8, data_provider=iter(rows.split(64)), n_batches_for_norm_estimate=8)
    assert measure_moments(rows.split(64)).scale == pytest.approx(scaler.scaling_factor, rel=1e-6)


def test_moments_need_tokens():
    with pytest.raises(ValueError, match="0 tokens"):
        measure_moments([])


def _moments(covariance: torch.Tensor) -> Moments:
    return Moments(torch.zeros(len(covariance)), covariance, 1.0)


def test_iso_is_uniform_on_the_sphere():
    rows = random_directions(
        40_000, _moments(torch.diag(torch.tensor([9.0, 1, 1, 1]))), "iso", torch.Generator().manual_seed(3)
    )
    np.testing.assert_allclose(rows.norm(dim=-1), 1, rtol=1e-6)
    # On S^3 every coordinate has mean 0, variance 1/4 and fourth moment 3/(4*6), whatever the covariance of the data.
    np.testing.assert_allclose(rows.mean(0), 0, atol=0.01)
    np.testing.assert_allclose((rows**2).mean(0), 0.25, atol=0.005)
    np.testing.assert_allclose((rows**4).mean(0), 3 / 24, atol=0.005)


def test_cov_follows_the_covariance():
    # For a Gaussian with covariance diag(a, b) the angle of a unit row has E[x^2] = sqrt(a) / (sqrt(a) + sqrt(b)).
    rows = random_directions(
        40_000, _moments(torch.diag(torch.tensor([9.0, 1.0]))), "cov", torch.Generator().manual_seed(3)
    )
    np.testing.assert_allclose(rows.norm(dim=-1), 1, rtol=1e-6)
    assert float((rows[:, 0] ** 2).mean()) == pytest.approx(3 / (3 + 1), abs=0.005)


def test_cov_of_a_singular_covariance_stays_in_its_span():
    direction = torch.tensor([1.0, 2.0, 2.0]) / 3
    rows = random_directions(10, _moments(torch.outer(direction, direction)), "cov", torch.Generator().manual_seed(0))
    np.testing.assert_allclose((rows @ direction).abs(), 1, atol=1e-5)


def test_same_seed_same_directions():
    first, second = (
        random_directions(4, _moments(torch.eye(3)), "iso", torch.Generator().manual_seed(5)) for _ in "ab"
    )
    assert torch.equal(first, second)


def test_unknown_init():
    with pytest.raises(ValueError, match="no such init: 'gauss'"):
        parse_init("gauss")
