"""Activations with a known sparse structure, for tests."""

from __future__ import annotations

import torch

# Matrices of a few rows: threads only wait for each other.
torch.set_num_threads(1)

D_IN, D_SAE, L0 = 24, 96, 6.0


def sparse_world(n: int, seed: int) -> torch.Tensor:
    """Activations with a known sparse structure, a mean far from zero and unequal directions."""
    generator = torch.Generator().manual_seed(1)
    dictionary = torch.randn(60, D_IN, generator=generator)
    draw = torch.Generator().manual_seed(seed)
    codes = torch.rand(n, 60, generator=draw).lt(0.08) * torch.rand(n, 60, generator=draw) * 3
    return codes @ dictionary + 2.0 + 0.05 * torch.randn(n, D_IN, generator=draw)
