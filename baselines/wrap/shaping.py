"""From the recipe of an SAE to the shape that its baselines are made in."""

from __future__ import annotations

from typing import Any

from ..architecture import ARCHITECTURES, Shape, recipe_options
from .recipe import Recipe

_PER_TOKEN = ("topk", "abstopk", "matching_pursuit")
"""Architectures that need a whole number of latents per token."""

K_TOLERANCE = 0.05
"""Relative distance at which the k of the recipe is taken for the measured L0: METHOD section 2 matches within 5 %."""


def shape_of(recipe: Recipe, *, l0: float) -> Shape:
    """Return what the baselines of an SAE share with it.

    Args:
        recipe: of the SAE.
        l0: active latents per token, measured.

    Raises:
        ValueError: in one line, where no baseline can be made: no architecture, an unknown one, no sizes, an L0 that no
            SAE of that width can have, a normalisation that is not supported.
    """
    architecture, d_sae = _architecture(recipe), recipe.get("d_sae")
    for name in ("d_in", "d_sae"):
        if recipe.get(name) is None:
            raise ValueError(f"{name} of the SAE is not known; nothing can be trained beside it")
    if not 0 < l0 <= d_sae:
        raise ValueError(f"L0 of the SAE is {l0:g}; baselines need one above 0 and at most d_sae {d_sae}")
    return Shape(
        architecture=architecture,
        d_in=recipe.get("d_in"),
        d_sae=d_sae,
        l0=_target(architecture, recipe.get("k"), l0),
        hook_name=recipe.get("hook_name", ""),
        model_name=recipe.get("model_name", ""),
        normalize_activations=_normalization(recipe),
        apply_b_dec_to_input=recipe.get("apply_b_dec_to_input"),
        options=_options(recipe, architecture),
    )


def _architecture(recipe: Recipe) -> str:
    name = recipe.get("architecture")
    known = ", ".join(sorted(ARCHITECTURES))
    if name is None:
        raise ValueError(
            f"the SAE names no architecture, so there is nothing to train; name one with --architecture ({known})"
        )
    if name not in ARCHITECTURES:
        raise ValueError(f"no baselines for architecture {name!r}; name another with --architecture ({known})")
    return name


def _target(architecture: str, k: float | int | None, l0: float) -> float:
    if architecture not in _PER_TOKEN:
        return float(l0)
    # A TopK SAE whose k-th largest value is often negative has fewer active latents than k.
    return float(k) if k is not None and abs(k - l0) <= K_TOLERANCE * l0 else float(max(1, round(l0)))


def _normalization(recipe: Recipe) -> str:
    name = recipe.get("normalize_activations", "none")
    if name == "covariance_whitening":
        raise ValueError("normalize_activations is covariance_whitening, which must be folded into the weights first")
    return name


def _options(recipe: Recipe, architecture: str) -> tuple[tuple[str, Any], ...]:
    allowed = recipe_options(architecture)
    return tuple(sorted((n, v) for n, v in recipe.get("options", {}).items() if n in allowed))
