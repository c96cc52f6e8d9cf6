"""What no SAE can have and no machine offers: refused before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path

import torch

from ..suites.shelf import VARIABLE, allowed, in_words, size_of
from .errors import UsageError


def check_l0(architecture: str, l0: float, d_sae: int) -> None:
    """Refuse an L0 that no SAE of this size can have.

    Raises:
        UsageError: saying what would be right.
    """
    if l0 > d_sae / 2:
        raise UsageError(f"l0 is {l0:g} at d_sae {d_sae}; it must be at most half of d_sae")
    if architecture in ("topk", "abstopk", "matching_pursuit") and (l0 < 1 or l0 % 1):
        raise UsageError(f"l0 is {l0:g} for {architecture}, where it is k; it must be a whole number of at least 1")


def check_device(name: str) -> None:
    """Refuse a device that torch does not know or does not have.

    Raises:
        UsageError: saying which.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(".")[0]
        raise UsageError(f"device is {name!r}: {reason}; cpu always works") from None


def cache_limit() -> int | None:
    """Most bytes that the activations of the cache may take; None where there is no limit.

    Raises:
        UsageError: where the variable is no size.
    """
    try:
        return allowed()
    except ValueError as error:
        raise UsageError(str(error)) from None


def check_cache(need: int, folder: Path) -> None:
    """Refuse a check whose activations alone are more than the cache may take.

    What the cache has may be the check's own, made before the limit was as low: sets that are there need no room. So
    a check is refused only if it would have to make more than the limit; else the shelf sees which sets are missing.

    Args:
        need: bytes, as planned.
        folder: of all sets.

    Raises:
        UsageError: with both sizes.
    """
    most = cache_limit()
    if most is None:
        return
    there = size_of(folder)
    if there <= most < need - there:
        raise UsageError(f"the activations will take about {in_words(need)}, but {VARIABLE} is {in_words(most)}")
