"""The SAELens training architectures that a baseline can be made of, all started from the same directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE
from sae_lens.saes.gated_sae import GatedTrainingSAE
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitTrainingSAE
from sae_lens.saes.sae import SAEMetadata, TrainingSAE

from .batch_topk import PartitionBatchTopK
from .matryoshka import checked_widths, default_widths
from .moments import Moments
from .normalisation import run_time_kind


@dataclass(frozen=True)
class Shape:
    """Size, sparsity and recipe that every arm of a check shares."""

    architecture: str
    """Training architecture, one of `ARCHITECTURES`."""
    d_in: int
    """Width of the activations."""
    d_sae: int
    """Number of latents."""
    l0: float
    """Target number of active latents per token; rounded to k for topk, abstopk and matching_pursuit."""
    hook_name: str = ""
    """Recorded in the saved SAE's metadata."""
    model_name: str = ""
    """Recorded in the saved SAE's metadata."""
    normalize_activations: str = "none"
    """`none` and `expected_average_only_in` (folded); `layer_norm`, `constant_norm_rescale` (run time).

    Options with a unit (`POWER_OF_SCALE`) are in raw activations for `none`, else in normalised ones.
    """
    apply_b_dec_to_input: bool | None = None
    """Whether `b_dec` is taken from the input before encoding; None: SAELens' default for the architecture."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further fields of SAELens' training config, names in `recipe_options(architecture)`."""


_TOPK = frozenset({"aux_loss_coefficient", "rescale_acts_by_decoder_norm"})
_BATCHTOPK = _TOPK | {"topk_threshold_lr"}

_OPTIONS: dict[str, frozenset[str]] = {
    "standard": frozenset({"lp_norm"}),
    "gated": frozenset(),
    "topk": _TOPK,
    "abstopk": _TOPK,
    "jumprelu": frozenset(
        {
            "jumprelu_bandwidth",
            "jumprelu_sparsity_loss_mode",
            "jumprelu_ste_to_input",
            "jumprelu_tanh_scale",
            "pre_act_loss_coefficient",
        }
    ),
    "batchtopk": _BATCHTOPK,
    "matryoshka_batchtopk": _BATCHTOPK | {"matryoshka_widths", "use_matryoshka_aux_loss"},
    "matching_pursuit": frozenset({"stop_on_duplicate_support"}),
}

ARCHITECTURES = tuple(_OPTIONS)
"""Names accepted by `new_sae`: every training architecture of SAELens that reconstructs its own input."""

SPARSITY_COEFFICIENT = {"standard": "l1", "gated": "l1", "jumprelu": "l0"}
"""Coefficient of the sparsity loss, for the architectures that have one."""

POWER_OF_SCALE = {"jumprelu_bandwidth": 1, "pre_act_loss_coefficient": 1, "jumprelu_tanh_scale": -1}
"""Options with a unit: a recipe that did not normalise means them in raw activations, arms learn on scaled ones."""


