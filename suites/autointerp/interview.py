"""Ask a judge about many latents: explanations first, then detection, each in one shuffled queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..judges.queue import ask_until_usable
from .latent import Example, Latent
from .prompts import detection_question, explanation_question
from .scoring import Marked, mark, parse_explanation, parse_predictions

if TYPE_CHECKING:
    from ..judges.judge import Answer, Question
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


@dataclass(frozen=True)
class _Asker:
    """One judge, one generator of orders, and everybody who has answered."""

    judging: Judging
    rng: np.random.Generator
    heard: list[Answer]

    def ask(
        self, questions: Sequence[Question], stage: str, usable: Callable[[Question, Answer], bool]
    ) -> list[Answer]:
        """Ask questions in a random order; unusable answers are asked again, and stay failures after that."""
        j = self.judging
        told = f"{stage} by {j.judge.name}"
        if questions:
            j.told(told, 0, len(questions))
        answers = ask_until_usable(
            j.judge,
            questions,
            usable,
            store=j.store,
            budget=j.spent,
            rng=self.rng,
            on_answer=lambda done, total: j.told(told, min(done, len(questions) - 1), len(questions)),
        )
        if questions:
            j.told(told, len(questions), len(questions))
        self.heard.extend(answers)
        return answers

    def detect(
        self, shown: Sequence[Sequence[Example]], words: Sequence[str | None], stage: str, attempt: int = 0
    ) -> list[Marked]:
        """Ask in which examples each latent fires; without an explanation or examples there is nothing to ask."""
        possible = [i for i, (texts, word) in enumerate(zip(shown, words, strict=True)) if texts and word]
        questions = [detection_question(words[i] or "", shown[i], attempt=attempt) for i in possible]
        answers = self.ask(questions, stage, _readable)
        found = {i: parse_predictions(a.text, len(shown[i])) for i, a in zip(possible, answers, strict=True)}
        return [mark(texts, found.get(i)) for i, texts in enumerate(shown)]


def interview(
    latents: Sequence[Latent], judging: Judging, rng: np.random.Generator
) -> tuple[list[Interview], list[Answer]]:
    """Ask about latents of any SAEs, planted ones among them.

    Args:
        latents: in any order; the judge meets them in a random one and cannot tell whose they are.
        judging: who answers, where answers are kept, what may be spent.
        rng: decides the order of the questions and which are asked again.

    Returns:
        One interview for each latent, in their order; and every answer, for what they say of the judge.

    Raises:
        JudgeUnavailable: when nothing can be asked.
        BudgetSpent: when the next question would not fit; answers until then are kept.
    """
    asker = _Asker(judging, rng, [])
    questions = [explanation_question(latent) for latent in latents]
    answers = asker.ask(questions, "explanations", lambda _, answer: parse_explanation(answer.text) is not None)
    words = [parse_explanation(answer.text) for answer in answers]
    saebench = asker.detect([latent.saebench for latent in latents], words, "detection (SAEBench's layout)")
    balanced = asker.detect([latent.balanced for latent in latents], words, "detection (balanced)")
    repeated = rng.random(len(latents)) < AGAIN
    repeated[:1] = True  # at least one, or nothing could be said
    again = [latent.balanced if r else () for latent, r in zip(latents, repeated, strict=True)]
    second = asker.detect(again, words, "detection (again)", attempt=1)
    parts = zip(latents, words, saebench, balanced, map(_agreement, balanced, second), strict=True)
    return [Interview(*part) for part in parts], asker.heard


def _readable(question: Question, answer: Answer) -> bool:
    return parse_predictions(answer.text, question.n_examples) is not None


def _agreement(first: Marked, second: Marked) -> float | None:
    if first.predicted is None or second.predicted is None:
        return None
    return float(np.mean([a == b for a, b in zip(first.predicted, second.predicted, strict=True)]))
