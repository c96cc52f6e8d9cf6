"""A world of independent features, drawn the plain way: one coin per sample and feature."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch.nn.functional import normalize

torch.set_num_threads(1)

PAPER = {"n_features": 3200, "d_in": 100}


def directions(n: int, d: int, seed: int) -> torch.Tensor:
    """Directions uniform on the sphere."""
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


@dataclass(frozen=True, eq=False)
class Drawn:
    activations: torch.Tensor
    rows: torch.Tensor
    features: torch.Tensor
    magnitudes: torch.Tensor

    def dense(self, n_features: int) -> torch.Tensor:
        """Feature activations [n, n_features], as sae_lens.synthetic has them."""
        out = torch.zeros(len(self.activations), n_features)
        out[self.rows, self.features] = self.magnitudes
        return out


@dataclass(frozen=True, eq=False)
class PlainTruth:
    features: torch.Tensor
    rates: torch.Tensor
    seed: int = 0
    spec: object = None

    def sample(self, n: int, *, seed: int) -> Drawn:
        generator = torch.Generator().manual_seed(1000 * self.seed + seed)
        chunks = torch.zeros(n).split(1000)
        parts = [torch.rand(len(c), len(self.rates), generator=generator) < self.rates for c in chunks]
        support = torch.cat(parts)
        rows, features = support.nonzero(as_tuple=True)
        magnitudes = torch.exp(0.25 * torch.randn(len(rows), generator=generator))
        activations = torch.zeros(n, self.features.shape[1])
        activations.index_add_(0, rows, magnitudes[:, None] * self.features[features])
        return Drawn(activations, rows, features, magnitudes)


def constant(n_features: int, d_in: int, *, l0: float = 20.0, seed: int = 0) -> PlainTruth:
    """Every feature as often as any other: the paper's constant world at 3,200 in R^100."""
    rates = torch.full((n_features,), l0 / n_features, dtype=torch.float64)
    return PlainTruth(directions(n_features, d_in, seed), rates, seed)


def variable(n_features: int, d_in: int, *, low: float = -5.5, high: float = -1.2, seed: int = 0) -> PlainTruth:
    """Log-uniform rates: the paper's variable world at 3,200 in R^100."""
    uniform = torch.rand(n_features, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 77))
    return PlainTruth(directions(n_features, d_in, seed), 10 ** (low + (high - low) * uniform), seed)


class TopKDictionary:
    """An SAE with a tied one-shot encoder: the k largest projections, times a scale."""

    def __init__(self, decoder: torch.Tensor, k: int, scale: float = 1.0) -> None:
        self.W_dec, self.k, self.scale = decoder, k, scale
        self.cfg = SimpleNamespace(d_in=decoder.shape[1], d_sae=len(decoder))

    def encode(self, x: torch.Tensor, /) -> torch.Tensor:
        top = (x @ self.W_dec.T).relu().topk(self.k, dim=-1)
        return torch.zeros(*x.shape[:-1], len(self.W_dec)).scatter(-1, top.indices, top.values * self.scale)

    def decode(self, feature_acts: torch.Tensor, /) -> torch.Tensor:
        return feature_acts @ self.W_dec
