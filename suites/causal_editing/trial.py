"""Try edits on test items: what the edited model answers, and what that says of cause and isolation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from ...results.scores import Row
from .known import Known, is_right
from .pairs import Item, Pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from .mdbm import Runs

BATCH = 64
"""Pairs whose logits are held at once: over all pairs a vocabulary of 256 thousand takes gigabytes."""


@dataclass(frozen=True)
class Tried:
    """What the edited model did with each pair."""

    right: np.ndarray
    """Whether its answer is the wanted one, shape (pairs,)."""
    first: np.ndarray
    """Whether the first token is that of the wanted answer."""
    margin: np.ndarray
    """Logit of the wanted answer's first token minus that of the other's."""


@dataclass(frozen=True)
class Trial:
    """Test items in one language model."""

    runs: Runs
    """Runs the model."""
    tokenizer: PreTrainedTokenizerBase
    """The model's."""
    known: Known
    """Prompts by index."""
    n_tokens: int
    """Tokens of an answer."""

    def answers(self, pairs: Sequence[Pair], rows: Float[torch.Tensor, "pairs d_in"]) -> Tried:
        """Let the model answer each pair's base prompt, greedily, with a row in the place of its activation."""
        which = [pair.base for pair in pairs]
        texts = self.tokenizer.batch_decode(self.runs.generate(which, rows, self.n_tokens))
        right = [self.is_right(pair, text) for pair, text in zip(pairs, texts, strict=True)]
        return Tried(np.array(right), *self.first_tokens(pairs, rows))

    def first_tokens(
        self, pairs: Sequence[Pair], rows: Float[torch.Tensor, "pairs d_in"]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether the first token is the wanted one, and its logit minus the other's; cheaper than an answer.

        Memory does not grow with pairs x vocabulary: of each batch's logits no more is kept than what is returned.
        """
        right, margin = np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=np.float32)
        # Prompts of one template beside each other: they share what is computed once, and are about as long.
        order = sorted(range(len(pairs)), key=lambda number: self._shape(pairs[number]))
        for start in range(0, len(pairs), BATCH):
            part = order[start : start + BATCH]
            right[part], margin[part] = self._first_tokens([pairs[number] for number in part], rows[part])
        return right, margin

    def _shape(self, pair: Pair) -> tuple[str, int]:
        prompt = self.known.right[pair.base].prompt
        return prompt.template, len(prompt.tokens)

    def _first_tokens(
        self, pairs: Sequence[Pair], rows: Float[torch.Tensor, "pairs d_in"]
    ) -> tuple[np.ndarray, np.ndarray]:
        tokens = torch.tensor([[pair.token, pair.other] for pair in pairs])
        with torch.no_grad():
            logits = self.runs.logits([pair.base for pair in pairs], rows)
            likeliest, asked = logits.argmax(-1).cpu(), logits.gather(1, tokens.to(logits.device)).cpu()
        return (likeliest == tokens[:, 0]).numpy(), (asked[:, 0] - asked[:, 1]).numpy()

    def is_right(self, pair: Pair, answer: str) -> bool:
        """Whether an answer to a pair's base prompt is the one that is wanted after the edit."""
        return is_right(self.known.right[pair.base].prompt, answer, pair.value)


def rows_of_items(items: Sequence[Item], tried: Tried, suffix: str) -> Iterator[Row]:
    """Everything that was seen of each item, nothing averaged over items.

    `cause` and `cause_logit_difference` have one row per item; `isolation` and its logit difference one for each
    attribute that should have stayed; `disentangle` one per item, the mean of cause and of mean isolation;
    `first_token` the same with the first token alone.

    Args:
        items: what was tried.
        tried: of `pairs_of(items)`.
        suffix: what tells trials of the same item apart.
    """
    for item, part in _parts(items):
        for number, about in zip(range(part.start, part.stop), ("", *item.isolation), strict=True):
            kind, name = ("isolation", f"{item.name}|{about}{suffix}") if about else ("cause", f"{item.name}{suffix}")
            yield Row(kind, name, item.base, float(tried.right[number]))
            yield Row(f"{kind}_logit_difference", name, item.base, float(tried.margin[number]))
        yield Row("disentangle", f"{item.name}{suffix}", item.base, _disentangle(tried.right[part]))
    yield from first_token_rows("first_token", items, tried.first, suffix)


def first_token_rows(metric: str, items: Sequence[Item], first: np.ndarray, suffix: str) -> Iterator[Row]:
    """Cause and isolation by the first token, one row per item."""
    for item, part in _parts(items):
        yield Row(metric, f"{item.name}{suffix}", item.base, _disentangle(first[part]))


def _disentangle(right: np.ndarray) -> float:
    """Mean of cause, which comes first, and of the mean of isolation."""
    return float((right[0] + right[1:].mean()) / 2)


def _parts(items: Sequence[Item]) -> Iterator[tuple[Item, slice]]:
    """Where the pairs of each item lie in `pairs_of`."""
    start = 0
    for item in items:
        stop = start + 1 + len(item.isolation)
        yield item, slice(start, stop)
        start = stop
