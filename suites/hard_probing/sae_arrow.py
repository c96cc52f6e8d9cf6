"""The arrow of an SAE: a logistic regression on its k latents that differ most between the classes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from ..probe_data import quietly_import
from .arrows import Missed, Shot, calm, fitted, why_not
from .quiver import choose

KS = (16, 128)
"""Numbers of latents that a probe may read, as in arXiv 2502.16681."""

FEWEST_FOLDED = 4
"""Training rows from which on sae-probes cross-validates."""
CS = np.logspace(5, -5, 10)
"""Inverse strengths of the penalty that `find_best_reg` tries, in its order."""

Penalty = Literal["l1", "l2"]
Validation = Literal["reselected", "published"]
PENALTY: Penalty = "l2"
VALIDATION: Validation = "reselected"


def live_latents(latents: Float[np.ndarray, "docs d_sae"]) -> int:
    """Return how many latents are not zero on every one of these documents."""
    return int((latents != 0).any(axis=0).sum())


def shoot_sae(
    x_train: Float[np.ndarray, "train d_sae"],
    y_train: Int[np.ndarray, " train"],
    x_test: Float[np.ndarray, "test d_sae"],
    y_test: Int[np.ndarray, " test"],
    seed: int,
    k: int,
    penalty: Penalty = PENALTY,
    validation: Validation = VALIDATION,
) -> Shot | Missed:
    """Select k latents on the training rows and probe them, as `sae_probes.run_sae_evals` does.

    Latents are ranked by the class difference of their normalised means (`get_sorted_indices` with
    `mean_act_normalization`), and `find_best_reg` reads the best k: the test AUC is that of sae-probes. Its validation
    AUC (`published`) is not fit to choose an arrow by: the latents were selected on the rows that validate them too,
    and on 15 rows of pure noise it is above .9 where the truth is .5, so that the SAE's arrow would be chosen
    for that alone. `reselected` selects latents anew in every fold, on its training rows, and is the best mean over
    `CS`: what sae-probes reports of its logistic regression is the best of the same grid.

    Args:
        x_train: Pooled latents of the training rows.
        y_train: 0 or 1.
        x_test: Pooled latents of the test rows.
        y_test: 0 or 1.
        seed: Of folds and fit.
        k: Latents that the probe may read.
        penalty: Of the probe's weights, as sae-probes' `reg_type`; l1 takes 1.2 (k = 16) to 7 (k = 128) times as long.
        validation: Which validation AUC the shot has.

    Raises:
        ValueError: k is below 1.
    """
    if k < 1:
        msg = f"k must be at least 1 and is {k}"
        raise ValueError(msg)
    if reason := _why_not(x_train, y_train, x_test, y_test, seed, k):
        return Missed(reason)
    if validation == "published" or len(y_train) < FEWEST_FOLDED:
        return _published(x_train, y_train, x_test, y_test, seed, k, penalty)
    return _tested(_reselected(x_train, y_train, seed, k, penalty), x_train, y_train, x_test, y_test, seed, k, penalty)


def shoot_best(
    x_train: Float[np.ndarray, "train d_sae"],
    y_train: Int[np.ndarray, " train"],
    x_test: Float[np.ndarray, "test d_sae"],
    y_test: Int[np.ndarray, " test"],
    seed: int,
    ks: Sequence[int],
) -> tuple[Shot | Missed, ...]:
    """As `shoot_sae` for each k, but tested only where validation is best: no other arrow can be chosen.

    A test takes about as long as a validation, for sae-probes searches the strength of the penalty again.

    Returns:
        One shot for each k, its test AUC NaN where it was not needed. With three rows or fewer all are tested.
    """
    parts = (x_train, y_train, x_test, y_test, seed)
    if len(y_train) < FEWEST_FOLDED:
        return tuple(shoot_sae(*parts, k) for k in ks)
    found: dict[int, Shot | Missed] = {}
    for k in ks:
        reason = _why_not(*parts, k)
        found[k] = Missed(reason) if reason else Shot(_reselected(x_train, y_train, seed, k, PENALTY), np.nan)
    while untested := {str(k): shot for k, shot in found.items() if isinstance(shot, Shot)}:
        best = int(choose(untested))
        found[best] = _tested(untested[str(best)].validation_auc, *parts, best, PENALTY)
        if isinstance(found[best], Shot):
            break
    return tuple(found[k] for k in ks)


@dataclass(frozen=True)
class SaeAim:
    """All arrows of one SAE on one problem; like `Aim`, it can be shot in another process.

    Only columns that are not zero on every training row are sent there: most latents of a wide SAE never fire on few
    documents. They are put back in their places, zero in the test rows too, so that nothing changes: ranks and ties are
    the same, and a probe's weight of a feature that was always zero in its training is zero.
    """

    columns: Int[np.ndarray, " kept"]
    """Places of the columns that are kept."""
    width: int
    """Latents of the SAE."""
    x_train: Float[np.ndarray, "train kept"]
    """Their values on the training rows."""
    y_train: Int[np.ndarray, " train"]
    """0 or 1."""
    x_test: Float[np.ndarray, "test kept"]
    """Their values on the test rows."""
    y_test: Int[np.ndarray, " test"]
    """0 or 1."""
    seed: int
    """Of folds and fit."""
    ks: tuple[int, ...]
    """Latents that each arrow may read."""

    @classmethod
    def of(
        cls,
        x_train: Float[np.ndarray, "train d_sae"],
        y_train: Int[np.ndarray, " train"],
        x_test: Float[np.ndarray, "test d_sae"],
        y_test: Int[np.ndarray, " test"],
        seed: int,
        ks: Sequence[int],
    ) -> SaeAim:
        """Keep what decides the shots: a column that is not finite on test rows too."""
        columns = np.flatnonzero((x_train != 0).any(axis=0) | ~np.isfinite(x_test).all(axis=0))
        kept = x_train[:, columns], y_train, x_test[:, columns], y_test
        return cls(columns, x_train.shape[1], *kept, seed, tuple(ks))

    @property
    def sha256(self) -> str:
        """Hash of everything that decides the shots, as 64 hexadecimal digits."""
        digest = hashlib.sha256(repr((self.width, self.seed, self.ks)).encode())
        for part in (self.columns, self.x_train, self.y_train, self.x_test, self.y_test):
            digest.update(f"{part.dtype} {part.shape};".encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def shoot(self) -> tuple[Shot | Missed, ...]:
        """Shoot one arrow for each k; only the one that validates best has a test AUC (`shoot_best`)."""
        parts = self._wide(self.x_train), self.y_train, self._wide(self.x_test), self.y_test
        return shoot_best(*parts, self.seed, self.ks)

    def _wide(self, kept: np.ndarray) -> np.ndarray:
        wide = np.zeros((len(kept), self.width), dtype=kept.dtype)
        wide[:, self.columns] = kept
        return wide


def _why_not(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int, k: int
) -> str:
    if reason := why_not(x_train, y_train, x_test, y_test, seed):
        return reason
    live = live_latents(x_train)
    return f"k = {k} is above the {live} latents that fire on the training documents" if live < k else ""


def _published(
    x_train: np.ndarray,
    y_train: np.ndarray,
    x_test: np.ndarray,
    y_test: np.ndarray,
    seed: int,
    k: int,
    penalty: Penalty,
) -> Shot | Missed:
    """Both AUCs as sae-probes has them."""
    best = ranked(x_train, y_train)[:k]
    library: Any = quietly_import("sae_probes.utils_training")
    parts = (x_train[:, best], y_train, x_test[:, best], y_test)
    found = fitted(library.find_best_reg, *parts, seed=seed, penalty=penalty, parallel=False)
    return found if isinstance(found, Missed) else Shot(found.metrics.val_auc, found.metrics.test_auc)


def _tested(validation_auc: float, *parts: Any) -> Shot | Missed:  # noqa: ANN401  # those of `_published`
    found = _published(*parts)
    return found if isinstance(found, Missed) else replace(found, validation_auc=validation_auc)


def _reselected(x: np.ndarray, y: np.ndarray, seed: int, k: int, penalty: Penalty) -> float:
    """Best over `CS` of the mean AUC over sae-probes' folds, latents selected on the training rows of each."""
    library: Any = quietly_import("sae_probes.utils_training")
    with calm():
        folds = library.get_splits(library.get_cv(x, seed=seed), x, y)
        each = [_fold(x, y, np.asarray(a), np.asarray(b), seed, k, penalty) for a, b in folds]
    return float(np.mean(each, axis=0).max())


