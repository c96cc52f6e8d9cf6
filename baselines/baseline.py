"""What a baseline is: what is fixed at random, what is projected after a step, and what it is a null for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from sae_lens.saes.sae import SAE, TrainingSAE

from .architecture import Shape, new_sae
from .moments import Init, Moments, random_directions

Claim = Literal["encoder", "decoder"]


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

    @property
    def arm(self) -> str:
        """Name of the arm, with its variant after `@`."""
        return self.name

    @property
    def init(self) -> Init:
        """How the directions that are fixed are drawn."""
        return "iso"

    def start(self, shape: Shape, moments: Moments, seed: int) -> TrainingSAE[Any]:
        """Make the SAE at step 0. Arms with one seed and one `init` start from the same directions."""
        generator = torch.Generator().manual_seed(seed)
        sae = new_sae(shape, random_directions(shape.d_sae, moments, self.init, generator), moments)
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

    @property
    def arm(self) -> str:
        """Name of the arm."""
        return self.name

    def derive(self, sae: SAE[Any], generator: torch.Generator) -> SAE[Any]:
        """Make the control from an inference SAE, which is left as it is."""
        raise TypeError(f"{type(self).__name__} does not say how it is derived")
