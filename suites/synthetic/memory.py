"""How much memory a world takes, so that one too large is refused before it is made."""

from __future__ import annotations

from dataclasses import replace

import psutil
import torch

from .spec import WorldSpec

BLOCK = 2**24
"""Coins of `sae_lens` tossed at once: 1,024 samples of 16,384 features."""

_FLOAT = 4
_DENSE_COPIES = 12  # of a block: normals twice, sums, magnitudes before and after the hierarchy, comparisons, indices
_CHUNK = 1024 * 40  # bytes per feature while a chunk of 1,024 features is pushed off the others: products, mask, grads


def rows_at_once(spec: WorldSpec) -> int:
    """Samples that a dense world draws at once."""
    return max(1, BLOCK // spec.n_features)


def memory_bytes(spec: WorldSpec, *, n: int = 1024) -> int:
    """Estimate of the peak memory of making a world and of drawing `n` samples of it, in bytes."""
    directions = spec.n_features * spec.d_in * _FLOAT
    sample = n * spec.d_in * _FLOAT + int(n * spec.l0 * 160)
    rates = spec.n_features * 200
    if spec.kind in {"constant", "variable"}:
        return 2 * directions + sample + rates
    block = min(n, rows_at_once(spec)) * spec.n_features * _FLOAT * _DENSE_COPIES
    block += spec.n_features * spec.rank * _FLOAT * 4 + spec.n_features * 2000  # correlations; nodes of the trees
    if spec.kind != "synthsaebench":
        return 2 * directions + sample + rates + block
    making = 6 * directions + (_CHUNK * spec.n_features if spec.orthogonal_steps else 0)
    return max(2 * directions + sample + rates + block, making)


def largest_that_fits(spec: WorldSpec, free: int) -> int:
    """Most features of a world like this one that fit into `free` bytes; 0 if not even one does."""
    low, high = 0, spec.n_features
    while low < high:
        middle = (low + high + 1) // 2
        fits = memory_bytes(replace(spec, n_features=middle)) <= free
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def check_memory(spec: WorldSpec, device: torch.device, *, free: int | None = None) -> None:
    """Refuse a world that does not fit.

    Args:
        spec: what would be made.
        device: where.
        free: bytes; what the machine has, by default.

    Raises:
        ValueError: it does not fit; the line says how many features would.
    """
    have = _free(device) if free is None else free
    need = memory_bytes(spec)
    if need > have:
        raise ValueError(
            f"n_features is {spec.n_features}: a {spec.kind} world of it in {spec.d_in} dimensions needs "
            f"{need / 2**30:.1f} GiB of memory and {have / 2**30:.1f} GiB is free; {largest_that_fits(spec, have)} "
            "features would fit"
        )


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
