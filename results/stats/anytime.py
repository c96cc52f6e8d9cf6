"""Difference of two arms whose latents were asked step by step, valid however often one looks and whenever one stops.

At step k every SAE shows one latent of the same stratum, so that d_k = mean over SAEs under test − mean over baseline
SAEs is one draw of the difference between the SAEs at hand, and a confidence sequence holds its mean at every look.
Another seed would have another luck: that is a t interval over SAE means. Both together err no more often than the two
summed (union bound), each with half of alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from .crossed import RECIPE_SEEDS
from .e_process import Evidence
from .two_sample import SaeMean, luck_of_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from .crossed import Claim

_SMALLEST = 1e-200
"""No p below it is looked for."""


@dataclass(frozen=True)
class Anytime:
    """A difference of which interval and p may be read after every step."""

    evidence: Evidence
    """What the steps say of the SAEs at hand."""
    standard_error: float | None
    """Of the luck of the seeds; None where it is not known. It holds what the drawing of latents adds to each SAE's
    mean, which the evidence counts too: the interval is too wide rather than too narrow."""
    df: float | None
    """Welch-Satterthwaite degrees of freedom of it."""

    @property
    def estimate(self) -> float:
        """Mean difference over the steps."""
        return self.evidence.mean

    def interval(self, alpha: float = 0.05) -> tuple[float, float] | None:
        """Each end errs with probability alpha over all looks; None where the luck of the seeds is not known."""
        if self.standard_error is None or self.df is None:
            return None
        lo, hi = self.evidence.ends(alpha / 2)
        luck = float(stats.t.isf(alpha / 2, self.df)) * self.standard_error if self.standard_error else 0.0
        # Rejected means may lie above the estimate's own sequence after a turn of luck: an interval stays one.
        return min(lo, hi) - luck, max(lo, hi) + luck

    def pvalue(self) -> float | None:
        """One-sided p of H0: difference <= 0: the smallest alpha at which the interval is above 0."""
        return self._smallest(lambda lo, _: lo > 0)

    def tost(self, margin: float) -> float | None:
        """The smallest alpha at which the interval lies inside (−margin, margin)."""
        return self._smallest(lambda lo, hi: -margin < lo and hi < margin)

    def _smallest(self, holds: Callable[[float, float], bool]) -> float | None:
        if self.interval() is None:
            return None

        def does(alpha: float) -> bool:
            return holds(*(self.interval(alpha) or (-np.inf, np.inf)))

        if not does(1.0):
            return 1.0
        low, high = log(_SMALLEST), 0.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (low, middle) if does(exp(middle)) else (middle, high)
        return exp(high)


def anytime(
    trained: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], *, claim: Claim = "artefact"
) -> Anytime:
    """Compare two arms by the steps that all their SAEs have taken.

    Recipe: se^2 = s_T^2 / S + s_B^2 / K of the SAE means. Artefact: the S given SAEs are fixed, se^2 = s_B^2 / K; that
    only their latents are a sample is in the confidence sequence.

    Args:
        trained: Scores in [0, 1], shape (steps, S).
        baseline: Scores in [0, 1], shape (steps, K).
        claim: Whether the SAEs under test are fixed ("artefact") or a sample of a recipe ("recipe").

    Returns:
        The difference; without an interval where there is one baseline SAE, a single step, or fewer than RECIPE_SEEDS
        SAEs under test for a recipe.

    Raises:
        ValueError: If an arm has no SAE or a difference is not in [-1, 1].
    """
    if not (trained.shape[1] and baseline.shape[1]):
        msg = f"an arm without SAEs: {trained.shape[1]} under test, {baseline.shape[1]} of the baseline"
        raise ValueError(msg)
    evidence = Evidence()
    evidence.update(trained.mean(axis=1) - baseline.mean(axis=1))
    return Anytime(evidence, *seed_error(trained, baseline, claim=claim))


def seed_error(
    trained: npt.NDArray[np.float64], baseline: npt.NDArray[np.float64], *, claim: Claim
) -> tuple[float | None, float | None]:
    """Standard error and degrees of freedom of what another draw of seeds would change; arguments as `anytime`."""
    few = baseline.shape[1] < 2 or (claim == "recipe" and trained.shape[1] < RECIPE_SEEDS)
    if few or len(trained) < 2:
        return None, None
    sides = luck_of_seeds(_means(trained) if claim == "recipe" else [], _means(baseline))
    return float(np.sqrt(sides.variance())), float(sides.df())


def _means(scores: npt.NDArray[np.float64]) -> list[SaeMean]:
    n = len(scores)
    return [SaeMean(float(x.mean()), float(x.var(ddof=1)) / n, n - 1.0, n) for x in scores.T]
