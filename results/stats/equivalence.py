"""Equivalence by two one-sided tests (TOST; Schuirmann 1987, Lakens 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scipy import stats

if TYPE_CHECKING:
    from .crossed import CrossedT


def tost(result: CrossedT, *, margin: float) -> float | None:
    """Larger of the p values against a difference <= −margin and >= +margin.

    Below alpha exactly when the 1 − 2 alpha interval lies inside (−margin, margin).

    Args:
        result: A difference with its standard error and degrees of freedom.
        margin: Equivalence margin delta > 0, in score units.

    Returns:
        p in [0, 1]; None where the standard error is not known.
    """
    if result.standard_error is None or result.df is None:
        return None
    if result.standard_error == 0:
        return 0.0 if abs(result.estimate) < margin else 1.0
    above = stats.t.sf((result.estimate + margin) / result.standard_error, result.df)
    below = stats.t.cdf((result.estimate - margin) / result.standard_error, result.df)
    return float(max(above, below))
