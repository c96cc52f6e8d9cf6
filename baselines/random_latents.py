"""Control: a random subset of the trained SAE's own latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

import torch
from jaxtyping import Int
from sae_lens.saes.sae import SAE
from sae_lens.saes.topk_sae import TopKSAE
from torch import nn

from .baseline import Control
from .interface import AnySAE, clone

_AXIS = {"W_enc": 1, "W_dec": 0, "b_enc": 0, "threshold": 0, "b_gate": 0, "b_mag": 0, "r_mag": 0}


class _Sliceable(Protocol):
    def keep_latents(self, indices: torch.Tensor, /) -> AnySAE: ...


def keep_latents(sae: SAE[Any], indices: Int[torch.Tensor, " kept"]) -> SAE[Any]:
    """Return a copy of a SAELens inference SAE that has only some of its latents; `d_sae` is their number.

    TopK's k stays what it is, but is never more than there are latents.
    """
    thinned = clone(sae)
    for name, value in list(thinned.named_parameters(recurse=False)):
        if name in _AXIS:
            setattr(thinned, name, nn.Parameter(value.data.index_select(_AXIS[name], indices).contiguous()))
    thinned.cfg.d_sae = len(indices)
    if isinstance(thinned, TopKSAE):
        thinned.cfg.k = min(thinned.cfg.k, len(indices))
        thinned.activation_fn = thinned.get_activation_fn()
    return thinned


@dataclass(frozen=True)
class RandomLatents(Control):
    """Keeps a random share of the latents: how much of a score is owed to having many to choose from."""

    name: ClassVar[str] = "random_latents"
    summary: ClassVar[str] = "control: a random half of the trained SAE's own latents"

    share: float = 0.5
    """Share of the latents that is kept."""

    @torch.no_grad()
    def derive(self, sae: AnySAE, generator: torch.Generator) -> AnySAE:
        """Slice the latent axis of every parameter; `d_sae` of the result is smaller."""
        kept = torch.randperm(sae.cfg.d_sae, generator=generator)[: max(1, round(self.share * sae.cfg.d_sae))]
        kept = kept.sort().values
        return keep_latents(sae, kept) if isinstance(sae, SAE) else cast("_Sliceable", sae).keep_latents(kept)
