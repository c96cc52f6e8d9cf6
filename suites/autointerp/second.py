"""A second judge on some of the latents: whether another one would have said the same. It enters no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

import numpy as np

from .agreement import agreement
from .asking import Asker
from .interview import Interview
from .notes import kind, notes_on

if TYPE_CHECKING:
    from ..judges.judge import Judge
    from ..suite import Judging
    from .scoring import Marked

FEWEST = 3
"""Latents beside the planted ones that are always among those asked about, where there are so many."""
_Asked = list[Interview]


def second_opinion(
    interviews: Sequence[Interview], planted: Sequence[Interview], judging: Judging, rng: np.random.Generator
) -> tuple[str, ...]:
    """Ask the second judge the first one's detection questions in the balanced layout, on a share of the latents.

    Same explanation, same texts, same words; explanations are not asked for again, so this is how far two judges agree
    in finding, and not in naming.

    Args:
        interviews: what the first judge said, planted latents left out.
        planted: what it said of planted latents with something to find.
        judging: both judges; nothing is asked where there is no second one.
        rng: decides which latents, and the order of the questions.

    Returns:
        Lines for the manifest; the first one is the comparison.

    Raises:
        JudgeUnavailable: when the second judge cannot be asked.
        BudgetSpent: when its next question would not fit; all answers until then are kept.
    """
    if judging.second is None:
        return ()
    which, order = rng.spawn(2)
    known = _drawn(planted, judging.second_share, 1, which)
    asked = [*_drawn(interviews, judging.second_share, FEWEST, which), *known]
    asker = Asker(replace(judging, judge=judging.second, second=None))
    texts, words = [each.latent.balanced for each in asked], [each.explanation for each in asked]
    found = asker.detect(texts, words, "detection (second judge)", order)
    line = _line((judging.judge, judging.second), asked, found, len(known))
    return (f"second judge: {line}", *notes_on(judging.second, asker.heard(), "second judge"))


def _drawn(interviews: Sequence[Interview], share: float, fewest: int, rng: np.random.Generator) -> _Asked:
    """A share of the latents that can be asked about; those that lead to the same question count once."""
    able = [each for each in interviews if each.latent.balanced and not each.balanced.failed]
    # A permuted decoder has the latents of the SAE whose decoder it is.
    unique = list({(each.explanation, *(text.tokens for text in each.latent.balanced)): each for each in able}.values())
    n = min(len(unique), max(fewest, round(share * len(unique))))
    return [unique[i] for i in sorted(rng.choice(len(unique), n, replace=False).tolist())]


def _line(judges: tuple[Judge, Judge], asked: _Asked, found: Sequence[Marked], n_known: int) -> str:
    first, second = judges
    said = agreement([(each.balanced, other) for each, other in zip(asked, found, strict=True)])
    missing = sum(other.failed for other in found)
    return (
        f"{second.name} ({kind(second)}) beside {first.name} ({kind(first)}): {_kappa(said.kappa, said.error)}, "
        f"the same on {_number(said.same)} of {said.texts} texts of {said.latents} latents; accuracy on "
        f"{_planted(asked, found, n_known)}; {missing} of {len(found)} latents without an answer of the second"
    )


def _kappa(kappa: float, error: float) -> str:
    if isnan(kappa):
        return "no kappa, as both say one and the same of every text"
    return f"kappa {kappa:.3f} (standard error over latents {'unknown' if isnan(error) else f'{error:.3f}'})"


def _planted(asked: _Asked, found: Sequence[Marked], n: int) -> str:
    if not n:
        return "no planted latent"
    first = float(np.mean([each.balanced.balanced_accuracy for each in asked[-n:]]))
    second = float(np.mean([marked.balanced_accuracy for marked in found[-n:]]))
    return f"{n} planted latents {second:.3f}, of the first judge {first:.3f}"


def _number(value: float) -> str:
    return "none" if isnan(value) else f"{value:.3f}"
