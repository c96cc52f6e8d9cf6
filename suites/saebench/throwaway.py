"""An SAE that only fills caches."""

from __future__ import annotations

import copy
from typing import Any

import torch
from sae_lens.saes.sae import SAE
from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig


def throwaway_sae(like: SAE[Any]) -> SAE[Any]:
    """An SAE of the same size at the same hook, always with the same weights: channel i % d_in as latent i.

    What SAEBench caches after an SAE depends on it through the random numbers that it used up. So the one that
    meets the cold cache must not be an arm, nor depend on the arms.
    """
    d_in, d_sae = like.cfg.d_in, like.cfg.d_sae
    sae = StandardSAE(StandardSAEConfig(d_in=d_in, d_sae=d_sae, metadata=copy.deepcopy(like.cfg.metadata)))
    channels = torch.arange(d_sae) % d_in
    with torch.no_grad():
        sae.W_dec.copy_(torch.eye(d_in)[channels])
        sae.W_enc.copy_(sae.W_dec.T)
    return sae
