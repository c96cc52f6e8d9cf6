"""What scores need to know of a world: its true features, how often they fire, and samples with their support."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64


@runtime_checkable
class Drawn(Protocol):
    """A sample of a world: activations, and which features made each of them, with which magnitudes."""

    @property
    def activations(self) -> Float[torch.Tensor, "n d_in"]:
        """What an SAE sees."""
        ...

    @property
    def rows(self) -> Int64[torch.Tensor, " nnz"]:
        """Sample of each firing, ascending."""
        ...

    @property
    def features(self) -> Int64[torch.Tensor, " nnz"]:
        """Feature of each firing; no feature fires twice in one sample."""
        ...

    @property
    def magnitudes(self) -> Float[torch.Tensor, " nnz"]:
        """How strongly it fired, above 0."""
        ...


@runtime_checkable
class Truth(Protocol):
    """A seeded world; `world.World` is one."""

    @property
    def seed(self) -> int:
        """The world's seed: the top replicate of the statistics."""
        ...

    @property
    def features(self) -> Float[torch.Tensor, "n_features d_in"]:
        """True directions, unit rows."""
        ...

    @property
    def rates(self) -> Float[torch.Tensor, " n_features"]:
        """Probability that each feature is active."""
        ...

    def sample(self, n: int, *, seed: int) -> Drawn:
        """Draw `n` samples; the same arguments give the same bits."""
        ...


def world_name(seed: int) -> str:
    """Name of a world: the cluster of all its rows, and the item of those that describe the SAE as a whole."""
    return f"world-{seed}"


def item_name(seed: int, feature: int) -> str:
    """Name of a true feature of a world, the item that arms are paired by."""
    return f"{seed}/{feature:05d}"
