"""L0 matched, not hoped for: set the threshold of an inference SAE on calibration text, then measure on other text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sae_lens.saes.gated_sae import GatedSAE
from sae_lens.saes.jumprelu_sae import JumpReLUSAE
from sae_lens.saes.matching_pursuit_sae import MatchingPursuitSAE
from sae_lens.saes.sae import SAE
from sae_lens.saes.standard_sae import StandardSAE

from .interface import AnySAE
from .pursuit import MOST_PICKS, picks, stopping_rule

Chunks = Iterable[Float[torch.Tensor, "tokens d_in"]]


class Sparsity(NamedTuple):
    """How sparse an SAE is on some text."""

    l0: float
    """Mean active latents per token."""
    dead_share: float
    """Share of latents that never fire."""


@torch.no_grad()
def measure_sparsity(sae: AnySAE, chunks: Chunks) -> Sparsity:
    """Measure L0 and the share of dead latents over all tokens of `chunks`; a negative latent is an active one.

    Raises:
        ValueError: when there are no tokens.
    """
    tokens, active = 0, torch.zeros(sae.cfg.d_sae, dtype=torch.int64)
    for chunk in chunks:
        tokens += len(chunk)
        active += (sae.encode(chunk) != 0).sum(0).cpu()
    if tokens == 0:
        raise ValueError("no tokens to measure L0 on: 0, at least 1 is needed")
    return Sparsity(float(active.sum()) / tokens, float((active == 0).double().mean()))


def _over_threshold(sae: SAE[Any], x: torch.Tensor) -> Float[torch.Tensor, "tokens d_sae"]:
    """By how much each latent is over what decides its activity; -inf where moving that could not make it fire."""
    hidden = sae.process_sae_in(x) @ sae.W_enc
    # JumpReLU applies a ReLU as well, so no threshold can make a negative pre-activation fire; a bias can.
    if isinstance(sae, JumpReLUSAE):
        hidden = hidden + sae.b_enc
        return torch.where(hidden > 0, hidden - sae.threshold, -torch.inf)
    # The gate decides, but a latent whose magnitude is cut off by the ReLU stays silent behind an open gate.
    if isinstance(sae, GatedSAE):
        return torch.where(hidden * sae.r_mag.exp() + sae.b_mag > 0, hidden + sae.b_gate, -torch.inf)
    return hidden + sae.b_enc  # type: ignore[operator]


def _largest(values: np.ndarray, keep: int) -> np.ndarray:
    return np.partition(values, len(values) - keep)[len(values) - keep :] if len(values) > keep else values


@torch.no_grad()
def excess_at_l0(sae: SAE[Any], chunks: Chunks, l0: float, *, n_tokens: int) -> float:
    """Return the amount by which thresholds have to rise for the mean L0 over `chunks` to be `l0`.

    That is the (n_tokens x l0)-th largest distance by which a pre-activation exceeds its threshold. Only that many
    values are kept while the chunks go by, so memory grows with tokens x l0, never with tokens x d_sae.
    """
    active, best = round(n_tokens * l0), np.empty(0, dtype=np.float32)
    for chunk in chunks:
        over = _over_threshold(sae, chunk)
        largest = _largest(over.flatten().cpu().numpy(), active + 1)
        best = _largest(np.concatenate([best, largest]), active + 1)
    ordered = np.sort(best)[::-1]
    # Between the last value that stays active and the first that does not: rounding can flip neither.
    return float(ordered[active - 1] + ordered[active]) / 2 if 0 < active < len(ordered) else float(ordered[-1])


@torch.no_grad()
def calibrate_l0(sae: AnySAE, chunks: Chunks, l0: float, *, n_tokens: int) -> None:
    """Set the threshold of `sae` in place so that its mean L0 over `chunks`, `n_tokens` tokens in all, is `l0`.

    JumpReLU (and so BatchTopK and Matryoshka, which SAELens saves as JumpReLU with a lagging threshold): one amount
    is added to all thresholds, never below 0. Standard: one amount is taken from all of `b_enc`, which also shrinks
    the activations. Gated: one amount is taken from all of `b_gate`; magnitudes stay as they are. Matching pursuit:
    the fewest iterations that reach the L0, and the residual threshold that trims what they are over. TopK and
    AbsTopK have k and are left as they are, and so is an SAE that is none of SAELens'. Where the L0 is out of
    reach, the SAE keeps what comes nearest or stays as it is: its measured L0 then says that it is not matched.
    """
    if isinstance(sae, MatchingPursuitSAE):
        _calibrate_pursuit(sae, chunks, l0)
    if not isinstance(sae, JumpReLUSAE | StandardSAE | GatedSAE):
        return
    excess = excess_at_l0(sae, chunks, l0, n_tokens=n_tokens)
    if not np.isfinite(excess):
        return  # fewer positive pre-activations than wanted: the arm stays unmatched and is reported so
    if isinstance(sae, JumpReLUSAE):
        sae.threshold.copy_((sae.threshold + excess).clamp(min=0))
    else:
        bias = sae.b_gate if isinstance(sae, GatedSAE) else sae.b_enc
        bias.sub_(excess)


@torch.no_grad()
def fit_scale(sae: SAE[Any], chunks: Chunks) -> float:
    """Multiply `W_dec` in place by the one factor that reconstructs `chunks` best in least squares, and return it.

    A tied dictionary in superposition overshoots: every latent also reads what the others write. Directions and
    activity are left as they are. Matching pursuit, which has fitted its magnitudes and reads `W_dec`, is left whole.

    Raises:
        ValueError: when there are no tokens.
    """
    if isinstance(sae, MatchingPursuitSAE):
        return 1.0
    along, square, tokens = 0.0, 0.0, 0
    for chunk in chunks:
        written = (sae.decode(sae.encode(chunk)) - sae.b_dec).double()
        along += float((written * (chunk - sae.b_dec)).sum())
        square += float(written.square().sum())
        tokens += len(chunk)
    if tokens == 0:
        raise ValueError("no tokens to fit a scale on: 0, at least 1 is needed")
    factor = along / square if square > 0 else 1.0
    sae.W_dec.mul_(factor)
    return factor


def _calibrate_pursuit(sae: MatchingPursuitSAE, chunks: Chunks, l0: float) -> None:
    most = math.ceil(MOST_PICKS * l0)
    rule = stopping_rule(torch.cat([picks(sae, chunk, most) for chunk in chunks]), l0)
    if rule is not None:
        sae.cfg.max_iterations, sae.cfg.residual_threshold = rule
    else:
        sae.cfg.max_iterations, sae.cfg.residual_threshold = most, 0.0
