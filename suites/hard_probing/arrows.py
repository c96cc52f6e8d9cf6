"""The arrows of a practitioner without an SAE: five probes on raw activations, as sae-probes fits them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import sklearn
import torch
import xgboost
from jaxtyping import Float, Int
from joblib import Parallel, delayed

from ..probe_data import calm_fits, quietly_import
from ..randomness import own_numpy_randomness

T = TypeVar("T")
R = TypeVar("R", covariant=True)
ArrowName = Literal["logreg", "pca", "knn", "xgboost", "mlp"]


@dataclass(frozen=True)
class Shot:
    """What one arrow reached on one problem."""

    validation_auc: float
    """Mean AUC over validation folds, training rows only: the one figure that may choose an arrow. With three training
    rows or fewer sae-probes does not cross-validate, and it is the AUC on those rows."""
    test_auc: float
    """AUC on the test rows, of the arrow refitted on all training rows; NaN where nothing can ask for it
    (`sae_arrow.shoot_best`)."""


@dataclass(frozen=True)
class Missed:
    """An arrow that could not be shot."""

    reason: str
    """One line."""


Arrow = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], "Shot | Missed"]
"""From features and labels of training rows, those of test rows, and a seed, to a shot."""


@dataclass(frozen=True)
class Aim:
    """One arrow on one problem, with everything that it needs: it can be shot in another process."""

    name: str
    """One of `ARROWS`."""
    x_train: Float[np.ndarray, "train d"]
    """Activations of the training rows."""
    y_train: Int[np.ndarray, " train"]
    """Their labels, 0 or 1."""
    x_test: Float[np.ndarray, "test d"]
    """Activations of the test rows."""
    y_test: Int[np.ndarray, " test"]
    """Their labels."""
    seed: int
    """Of folds and fit."""

    def shoot(self) -> Shot | Missed:
        """Shoot it."""
        return shoot(self.name, self.x_train, self.y_train, self.x_test, self.y_test, self.seed)


@dataclass(frozen=True)
class Kept(Generic[T]):
    """An arrow whose shot is known: it stands in the order of those that are not."""

    shot: T
    """What was kept."""

    def shoot(self) -> T:
        """Return it."""
        return self.shot


class CanShoot(Protocol[R]):
    """One arrow with everything that it needs: an `Aim`, a `Kept`, and those of other modules."""

    def shoot(self) -> R:
        """Shoot it."""
        ...


_UNFITTABLE = (
    "samples of at least 2 classes in the data",  # logistic regression, in a training fold of one class
    "index 1 is out of bounds for axis 1 with size 1",  # kNN there: it has no column of class 1
    "Invalid classes inferred from unique values",  # XGBoost there
    "argument after ** must be a mapping, not NoneType",  # a random search that found nothing above AUC 0
)
"""Parts of the messages by which sae-probes' functions end on rows that they cannot fit."""


@contextmanager
def calm() -> Iterator[None]:
    """As `calm_fits`, with one thread for XGBoost too, and without sklearn's checks of parameters.

    Problems run side by side already. One thread also keeps the order in which XGBoost adds, and with it its result,
    the same on every machine. sklearn takes a tenth of the time of a fit to so few rows for checking what sae-probes
    passes; `why_not` has looked at the numbers.
    """
    quiet = calm_fits("The least populated class", "X does not have valid feature")
    unchecked = sklearn.config_context(assume_finite=True, skip_parameter_validation=True)
    with quiet, unchecked, xgboost.config_context(nthread=1):
        yield


def why_not(x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int) -> str:
    """Return why these rows cannot be probed, in one line; empty where they can."""
    for part, x, y in (("training", x_train, y_train), ("test", x_test, y_test)):
        if len(y) < 2:
            return f"{len(y)} {part} rows are fewer than two"
        if not np.isfinite(x).all():
            return f"NaN or infinite activations in the {part} rows"
        if len(np.unique(y)) < 2:
            return f"one class left in the {part} rows"
    return "" if _can_validate(x_train, y_train, seed) else "one class left in every validation fold"


