"""Control: the trained SAE with the rows of its decoder shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE
from sae_lens.saes.sae import SAE
from torch import nn

from .baseline import Control
from .interface import AnySAE, clone


class TwoDictionaries(nn.Module):
    """Reads with one SAE, writes with another: a shuffled decoder where `encode` itself uses `W_dec`.

    It is no SAELens SAE and cannot be saved; it is derived again from the trained SAE and the seed.
    """

    def __init__(self, reader: SAE[Any], writer: SAE[Any]) -> None:
        """Take over both, which must share nothing."""
        super().__init__()
        self.reader, self.writer = reader, writer

    @property
    def cfg(self) -> Any:  # noqa: ANN401  # SAELens' config
        """Config of the trained SAE."""
        return self.reader.cfg

    @property
    def W_enc(self) -> Float[torch.Tensor, "d_in d_sae"]:  # noqa: N802
        """What latents read."""
        return self.reader.W_enc

    @property
    def W_dec(self) -> Float[torch.Tensor, "d_sae d_in"]:  # noqa: N802
        """What latents write."""
        return self.writer.W_dec

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.writer.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.writer.dtype

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """From activations [..., d_in] to latents [..., d_sae], exactly as the trained SAE."""
        self.writer.process_sae_in(x)  # leaves the tokens' norms where the writer's decode looks for them
        return self.reader.encode(x)

    def decode(self, feature_acts: torch.Tensor) -> torch.Tensor:
        """From latents [..., d_sae] to activations [..., d_in], by the shuffled rows."""
        return self.writer.decode(feature_acts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From activations to their reconstruction, both [..., d_in]."""
        return self.decode(self.encode(x))


def encode_reads_decoder(sae: AnySAE) -> bool:
    """Whether `encode` of a SAELens SAE uses `W_dec`: matching pursuit, and TopK that rescales by decoder norms."""
    rescales = getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)
    return isinstance(sae, MatchingPursuitSAE) or (isinstance(sae, SAE) and bool(rescales))


@dataclass(frozen=True)
class PermutedDecoder(Control):
    """Latents write another latent's direction: must lose what decodes, cannot change what only encodes."""

    name: ClassVar[str] = "permuted_decoder"
    summary: ClassVar[str] = "control: rows of the trained W_dec shuffled"

    @torch.no_grad()
    def derive(self, sae: AnySAE, generator: torch.Generator) -> AnySAE:
        """Shuffle the rows of `W_dec` [d_sae, d_in]."""
        control = clone(sae)
        control.W_dec.copy_(sae.W_dec[torch.randperm(sae.cfg.d_sae, generator=generator)])
        if isinstance(sae, SAE) and isinstance(control, SAE) and encode_reads_decoder(sae):
            return TwoDictionaries(clone(sae), control)
        return control
