"""Mean, covariance and scale of the activations, and the random directions drawn from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float

Init = Literal["iso", "cov"]


def parse_init(text: str) -> Init:
    """Return `text` if it names an init.

    Raises:
        ValueError: otherwise, with the names that are known.
    """
    if text not in get_args(Init):
        raise ValueError(f"no such init: {text!r} (known: {', '.join(get_args(Init))})")
    return cast("Init", text)


@dataclass(frozen=True)
class Moments:
    """First and second moments of the training activations."""

    mean: Float[torch.Tensor, " d_in"]
    """Mean activation."""
    covariance: Float[torch.Tensor, "d_in d_in"]
    """Covariance."""
    scale: float
    """Factor that makes the mean norm sqrt(d_in), SAELens' `expected_average_only_in`."""


def measure_moments(batches: Iterable[Float[torch.Tensor, "batch d_in"]]) -> Moments:
    """Accumulate the moments in float64 over batches of activations, in one pass.

    Raises:
        ValueError: when there are no activations.
    """
    count, norms, total, outer = 0, 0.0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = batch.double()
        count += len(rows)
        norms += float(rows.norm(dim=-1).sum())
        total = total + rows.sum(0)
        outer = outer + rows.T @ rows
    if count == 0:
        raise ValueError("no activations to take moments of: 0 tokens, at least 1 is needed")
    mean = total / count
    covariance = outer / count - torch.outer(mean, mean)
    d_in = len(mean)
    return Moments(mean.float(), covariance.float(), d_in**0.5 * count / norms)


def random_directions(
    d_sae: int, moments: Moments, init: Init, generator: torch.Generator
) -> Float[torch.Tensor, "d_sae d_in"]:
    """Draw unit rows: `iso` uniform on the sphere, `cov` Gaussian with the activations' covariance, then unit norm.

    The two kinds are made from the same normal draws, so that one seed means one start.
    """
    d_in = len(moments.mean)
    draws = torch.randn(d_sae, d_in, generator=generator, dtype=torch.float64)
    if init == "cov":
        # A symmetric root: covariances of activations are often numerically singular, where Cholesky fails.
        values, vectors = torch.linalg.eigh(moments.covariance.double())
        draws = draws @ (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return (draws / draws.norm(dim=-1, keepdim=True)).float()
