from __future__ import annotations

import pytest
import torch
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE, MatchingPursuitSAEConfig
from sparse_world import D_IN, D_SAE, sparse_world

from sae_sanity.baselines import calibrate_l0, measure_sparsity
from sae_sanity.baselines.pursuit import picks, stopping_rule


def _sae(*, coherent=0.0, norm=1.0, **options):
    sae = MatchingPursuitSAE(MatchingPursuitSAEConfig(d_in=D_IN, d_sae=D_SAE, residual_threshold=0.0, **options))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(D_SAE, D_IN, generator=generator) + coherent
    with torch.no_grad():
        sae.W_dec.copy_(rows / rows.norm(dim=1, keepdim=True))
        sae.W_dec[::2] *= norm
        sae.b_dec.copy_(sparse_world(1000, 1).mean(0))
    return sae


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("coherent", [0.0, 1.0])
@pytest.mark.parametrize("threshold", [0.0, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("norm", [1.0, 1.6])
def test_picks_count_what_saelens_encode_activates(stop, coherent, threshold, norm):
    """Per token, for every number of iterations: the oracle is SAELens' own encode.

    SAELens does not keep rows at norm 1 while training; with longer ones a residual can grow again.
    """
    sae, x = _sae(coherent=coherent, norm=norm, stop_on_duplicate_support=stop), sparse_world(200, 5)
    found = picks(sae, x, 12)
    sae.cfg.residual_threshold = threshold
    for steps in (1, 2, 7, 12):
        sae.cfg.max_iterations = steps
        with torch.no_grad():
            active = (sae.encode(x) != 0).sum(1)
        assert torch.equal((found[:, :steps] >= max(threshold, 0.0)).sum(1), active)


def test_without_repeats_the_rule_is_k_alone():
    found = torch.tensor([[torch.inf, 3.0, 2.0], [torch.inf, 2.5, 1.0]])
    assert stopping_rule(found, 2.0) == (2, 0.0)


def test_what_is_over_is_trimmed_by_the_residual():
    found = torch.tensor([[torch.inf, 3.0, 2.0], [torch.inf, -torch.inf, 1.0]])
    assert stopping_rule(found, 2.0) == (3, 1.5)  # five latents in three iterations, four are wanted


def test_out_of_reach():
    found = torch.tensor([[torch.inf, 3.0], [torch.inf, -torch.inf]])
    assert stopping_rule(found, 1.9) is None


@pytest.mark.parametrize("l0", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("coherent", [0.0, 0.3])
def test_matched_exactly_on_the_calibration_text(l0, coherent):
    sae, x = _sae(coherent=coherent, stop_on_duplicate_support=False), sparse_world(2000, 50)
    calibrate_l0(sae, x.split(300), l0, n_tokens=2000)
    assert measure_sparsity(sae, x.split(300)).l0 == pytest.approx(l0, abs=2e-3)


def test_an_l0_that_repeats_keep_out_of_reach_stays_unmatched():
    sae, x = _sae(coherent=0.0), sparse_world(500, 50)
    with torch.no_grad():
        sae.W_dec[3:] = sae.W_dec[:1]
    calibrate_l0(sae, [x], 6.0, n_tokens=500)
    assert measure_sparsity(sae, [x]).l0 <= 3
