"""Samples of a world, with the features that made them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Sample:
    """Activations, and which features made each of them with which magnitudes."""

    activations: Float[torch.Tensor, "n d_in"]
    """What an SAE sees: the sum of the active features times their magnitudes, and the world's bias."""
    rows: Int64[torch.Tensor, " nnz"]
    """Sample of each firing, ascending."""
    features: Int64[torch.Tensor, " nnz"]
    """Feature of each firing, ascending within a sample; none twice."""
    magnitudes: Float[torch.Tensor, " nnz"]
    """How strongly it fired, above 0."""


def mixed(
    n: int,
    rows: Int64[torch.Tensor, " nnz"],
    features: Int64[torch.Tensor, " nnz"],
    magnitudes: Float[torch.Tensor, " nnz"],
    *,
    directions: Float[torch.Tensor, "n_features d_in"],
    bias: Float[torch.Tensor, " d_in"],
) -> Sample:
    """Make activations of firings: x = bias + sum of magnitude times direction. Cost grows with the firings."""
    starts = torch.searchsorted(rows, torch.arange(n, device=rows.device))
    summed = functional.embedding_bag(features, directions, starts, per_sample_weights=magnitudes, mode="sum")
    return Sample(summed.add_(bias), rows, features, magnitudes)


def log_normal(normal: Float[torch.Tensor, " nnz"], sigma: float) -> Float[torch.Tensor, " nnz"]:
    """Magnitudes LogNormal(0, sigma) of standard normal numbers (Korznikov et al. 2026, section 3); median 1."""
    return torch.exp(normal * sigma)
