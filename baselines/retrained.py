"""Retrained: the recipe of a released SAE on the tokens that its baselines have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .baseline import Baseline


@dataclass(frozen=True)
class Retrained(Baseline):
    """Nothing is fixed: stands beside a released SAE, so that "trained beats random" is never just "more tokens".

    It is trained as `trained` is where the target is a recipe, from the same start; a null for nothing.
    """

    name: ClassVar[str] = "retrained"
    summary: ClassVar[str] = "a release's own recipe on the baselines' tokens, nothing fixed: the recipe claim"
