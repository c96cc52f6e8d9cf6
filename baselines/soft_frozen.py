"""Soft-frozen decoder: each row may move inside a cap around its random start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from sae_lens.saes.sae import TrainingSAE

from .baseline import Baseline


def project_to_cap(
    rows: Float[torch.Tensor, "d_sae d_in"], start: Float[torch.Tensor, "d_sae d_in"], tau: float
) -> Float[torch.Tensor, "d_sae d_in"]:
    """Return `rows` with every row whose cosine to its start is below `tau` moved to the nearest point of the cap.

    METHOD section 2: a row w outside the cap goes to |w| (tau w0 + sqrt(1 - tau^2) u), with u the unit part of w
    orthogonal to w0. Rows inside are returned bit for bit. A row with no orthogonal part (exactly opposite to its
    start) goes to |w| w0.

    Args:
        rows: current rows.
        start: unit rows that the caps are centred on.
        tau: least cosine, in (0, 1].
    """
    outside = ((rows * start).sum(-1) < tau * rows.norm(dim=-1)).nonzero()[:, 0]
    # Most rows are inside: they are copied, not projected.
    return rows.index_copy(0, outside, _edge(rows[outside], start[outside], tau))


def _edge(rows: torch.Tensor, start: torch.Tensor, tau: float) -> torch.Tensor:
    norm = rows.norm(dim=-1, keepdim=True)
    along = (rows * start).sum(-1, keepdim=True)
    across = rows - along * start
    length = across.norm(dim=-1, keepdim=True)
    unit = across / length.clamp(min=torch.finfo(rows.dtype).tiny)
    edge = norm * (tau * start + (1 - tau**2) ** 0.5 * unit)
    return torch.where(length > 0, edge, norm * start)


@dataclass(frozen=True)
class SoftFrozen(Baseline):
    """Everything is learned, but each row of `W_dec` keeps cos >= tau to its random start.

    A ladder towards a frozen decoder, not a random SAE: at tau .8 a row keeps a free component of length .6.
    """

    name: ClassVar[str] = "soft_frozen"
    summary: ClassVar[str] = "W_dec stays within cos >= tau of its start: a ladder, not a random SAE"

    tau: float = 0.8
    """Least cosine between a row of `W_dec` and its start, in (0, 1]."""

    def __post_init__(self) -> None:
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau is {self.tau:g}; it is a cosine and must lie in (0, 1]")

    @classmethod
    def from_variant(cls, variant: str) -> Baseline:
        """Make it from a number, tau."""
        return cls(float(variant))

    @property
    def arm(self) -> str:
        """Name of the arm."""
        return f"{self.name}@{self.tau:g}"

    @torch.no_grad()
    def after_step(self, sae: TrainingSAE[Any], start: torch.Tensor) -> None:
        """Project the rows of `W_dec` in place."""
        sae.W_dec.copy_(project_to_cap(sae.W_dec, start, self.tau))
