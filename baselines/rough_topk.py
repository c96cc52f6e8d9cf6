"""BatchTopK of a product that is computed in bfloat16 everywhere and in float32 where that matters.

Of a batch's pre-activations all but L0 / d_sae are only found too small. A product in bfloat16 finds them in half the
time and memory; the few that may be among the largest are then computed in float32, and chosen by that. How far off
those were says how far under the threshold candidates have to be looked for. So what an arm writes has float32's
precision, where a float32 product that may use bfloat16 units has bfloat16's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int16

from .batch_topk import kth_largest
from .codes import Codes, products
from .cpu import has_bfloat16_units

_GUESS = 0.95
"""How far under the last threshold candidates are looked for first; only speed depends on it."""

_SAMPLED = 16
"""Of how many rows one is ranked for a guess where that was too high; only speed depends on it."""

_MARGIN = 0.02
"""How far under the threshold candidates are looked for where no guess held; only speed depends on it."""


class Chosen(NamedTuple):
    """The active entries of a batch."""

    codes: Codes
    """Which latents of which samples."""
    values: Float[torch.Tensor, " nnz"]
    """Their pre-activations, before any scale."""
    threshold: float
    """What the least of them reaches, scaled; 0 where all positive ones are active."""


def may_be_rough(batch: torch.Tensor) -> bool:
    """Whether the caller lets float32 products use bfloat16 (`fast_matmul`) and this CPU has units for it."""
    if batch.device.type != "cpu" or batch.dtype != torch.float32 or torch.get_float32_matmul_precision() != "medium":
        return False
    return has_bfloat16_units()


def largest_of_product(
    x: Float[torch.Tensor, "batch d_in"],
    encoder: Float[torch.Tensor, "d_in d_sae"],
    bias: Float[torch.Tensor, " d_sae"],
    scale: Float[torch.Tensor, " d_sae"] | None,
    k: float,
    last: float,
) -> Chosen:
    """The `k * batch` largest positive entries of `(x @ encoder + bias) * scale`, as `largest_of_batch` chooses them.

    Args:
        x: activations, best centred: their rounding is what may hide an entry at the threshold.
        encoder: one column for each latent.
        bias: of the latents.
        scale: by which latents are ranked; None for 1.
        k: mean number of active latents.
        last: threshold of the last batch, 0 where there is none; speed depends on it, and by a rare entry at the
            threshold what is chosen.
    """
    weights, offsets = (encoder, bias) if scale is None else (encoder * scale, bias * scale)
    rough = torch.addmm(offsets.bfloat16(), x.bfloat16(), weights.bfloat16())
    bits = rough.view(torch.int16).numpy()
    rows, keep = encoder.T.contiguous(), min(max(1, int(k * len(x))), bits.size)
    for guess in _guesses(bits, keep, last):
        found, error, enough = _exact(rough, _above(bits, guess), x, rows, bias, scale, keep)
        # None of many candidates is off by more than `error`, so hardly anything under the guess reaches the threshold.
        if enough and found.threshold - error >= guess:
            return found
    least = (1 - _MARGIN) * _reached(bits, keep)
    found, error, _ = _exact(rough, _above(bits, least), x, rows, bias, scale, keep)
    if found.threshold - error >= least or least == 0:
        return found
    return _exact(rough, _above(bits, max(0.0, least - 2 * error)), x, rows, bias, scale, keep)[0]


def _guesses(bits: Int16[np.ndarray, "batch d_sae"], keep: int, last: float) -> Iterator[float]:
    """Where to look for candidates, the cheapest first."""
    if last > 0:
        yield _GUESS * last
    sample = bits[::_SAMPLED]
    if (guess := _GUESS * _reached(sample, max(1, keep * len(sample) // len(bits)))) > 0:
        yield guess


def _above(bits: Int16[np.ndarray, "batch d_sae"], least: float) -> Codes:
    # Positive numbers in bfloat16 are ordered as their bits are, and negative ones have negative bits.
    lowest = max(1, int(torch.tensor(least).bfloat16().view(torch.int16)))
    flat = torch.from_numpy(np.flatnonzero(bits >= lowest))
    return Codes(flat // bits.shape[1], flat % bits.shape[1])


def _reached(bits: Int16[np.ndarray, "batch d_sae"], keep: int) -> float:
    """The keep-th largest number, 0 where it is negative."""
    least = np.partition(bits, bits.size - keep, axis=None)[bits.size - keep]
    return float(torch.tensor(max(int(least), 0), dtype=torch.int16).view(torch.bfloat16))


def _exact(
    rough: Float[torch.Tensor, "batch d_sae"],
    codes: Codes,
    x: torch.Tensor,
    rows: torch.Tensor,
    bias: torch.Tensor,
    scale: torch.Tensor | None,
    keep: int,
) -> tuple[Chosen, float, bool]:
    """The keep largest positive ones of some candidates, how far off a candidate was at most, and were there enough."""
    values = products(codes, x, rows) + bias[codes.columns]
    ranked = values if scale is None else values * scale[codes.columns]
    enough = int((ranked > 0).sum()) > keep
    error = float((ranked - rough[codes.rows, codes.columns]).abs().max()) if len(ranked) else 0.0
    threshold = kth_largest(ranked, keep) if enough else 0.0
    chosen = (ranked >= threshold if threshold > 0 else ranked > 0).nonzero()[:, 0]
    return Chosen(codes.only(chosen), values[chosen], threshold), error, enough
