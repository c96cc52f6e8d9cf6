"""From a training SAE to the ordinary SAELens SAE that is saved, published and measured."""

from __future__ import annotations

import tempfile
from typing import Any

from sae_lens.saes.sae import SAE, TrainingSAE
from sae_lens.saes.topk_sae import TopKSAE

from .moments import Moments


def to_inference(sae: TrainingSAE[Any], moments: Moments) -> SAE[Any]:
    """Return the inference SAE, by SAELens' own folding, saving and loading.

    The activation scale is folded into the weights, so that the result reads raw activations; a normalisation that
    has to stay at run time is switched on instead, and then the scale is 1. A TopK or AbsTopK SAE comes back
    without `rescale_acts_by_decoder_norm`: its rows are folded to norm 1 by then, but multiplying by a norm of
    1 +- 1e-7 would let the decoder leak into `encode`, and a permuted decoder must not change it by one bit.

    Args:
        sae: trained on what `moments.seen` returns; it is folded in place.
        moments: of the training activations.
    """
    sae.fold_activation_norm_scaling_factor(moments.scale)
    sae.cfg.normalize_activations = moments.space
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        inference = SAE.load_from_disk(folder)
    if isinstance(inference, TopKSAE):
        inference.cfg.rescale_acts_by_decoder_norm = False
    return inference
