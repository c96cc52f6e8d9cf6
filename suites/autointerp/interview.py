"""Ask a judge about many latents: explanations first, then detection, each in one shuffled queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .asking import Asker, Heard, said
from .latent import Latent
from .prompts import explanation_question
from .scoring import Marked, parse_explanation

if TYPE_CHECKING:
    from ..suite import Judging

AGAIN = 0.1
"""Share of the latents whose detection is asked a second time, to see whether the judge agrees with itself."""


@dataclass(frozen=True)
class Interview:
    """What a judge said about one latent."""

    latent: Latent
    """The latent."""
    explanation: str | None
    """The judge's words; None where there was no usable answer."""
    saebench: Marked
    """Detection in SAEBench's layout."""
    balanced: Marked
    """Detection with as many texts with the latent as without."""
    agrees: float | None = None
    """Share of the balanced texts on which a second answer says the same; None where there is none."""


def interview(latents: Sequence[Latent], judging: Judging, rng: np.random.Generator) -> tuple[list[Interview], Heard]:
    """Ask about latents of any SAEs, planted ones among them.

    Args:
        latents: in any order; the judge meets them in a random one and cannot tell whose they are.
        judging: who answers, where answers are kept, what may be spent.
        rng: decides the order of the questions and which are asked again, each by a child of its own: how often
            something had to be asked changes nothing that is drawn after it.

    Returns:
        One interview for each latent, in their order; and what was heard of the judge.

    Raises:
        JudgeUnavailable: when nothing can be asked.
        BudgetSpent: when the next question would not fit; answers until then are kept.
    """
    asker = Asker(judging)
    in_words, in_saebench, in_balanced, in_again, which = rng.spawn(5)
    questions = [explanation_question(latent) for latent in latents]
    answers = asker.ask(
        questions, "explanations", lambda _, answer: parse_explanation(answer.text) is not None, in_words
    )
    words = [parse_explanation(said(answer)) for answer in answers]
    saebench = asker.detect([each.saebench for each in latents], words, "detection (SAEBench's layout)", in_saebench)
    balanced = asker.detect([each.balanced for each in latents], words, "detection (balanced)", in_balanced)
    repeated = which.random(len(latents)) < AGAIN
    repeated[:1] = True  # at least one, or nothing could be said
    again = [latent.balanced if r else () for latent, r in zip(latents, repeated, strict=True)]
    second = asker.detect(again, words, "detection (again)", in_again, attempt=1)
    parts = zip(latents, words, saebench, balanced, map(_agreement, balanced, second), strict=True)
    return [Interview(*part) for part in parts], asker.heard()


def _agreement(first: Marked, second: Marked) -> float | None:
    if first.predicted is None or second.predicted is None:
        return None
    return float(np.mean([a == b for a, b in zip(first.predicted, second.predicted, strict=True)]))
