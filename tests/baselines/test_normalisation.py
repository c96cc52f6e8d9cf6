from __future__ import annotations

import numpy as np
import pytest
import torch
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
from sparse_world import D_IN, sparse_world

from sae_sanity.baselines import measure_moments
from sae_sanity.baselines.normalisation import FOLDED, RUN_TIME, normalise, run_time_kind


@pytest.mark.parametrize("kind", RUN_TIME)
def test_against_saelens_bit_for_bit(kind):
    sae = StandardSAE(StandardSAEConfig(d_in=D_IN, d_sae=4, normalize_activations=kind))
    x = sparse_world(256, 3)
    assert torch.equal(normalise(x, kind), sae.run_time_activation_norm_fn_in(x))


@pytest.mark.parametrize("kind", RUN_TIME)
def test_moments_are_those_of_what_the_sae_sees(kind):
    rows = sparse_world(900, 3)
    seen = normalise(rows, kind)
    moments = measure_moments(rows.split(100), normalize_activations=kind)
    np.testing.assert_allclose(moments.mean, seen.mean(0), atol=1e-6)
    np.testing.assert_allclose(moments.covariance, np.cov(seen.numpy().T, bias=True), atol=1e-5)
    assert (moments.scale, moments.space) == (1.0, kind)
    assert torch.equal(moments.seen(rows), seen)
    assert float(seen.norm(dim=-1).mean()) == pytest.approx(D_IN**0.5, rel=0.03)


@pytest.mark.parametrize("kind", FOLDED)
def test_one_factor_for_all_tokens_is_the_scale(kind):
    rows = sparse_world(900, 3)
    moments = measure_moments([rows], normalize_activations=kind)
    assert moments.space == "none"
    assert torch.equal(moments.seen(rows), rows * moments.scale)


def test_unknown_kind_says_what_is_known():
    with pytest.raises(ValueError, match="'covariance_whitening'; known: none, expected_average_only_in, constant_nor"):
        run_time_kind("covariance_whitening")
