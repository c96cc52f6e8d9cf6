"""From documents to sets of texts: without near-duplicates, cut into passages, split by document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

from .near_duplicates import fingerprints
from .probe_data import read_table
from .texts import TextSet

MIN_CHARACTERS = 240
"""Shorter texts are left out: a document has to carry a figure of its own (about 50 tokens)."""
MAX_PASSAGES = 6
"""A document gives at most this many passages to training, so that a few long papers do not fill it."""
CHARACTERS_PER_TOKEN = 5
"""Prose has about 4.3 characters per token: a passage of this many per token of context fills the context."""


class Pool:
    """Documents that share no passage with one another, nor with a probed prompt."""

    def __init__(self, probed: frozenset[int]) -> None:
        self._probed = probed
        self._seen: set[int] = set()
        self.documents: dict[str, None] = {}  # in order, and quick to ask for an exact copy
        self.left_out = {"short": 0, "duplicate": 0, "probed": 0}
        self.read = 0

    def offer(self, text: str) -> None:
        """Take a document, or count why not."""
        self.read += 1
        reason = self._reason_to_leave_out(text)
        if reason is None:
            self.documents[text] = None
        else:
            self.left_out[reason] += 1

    @property
    def counts(self) -> dict[str, int]:
        """Texts read, left out for which reason, and kept."""
        return {"read": self.read} | self.left_out | {"kept": len(self.documents)}

    def _reason_to_leave_out(self, text: str) -> str | None:
        if len(text) < MIN_CHARACTERS:
            return "short"
        # A third of the demo's prompts are exact copies: the tables share sources, and repeat rows to balance labels.
        if text in self.documents:
            return "duplicate"
        prints = fingerprints(text)
        if not self._probed.isdisjoint(prints):
            return "probed"
        if not self._seen.isdisjoint(prints):
            return "duplicate"
        self._seen.update(prints)
        return None


@dataclass(frozen=True)
class Wanted:
    """How much text a run wants, and how it is read."""

    n_train_tokens: int
    """Training tokens, BOS not counted."""
    n_calibration_tokens: int
    """Calibration tokens."""
    n_held_out_docs: int
    """Held-out documents."""
    context_size: int
    """Tokens per passage, BOS included."""
    seed: int
    """Decides the order of the documents."""


class Split(NamedTuple):
    """Documents dealt out to three sets, and how many tokens these have."""

    train: TextSet
    calibration: TextSet
    held_out: TextSet
    n_train: int
    n_calibration: int

    def shortage(self, wanted: Wanted, source: str) -> str:
        """What there is too little of, in one line with numbers; empty if there is enough."""
        found = {
            "held-out documents": (len(self.held_out.documents), wanted.n_held_out_docs),
            "calibration tokens": (self.n_calibration, wanted.n_calibration_tokens),
            "training tokens": (self.n_train, wanted.n_train_tokens),
        }
        short = ((what, has, asked) for what, (has, asked) in found.items() if has < asked)
        lines = (f"{asked:,} {what} wanted, but {source} {has:,} left for them" for what, has, asked in short)
        return next(lines, "")


def probed_prints(datasets: Iterable[str]) -> frozenset[int]:
    """Fingerprints of every prompt of some probing datasets."""
    texts = {prompt for name in datasets for prompt in prompts(name)}
    return frozenset(print_ for prompt in texts for print_ in fingerprints(prompt))


def prompts(name: str) -> Iterator[str]:
    """The prompts of one probing dataset."""
    for prompt in read_table(name)["prompt"].dropna():
        yield str(prompt).strip()


def split(documents: Sequence[str], wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Split:
    """Deal documents out: held-out ones first, then calibration, then training.

    Held-out and calibration documents give one passage each. Training takes the first passage of every document
    before the second of any, so that a small budget still meets many documents. Where there are too few documents,
    the sets are smaller than wanted: see `Split.shortage`.
    """
    order = np.random.default_rng(wanted.seed).permutation(len(documents))
    cut = [passages(documents[int(index)], wanted.context_size) for index in order]
    count = TokenCounter(tokenizer, wanted.context_size)
    held_out = [first for first, *_ in cut[: wanted.n_held_out_docs]]
    rest = cut[len(held_out) :]
    calibration, n_calibration = count.take((first for first, *_ in rest), wanted.n_calibration_tokens)
    train, n_train = count.take(in_rounds(rest[len(calibration) :]), wanted.n_train_tokens)
    sets = {"train": train, "calibration": calibration, "held_out": held_out}
    return Split(
        **{name: TextSet(name, tuple(texts)) for name, texts in sets.items()},
        n_train=n_train,
        n_calibration=n_calibration,
    )


def passages(document: str, context_size: int) -> list[str]:
    """Cut a document at spaces into passages that fill a context; a short rest is dropped."""
    size = CHARACTERS_PER_TOKEN * context_size
    found: list[str] = []
    start = 0
    while len(found) < MAX_PASSAGES and len(document) - start >= MIN_CHARACTERS:
        stop = start + size
        if stop < len(document):
            # A run of letters without a space that is longer than half a passage is cut where it is.
            stop = max(document.rfind(" ", start, stop), start + size // 2)
        found.append(document[start:stop].strip())
        start = stop
    return found


def in_rounds(documents: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first passage of every document, then the second of all that have one, and so on."""
    for number in range(MAX_PASSAGES):
        for found in documents:
            if number < len(found):
                yield found[number]


class TokenCounter:
    """Takes texts until they have as many tokens as are wanted."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context_size: int) -> None:
        self._tokenizer, self._limit = tokenizer, context_size - 1

    def take(self, texts: Iterable[str], n_tokens: int) -> tuple[list[str], int]:
        """The first texts that have at least `n_tokens` together (all, if there are too few), and their tokens."""
        taken: list[str] = []
        total = 0
        # Hundreds at a time: the tokenizer then uses all cores.
        for batch in _batched(texts, 256):
            for text, ids in zip(batch, self._ids(batch), strict=True):
                if total >= n_tokens:
                    return taken, total
                taken.append(text)
                total += len(ids)
        return taken, total

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        found = self._tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=self._limit)
        return found["input_ids"]  # pyright: ignore[reportReturnType]


def _batched(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(texts)
    while batch := list(islice(iterator, size)):
        yield batch
