"""Effect sizes of paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from statsmodels.stats.nonparametric import rank_compare_2indep

if TYPE_CHECKING:
    import numpy.typing as npt


def d_z(differences: npt.NDArray[np.float64]) -> float | None:
    """Cohen's d_z: mean over standard deviation of the cluster differences.

    Args:
        differences: Trained − baseline of every cluster, shape (clusters,).

    Returns:
        The ratio; None with one cluster or where the differences do not vary beyond rounding.
    """
    if len(differences) < 2:
        return None
    spread = float(differences.std(ddof=1))
    rounding = 16 * np.finfo(float).eps * float(np.abs(differences).max())
    return float(differences.mean()) / spread if spread > rounding else None


def superiority(differences: npt.NDArray[np.float64]) -> float:
    """Probability of superiority: share of clusters in which trained is higher (Bouthillier 2021).

    Args:
        differences: Trained − baseline of every cluster, shape (clusters,).

    Returns:
        Share in [0, 1]; a tie counts half.
    """
    return float(np.mean((np.sign(differences) + 1) / 2))


SUPERIORITY_RANGE = (0.45, 0.55)
"""Probabilities of superiority that count as no difference."""


def rank_superiority(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> tuple[float, float | None]:
    """Probability that an item of ours is above one of theirs where items are no pairs (Brunner and Munzel 2000).

    Args:
        ours: Scores of one SAE's items, shape (n,).
        theirs: Scores of the other's, shape (m,).

    Returns:
        P(ours > theirs) with ties counting half, and the TOST p that it lies in SUPERIORITY_RANGE; the p is None where
        the ranks do not vary (all scores equal, or all of ours beyond all of theirs) or a side has one item.
    """
    if min(len(ours), len(theirs)) < 2:
        return _superiority_of(ours, theirs), None
    with np.errstate(divide="ignore", invalid="ignore"):
        result = rank_compare_2indep(ours, theirs, use_t=True)
        pvalue = float(result.tost_prob_superior(*SUPERIORITY_RANGE).pvalue) if result.var > 0 else None
    return float(result.prob1), pvalue


def _superiority_of(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> float:
    return superiority(np.subtract.outer(ours, theirs).ravel())
