"""Ask one judge many questions of a kind, and keep what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..judges.queue import ask_until_usable
from .latent import Example
from .prompts import detection_question
from .scoring import Marked, mark, parse_predictions

if TYPE_CHECKING:
    import numpy as np

    from ..judges.judge import Answer, Question
    from ..suite import Judging


@dataclass(frozen=True)
class Heard:
    """Everything that one judge has answered, and what that took."""

    answers: tuple[Answer, ...]
    """One for each question of a stage; equal questions are asked once."""
    questions: int
    """Questions that were sent, those that were asked again among them; what was kept is not asked."""
    prompt_tokens: int
    """Tokens sent, as the server counts them; the worst case of what it did not count."""
    completion_tokens: int
    """Tokens answered."""
    cost: float | None
    """Money, where there is a price."""


@dataclass
class Asker:
    """One judge, and everything it has answered."""

    judging: Judging
    """Who is asked, where answers are kept, what may be spent."""
    answers: list[Answer] = field(default_factory=list)
    """What was answered so far."""

    def __post_init__(self) -> None:
        # A command has one budget for all its SAEs and judges: ours is what is added from here on.
        self._before = self.judging.spent.summary()

    def heard(self) -> Heard:
        """What was answered since this was made, and what it took."""
        used = self.judging.spent.summary()
        added: dict[str, Any] = {n: None if value is None else value - self._before[n] for n, value in used.items()}
        return Heard(tuple(self.answers), **added)

    def ask(
        self,
        questions: Sequence[Question],
        stage: str,
        usable: Callable[[Question, Answer], bool],
        rng: np.random.Generator,
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
            rng=rng,
            on_answer=lambda done, total: j.told(told, min(done, len(questions) - 1), len(questions)),
        )
        if questions:
            j.told(told, len(questions), len(questions))
        self.answers.extend(dict(zip(questions, answers, strict=True)).values())
        return answers

    def detect(
        self,
        shown: Sequence[Sequence[Example]],
        words: Sequence[str | None],
        stage: str,
        rng: np.random.Generator,
        attempt: int = 0,
    ) -> list[Marked]:
        """Ask in which examples each latent fires; without an explanation or examples there is nothing to ask."""
        possible = [i for i, (texts, word) in enumerate(zip(shown, words, strict=True)) if texts and word]
        questions = [detection_question(words[i] or "", shown[i], attempt=attempt) for i in possible]
        answers = self.ask(questions, stage, _readable, rng)
        found = {i: parse_predictions(said(a), len(shown[i])) for i, a in zip(possible, answers, strict=True)}
        return [mark(texts, found.get(i)) for i, texts in enumerate(shown)]


def said(answer: Answer) -> str | None:
    """An answer's words; None where it failed: what is too long, cut off or refused has words too."""
    return None if answer.failure else answer.text


def _readable(question: Question, answer: Answer) -> bool:
    return parse_predictions(answer.text, question.n_examples) is not None
