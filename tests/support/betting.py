"""Betting step by step in plain logarithms: the slow way to the numbers of `results.stats.e_process`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_sanity.results.stats.e_process import FRACTIONS, Evidence

if TYPE_CHECKING:
    import numpy.typing as npt


class BettingTest:
    """Anytime-valid one-sided test of H0: the mean difference is not above a margin, and a confidence sequence."""

    def __init__(self, margin: float = 0.0, alpha: float = 0.05) -> None:
        """Start with a capital of 1.

        Args:
            margin: H0 is mean <= margin.
            alpha: Share of runs under H0 in which `decided` ever becomes true, at most; also the error of each end
                of the confidence sequence.

        Raises:
            ValueError: If the margin is not inside (-1, 1) or alpha not inside (0, 1).
        """
        if not (-1 < margin < 1 and 0 < alpha < 1):
            msg = f"margin must lie in (-1, 1) and alpha in (0, 1), got {margin} and {alpha}"
            raise ValueError(msg)
        self.margin, self.alpha, self.n = margin, alpha, 0
        self._capital = np.zeros_like(FRACTIONS)
        self._evidence = Evidence()
        self._largest = 0.0

    def update(self, difference: float) -> bool:
        """Take one difference into account.

        Args:
            difference: In [-1, 1]; in the order in which they come, none left out.

        Returns:
            `decided`.

        Raises:
            ValueError: If it is not in [-1, 1].
        """
        self._evidence.update([difference])
        self.n += 1
        self._capital += log_growth(difference, np.array([self.margin]))[0]
        self._largest = max(self._largest, _log_mean(self._capital))
        return self.decided

    @property
    def e_value(self) -> float:
        """Capital now: evidence against H0, whose mean under H0 is 1 at most."""
        return float(np.exp(min(_log_mean(self._capital), 700.0)))

    @property
    def decided(self) -> bool:
        """Whether the capital has ever reached 1 / alpha: the mean is above the margin."""
        return bool(self._largest >= -np.log(self.alpha))

    @property
    def p_value(self) -> float:
        """Anytime-valid p: 1 / the largest capital so far."""
        return float(np.exp(-self._largest))

    @property
    def interval(self) -> tuple[float, float]:
        """`Evidence.ends` at alpha."""
        return self._evidence.ends(self.alpha)


def log_growth(difference: float, means: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log of 1 + stake x (difference - mean) for every mean and fraction, shape (means, fractions).

    The most that can be staked without debts is 1 / (1 + mean); at mean -1 a gain has no bound, and nothing is staked.
    """
    room = np.maximum(1.0 + means[:, None], np.finfo(float).tiny)
    ratio = np.where(means[:, None] > -1.0, (1.0 + difference) / room, 1.0)
    return np.log1p(FRACTIONS * (ratio - 1.0))


def _log_mean(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
    """Log of the mean over the last axis of exp(logs)."""
    top = logs.max(axis=-1, keepdims=True)
    result = top[..., 0] + np.log(np.exp(logs - top).mean(axis=-1))
    return float(result) if result.ndim == 0 else result
