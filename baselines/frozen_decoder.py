"""Frozen decoder: random output directions; the encoder learns to use them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline, Claim
from .moments import Init, parse_init


@dataclass(frozen=True)
class FrozenDecoder(Baseline):
    """Every row of `W_dec` stays where it was drawn (Korznikov et al. 2026, arXiv 2602.14111)."""

    name: ClassVar[str] = "frozen_decoder"
    frozen: ClassVar[tuple[str, ...]] = ("W_dec",)
    null_for: ClassVar[tuple[Claim, ...]] = ("decoder",)
    summary: ClassVar[str] = "random W_dec (iso or cov), trained encoder: null for decoder claims"

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
        """How `W_dec` is drawn."""
        return self.variant
