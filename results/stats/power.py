"""What a run of this size could have found, and how large a run would find the margin.

Solved with the noncentral t; `statsmodels.stats.power.TTestPower` solves the same equation but only for a
plain paired t, whose degrees of freedom are a whole number of items minus one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from scipy import optimize, special, stats

if TYPE_CHECKING:
    from collections.abc import Callable

POWER = 0.8
"""Share of runs that must find the difference."""

_CERTAIN = 20.0
"""At this many critical values the noncentral t is 1 to all digits that matter, and its series gets slow."""

_LARGEST = 10_000_000
"""Beyond this many clusters or seeds a difference counts as out of reach."""


@runtime_checkable
class Parts(Protocol):
    """What the variance of a difference is made of, and what it would be at another size."""

    def variance(self) -> float:
        """Variance of the difference."""
        ...

    def df(self) -> float:
        """Its degrees of freedom."""
        ...

    def at(self, *, clusters: int | None = None, baseline_seeds: int | None = None) -> Parts:
        """The same with another number of clusters or baseline seeds."""
        ...


def mde(standard_error: float, df: float, *, alpha: float = 0.05, power: float = POWER) -> float:
    """Smallest true difference that a one-sided t test finds with the given power.

    Args:
        standard_error: Standard error of the difference, in score units.
        df: Degrees of freedom of the test.
        alpha: One-sided level.
        power: Share of runs that must find it.

    Returns:
        The difference in score units; 0 where the standard error is 0.
    """
    if standard_error == 0:
        return 0.0
    critical = float(stats.t.isf(alpha, df))
    upper = 2 * critical + 10.0
    while _power(upper, df, critical) < power:
        upper *= 2
    found = optimize.brentq(lambda shift: _power(shift, df, critical) - power, 0.0, upper)
    return float(found) * standard_error  # pyright: ignore[reportArgumentType]


def clusters_needed(parts: Parts, *, margin: float, alpha: float = 0.05) -> int | None:
    """Clusters at which the MDE reaches the margin, seeds as they are; None where no number does."""
    return _needed(lambda n: parts.at(clusters=n), margin, alpha)


def seeds_needed(parts: Parts, *, margin: float, alpha: float = 0.05) -> int | None:
    """Baseline seeds at which the MDE reaches the margin, clusters as they are; None where no number does."""
    return _needed(lambda n: parts.at(baseline_seeds=n), margin, alpha)


def _power(shift: float, df: float, critical: float) -> float:
    """Power of the t test at a difference of `shift` standard errors; certain where that is far beyond reach."""
    if shift > _CERTAIN * critical:
        return 1.0
    return float(stats.nct.sf(critical, df, shift))


def _needed(at: Callable[[int], Parts], margin: float, alpha: float) -> int | None:
    def enough(n: int) -> bool:
        parts = at(n)
        error, df = float(np.sqrt(parts.variance())), parts.df()
        # scipy's own function behind stats.t.isf, which spends its time on checking arguments.
        critical = -float(special.stdtrit(df, alpha))
        # A difference of no more than the critical value is found in half of all runs, .68 with one degree of freedom.
        if error * critical >= margin:
            return False
        # Power at the margin answers whether the MDE lies below it, without solving for the MDE each time.
        return error == 0 or _power(margin / error, df, critical) >= POWER

    high = 2
    while not enough(high):
        if high > _LARGEST:
            return None
        high *= 2
    return _bisect(enough, high // 2, high)


def _bisect(enough: Callable[[int], bool], low: int, high: int) -> int:
    """Smallest n in (low, high] that is enough, at least 2."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, 2)
