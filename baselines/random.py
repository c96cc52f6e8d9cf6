"""Random SAE: nothing is learned; only the threshold (or k) is set so that L0 matches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline, Claim


@dataclass(frozen=True)
class Random(Baseline):
    """Tied random directions at the matched L0: the null for every claim, and the floor of the scale."""

    name: ClassVar[str] = "random"
    trains: ClassVar[bool] = False
    null_for: ClassVar[tuple[Claim, ...]] = ("encoder", "decoder")
    summary: ClassVar[str] = "untrained, tied random directions, L0 matched: null for all claims"