def _fold(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, held_out: np.ndarray, seed: int, k: int, penalty: Penalty
) -> Float[np.ndarray, " C"]:
    if len(np.unique(y[train])) < 2:
        return np.full(len(CS), 0.5)  # as find_best_reg has it
    best = ranked(x[train], y[train])[:k]
    # sklearn computes in the precision that it is given; `fitted` hands it tensors, which it takes for float64.
    of, at = (x[np.ix_(rows, best)].astype(np.float64) for rows in (train, held_out))
    options: Any = {"penalty": "l1", "solver": "saga"} if penalty == "l1" else {}
    model: Any = LogisticRegression(random_state=seed, max_iter=1000, **options)  # that of find_best_reg
    scores = [model.set_params(C=C).fit(of, y[train]).predict_proba(at)[:, 1] for C in CS]
    return auc(y[held_out], np.stack(scores))


def auc(labels: Int[np.ndarray, " rows"], scores: Float[np.ndarray, "probes rows"]) -> Float[np.ndarray, " probes"]:
    """Areas under the ROC curves of several probes, by the Mann-Whitney statistic; ties count half.

    `roc_auc_score` takes longer for one of them than a probe takes to be fitted to few rows.
    """
    positive = labels == 1
    n, m = int(positive.sum()), int((~positive).sum())
    return (rankdata(scores, axis=1)[:, positive].sum(axis=1) - n * (n + 1) / 2) / (n * m)


def ranked(latents: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Latents in the order in which a probe may read them, as sae-probes ranks them: the best first."""
    library: Any = quietly_import("sae_probes.run_sae_evals")
    order = library.get_sorted_indices(
        torch.from_numpy(latents), torch.from_numpy(labels), library.mean_act_normalization
    )
    return order.numpy()
