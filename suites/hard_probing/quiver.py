"""The quiver of arrows: what one more method is worth to somebody who chooses by validation.

After Kantamneni, Engels et al. 2025, arXiv 2502.16681: the practitioner fits every method of the quiver, takes the one
with the best validation AUC, and gets that one's test AUC. An SAE is worth the difference that its arrows make to what
is got. No test score chooses anything: the largest of several test AUCs grows with their number, so that arrows of pure
noise would find a win (`tests/suites/hard_probing/test_quiver.py` shows it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .arrows import Shot


@dataclass(frozen=True)
class Worth:
    """What arrows add to a quiver on one problem."""

    before: str
    """Arrow that validation chooses without them."""
    after: str
    """Arrow that it chooses with them."""
    gain: float
    """Test AUC of the one minus test AUC of the other; exactly 0 where the choice stays."""

    @property
    def taken(self) -> bool:
        """Whether an added arrow was chosen."""
        return self.before != self.after


def choose(quiver: Mapping[str, Shot]) -> str:
    """The arrow with the largest validation AUC; of equal ones the first, so that a newcomer has to be better.

    Args:
        quiver: Shots by the name of their arrow, in a fixed order.

    Raises:
        ValueError: The quiver is empty, or a validation AUC is not a number.
    """
    names = list(quiver)
    scores = np.array([quiver[name].validation_auc for name in names], dtype=np.float64)
    if not names or not np.isfinite(scores).all():
        msg = f"nothing to choose by: validation AUCs {dict(zip(names, scores.tolist(), strict=True))}"
        raise ValueError(msg)
    return names[int(np.argmax(np.round(scores, 9)))]  # equal means of folds differ in their last digits


def worth(baselines: Mapping[str, Shot], added: Mapping[str, Shot]) -> Worth:
    """What some arrows are worth to a quiver of baselines.

    Args:
        baselines: Shots of the quiver as it is.
        added: Shots of the arrows that are put into it, by other names; none change nothing.

    Raises:
        ValueError: No baseline, a name in both, or a validation AUC that is not a number.
    """
    if both := baselines.keys() & added.keys():
        msg = f"arrows are in the quiver already: {', '.join(sorted(both))}"
        raise ValueError(msg)
    shots = {**baselines, **added}
    before, after = choose(baselines), choose(shots)
    return Worth(before, after, float(shots[after].test_auc - shots[before].test_auc))


def of_one(baselines: Mapping[str, Shot], shot: Shot) -> float:
    """Gain of an arrow that is taken whatever validation says: a bound, not a method."""
    return float(shot.test_auc - baselines[choose(baselines)].test_auc)


def mean(shots: Sequence[Shot]) -> Shot:
    """One shot for the parts of one test set, by their means."""
    return Shot(*np.mean([(shot.validation_auc, shot.test_auc) for shot in shots], axis=0).tolist())
