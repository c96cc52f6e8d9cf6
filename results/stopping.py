"""When enough latents were asked about: a suite asks whether it may stop, and never learns which SAE is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .outcome import Verdict
from .stats import anytime
from .stats.crossed import RECIPE_SEEDS
from .verdict import verdict_of

if TYPE_CHECKING:
    from .design import SuiteDesign


@dataclass(frozen=True)
class StoppingRule:
    """Stop where every required comparison has a verdict other than INCONCLUSIVE, by the interval of `anytime`.

    It is the interval that the verdict rests on, luck of the seeds included: where the confidence sequence alone has
    just left 0, that luck is still to be taken off, and a run that stopped there would end undecided.
    """

    trained: tuple[int, ...]
    """Positions of the SAEs under test."""
    required: tuple[tuple[int, ...], ...]
    """Positions of the SAEs of each required baseline."""
    margin: float
    """Equivalence margin delta."""
    alpha: float
    """One-sided level."""

    def __call__(self, scores: Sequence[Sequence[float]]) -> bool:
        """Whether nothing more has to be asked.

        Args:
            scores: Of every SAE by position the detection score of each step so far. An SAE with fewer steps than
                the others cannot be compared, and nothing is decided.
        """
        ours = _steps(scores, self.trained)
        others = [_steps(scores, arm) for arm in self.required]
        return bool(others) and ours is not None and all(self._decided(ours, each) for each in others)

    def _decided(self, ours: np.ndarray, theirs: np.ndarray | None) -> bool:
        if theirs is None or len(theirs) != len(ours):
            return False
        claim = "recipe" if ours.shape[1] >= RECIPE_SEEDS else "artefact"
        interval = anytime(ours, theirs, claim=claim).interval(self.alpha)
        return interval is not None and verdict_of(*interval, margin=self.margin) is not Verdict.INCONCLUSIVE


def stopping_rule(design: SuiteDesign, arms: Sequence[str], *, trained: str, alpha: float) -> StoppingRule:
    """The rule of one suite.

    Args:
        design: What the suite must beat, by which margin.
        arms: Arm of the SAE at each position.
        trained: Arm under test.
        alpha: One-sided level.
    """

    def of(arm: str) -> tuple[int, ...]:
        return tuple(i for i, name in enumerate(arms) if name == arm)

    return StoppingRule(of(trained), tuple(of(arm) for arm in design.required), design.margin, alpha)


def _steps(scores: Sequence[Sequence[float]], positions: tuple[int, ...]) -> np.ndarray | None:
    """Of shape (steps, SAEs); None without SAEs or steps, or where they have taken unequal numbers of them."""
    own = [scores[i] for i in positions]
    if not own or not own[0] or len({len(each) for each in own}) > 1:
        return None
    return np.array(own, dtype=np.float64).T
