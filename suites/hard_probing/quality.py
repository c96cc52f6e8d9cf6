"""Finding wrong labels, and what a spurious cue speaks against: by the top latent, or by a dense probe.

Kantamneni, Engels et al. 2025 (arXiv 2502.16681, section on data quality) found mislabelled sentences of CoLA, and a
cue that has nothing to do with the question in a table of human and machine texts, by looking at top latents, and a
dense probe found the same. Here errors are planted, so that it is known which labels are wrong; the cue is that of the
table, and the examples that it speaks against can be read off the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedKFold

from ..probe_data import quietly_import
from .arrows import calm
from .sae_arrow import ranked

RATE = 0.1
"""Share of the labels that is flipped."""
FOLDS = 5
CUED = "110_aimade_humangpt3"
"""The table with a spurious cue: more than nine in ten machine texts end with a full stop or its like."""
_ENDINGS = (".", "!", "?")

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]
"""Trained on features and labels, a score of class 1 of other features, larger for what is more likely to be of it;
their labels are handed on to a library that scores them, and decide nothing."""


@dataclass(frozen=True)
class Planted:
    """Labels of which some are known to be wrong."""

    labels: Int[np.ndarray, " docs"]
    """0 or 1, wrong ones included: all that a method is shown."""
    wrong: Bool[np.ndarray, " docs"]
    """Which were flipped."""


def plant(labels: Int[np.ndarray, " docs"], seed: int, rate: float = RATE) -> Planted:
    """Flip a share of the labels at random, by `sae_probes.utils_data.corrupt_ytrain`."""
    library: Any = quietly_import("sae_probes.utils_data")
    flipped = library.corrupt_ytrain(labels, rate, seed=seed)
    return Planted(flipped, flipped != labels)


def against_cue(texts: Sequence[str], labels: Int[np.ndarray, " docs"]) -> Bool[np.ndarray, " docs"]:
    """Examples whose last character speaks for the other class than their label.

    A probe that reads the cue suspects just these. Class 1 is taken as the class of the texts that end with a full
    stop, an exclamation or a question mark where more of it do.
    """
    ends = np.array([text.rstrip().endswith(_ENDINGS) for text in texts])
    for_one = ends if ends[labels == 1].mean() >= ends[labels == 0].mean() else ~ends
    return for_one != (labels == 1)


def precision_at_n(suspicion: Float[np.ndarray, " docs"], wrong: Bool[np.ndarray, " docs"]) -> float:
    """Share of wrong labels among the n most suspicious ones, n the number of wrong ones.

    Where equal scores straddle the n-th place it is the mean over all orders of them, so that scores without
    information have exactly the planted rate.

    Raises:
        ValueError: Nothing is wrong.
    """
    n = int(wrong.sum())
    if not n:
        raise ValueError("no label is wrong: there is nothing to find")
    threshold = np.sort(suspicion)[-n]
    above, level = suspicion > threshold, suspicion == threshold
    found = wrong[above].sum() + (n - above.sum()) * wrong[level].mean()
    return float(found / n)


def precision_within_classes(
    suspicion: Float[np.ndarray, " docs"], wanted: Bool[np.ndarray, " docs"], labels: Int[np.ndarray, " docs"]
) -> float:
    """Share of wanted examples among the most suspicious of each label, as many of a label as are wanted there.

    Where more are wanted of one label than of the other, whoever suspects that label would find some without knowing
    which; here scores that know the label alone have the expectation of scores that know nothing.
    """
    classes = [labels == label for label in (0, 1) if wanted[labels == label].any()]
    found = [precision_at_n(suspicion[of], wanted[of]) * wanted[of].sum() for of in classes]
    return float(np.sum(found) / wanted.sum())


def suspicion(
    features: Float[np.ndarray, "docs width"], labels: Int[np.ndarray, " docs"], seed: int, fit: Fit
) -> Float[np.ndarray, " docs"]:
    """How much a method that has not seen an example's own label speaks against it.

    The examples are in FOLDS parts; a method is trained on the other parts, wrong labels and all. The suspicion is the
    rank of its score within the part, centred and divided by the examples there, with the sign against the label that
    is given: parts have classifiers of their own, and the log-odds of one with another C are on another scale.

    Args:
        features: One row per example; where any is not finite nothing is suspected more than another.
        labels: As given, wrong ones included.
        seed: Of the folds.
        fit: The method.
    """
    found = np.zeros(len(labels))
    if not np.isfinite(features).all():
        return found
    for rest, part in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels):
        scores = fit(features[rest], labels[rest], features[part], labels[part], seed)
        found[part] = (rankdata(scores) - (len(part) + 1) / 2) / len(part)
    return np.where(labels == 1, -found, found)


@dataclass(frozen=True)
class Search:
    """One method on one table, with everything that it needs: it can be done in another process, like an `Aim`."""

    features: Float[np.ndarray, "docs width"]
    """One row per example."""
    labels: Int[np.ndarray, " docs"]
    """As they are in the wheel."""
    seed: int
    """Of errors and folds."""
    fit: Fit
    """The method."""
    wanted: Bool[np.ndarray, " docs"] | None = None
    """Examples to find where the labels are left as they are; None plants errors."""

    def shoot(self) -> float:
        """Plant errors unless other examples are wanted, look for them, and return the precision at n.

        Flips are as likely in either class, what a cue speaks against is not: there it is `precision_within_classes`.
        """
        if self.wanted is not None:
            found = suspicion(self.features, self.labels, self.seed, self.fit)
            return precision_within_classes(found, self.wanted, self.labels)
        planted = plant(self.labels, self.seed)
        return precision_at_n(suspicion(self.features, planted.labels, self.seed, self.fit), planted.wrong)


def dense_probe(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, y_new: np.ndarray, seed: int) -> np.ndarray:
    """Log-odds of sae-probes' logistic regression on all features, its C cross-validated on the training part."""
    library: Any = quietly_import("sae_probes.utils_training")
    # In a random order, because sae-probes validates on the last rows; tensors, as in `arrows.fitted`.
    order = np.random.default_rng(seed).permutation(len(y))
    train, new = torch.from_numpy(x[order]), torch.from_numpy(x_new)
    with calm():
        return library.find_best_reg(train, y[order], new, y_new, seed=seed).classifier.decision_function(new)


def top_latent(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, y_new: np.ndarray, seed: int) -> np.ndarray:
    """Score of the one feature whose normalised means differ most between the classes, as sae-probes ranks them.

    It is the feature itself, with the sign of its class difference: a logistic regression on one feature puts examples
    in that order whatever its C, and the order is all that is read of a score. Nothing has to be fitted.
    """
    best = ranked(x, y)[0]
    return np.sign(x[y == 1, best].mean() - x[y == 0, best].mean()) * x_new[:, best]
