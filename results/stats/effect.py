"""Effect sizes of paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
