"""From the recipe of an SAE to the shape that its baselines are made in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..architecture import ARCHITECTURES, POWER_OF_SCALE, Shape, recipe_options
from ..matryoshka import checked_widths
from ..normalisation import FOLDED
from .config import is_number
from .errors import short
from .recipe import Recipe

_PER_TOKEN = ("topk", "abstopk", "matching_pursuit")
"""Architectures that need a whole number of latents per token."""

K_TOLERANCE = 0.05
"""Relative distance at which the k of the recipe is taken for the measured L0: METHOD section 2 matches within 5 %."""


_RANGES: Mapping[str, tuple[float, float]] = {
    "aux_loss_coefficient": (0.0, 1e4),
    "jumprelu_bandwidth": (1e-4, 1e4),
    "jumprelu_tanh_scale": (1e-4, 1e4),
    "lp_norm": (0.25, 4.0),
    "pre_act_loss_coefficient": (0.0, 1e4),
    "topk_threshold_lr": (0.0, 1.0),
}
"""Smallest and largest value of options beyond which float32 training fails or learns nothing."""


def shape_of(recipe: Recipe, *, l0: float) -> Shape:
    """Return what the baselines of an SAE share with it.

    Options with a unit (`POWER_OF_SCALE`) are taken over only where the unit is known. SAELens folds
    `expected_average_only_in` into the weights after training and then writes `none`; so `none` in cfg.json says
    nothing, and without a runner_cfg.json that names the normalisation of training SAELens' defaults are used.

    Args:
        recipe: of the SAE.
        l0: active latents per token, measured.

    Raises:
        ValueError: in one line, where no baseline can be made: no architecture, an unknown one, no sizes, an L0 that no
            SAE of that width can have, a normalisation that is not supported, an option that would break training.
    """
    architecture, d_sae, normalization = _architecture(recipe), recipe.get("d_sae"), _normalization(recipe)
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
        normalize_activations=normalization or "none",
        apply_b_dec_to_input=recipe.get("apply_b_dec_to_input"),
        options=_options(recipe, architecture, has_units=normalization is not None),
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


def _normalization(recipe: Recipe) -> str | None:
    """What activations of training went through, as far as baselines share it; None where it is not known."""
    name = recipe.get("normalize_activations", "none")
    if name == "covariance_whitening":
        raise ValueError("normalize_activations is covariance_whitening, which must be folded into the weights first")
    trained = recipe.get("normalize_activations_in_training") if name == "none" else name
    return trained if name != "none" or trained in FOLDED else None


def _options(recipe: Recipe, architecture: str, *, has_units: bool) -> tuple[tuple[str, Any], ...]:
    allowed = recipe_options(architecture) - (set() if has_units else POWER_OF_SCALE.keys())
    options = {n: v for n, v in recipe.get("options", {}).items() if n in allowed}
    for name, value in options.items():
        if wrong := _what_is_wrong(name, value, recipe.get("d_sae")):
            raise ValueError(f"{wrong}; edit it in the SAE's configuration or name another --architecture")
    return tuple(sorted(options.items()))


def _what_is_wrong(name: str, value: Any, d_sae: int) -> str:  # noqa: ANN401
    """Say in one line why nothing can be trained with an option, or return ""."""
    if name == "matryoshka_widths":
        try:
            checked_widths(value, d_sae)
        except ValueError:
            return f"{name} is {short(value)}; widths must rise strictly from at least 1 to d_sae {d_sae}"
    elif name in _RANGES:
        low, high = _RANGES[name]
        if not is_number(value) or not low <= value <= high:
            return f"{name} is {short(value)}; a number from {low:g} to {high:g} is needed"
    return ""
