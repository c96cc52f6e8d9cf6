"""Control: the trained SAE with the input coordinates of its encoder shuffled."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sae_lens.saes.sae import SAE

from .baseline import Control


@dataclass(frozen=True)
class PermutedEncoder(Control):
    """Latents read shuffled coordinates.

    The rows of SAELens' `W_enc` [d_in, d_sae] are shuffled, not its columns: shuffling latents would only rename
    them for anything that reads `encode`, and would repeat `permuted_decoder` for the rest.
    """

    name: ClassVar[str] = "permuted_encoder"
    recalibrate: ClassVar[bool] = True
    summary: ClassVar[str] = "control: input coordinates of the trained W_enc shuffled, L0 matched again"

    @torch.no_grad()
    def derive(self, sae: SAE[Any], generator: torch.Generator) -> SAE[Any]:
        """Shuffle the rows of `W_enc` [d_in, d_sae]."""
        control = copy.deepcopy(sae)
        control.W_enc.copy_(sae.W_enc[torch.randperm(sae.cfg.d_in, generator=generator)])
        return control
