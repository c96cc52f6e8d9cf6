"""An SAE in the space that everything is compared in: raw activations in, raw activations out, flat vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from sae_lens.saes.sae import SAE
from sae_lens.saes.topk_sae import TopKSAE

from .artefact import Artefact, copy_sae
from .foreign import ForeignSAE, check_output
from .hashing import hash_sae

UNIT_NORM = 1e-5
"""Distance from 1 at which a row of `W_dec` counts as normalised, as SAEBench counts it in float32."""


def in_raw_space(artefact: Artefact, scale: float) -> Artefact:
    """Return the artefact with its SAE on raw activations, [..., d_in] in and out; the given one is left as it is.

    - `expected_average_only_in` is folded into the weights by SAELens' own fold (which moves what is in units of the
      activations too: matching pursuit's residual threshold), with the recipe's factor or else the measured `scale`.
    - `layer_norm` and `constant_norm_rescale` depend on the token; they stay and are done at run time by SAELens.
    - hook_z reshaping is turned off: sites give flat vectors.
    - TopK's `rescale_acts_by_decoder_norm` is folded into the encoder and turned off. Rows that have norm 1 already are
      not touched: a norm of 1 +- 1e-7 would only let the decoder leak into `encode`, and a permuted decoder must not
      change `encode` by one bit.

    A foreign SAE reads raw activations as it is.

    Args:
        artefact: as loaded.
        scale: sqrt(d_in) over the mean norm of the activations, as measured; used where the recipe has no factor.

    Raises:
        ValueError: `scale` is not positive and finite.
        BadSAE: what comes out is not finite.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; a positive number is needed")
    if isinstance(artefact.sae, ForeignSAE):
        return artefact
    sae, recipe = copy_sae(artefact.sae), artefact.recipe
    if sae.cfg.normalize_activations == "expected_average_only_in":
        recipe = recipe.filled("measured", norm_scaling_factor=scale)
        sae.fold_activation_norm_scaling_factor(float(recipe.get("norm_scaling_factor")))
    sae.cfg.reshape_activations = "none"
    sae.turn_off_forward_pass_hook_z_reshaping()
    if isinstance(sae, TopKSAE) and sae.cfg.rescale_acts_by_decoder_norm:
        _fold_decoder_norm(sae)
    check_output(sae, artefact.name)
    return replace(artefact, sae=sae, recipe=recipe, sha256=hash_sae(sae))


@torch.no_grad()
def _fold_decoder_norm(sae: SAE[Any]) -> None:
    norm = sae.W_dec.norm(dim=-1)
    if bool(((norm - 1).abs() > UNIT_NORM).any()):
        sae.W_enc.mul_(norm)
        sae.get_parameter("b_enc").mul_(norm)
        # SAELens divides a row of zeros by 1e-8 and leaves its latent firing a little; here it is silent, as it was.
        sae.W_dec.div_(torch.where(norm > 0, norm, 1.0)[:, None])
    sae.cfg.rescale_acts_by_decoder_norm = False
