"""A user's own texts: files, a folder of them, or a dataset of the Hugging Face hub, read no further than needed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from .corpus import demo_texts
from .documents import (
    CHARACTERS_PER_TOKEN,
    MAX_PASSAGES,
    MIN_CHARACTERS,
    Pool,
    Split,
    Wanted,
    probed_prints,
    split,
)
from .hub_datasets import hub_documents
from .near_duplicates import SHARED
from .text_files import SUFFIXES, file_documents
from .texts import TextSet

PACKAGED = "packaged"
"""Name of the texts that need no file and no hub: prompts of sae-probes that the run does not probe."""
MAX_READ = 20
"""Of a source, at most this many times the documents that could be needed are read: the rest were duplicates."""
_REPO_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?(:[\w.-]+)?")


@dataclass(frozen=True)
class Texts:
    """Three sets of texts. No document, and no run of 80 letters, is in two of them or in a probed prompt."""

    train: TextSet
    """What SAEs are trained on: passages, up to six of a document."""
    calibration: TextSet
    """What thresholds are set on, one passage of each document."""
    held_out: TextSet
    """What is measured, one passage of each document: the documents are the units of the statistics."""
    notes: tuple[str, ...]
    """What was read and what was left out, with counts; one line each, for the report."""


def load_texts(
    source: str,
    *,
    n_train_tokens: int,
    n_calibration_tokens: int,
    n_held_out_docs: int,
    exclude_datasets: Collection[str],
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    context_size: int = 128,
) -> Texts:
    """Choose the texts of a run from any source, as `corpus.demo_texts` does from the packaged one.

    Documents are read in the order of the source until there are enough, mixed by `seed`, and dealt out whole: no
    document is in two sets. Of a document only what fills six contexts is used.

    Args:
        source: `packaged`; else a file or folder of `.txt` (a document each, or several with `<|endoftext|>` alone on
            a line between them), `.jsonl` and `.parquet` (a row each); else a dataset of the hub, `org/name` or
            `org/name:config`, of which the split `train` is streamed. Rows have a column `text`, or only one of text.
        n_train_tokens: Training tokens wanted, BOS not counted.
        n_calibration_tokens: Calibration tokens wanted.
        n_held_out_docs: Held-out documents.
        exclude_datasets: Probing datasets of the run: a text that shares 80 letters in a row with one of their
            prompts is left out.
        tokenizer: Counts the tokens.
        seed: Decides the order.
        context_size: Tokens per passage, BOS included.

    Raises:
        ValueError: There is no such source, it holds no text, or not enough; one line with the numbers.
    """
    wanted = Wanted(n_train_tokens, n_calibration_tokens, n_held_out_docs, context_size, seed)
    if source == PACKAGED:
        found = demo_texts(
            n_train_tokens=n_train_tokens,
            n_calibration_tokens=n_calibration_tokens,
            n_held_out_docs=n_held_out_docs,
            exclude_datasets=exclude_datasets,
            tokenizer=tokenizer,
            seed=seed,
            context_size=context_size,
        )
        return Texts(found.train, found.calibration, found.held_out, found.notes)
    documents = _documents(source)
    pool = Pool(probed_prints(exclude_datasets))
    dealt = _read_enough(documents, pool, wanted, tokenizer)
    if short := dealt.shortage(wanted, f"{source} has"):
        raise ValueError(f"{short} ({pool.read:,} documents read, {len(pool.documents):,} usable)")
    return Texts(dealt.train, dealt.calibration, dealt.held_out, (_note(source, pool),))


def _documents(source: str) -> Iterator[str]:
    path = Path(source).expanduser()
    if source and path.exists():  # the path "" would be the working folder
        return file_documents(path)
    if Path(source).suffix in SUFFIXES or not _REPO_ID.fullmatch(source):
        right = f"it must be {PACKAGED}, a file or folder of {', '.join(SUFFIXES)}, or a dataset of the hub (org/name)"
        raise ValueError(f"no such texts: {source!r}; {right}")
    return hub_documents(source)


def _read_enough(documents: Iterator[str], pool: Pool, wanted: Wanted, tokenizer: PreTrainedTokenizerBase) -> Split:
    """Read until the split has all that is wanted, or the source ends; each time by half as much again."""
    # What cannot be used is not kept, and not searched for duplicates either.
    usable = CHARACTERS_PER_TOKEN * wanted.context_size * MAX_PASSAGES
    n_tokens = wanted.n_train_tokens + wanted.n_calibration_tokens
    # As many as would do if each filled one context: many documents are better than much of few.
    target = wanted.n_held_out_docs + math.ceil(n_tokens / (wanted.context_size - 1))
    # No set could need more documents than this, were each of them as short as is allowed.
    limit = MAX_READ * (wanted.n_held_out_docs + n_tokens * CHARACTERS_PER_TOKEN // MIN_CHARACTERS + 1)
    while True:
        ended = _fill(pool, documents, target, limit, usable)
        found = split(list(pool.documents), wanted, tokenizer)
        if ended or not found.shortage(wanted, ""):
            return found
        target += math.ceil(target / 2)


def _fill(pool: Pool, documents: Iterator[str], target: int, limit: int, usable: int) -> bool:
    """Offer documents until the pool holds `target`; True if there are no more of them, or `limit` were read."""
    if len(pool.documents) >= target:
        return False
    for document in documents:
        pool.offer(document[:usable].strip())
        if len(pool.documents) >= target:
            return False
        if pool.read >= limit:
            break
    return True


def _note(source: str, pool: Pool) -> str:
    counts = pool.counts
    return (
        f"texts: the first {counts['read']:,} documents of {source}; left out {counts['short']:,} of under "
        f"{MIN_CHARACTERS} characters, {counts['duplicate']:,} that share {SHARED} letters in a row with another one, "
        f"{counts['probed']:,} that do so with a probed prompt; {counts['kept']:,} documents kept"
    )