def recipe_options(architecture: str) -> frozenset[str]:
    """Return the fields of SAELens' training config that a recipe may set.

    Left out are sizes, metadata, dtype and device, how weights start, and all that matching L0 owns: k, thresholds,
    iterations, sparsity coefficients and their warm-up.

    Raises:
        ValueError: for an architecture that is not in `ARCHITECTURES`.
    """
    if architecture not in _OPTIONS:
        raise ValueError(f"no such architecture: {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    return _OPTIONS[architecture]


def _sparsity(shape: Shape) -> dict[str, Any]:
    """Fields of the training config that set L0."""
    k = max(1, round(shape.l0))
    if shape.architecture in ("topk", "abstopk"):
        return {"k": k}
    if shape.architecture in ("batchtopk", "matryoshka_batchtopk"):
        return {"k": float(shape.l0)}
    if shape.architecture == "matching_pursuit":
        return {"max_iterations": k}
    if shape.architecture == "jumprelu":
        # The quadratic penalty pulls L0 to the target from both sides; a plain L0 penalty only pushes it down.
        return {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": float(shape.l0), "l0_coefficient": 1.0}
    return {"l1_coefficient": 1.0}


def _options(shape: Shape, moments: Moments) -> dict[str, Any]:
    """Fields that the recipe sets, in the units of the activations that arms learn on."""
    options = dict(shape.options)
    if wrong := sorted(options.keys() - recipe_options(shape.architecture)):
        known = ", ".join(sorted(recipe_options(shape.architecture))) or "none"
        raise ValueError(f"{shape.architecture} has no recipe option {wrong[0]!r}; known: {known}")
    if shape.normalize_activations == "none":
        for name in options.keys() & POWER_OF_SCALE.keys():
            if options[name] is not None:
                options[name] *= moments.scale ** POWER_OF_SCALE[name]
    if shape.architecture == "matryoshka_batchtopk":
        widths = options.get("matryoshka_widths") or default_widths(shape.d_sae)
        options["matryoshka_widths"] = checked_widths(widths, shape.d_sae)
    return options


def _check(shape: Shape, moments: Moments) -> None:
    recipe_options(shape.architecture)
    if not 0 < shape.l0 <= shape.d_sae:
        raise ValueError(f"l0 is {shape.l0:g}; it must be above 0 and at most d_sae = {shape.d_sae}")
    space = run_time_kind(shape.normalize_activations)
    if moments.space != space:
        raise ValueError(f"moments were measured in the space {moments.space!r}; an SAE of this shape needs {space!r}")


def _untrained(shape: Shape, moments: Moments) -> TrainingSAE[Any]:
    # normalize_activations stays "none" while training: arms are given activations that are normalised already
    # (`Moments.seen`). SAELens' own run-time path breaks the auxiliary loss (topk), the nested levels (matryoshka)
    # and the gate's loss, which reads the raw input. `to_inference` sets it.
    sae_class, config_class = get_sae_training_class(shape.architecture)
    metadata = SAEMetadata(hook_name=shape.hook_name, model_name=shape.model_name, prepend_bos=True)
    common = {"d_in": shape.d_in, "d_sae": shape.d_sae, "decoder_init_norm": 1.0, "metadata": metadata}
    if shape.apply_b_dec_to_input is not None:
        common["apply_b_dec_to_input"] = shape.apply_b_dec_to_input
    return sae_class(config_class(**common | _sparsity(shape) | _options(shape, moments)))


def new_sae(shape: Shape, directions: Float[torch.Tensor, "d_sae d_in"], moments: Moments) -> TrainingSAE[Any]:
    """Make an untrained SAELens training SAE with a tied start and the data's centre.

    Every arm, the untrained one too, is given the mean activation as `b_dec`: a random dictionary that
    had to spend its latents on the mean would lose for a reason that says nothing about its directions. Where
    `b_dec` is not taken from the input, the encoder's bias takes it instead, so that both start as one function.

    Args:
        shape: size, sparsity and architecture.
        directions: unit rows; `W_dec` starts as them and `W_enc` as their transpose.
        moments: of the training activations, measured for `shape.normalize_activations`.

    Raises:
        ValueError: for an unknown architecture, normalisation or option, an L0 or widths that do not fit `d_sae`.
    """
    _check(shape, moments)
    sae = _untrained(shape, moments)
    if isinstance(sae, BatchTopKTrainingSAE):
        # The same activations as SAELens' own BatchTopK, whose flat torch.topk is most of a CPU step.
        sae.activation_fn = PartitionBatchTopK(float(shape.l0))
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_dec.copy_(moments.mean * moments.scale)
        if not sae.cfg.apply_b_dec_to_input:
            _centre_by_bias(sae)
    return sae


def _centre_by_bias(sae: TrainingSAE[Any]) -> None:
    if isinstance(sae, MatchingPursuitTrainingSAE):
        return  # it has no bias but b_dec, which it then does not use at all
    centre = sae.b_dec @ sae.W_enc
    biases = (sae.b_gate, sae.b_mag) if isinstance(sae, GatedTrainingSAE) else (sae.b_enc,)
    for bias in biases:
        bias.sub_(centre)  # type: ignore[union-attr]