def fitted(fit: Callable[..., Any], *parts: np.ndarray, seed: int, **options: Any) -> Any | Missed:  # noqa: ANN401
    """Call a function of `sae_probes.utils_training` on rows that can be probed.

    Args:
        fit: One of its `find_best_...`.
        *parts: Features and labels of the training rows, those of the test rows.
        seed: Of folds and fit.
        **options: Handed on.

    Returns:
        Its `BestClassifierResults`, all of its AUCs finite; `Missed` for what is known to stop it: a training fold of
        one class, or no draw of hyper-parameters above AUC 0. Any other error is raised.
    """
    if reason := why_not(*parts, seed=seed):
        return Missed(reason)
    x_train, y_train, x_test, y_test = parts
    try:
        # sae-probes' PCA draws from NumPy's global generator above 500 activations, and sae-probes does not seed that.
        with calm(), own_numpy_randomness(seed):
            # Tensors, as sae-probes has them: sklearn computes in float64 then, and in float32 with a float32 array.
            found = fit(torch.from_numpy(x_train), y_train, torch.from_numpy(x_test), y_test, seed=seed, **options)
    except (IndexError, TypeError, ValueError) as error:
        if not any(known in str(error) for known in _UNFITTABLE):
            raise
        return Missed(f"{fit.__name__} of sae-probes cannot fit {len(y_train)} rows: {str(error).splitlines()[0]}")
    finite = np.isfinite([found.metrics.val_auc, found.metrics.test_auc]).all()
    return found if finite else Missed("its AUC is not defined")


def _arrow(
    name: ArrowName, x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int
) -> Shot | Missed:
    fit = quietly_import("sae_probes.run_baselines").METHODS[name]
    # sae-probes' kNN starts a process for every core, in each of our own: the folds are too small to pay for that.
    options = {"n_jobs": 1} if name == "knn" else {}
    found = fitted(fit, x_train, y_train, x_test, y_test, seed=seed, **options)
    return found if isinstance(found, Missed) else Shot(found.metrics.val_auc, found.metrics.test_auc)


_NAMES: tuple[ArrowName, ...] = ("logreg", "pca", "knn", "xgboost", "mlp")
ARROWS: dict[str, Arrow] = {name: partial(_arrow, name) for name in _NAMES}
"""Arrows by name, in the order that breaks ties of validation AUC."""


def shoot(
    name: str,
    x_train: Float[np.ndarray, "train d"],
    y_train: Int[np.ndarray, " train"],
    x_test: Float[np.ndarray, "test d"],
    y_test: Int[np.ndarray, " test"],
    seed: int,
) -> Shot | Missed:
    """Shoot one arrow of `ARROWS`: fit on training rows, hyper-parameters by cross-validation on them, score on test.

    Raises:
        ValueError: There is no such arrow.
    """
    if name not in ARROWS:
        msg = f"no arrow {name!r}: choose among {', '.join(ARROWS)}"
        raise ValueError(msg)
    return ARROWS[name](x_train, y_train, x_test, y_test, seed)


def shoot_all(aims: Iterable[CanShoot[R]], workers: int = 1) -> Iterator[R]:
    """Shoot in the order of `aims`, each result as soon as those before it are there.

    Aims are taken as workers become free, so that a generator holds the features of few problems in memory at a time.

    Args:
        aims: What to shoot.
        workers: Processes; 1 shoots in this one. They are joblib's, and end when they had nothing to do for 5 minutes:
            starting them anew for every SAE costs more than its shots.
    """
    if workers == 1:
        yield from (aim.shoot() for aim in aims)
        return
    few: Any = {"pre_dispatch": workers, "batch_size": 1, "max_nbytes": None}
    run = Parallel(n_jobs=workers, return_as="generator", **few)
    results: Any = run(delayed(aim.shoot)() for aim in aims)
    yield from results


def _can_validate(x: np.ndarray, y: np.ndarray, seed: int) -> bool:
    """Whether the folds that sae-probes would choose hyper-parameters on have both classes somewhere."""
    if len(y) <= 3:
        return True
    library: Any = quietly_import("sae_probes.utils_training")
    with calm():
        try:
            splits = library.get_splits(library.get_cv(x, seed=seed), x, y)
        except ValueError:  # no class has as many rows as there are folds
            return False
    return bool(splits) and all(len(np.unique(y[rows])) == 2 for _, rows in splits)
