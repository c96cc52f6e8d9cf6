"""Control: the trained SAE with the input coordinates of its encoder shuffled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from sae_lens.saes.sae import SAE

from .baseline import NO_ENCODER, Control
from .interface import AnySAE, clone


@dataclass(frozen=True)
class PermutedEncoder(Control):
    """Latents read shuffled coordinates.

    The rows of SAELens' `W_enc` [d_in, d_sae] are shuffled, not its columns: shuffling latents would only rename
    them for anything that reads `encode`, and would repeat `permuted_decoder` for the rest.
    """

    name: ClassVar[str] = "permuted_encoder"
    recalibrate: ClassVar[bool] = True
    summary: ClassVar[str] = "control: input coordinates of the trained W_enc shuffled, L0 matched again"

    @classmethod
    def applies_to(cls, architecture: str) -> str:
        """Return why the control does not exist for an architecture, "" where it does."""
        if architecture == "foreign":
            return "the L0 of an SAE that is none of SAELens' cannot be matched again after its W_enc is shuffled"
        return NO_ENCODER if architecture == "matching_pursuit" else ""

    @torch.no_grad()
    def derive(self, sae: AnySAE, generator: torch.Generator) -> AnySAE:
        """Shuffle the rows of `W_enc` [d_in, d_sae].

        Raises:
            ValueError: where the control does not exist for the SAE.
        """
        architecture = sae.cfg.architecture() if isinstance(sae, SAE) else "foreign"
        if not isinstance(sae, SAE) or self.applies_to(architecture):
            raise ValueError(f"{self.name} does not exist for {architecture}: {self.applies_to(architecture)}")
        control = clone(sae)
        control.W_enc.copy_(sae.W_enc[torch.randperm(sae.cfg.d_in, generator=generator)])
        return control
