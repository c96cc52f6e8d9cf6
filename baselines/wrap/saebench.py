"""SAEBench's custom SAEs: the SAELens SAE with the same numbers, where there is one.

sae_bench is never imported: an object tells by its class where it comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAE

from .foreign import ForeignSAE

TRAINED_AS: Mapping[str, str] = {
    "standard": "standard",
    "standard_april_update": "standard",
    "p_anneal": "standard",
    "relu": "standard",
    "topk": "topk",
    "batch_topk": "batchtopk",
    "matryoshka_batch_topk": "matryoshka_batchtopk",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
"""SAELens' training architecture by `cfg.architecture` of SAEBench's loaders."""

CLASSES: Mapping[str, str] = {
    "ReluSAE": "relu",
    "TopKSAE": "topk",
    "BatchTopKSAE": "batch_topk",
    "JumpReluSAE": "jumprelu",
    "GatedSAE": "gated",
}
"""Architecture of SAEBench's classes, where `cfg.architecture` is empty. IdentitySAE and PCASAE were never trained."""

RTOL = 1e-5
"""How far a mapped SAE's activations and reconstructions may be off, relative to the largest: float32 rounding."""


def sae_bench_class(obj: object) -> str:
    """Return the name of the SAEBench class that an object is of, or "" if it is of none."""
    names = [c.__name__ for c in type(obj).__mro__ if c.__module__.startswith("sae_bench.custom_saes")]
    return names[0] if names else ""


def map_to_sae_lens(foreign: ForeignSAE) -> SAE[Any] | None:
    """Return the SAELens inference SAE, float32, that gives the same numbers as a SAEBench SAE; None if none does.

    The formulas agree, except that a Gated SAE's magnitudes are scaled in another order; a subclass may do anything.
    So it counts only if the same latents fire on random activations of four sizes and all numbers agree to `RTOL`.
    """
    # Compared and mapped in float32 on the CPU, whatever the object's dtype and device: so an SAE is measured.
    twin = copy.deepcopy(foreign.inner).to(device=torch.device("cpu"), dtype=torch.float32)
    made = _MAKERS[kind](twin) if (kind := sae_bench_class(twin)) in _MAKERS else None
    return made if made is not None and _agree(ForeignSAE(twin, foreign.cfg), made) else None


def _make(
    obj: Any,  # noqa: ANN401
    architecture: str,
    *,
    b_dec_to_input: bool = True,
    k: int | None = None,
    **more: torch.Tensor,
) -> SAE[Any]:
    sae_class, cfg_class = get_sae_class(architecture)
    d_in, d_sae = obj.W_enc.shape
    settings: dict[str, Any] = {"d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": b_dec_to_input}
    settings |= {} if k is None else {"k": k}
    # On the meta device first, as SAELens loads: no weights are drawn and no generator moves.
    cfg = cfg_class(**settings, device="meta")
    sae = sae_class(cfg)
    tensors = {"W_enc": obj.W_enc, "W_dec": obj.W_dec, "b_dec": obj.b_dec, **more}
    tensors = {n: t.detach().to(torch.float32, copy=True).contiguous() for n, t in tensors.items()}
    sae.load_state_dict(tensors, assign=True)
    return sae.to(device=obj.W_dec.device, dtype=torch.float32)


def _relu(obj: Any) -> SAE[Any]:  # noqa: ANN401
    return _make(obj, "standard", b_enc=obj.b_enc)


def _topk(obj: Any) -> SAE[Any]:  # noqa: ANN401
    if obj.use_threshold:
        return _make(obj, "jumprelu", b_enc=obj.b_enc, threshold=obj.threshold.expand_as(obj.b_enc))
    return _make(obj, "topk", k=int(obj.k), b_enc=obj.b_enc)


def _jumprelu(obj: Any) -> SAE[Any]:  # noqa: ANN401
    return _make(obj, "jumprelu", b_dec_to_input=False, b_enc=obj.b_enc, threshold=obj.threshold)


def _gated(obj: Any) -> SAE[Any]:  # noqa: ANN401
    return _make(obj, "gated", b_gate=obj.gate_bias, r_mag=obj.r_mag, b_mag=obj.b_mag)


_MAKERS = {"ReluSAE": _relu, "TopKSAE": _topk, "BatchTopKSAE": _topk, "JumpReluSAE": _jumprelu, "GatedSAE": _gated}


@torch.no_grad()
def _agree(one: ForeignSAE, other: SAE[Any]) -> bool:
    generator, fired = torch.Generator().manual_seed(0), False
    for size in (0.1, 1.0, 10.0, 100.0):
        noise = torch.randn(64, one.cfg.d_in, generator=generator).to(one.device)
        x = other.b_dec + size * noise
        acts, same = one.encode(x), other.encode(x)
        if not (
            torch.equal(acts != 0, same != 0) and _close(acts, same) and _close(one.decode(acts), other.decode(acts))
        ):
            return False
        fired = fired or bool((acts != 0).any())
    # Two SAEs that are silent on everything agree about nothing.
    return fired


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() <= RTOL * one.abs().max())
