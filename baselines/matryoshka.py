"""Widths of the nested levels of a Matryoshka SAE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def default_widths(d_sae: int) -> list[int]:
    """Return d_sae / 16, / 8, / 4, / 2 and d_sae, without repeats: every level doubles the one inside it."""
    return sorted({max(1, d_sae >> halvings) for halvings in range(5)})


def checked_widths(widths: Sequence[Any], d_sae: int) -> list[int]:
    """Return the widths of a recipe as SAELens completes them: a last level of `d_sae` is added where it is missing.

    Args:
        widths: latents of each level, integers; whatever a recipe's file holds.
        d_sae: number of latents.

    Raises:
        ValueError: when they do not rise strictly from at least 1 to at most `d_sae`.
    """
    levels = list(widths)
    rises = all(isinstance(w, int) for w in levels) and levels == sorted(set(levels))
    if not levels or not rises or levels[0] < 1 or levels[-1] > d_sae:
        raise ValueError(f"matryoshka_widths are {levels}; they must rise strictly from at least 1 to d_sae = {d_sae}")
    return levels if levels[-1] == d_sae else [*levels, d_sae]
