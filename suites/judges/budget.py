"""What judges may cost in one command, and what they have cost so far. Answers from the cache cost nothing."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

from .judge import Answer, Question

_FREE = ("rate limit", "server error", "bad request")


class BudgetSpent(RuntimeError):  # noqa: N818  (nothing went wrong: the run stops where it was told to)
    """The next question might pass the limit: one line with what was used and what the question may need."""


@dataclass(frozen=True)
class Price:
    """What a million tokens cost. There is no built-in list: prices go out of date."""

    prompt: float
    """Price of a million tokens that are sent, in any currency."""
    completion: float
    """Price of a million tokens that are answered."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(p) and p >= 0 for p in (self.prompt, self.completion)):
            raise ValueError(f"a price must be a number from 0 up, not {self.prompt},{self.completion}")

    @classmethod
    def parse(cls, text: str) -> Price:
        """Read `IN,OUT` per million tokens, as in `0.15,0.60`.

        Raises:
            ValueError: it is not two numbers from 0 up.
        """
        try:
            prompt, completion = (float(part) for part in text.split(","))
            return cls(prompt, completion)
        except ValueError:
            raise ValueError(
                f"--judge-price must be IN,OUT per million tokens, such as 0.15,0.6, not {text!r}"
            ) from None

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Cost of so many tokens, in the price's currency."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@dataclass(frozen=True)
class Budget:
    """Limits of one command; None is no limit."""

    max_tokens: int | None = None
    """Most tokens, sent and answered together."""
    max_cost: float | None = None
    """Most money, in the price's currency."""
    price: Price | None = None
    """What tokens cost; without it no cost is known."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"--max-judge-tokens must be at least 1, not {self.max_tokens}")
        if self.max_cost is not None and not (math.isfinite(self.max_cost) and self.max_cost > 0):
            raise ValueError(f"--max-cost must be above 0, not {self.max_cost}")
        if self.max_cost is not None and self.price is None:
            raise ValueError("--max-cost needs --judge-price IN,OUT per million tokens: no prices are built in")

    def allows(self, prompt_tokens: int, completion_tokens: int) -> bool:
        """Whether so many tokens in all are within the limits."""
        if self.max_tokens is not None and prompt_tokens + completion_tokens > self.max_tokens:
            return False
        if self.max_cost is None or self.price is None:
            return True
        return self.price.cost(prompt_tokens, completion_tokens) <= self.max_cost


def prompt_tokens_at_most(question: Question) -> int:
    """Tokens that a question cannot exceed.

    Byte-level tokenizers make at most one of each UTF-8 byte. A chat template adds some to each message (16 allowed)
    and to the whole, the schema of the answer included (64 allowed).
    """
    texts = (content.encode("utf-8", "replace") for _, content in question.messages)
    return sum(len(text) + 16 for text in texts) + 64


def prompt_tokens_expected(question: Question) -> int:
    """Tokens that a question probably has, for a plan: four bytes a token, the usual rule of thumb for English."""
    return math.ceil(sum(len(content.encode("utf-8", "replace")) for _, content in question.messages) / 4)


class Spent:
    """What one command has used of a budget, over all of its SAEs and judges; from several threads.

    A question takes its worst case before it is sent, once for each time that the judge may ask it by itself, and what
    the server has counted afterwards. Where a server counts nothing, and for each request that got lost on the way,
    the worst case stays: it may be billed. A rate limit, an error of the server and a refused request are free. So the
    limits are not passed, unless a server counts more tokens than a text has bytes, or bills what it has not done.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        """The limits."""
        self.prompt_tokens = 0
        """Tokens sent so far."""
        self.completion_tokens = 0
        """Tokens answered so far."""
        self.questions = 0
        """Questions sent so far; those that failed count."""
        self._reserved_prompt = 0
        self._reserved_completion = 0
        self._changed = threading.Condition()

    @property
    def cost(self) -> float | None:
        """Money so far, in the price's currency; None without a price."""
        price = self.budget.price
        return price.cost(self.prompt_tokens, self.completion_tokens) if price else None

    def summary(self) -> dict[str, Any]:
        """Everything that a report shows of it, JSON-able."""
        return {
            "questions": self.questions,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
        }

    def reserve(self, question: Question, tries: int = 1) -> None:
        """Set the worst case of a question aside; waits for those in flight if it fits only without what they may need.

        Args:
            question: what will be asked.
            tries: how often it may be sent.

        Raises:
            BudgetSpent: it does not fit though nothing is in flight.
        """
        prompt, completion = prompt_tokens_at_most(question) * tries, question.max_tokens * tries
        with self._changed:
            while not self._fits(prompt, completion):
                if not self._reserved_prompt:
                    raise BudgetSpent(self._line(prompt + completion))
                self._changed.wait()
            self._reserved_prompt += prompt
            self._reserved_completion += completion

    def settle(self, question: Question, answer: Answer | None, tries: int = 1) -> None:
        """Put what an answer has used in the place of what was set aside for it; None if the question was not sent."""
        worst = prompt_tokens_at_most(question)
        with self._changed:
            self._reserved_prompt -= worst * tries
            self._reserved_completion -= question.max_tokens * tries
            if answer is not None:
                prompt, completion = _used(answer, worst, question.max_tokens)
                self.prompt_tokens += prompt
                self.completion_tokens += completion
                self.questions += 1
            self._changed.notify_all()

    def _fits(self, prompt: int, completion: int) -> bool:
        return self.budget.allows(
            self.prompt_tokens + self._reserved_prompt + prompt,
            self.completion_tokens + self._reserved_completion + completion,
        )

    def _line(self, needed: int) -> str:
        used = f"{self.prompt_tokens + self.completion_tokens:,} tokens used"
        limits = [f"{self.budget.max_tokens:,} tokens"] if self.budget.max_tokens is not None else []
        if self.budget.max_cost is not None:
            limits.append(f"a cost of {self.budget.max_cost:g}")
            used += f" for {self.cost:.4g}"
        return (
            f"the judge's budget of {' and '.join(limits)} is spent: {used}, and the next question may need {needed:,} "
            "more; answers so far are kept, and the same command goes on from there with a budget of its own"
        )


def _used(answer: Answer, worst_prompt: int, worst_completion: int) -> tuple[int, int]:
    prompt, completion = worst_prompt * answer.lost, worst_completion * answer.lost
    if answer.prompt_tokens or answer.completion_tokens:
        return prompt + answer.prompt_tokens, completion + answer.completion_tokens
    if answer.failure in _FREE:
        return prompt, completion
    return prompt + worst_prompt, completion + worst_completion
