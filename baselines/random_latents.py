"""Control: a random subset of the trained SAE's own latents."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sae_lens.saes.sae import SAE
from torch import nn

from .baseline import Control

_PER_LATENT = {"W_enc": 1, "W_dec": 0, "b_enc": 0, "threshold": 0}


@dataclass(frozen=True)
class RandomLatents(Control):
    """Keeps a random share of the latents: how much of a score is owed to having many to choose from."""

    name: ClassVar[str] = "random_latents"
    summary: ClassVar[str] = "control: a random half of the trained SAE's own latents"

    share: float = 0.5
    """Share of the latents that is kept."""

    @torch.no_grad()
    def derive(self, sae: SAE[Any], generator: torch.Generator) -> SAE[Any]:
        """Slice the latent axis of every parameter; `d_sae` of the result is smaller."""
        kept = torch.randperm(sae.cfg.d_sae, generator=generator)[: max(1, round(self.share * sae.cfg.d_sae))]
        kept = kept.sort().values
        control = copy.deepcopy(sae)
        for name, axis in _PER_LATENT.items():
            if hasattr(control, name):
                part = getattr(control, name).index_select(axis, kept).contiguous()
                setattr(control, name, nn.Parameter(part))
        control.cfg.d_sae = len(kept)
        return control
