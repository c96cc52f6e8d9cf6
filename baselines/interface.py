"""What is used of an SAE, whoever made it."""

from __future__ import annotations

import copy
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from sae_lens.saes.sae import SAE
from torch import nn

T = TypeVar("T")


@runtime_checkable
class AnySAE(Protocol):
    """A SAELens SAE, a foreign one (`wrap.ForeignSAE`) or a control made of either: raw activations in and out."""

    @property
    def cfg(self) -> Any:  # noqa: ANN401  # SAELens' config or something with d_in, d_sae and metadata
        """Has at least `d_in` and `d_sae`."""
        ...

    @property
    def W_dec(self) -> torch.Tensor:  # noqa: N802
        """Rows that latents write, [d_sae, d_in]."""
        ...

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        """From activations [..., d_in] to latents [..., d_sae]."""
        ...

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        """From latents [..., d_sae] to activations [..., d_in]."""
        ...


def clone(sae: T) -> T:
    """Return a deep copy that shares nothing with `sae`."""
    twin = copy.deepcopy(sae)
    for module in twin.modules() if isinstance(twin, nn.Module) else ():
        if isinstance(module, SAE):
            # SAELens' run-time normalisation is a pair of closures over the SAE it was made for, and deepcopy keeps
            # them: the copy would leave the norms of its tokens in the original.
            module._setup_activation_normalization()
    return twin
