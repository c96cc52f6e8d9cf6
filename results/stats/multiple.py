"""Several tests at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from statsmodels.stats.multitest import multipletests

if TYPE_CHECKING:
    from collections.abc import Sequence


def holm(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Holm-adjusted p values: for the claims of several suites (family-wise error)."""
    return _adjust(pvalues, "holm")


def benjamini_hochberg(pvalues: Sequence[float]) -> tuple[float, ...]:
    """Benjamini-Hochberg adjusted p values: for exploratory tables (false discovery rate)."""
    return _adjust(pvalues, "fdr_bh")


def _adjust(pvalues: Sequence[float], method: str) -> tuple[float, ...]:
    if not pvalues:
        return ()
    adjusted = multipletests(list(pvalues), method=method)[1]
    return tuple(np.asarray(adjusted, dtype=np.float64).tolist())
