"""From a document's tokens to one vector, whatever is read off each token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from .activations import ActivationSet

Pooling = Literal["mean", "last"]
Encode = Callable[[torch.Tensor], torch.Tensor]
"""Maps activations `[n, d_in]` to `[n, width]`, each row by itself."""

ENCODE_ROWS = 2048
"""Rows encoded at once: with 4,096 latents they take 32 MiB, above which glibc maps fresh pages for every buffer."""


def encoder_of(sae: SAE[Any]) -> Encode:
    """What reads an SAE's latents off activations: dense and in float32, whatever the SAE computes in."""

    def encode(acts: torch.Tensor) -> torch.Tensor:
        latents = sae.encode(acts.to(sae.device, sae.dtype)).float()
        return latents.to_dense() if latents.is_sparse else latents

    return encode


def pool(activations: ActivationSet, encode: Encode, how: Pooling) -> Float[torch.Tensor, "docs width"]:
    """One vector per document: the mean over its kept tokens, or its last kept token.

    Every kept token is encoded (only the last ones for `last`), but no more than ENCODE_ROWS are held at a time. A
    document without any kept token is all zeros. The mean is that of SAEBench's `get_sae_meaned_activations`.

    Args:
        activations: Kept tokens only; position 0 and outlier tokens are already out.
        encode: What is pooled; the identity pools the activations themselves.
        how: `mean` or `last`.

    Returns:
        A float32 tensor on the CPU, one row per document of the set.
    """
    one = encode(torch.zeros(1, activations.d_in))  # how wide, and on which device
    sums = one.new_zeros(activations.n_documents, one.shape[1])
    counts = torch.zeros(activations.n_documents)
    for acts, document in _pieces(activations, how):
        encoded = encode(acts)
        sums.index_add_(0, document.to(encoded.device), encoded)
        counts.index_add_(0, document, torch.ones(len(document)))
    return sums.cpu() / counts.clamp(min=1)[:, None]


def _pieces(activations: ActivationSet, how: Pooling) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Blocks of at most ENCODE_ROWS tokens with the document of each."""
    for acts, document, _ in activations.chunks():
        index = torch.from_numpy(np.asarray(document, dtype=np.int64))
        if how == "last":
            last = _last(index)
            acts, index = acts[last], index[last]
        yield from zip(acts.split(ENCODE_ROWS), index.split(ENCODE_ROWS), strict=True)


def _last(document: torch.Tensor) -> torch.Tensor:
    """Which rows are the last of their document; a document never spans two chunks."""
    last = torch.ones(len(document), dtype=torch.bool)
    last[:-1] = document[1:] != document[:-1]
    return last
