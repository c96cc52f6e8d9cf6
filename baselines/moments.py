"""Mean, covariance and scale of the activations, and the random directions drawn from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float

from .normalisation import normalise, run_time_kind

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
    """First and second moments of the training activations, in the space that the SAEs' weights live in."""

    mean: Float[torch.Tensor, " d_in"]
    """Mean activation."""
    covariance: Float[torch.Tensor, "d_in d_in"]
    """Covariance."""
    scale: float
    """Factor that makes the mean norm sqrt(d_in), SAELens' `expected_average_only_in`; 1 in a run-time space."""
    space: str = "none"
    """Run-time normalisation that the activations went through before these moments were taken, or "none"."""

    def seen(self, batch: Float[torch.Tensor, "batch d_in"]) -> Float[torch.Tensor, "batch d_in"]:
        """Return raw activations as an SAE in training sees them: normalised or scaled, mean norm about sqrt(d_in)."""
        return normalise(batch, self.space) * self.scale


def measure_moments(
    batches: Iterable[Float[torch.Tensor, "batch d_in"]], *, normalize_activations: str = "none"
) -> Moments:
    """Accumulate the moments in float64 over batches of raw activations, in one pass.

    Args:
        batches: raw activations.
        normalize_activations: of the SAEs that the moments are for (`Shape.normalize_activations`). Where it stays
            at run time, `b_dec` and all directions live behind it, and so do the moments.

    Raises:
        ValueError: when there are no activations, or for an unknown normalisation.
    """
    space = run_time_kind(normalize_activations)
    count, norms, total, outer = 0, 0.0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = normalise(batch, space).double()
        count += len(rows)
        norms += float(rows.norm(dim=-1).sum())
        total = total + rows.sum(0)
        outer = outer + rows.T @ rows
    if count == 0:
        raise ValueError("no activations to take moments of: 0 tokens, at least 1 is needed")
    mean = total / count
    covariance = outer / count - torch.outer(mean, mean)
    # A normalised activation has norm sqrt(d_in) already, and a scale of its input would change nothing.
    scale = len(mean) ** 0.5 * count / norms if space == "none" else 1.0
    return Moments(mean.float(), covariance.float(), scale, space)


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
