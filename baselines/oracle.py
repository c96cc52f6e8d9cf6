"""Oracle: the true dictionary of a synthetic world, in the encoder of the architecture under test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch

from .architecture import Shape
from .baseline import Baseline
from .moments import Moments, random_directions


@dataclass(frozen=True, eq=False)
class Oracle(Baseline):
    """Latents read and write true directions, nothing is learned: a ceiling, no null.

    It is made where the truth is known, so it is in no registry.
    """

    name: ClassVar[str] = "oracle"
    trains: ClassVar[bool] = False
    summary: ClassVar[str] = "the true dictionary, untrained, L0 matched: a ceiling"

    truth: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))
    """True directions, the most frequent first, [n_features, d_in], of norm 1."""

    def directions(self, shape: Shape, moments: Moments, generator: torch.Generator) -> torch.Tensor:
        """True directions as far as there are latents for them; where there are more latents, the rest is random."""
        known = self.truth[: shape.d_sae]
        return torch.cat([known, random_directions(shape.d_sae, moments, "iso", generator)[len(known) :]])
