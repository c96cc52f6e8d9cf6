"""What no SAE can have and no machine offers: refused before anything is loaded or written."""

from __future__ import annotations

import torch

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
