"""The SAELens architectures that a baseline can be made of, all started from the same directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE, JumpReLUTrainingSAEConfig
from sae_lens.saes.sae import SAEMetadata, TrainingSAE
from sae_lens.saes.standard_sae import StandardTrainingSAE, StandardTrainingSAEConfig
from sae_lens.saes.topk_sae import TopKTrainingSAE, TopKTrainingSAEConfig

from .batch_topk import PartitionBatchTopK
from .moments import Moments


@dataclass(frozen=True)
class Shape:
    """Size and sparsity that every arm of a check shares."""

    architecture: str
    """One of `ARCHITECTURES`."""
    d_in: int
    """Width of the activations."""
    d_sae: int
    """Number of latents."""
    l0: float
    """Target number of active latents per token; k for the TopK family."""
    hook_name: str = ""
    """Recorded in the saved SAE's metadata."""
    model_name: str = ""
    """Recorded in the saved SAE's metadata."""


def _topk(shape: Shape, common: dict[str, Any]) -> TrainingSAE[Any]:
    return TopKTrainingSAE(TopKTrainingSAEConfig(k=round(shape.l0), **common))


def _batchtopk(shape: Shape, common: dict[str, Any]) -> TrainingSAE[Any]:
    sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(k=float(shape.l0), **common))
    # The same activations as SAELens' own BatchTopK, whose flat torch.topk is most of a CPU step.
    sae.activation_fn = PartitionBatchTopK(float(shape.l0))
    return sae


def _jumprelu(shape: Shape, common: dict[str, Any]) -> TrainingSAE[Any]:
    # The quadratic penalty pulls L0 to the target from both sides; a plain L0 penalty only pushes it down.
    cfg = JumpReLUTrainingSAEConfig(
        jumprelu_sparsity_loss_mode="quadratic", target_l0=float(shape.l0), l0_coefficient=1.0, **common
    )
    return JumpReLUTrainingSAE(cfg)


def _standard(shape: Shape, common: dict[str, Any]) -> TrainingSAE[Any]:
    return StandardTrainingSAE(StandardTrainingSAEConfig(l1_coefficient=1.0, **common))


_MAKERS: dict[str, Callable[[Shape, dict[str, Any]], TrainingSAE[Any]]] = {
    "batchtopk": _batchtopk,
    "jumprelu": _jumprelu,
    "standard": _standard,
    "topk": _topk,
}

ARCHITECTURES = tuple(_MAKERS)
"""Names accepted by `new_sae`."""

SPARSITY_COEFFICIENT = {"standard": "l1", "jumprelu": "l0"}
"""Coefficient of the sparsity loss, for the architectures that have one."""


def new_sae(shape: Shape, directions: Float[torch.Tensor, "d_sae d_in"], moments: Moments) -> TrainingSAE[Any]:
    """Make an untrained SAELens training SAE with a tied start and the data's centre.

    Every arm, the untrained one too, is given the mean activation as `b_dec`: a random dictionary that
    had to spend its latents on the mean would lose for a reason that says nothing about its directions.

    Args:
        shape: size, sparsity and architecture.
        directions: unit rows; `W_dec` starts as them and `W_enc` as their transpose.
        moments: mean and scale of the training activations.

    Raises:
        ValueError: for an architecture that is not in `ARCHITECTURES`.
    """
    if shape.architecture not in _MAKERS:
        raise ValueError(f"no such architecture: {shape.architecture!r}; known: {', '.join(ARCHITECTURES)}")
    metadata = SAEMetadata(hook_name=shape.hook_name, model_name=shape.model_name, prepend_bos=True)
    common = {"d_in": shape.d_in, "d_sae": shape.d_sae, "decoder_init_norm": 1.0, "metadata": metadata}
    sae = _MAKERS[shape.architecture](shape, common)
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.T)
        sae.b_dec.copy_(moments.mean * moments.scale)
    return sae
