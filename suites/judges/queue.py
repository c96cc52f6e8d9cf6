"""All questions of a run in one mixed queue, so that no arm has an hour, a mood or a server of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import TypedDict, Unpack

import numpy as np

from .answers import AnswerStore
from .budget import Spent
from .judge import Answer, Judge, JudgeUnavailable, Question, most_tries

Progress = Callable[[int, int], None]
"""Called with the questions answered so far, and all of them."""
AGAIN = 1000
"""Added to `Question.attempt` each time that an unusable answer is asked again; a caller's own attempts stay below."""
GRACE_S = 2.0
"""How long an interrupted run waits for the answers in flight."""


class Asking(TypedDict, total=False):
    """Keyword arguments that `ask_all` and `ask_until_usable` share."""

    workers: int
    """Most questions in flight; 8."""
    patience: int
    """After so many questions in a row without any answer nobody is believed to be there; 64."""


def ask_all(
    judge: Judge,
    questions: Sequence[Question],
    *,
    store: AnswerStore | None,
    budget: Spent | None,
    rng: np.random.Generator,
    workers: int = 8,
    on_answer: Progress | None = None,
    patience: int = 64,
) -> list[Answer]:
    """Ask a judge all questions in a random order, and return the answers in the order of the questions.

    Equal questions are asked once. An answer is stored as soon as it comes; what is stored is neither asked nor paid.
    No more than `workers` questions are ever in flight. The budget binds judges that are language models.

    Raises:
        BudgetSpent: the next question might pass the limit; all that were in flight are answered and stored.
        JudgeUnavailable: nobody can be asked, or `patience` questions in a row got no answer.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    times = Counter(questions)
    unique = list(times)
    run = _Run(judge, unique, rng.permutation(len(unique)), store, budget if judge.is_llm else None, patience)
    answers: dict[Question, Answer] = {}
    done = 0
    try:
        for question, answer in run.start(min(workers, len(unique))):
            answers[question] = answer
            done += times[question]
            if on_answer is not None:
                on_answer(done, len(questions))
    finally:
        run.stop()
    if run.error is not None:
        raise run.error
    return [answers[question] for question in questions]


def ask_until_usable(
    judge: Judge,
    questions: Sequence[Question],
    usable: Callable[[Question, Answer], bool],
    *,
    again: int = 2,
    store: AnswerStore | None,
    budget: Spent | None,
    rng: np.random.Generator,
    on_answer: Progress | None = None,
    **asking: Unpack[Asking],
) -> list[Answer]:
    """Like `ask_all`, and ask up to `again` more times what got no answer, or one that is not `usable`.

    The same question at temperature 0 gets the same answer, so an unusable one or a refusal is asked again as another
    attempt, which has another seed (`AGAIN`); a question that was lost on the way is asked again as it was. What is
    unusable to the end keeps its text and gets the failure `unusable`. `tries` and `lost` count the requests of all
    rounds. However many rounds it takes, `rng` is left as if there had been one.

    Raises:
        BudgetSpent: as `ask_all`.
        JudgeUnavailable: as `ask_all`.
    """
    asked, total = list(questions), 0
    answers: list[Answer] = []
    left = list(range(len(asked)))
    for turn, own in enumerate(rng.spawn(again + 1)):
        start, total = total, total + len(left)
        got = ask_all(
            judge,
            [asked[i] for i in left],
            store=store,
            budget=budget,
            rng=own,
            on_answer=_shifted(on_answer, start),
            **asking,
        )
        answers = got if not turn else _replaced(answers, left, got)
        left = [i for i in left if not _is_usable(usable, asked[i], answers[i])]
        for i in left:
            asked[i] = _other_attempt(asked[i], answers[i])
    for i in left:
        answers[i] = replace(answers[i], failure=answers[i].failure or "unusable")
    return answers


def _shifted(progress: Progress | None, start: int) -> Progress | None:
    return (lambda done, total: progress(start + done, start + total)) if progress else None


def _replaced(answers: list[Answer], left: list[int], got: list[Answer]) -> list[Answer]:
    newer = {i: _together(answers[i], new) for i, new in zip(left, got, strict=True)}
    return [newer.get(i, answer) for i, answer in enumerate(answers)]


def _together(old: Answer, new: Answer) -> Answer:
    return replace(new, tries=old.tries + new.tries, lost=old.lost + new.lost)


def _is_usable(usable: Callable[[Question, Answer], bool], question: Question, answer: Answer) -> bool:
    return not answer.failure and usable(question, answer)


def _is_lost(answer: Answer) -> bool:
    """Whether the judge never spoke: its server failed, or something on the way."""
    return bool(answer.failure) and answer.text is None and answer.failure != "refusal"


def _other_attempt(question: Question, answer: Answer) -> Question:
    return question if _is_lost(answer) else replace(question, attempt=question.attempt + AGAIN)


class _Run:
    """The threads of one call; each takes the next question when it is done with its last."""

    def __init__(
        self,
        judge: Judge,
        questions: list[Question],
        order: np.ndarray,
        store: AnswerStore | None,
        budget: Spent | None,
        patience: int,
    ) -> None:
        self.judge, self.questions, self.order = judge, questions, order
        self.store, self.budget, self.patience = store, budget, patience
        self.error: Exception | None = None
        self.taken = self.lost_in_a_row = 0
        self.threads: list[threading.Thread] = []
        self.finished: SimpleQueue[tuple[Question, Answer] | None] = SimpleQueue()
        self.lock = threading.Lock()
        self.stopped = threading.Event()

    def start(self, workers: int) -> Iterator[tuple[Question, Answer]]:
        """Start so many threads, and give what they finish until all of them have ended."""
        # Daemons: one that waits two minutes for a server must not keep an interrupted process from ending.
        self.threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        for thread in self.threads:
            thread.start()
        working = workers
        while working:
            item = self.finished.get()
            if item is None:
                working -= 1
            else:
                yield item

    def stop(self) -> None:
        """Let nobody take another question, and wait a little for those who have one."""
        self.stopped.set()
        deadline = time.monotonic() + GRACE_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        try:
            while (question := self._take()) is not None:
                answer = self._answer(question)
                if answer is not None:
                    self.finished.put((question, answer))
                    self._watch(answer)
        except Exception as error:
            with self.lock:
                self.error = self.error or error
            self.stopped.set()
        finally:
            self.finished.put(None)

    def _take(self) -> Question | None:
        with self.lock:
            if self.stopped.is_set() or self.taken == len(self.order):
                return None
            self.taken += 1
            return self.questions[self.order[self.taken - 1]]

    def _answer(self, question: Question) -> Answer | None:
        """Answer from the store or the judge; None if the run was stopped while the question waited for its turn."""
        known = self.store.get(self.judge, question) if self.store is not None else None
        if known is not None:
            return known
        answer = self._paid(question)
        if answer is not None and self.store is not None:
            self.store.put(self.judge, question, answer)
        return answer

    def _paid(self, question: Question) -> Answer | None:
        if self.budget is None:
            return self.judge.ask(question)
        tries = most_tries(self.judge)
        self.budget.reserve(question, tries)
        answer = None
        try:
            answer = None if self.stopped.is_set() else self.judge.ask(question)
        finally:
            self.budget.settle(question, answer, tries)
        return answer

    def _watch(self, answer: Answer) -> None:
        with self.lock:
            if not answer.cached:
                self.lost_in_a_row = self.lost_in_a_row + 1 if _is_lost(answer) else 0
            lost = self.lost_in_a_row
        if lost >= self.patience:
            raise JudgeUnavailable(
                f"{self.judge.name} left {lost} questions in a row without an answer, the last with: {answer.failure}; "
                "answers so far are kept, and the same command goes on from there"
            )
