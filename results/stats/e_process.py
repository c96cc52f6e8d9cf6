"""Stopping early without paying for it: a test that may be looked at after every single answer.

Betting e-process for the mean of bounded observations (Waudby-Smith & Ramdas 2024, "Estimating means of bounded random
variables by betting"). A gambler with a capital of 1 bets on every difference before it is seen. If the mean is not
above the margin no way of betting makes money on average, so by Ville's inequality the capital ever reaches 1 / alpha
with probability alpha at most, however often one looks.

It speaks of the SAEs at hand: differences between latents that were drawn, not between seeds that were not. `anytime`
adds what the luck of seeds may be; `two_sample` would no longer be exact for a run that was stopped by what it found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

FRACTIONS = np.geomspace(0.01, 0.95, 16)
"""Shares of the most that can be staked; the capital is the mean over gamblers who stake one each, for ever. Known
means and variances would tell the best share; the mean over a grid needs neither (section B of the paper)."""

GRID = np.concatenate([np.arange(-100, -20), np.arange(-100, 101) / 5, np.arange(21, 101)]) / 100
"""Means that the confidence sequence decides on: its ends are rounded outwards by at most .002 within .2 of 0, where
differences of detection scores lie, and by .01 beyond."""

_PART = 25
"""Differences whose capitals are multiplied before a logarithm is taken: no product is out of range."""


class Evidence:
    """The largest fortunes so far, made by betting against each mean that the differences might have."""

    def __init__(self, grid: npt.NDArray[np.float64] = GRID) -> None:
        """Start with a capital of 1 against every mean.

        Args:
            grid: Ascending means in [-1, 1]; an end of the confidence sequence is one of them, or -1 or 1.
        """
        self.n, self._grid, self._sum = 0, grid, 0.0
        self._capital = np.zeros((2, len(grid), len(FRACTIONS)))
        self._largest = np.zeros((2, len(grid)))

    def update(self, differences: npt.ArrayLike) -> None:
        """Take some differences into account, in the order in which they came, none left out.

        Args:
            differences: Of shape (n,), each in [-1, 1].

        Raises:
            ValueError: If one is not in [-1, 1].
        """
        values = np.asarray(differences, dtype=np.float64)
        if not (np.abs(values) <= 1).all():
            msg = f"a difference must lie in [-1, 1], got {values[~(np.abs(values) <= 1)][0]}"
            raise ValueError(msg)
        self.n, self._sum = self.n + len(values), self._sum + float(values.sum())
        for part in np.split(values, range(_PART, len(values), _PART)):
            self._grow(0, part, self._grid)
            self._grow(1, -part, -self._grid)

    @property
    def mean(self) -> float:
        """Mean of the differences; NaN before the first."""
        return self._sum / self.n if self.n else float("nan")

    def ends(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence of the mean: each end errs with probability alpha, over all looks together.

        At level 1 − 2 alpha, like every interval of this package. Means are given up for ever; wealth falls with the
        mean that it is held against, so what is left is an interval.
        """
        above, below = self._largest >= -np.log(alpha)
        return float(self._grid[above].max(initial=-1.0)), float(self._grid[below].min(initial=1.0))

    def _grow(self, side: int, differences: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> None:
        if not len(differences):
            return
        room = np.maximum(1.0 + means, np.finfo(float).tiny)
        # The most that can be staked without debts is 1 / (1 + mean); at mean -1 a gain has no bound, so nothing is.
        gain = np.where(means > -1.0, (1.0 + differences[:, None]) / room - 1.0, 0.0)
        growth = np.multiply.accumulate(1.0 + gain[:, :, None] * FRACTIONS, axis=0)
        before = self._capital[side]
        top = before.max(axis=1)
        wealth = np.einsum("ngf,gf->ng", growth, np.exp(before - top[:, None])) / len(FRACTIONS)
        self._largest[side] = np.maximum(self._largest[side], top + np.log(wealth.max(axis=0)))
        self._capital[side] = before + np.log(growth[-1])
