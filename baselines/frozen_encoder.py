"""Frozen encoder: latents read random directions; the decoder learns to use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline, Claim
from .moments import Init, parse_init


@dataclass(frozen=True)
class FrozenEncoder(Baseline):
    """The direction that each latent reads (a column of SAELens' `W_enc`) stays where it was drawn."""

    name: ClassVar[str] = "frozen_encoder"
    frozen: ClassVar[tuple[str, ...]] = ("W_enc",)
    null_for: ClassVar[tuple[Claim, ...]] = ("encoder",)
    summary: ClassVar[str] = "random W_enc (iso or cov), trained decoder: null for encoder claims"

    variant: Init = "iso"
    """`iso`: uniform on the sphere; `cov`: Gaussian with the activations' covariance, then unit norm."""

    @classmethod
    def from_variant(cls, variant: str) -> Baseline:
        """Make it from the name of an init."""
        return cls(parse_init(variant))

    @property
    def arm(self) -> str:
        """Name of the arm."""
        return f"{self.name}@{self.variant}"

    @property
    def init(self) -> Init:
        """How `W_enc` is drawn."""
        return self.variant
