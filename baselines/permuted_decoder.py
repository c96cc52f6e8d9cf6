"""Control: the trained SAE with the rows of its decoder shuffled."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sae_lens.saes.sae import SAE

from .baseline import Control


@dataclass(frozen=True)
class PermutedDecoder(Control):
    """Latents write another latent's direction: must lose what decodes, cannot change what only encodes."""

    name: ClassVar[str] = "permuted_decoder"
    summary: ClassVar[str] = "control: rows of the trained W_dec shuffled"

    @torch.no_grad()
    def derive(self, sae: SAE[Any], generator: torch.Generator) -> SAE[Any]:
        """Shuffle the rows of `W_dec` [d_sae, d_in]."""
        control = copy.deepcopy(sae)
        control.W_dec.copy_(sae.W_dec[torch.randperm(sae.cfg.d_sae, generator=generator)])
        return control
