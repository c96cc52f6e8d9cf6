"""How far two judges agree on the same texts: Cohen's kappa, with an error that knows texts of a latent are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .scoring import Marked

_FIRST, _SECOND = [0, 0, 1, 1], [0, 1, 0, 1]  # what the four cells of a table stand for


@dataclass(frozen=True)
class Agreement:
    """Two judges compared on the texts that both have answered."""

    kappa: float
    """Cohen's kappa over all texts; NaN where both say the same of every text, or there is none."""
    error: float
    """Its standard error, by leaving out one latent after the other; NaN where a kappa without one is undefined."""
    same: float
    """Share of the texts on which both say the same; NaN without texts."""
    texts: int
    """Texts that both have answered."""
    latents: int
    """Latents whose texts these are."""


def agreement(pairs: Sequence[tuple[Marked, Marked]]) -> Agreement:
    """Compare two judges.

    Args:
        pairs: what the first and the second said about one latent after the other, in the same texts. A latent that
            one of them left without a usable answer is passed over.

    Returns:
        Kappa (Cohen 1960), and its delete-one-latent jackknife error √((n − 1)/n Σ (κ₋ᵢ − κ̄₋)²) (Efron 1982): texts
        are nested in latents, so latents are what another sample would have others of.
    """
    tables = [_table(first, second) for first, second in pairs if not (first.failed or second.failed)]
    counts = np.array(tables, dtype=np.int64).reshape(-1, 4)
    whole, n = counts.sum(0), len(counts)
    texts = int(whole.sum())
    return Agreement(
        kappa=_kappa(whole),
        error=_jackknife(np.array([_kappa(whole - own) for own in counts])),
        same=float((whole[0] + whole[3]) / texts) if texts else float("nan"),
        texts=texts,
        latents=n,
    )


def _table(first: Marked, second: Marked) -> npt.NDArray[np.int64]:
    """How often the two said no-no, no-yes, yes-no and yes-yes."""
    codes = [2 * a + b for a, b in zip(first.predicted or (), second.predicted or (), strict=True)]
    return np.bincount(codes, minlength=4)


def _kappa(table: npt.NDArray[np.int64]) -> float:
    from sklearn.metrics import cohen_kappa_score

    yes = table[2:].sum(), table[1::2].sum()
    # Both always yes or both always no: 0/0, of which scikit-learn warns.
    if not table.sum() or set(yes) in ({0}, {table.sum()}):
        return float("nan")
    return float(cohen_kappa_score(_FIRST, _SECOND, sample_weight=table))


def _jackknife(left: npt.NDArray[np.float64]) -> float:
    if len(left) < 2:
        return float("nan")
    return float(np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum()))
