"""The demo's texts: English prose from the prompts of `sae-probes` that a run does not probe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerBase

from .near_duplicates import fingerprints
from .probe_data import read_table, related_files
from .texts import TextSet

SOURCES = (
    "94_ai_gen",  # school essays, by pupils and by language models
    "100_news_fake",  # news articles, true and made up
    "45_context_ans",  # news, fiction, forum posts and blogs, as contexts of questions
    "111_yelp_data",  # shop reviews
    "157_amazon_5star",  # shop reviews
    "101_disease_class",  # abstracts of medical papers
    "98_cancer_cat",  # papers on cancer
    "48_cm_correct",  # stories of everyday conflicts
    "57_wikidatais_alive",  # passages of web pages and books that name a person
    "56_wikidatasex_or_gender",
    "58_wikidatapolitical_party",
    "62_wikidata_occupation_ispolitician",
    "59_wikidata_occupation_isjournalist",
    "60_wikidata_occupation_isathlete",
    "63_wikidata_occupation_issinger",
    "61_wikidata_occupation_isactor",
    "64_wikidata_occupation_isresearcher",
    "86_social_iqa",  # small stories with a question
    "90_glue_qnli",  # a question and a sentence of an encyclopedia
    "97_news_class",  # news in brief
)
"""Tables with long natural prose: no code, no lists of names, no formulas, no tweets. In this order a text that occurs
in several of them is taken from the first one. Tables of a probed family are left out of a run."""
MIN_CHARACTERS = 240
"""Shorter texts are left out: a document has to carry a figure of its own (about 50 tokens)."""
MAX_PASSAGES = 6
"""A document gives at most this many passages to training, so that a few long papers do not fill it."""
_CHARACTERS_PER_TOKEN = 5
# Prose has about 4.3 characters per token: a passage of this many per token of context fills the context.


@dataclass(frozen=True)
class DemoTexts:
    """Three sets of texts. No document, and no run of 80 letters, is in two of them or in a probed prompt."""

    train: TextSet
    """What SAEs are trained on: passages, up to six of a document."""
    calibration: TextSet
    """What thresholds are set on, one passage of each document."""
    held_out: TextSet
    """What is measured, one passage of each document: the documents are the units of the statistics."""
    counts: dict[str, int]
    """Texts read, too short, duplicate or near-duplicate, shared with a probed dataset, kept; and training tokens."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, with counts, in one line for the report."""
        return (
            "texts: {read} prompts of sae-probes tables that are not probed; left out {short} of under "
            "240 characters, {duplicate} that share 80 letters in a row with another one, {probed} that do so "
            "with a probed prompt; {kept} documents kept".format(**self.counts),
        )


def demo_texts(
    *,
    n_train_tokens: int,
    n_calibration_tokens: int,
    n_held_out_docs: int,
    exclude_datasets: Collection[str],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    context_size: int = 128,
) -> DemoTexts:
    """Choose the texts of a run on the demo model.

    The documents are split first: held-out ones, then calibration, then training. Training takes the first passage of
    every document before the second of any, so that a small budget still meets many documents.

    Args:
        n_train_tokens: Training tokens wanted; passages are added until there are as many, BOS not counted.
        n_calibration_tokens: Calibration tokens wanted.
        n_held_out_docs: Held-out documents.
        exclude_datasets: Probing datasets of the run. Their families are not read, and a text that shares 80 letters
            in a row with one of their prompts is left out.
        tokenizer: Counts the tokens.
        seed: Decides the order.
        context_size: Tokens per passage, BOS included.

    Raises:
        ValueError: A dataset is unknown, or there are not enough texts; the message says how many there are.
    """
    documents, counts = _documents(exclude_datasets)
    order = np.random.default_rng(seed).permutation(len(documents))
    passages = [_passages(documents[index], context_size) for index in order]
    count = _TokenCounter(tokenizer, context_size)
    held_out = [first for first, *_ in passages[:n_held_out_docs]]
    rest = passages[len(held_out) :]
    calibration, n_calibration = count.take((first for first, *_ in rest), n_calibration_tokens)
    train, n_train = count.take(_in_rounds(rest[len(calibration) :]), n_train_tokens)
    wanted = {
        "held-out documents": (len(held_out), n_held_out_docs),
        "calibration tokens": (n_calibration, n_calibration_tokens),
        "training tokens": (n_train, n_train_tokens),
    }
    for what, (found, asked) in wanted.items():
        if found < asked:
            raise ValueError(f"{asked:,} {what} wanted, but the demo's texts have {found:,} left for them")
    return DemoTexts(
        train=TextSet("train", tuple(train)),
        calibration=TextSet("calibration", tuple(calibration)),
        held_out=TextSet("held_out", tuple(held_out)),
        counts=counts | {"train_tokens": n_train, "calibration_tokens": n_calibration},
    )


def _documents(exclude_datasets: Collection[str]) -> tuple[list[str], dict[str, int]]:
    """All documents that may be used, each once, and how many were left out for which reason."""
    related = related_files(exclude_datasets)
    prompts = {prompt for name in exclude_datasets for prompt in _prompts(name)}
    pool = _Pool(frozenset(print_ for prompt in prompts for print_ in fingerprints(prompt)))
    for name in SOURCES:
        if name not in related:
            for text in _prompts(name):
                pool.offer(text)
    return list(pool.documents), {"read": pool.read} | pool.left_out | {"kept": len(pool.documents)}


class _Pool:
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

    def _reason_to_leave_out(self, text: str) -> str | None:
        if len(text) < MIN_CHARACTERS:
            return "short"
        # A third of the prompts are exact copies: the tables share sources, and repeat rows to balance labels.
        if text in self.documents:
            return "duplicate"
        prints = fingerprints(text)
        if not self._probed.isdisjoint(prints):
            return "probed"
        if not self._seen.isdisjoint(prints):
            return "duplicate"
        self._seen.update(prints)
        return None


def _prompts(name: str) -> Iterator[str]:
    for prompt in read_table(name)["prompt"].dropna():
        yield str(prompt).strip()


def _passages(document: str, context_size: int) -> list[str]:
    """Cut a document at spaces into passages that fill a context; a short rest is dropped."""
    size = _CHARACTERS_PER_TOKEN * context_size
    passages: list[str] = []
    start = 0
    while len(passages) < MAX_PASSAGES and len(document) - start >= MIN_CHARACTERS:
        stop = start + size
        if stop < len(document):
            # A run of letters without a space that is longer than half a passage is cut where it is.
            stop = max(document.rfind(" ", start, stop), start + size // 2)
        passages.append(document[start:stop].strip())
        start = stop
    return passages


def _in_rounds(documents: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first passage of every document, then the second of all that have one, and so on."""
    for number in range(MAX_PASSAGES):
        for passages in documents:
            if number < len(passages):
                yield passages[number]


class _TokenCounter:
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
