"""The trained arm: nothing is fixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline


@dataclass(frozen=True)
class Trained(Baseline):
    """The ordinary SAE: every parameter is learned, from the start that the baselines of its seed have."""

    name: ClassVar[str] = "trained"
    summary: ClassVar[str] = "everything learned; the SAE under test where the target is a recipe"
