"""From a judge's words to numbers: what it said, and how much of it is right."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .latent import Example
from .prompts import in_order, saebench_asker

LONGEST = 20_000
"""Characters of a list of numbers above which nobody reads on."""
_WORDS = (
    "the|an?|is|are|answer|response|output|my|examples?|sequences?|documents?|indices|index|numbers?|numbered|active|"
    "activating|activates?|activated|neuron|should|would|fires?|on|in|following|where|which|that|json|list"
)
_PREFIX = rf"(?:(?:{_WORDS})\b|[\s:#=*\"'`\[({{])*"
_BETWEEN = r"(?:[\s,;&]|\.\s|\band\b|\bexamples?\b|#)+"
_NUMBERS = re.compile(rf"{_PREFIX}(\d+(?:{_BETWEEN}\d+)*)[\s.,;!*\"'`\])}}]*", re.IGNORECASE)
_NOTHING = re.compile(
    rf"{_PREFIX}(?:none|no (?:examples?|sequences?)|\[\s*\])(?: of (?:the|these) (?:examples?|sequences?))?\W*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Marked:
    """One detection answer, compared with what the latent does."""

    predicted: tuple[bool, ...] | None
    """For each example whether the judge says that the latent fires; None without a usable answer."""
    active: tuple[bool, ...]
    """For each example whether it does by SAEBench's labels, where a random window never counts as firing."""
    fires: tuple[bool, ...]
    """For each example whether it really does; differs where it fires in a random window."""

    @property
    def failed(self) -> bool:
        """Whether there is no usable answer."""
        return self.predicted is None

    @property
    def correct(self) -> tuple[bool, ...] | None:
        """For each example whether the judge is right by SAEBench's labels."""
        return None if self.predicted is None else _same(self.predicted, self.active)

    @property
    def floor(self) -> float:
        """Score of "None": the share of examples that do not count as firing; NaN without examples."""
        return _mean(tuple(not a for a in self.active))

    @property
    def score(self) -> float:
        """SAEBench's score, the share of right examples; the floor without a usable answer."""
        return self.floor if self.predicted is None else _mean(_same(self.predicted, self.active))

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest score that it can be: 0 and 1 without a usable answer."""
        return (0.0, 1.0) if self.predicted is None else (self.score, self.score)

    @property
    def true_score(self) -> float:
        """Share of right examples by what the latent really does; that of "None" without a usable answer."""
        return _mean(_same(self.predicted or (False,) * len(self.fires), self.fires))

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the shares of right ones among firing and silent examples (really so); .5 without a usable answer.

        NaN where all examples fire or none does.
        """
        fires = np.array(self.fires, dtype=bool)
        if not fires.any() or fires.all():
            return float("nan")
        if self.predicted is None:
            return 0.5
        right = np.array(_same(self.predicted, self.fires))
        return float((right[fires].mean() + right[~fires].mean()) / 2)

    @property
    def yes_rate(self) -> float:
        """Share of the examples that the judge says fire; NaN without a usable answer."""
        return float("nan") if self.predicted is None else _mean(self.predicted)


def mark(examples: Sequence[Example], numbers: Sequence[int] | None) -> Marked:
    """Compare an answer with what the latent does.

    Args:
        examples: as shown.
        numbers: of the examples in which it is said to fire, from 1; None for no usable answer.
    """
    said = None if numbers is None else tuple(i in set(numbers) for i in range(1, len(examples) + 1))
    fires = tuple(each.is_active for each in examples)
    return Marked(said, tuple(f and each.kind != "random" for f, each in zip(fires, examples, strict=True)), fires)


def saebench_score(examples: Sequence[Example], numbers: Sequence[int]) -> float:
    """The score by SAEBench's own `score_predictions`, for which random windows are silent."""
    shown = in_order(examples, silent=[each.kind == "random" for each in examples])
    return saebench_asker().score_predictions(list(numbers), shown)


def parse_explanation(text: str | None) -> str | None:
    """What a latent fires on, cut out of an answer by SAEBench's own method; None where nothing is left."""
    found = saebench_asker().parse_explanation(text or "")
    return found if found.strip(" .") else None


def parse_predictions(text: str | None, n_examples: int) -> tuple[int, ...] | None:
    """Numbers of the examples in an answer: by SAEBench's own method, else by a more tolerant one.

    SAEBench reads `1, 3`, `1 and 3` and `None`; the tolerant one also JSON, `Examples 1, 3`, one number a line, `none`
    in any spelling. Two answers that SAEBench takes are not usable here: one with a number that no example has (it
    ignores the number), and one without a number or a word for none, such as an empty one (it reads "none"). A list
    whose bracket is not closed is the beginning of an answer, and no answer.

    Args:
        text: the judge's words.
        n_examples: how many examples were shown.

    Returns:
        Ascending numbers, each once; None where the answer is not usable.
    """
    if not text or len(text) > LONGEST or not re.search(r"\d|none|no |\[\s*\]", text, re.IGNORECASE):
        return None
    found = _by_saebench(text)
    if found is None:
        found = _tolerantly(text.strip())
    return tuple(sorted(set(found))) if found is not None and set(found) <= set(range(1, n_examples + 1)) else None


def _by_saebench(text: str) -> list[int] | None:
    try:
        return saebench_asker().parse_predictions(text)
    except ValueError:  # what is a digit to it need not be one to `int`: a superscript, or too many of them
        return None


def _tolerantly(text: str) -> list[int] | None:
    text = re.sub(r"^```\w*|```$", "", text).strip()
    if (listed := _json_list(text)) is not None:
        return listed
    if _NOTHING.fullmatch(text):
        return []
    match = _NUMBERS.fullmatch(text) if _closed(text) else None
    return [int(number) for number in re.findall(r"\d{1,9}", match[1])] if match else None


def _closed(text: str) -> bool:
    return all(text.count(opening) == text.count(closing) for opening, closing in ("[]", "()", "{}"))


def _json_list(text: str) -> list[int] | None:
    """A list of numbers in JSON, or the only list in an object."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list) or not all(isinstance(each, int | str) for each in value):
        return None
    digits = [str(each).strip() for each in value]
    return [int(each) for each in digits] if all(re.fullmatch(r"[0-9]{1,9}", each) for each in digits) else None


def _same(one: tuple[bool, ...], other: tuple[bool, ...]) -> tuple[bool, ...]:
    return tuple(a == b for a, b in zip(one, other, strict=True))


def _mean(values: tuple[bool, ...]) -> float:
    # Not NumPy's mean: SAEBench divides a sum of whole numbers, and the last bit counts.
    return sum(values) / len(values) if values else float("nan")
