"""What a baseline is: what is fixed at random, what is projected after a step, and what it is a null for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from sae_lens.saes.sae import TrainingSAE

from .architecture import Shape, new_sae
from .interface import AnySAE
from .moments import Init, Moments, random_directions

Claim = Literal["encoder", "decoder"]

NO_ENCODER = "matching_pursuit has no encoder: its latents are found with W_dec"
"""Why what fixes or breaks `W_enc` does not exist for this architecture."""


@dataclass(frozen=True)
class Baseline:
    """One way of making an SAE random, independent of its architecture.

    A new baseline is one file with a subclass, one test file and one line in `registry.py` (or an entry point
    in the group `sae_sanity.baselines`).
    """

    name: ClassVar[str] = ""
    """First part of the arm's name."""
    trains: ClassVar[bool] = True
    """Whether anything is learned."""
    frozen: ClassVar[tuple[str, ...]] = ()
    """Parameters that never move."""
    null_for: ClassVar[tuple[Claim, ...]] = ()
    """Claims that this arm is a null for: those about what `encode` reads, those about what `decode` writes."""
    summary: ClassVar[str] = ""
    """One line for `sae-sanity list`."""

    @classmethod
    def from_variant(cls, variant: str) -> Baseline:
        """Make the baseline from the text after `@` in an arm's name.

        Raises:
            ValueError: when the text names no variant of this baseline.
        """
        raise ValueError(f"it has no variants, {variant!r} was asked for")

    @classmethod
    def applies_to(cls, architecture: str) -> str:
        """Return why the baseline does not exist for a training architecture, in one line; "" where it does."""
        return NO_ENCODER if architecture == "matching_pursuit" and "W_enc" in cls.frozen else ""

    @property
    def arm(self) -> str:
        """Name of the arm, with its variant after `@`."""
        return self.name

    @property
    def init(self) -> Init:
        """How the directions that are fixed are drawn."""
        return "iso"

    def directions(self, shape: Shape, moments: Moments, generator: torch.Generator) -> torch.Tensor:
        """Draw the rows that `W_dec` starts as, and `W_enc` as their transpose, [d_sae, d_in], of norm 1."""
        return random_directions(shape.d_sae, moments, self.init, generator)

    def start(self, shape: Shape, moments: Moments, seed: int) -> TrainingSAE[Any]:
        """Make the SAE at step 0. Arms with one seed and one `init` start from the same directions.

        Raises:
            ValueError: where the baseline does not exist for the architecture, or the shape contradicts itself.
        """
        if reason := self.applies_to(shape.architecture):
            raise ValueError(f"{self.arm} does not exist for {shape.architecture}: {reason}")
        generator = torch.Generator().manual_seed(seed)
        sae = new_sae(shape, self.directions(shape, moments, generator), moments)
        for name in self.frozen:
            getattr(sae, name).requires_grad_(False)
        return sae

    def after_step(self, sae: TrainingSAE[Any], start: torch.Tensor) -> None:
        """Project `sae` in place after an optimiser step; `start` is `W_dec` at step 0, [d_sae, d_in], unit rows."""


@dataclass(frozen=True)
class Control:
    """A broken or thinned copy of a trained SAE, for the assay gate."""

    name: ClassVar[str] = ""
    """Name of the arm."""
    recalibrate: ClassVar[bool] = False
    """Whether its L0 has to be matched again."""
    summary: ClassVar[str] = ""
    """One line for `sae-sanity list`."""

    @classmethod
    def applies_to(cls, architecture: str) -> str:
        """Return why the control does not exist for an architecture, in one line; "" where it does.

        Args:
            architecture: what the SAE under test is saved as (a recipe's `saved_as`: a batchtopk SAE is a jumprelu
                SAE), whatever its baselines are trained as; "foreign" for an SAE that SAELens cannot save, whose
                recipe has no `saved_as`. Names of training architectures are answered alike.
        """
        return ""

    @property
    def arm(self) -> str:
        """Name of the arm."""
        return self.name

    def derive(self, sae: AnySAE, generator: torch.Generator) -> AnySAE:
        """Make the control from an inference SAE, which is left as it is."""
        raise TypeError(f"{type(self).__name__} does not say how it is derived")
