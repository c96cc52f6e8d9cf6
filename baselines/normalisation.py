"""What an SAE that normalises its own input sees: SAELens' two run-time normalisations."""

from __future__ import annotations

import torch
from jaxtyping import Float

RUN_TIME = ("constant_norm_rescale", "layer_norm")
"""Kept at run time: the factor differs from token to token, so no weight can hold it."""

FOLDED = ("none", "expected_average_only_in")
"""One factor for all tokens: folded into the weights, so that both read raw activations in the end."""


def run_time_kind(normalize_activations: str) -> str:
    """Return the normalisation that stays at run time, "none" where there is none.

    Raises:
        ValueError: for a name that is neither folded nor kept.
    """
    if normalize_activations not in RUN_TIME + FOLDED:
        known = ", ".join(FOLDED + RUN_TIME)
        raise ValueError(f"no baseline for normalize_activations {normalize_activations!r}; known: {known}")
    return normalize_activations if normalize_activations in RUN_TIME else "none"


def normalise(x: Float[torch.Tensor, "*batch d_in"], kind: str) -> Float[torch.Tensor, "*batch d_in"]:
    """Return `x` as SAELens' `run_time_activation_norm_fn_in` of this kind does, bit for bit ("none": `x` itself)."""
    if kind == "layer_norm":
        centred = x - x.mean(dim=-1, keepdim=True)
        return centred / (centred.std(dim=-1, keepdim=True) + 1e-5)
    if kind == "constant_norm_rescale":
        return x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True))
    return x
