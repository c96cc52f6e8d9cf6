"""Activations of a set of texts on disk, streamed from there with bounded memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from .shard_file import STORED, Precision, as_float, read_index, read_rows

T = TypeVar("T")

BUFFER_ROWS = 65_536
"""Rows among which `batches` mixes."""
BLOCK_ROWS = 64
"""Neighbouring rows that `batches` reads together: about half a document."""


class CorruptActivationsError(ValueError):
    """A file of an activation set is missing, truncated or not what its manifest says."""


class Shard(NamedTuple):
    """What one shard holds: the kept tokens of some neighbouring documents."""

    number: int
    """Place of the shard in its set."""
    first_document: int
    """Index of its first document."""
    n_documents: int
    """How many documents it holds."""
    n_rows: int
    """Tokens kept."""
    n_first: int
    """Tokens dropped because they are at position 0."""
    n_outliers: int
    """Tokens dropped because their norm is above the cap (or not a number)."""
    norm_cap: float
    """The cap that decided it."""
    sha256: str
    """Hash of its file."""

    def path(self, folder: Path) -> Path:
        """Its file: `activations [n_rows, d_in]`, and which document and position each row is."""
        return folder / f"shard-{self.number:05d}.safetensors"

    def verify(self, folder: Path) -> None:
        """Compare the file with its hash.

        Raises:
            CorruptActivationsError: It is missing or has other bytes.
        """
        path = self.path(folder)
        if not path.is_file() or file_sha256(path) != self.sha256:
            msg = f"{path} is missing or corrupt; delete the folder {folder} to compute it again"
            raise CorruptActivationsError(msg)


class SpliceBatch(NamedTuple):
    """Some documents as the language model reads them, for runs with edited activations."""

    tokens: Int[torch.Tensor, "batch pos"]
    """Token ids, padded on the right with 0."""
    kept: Bool[torch.Tensor, "batch pos"]
    """Which cells are rows of the activation set."""
    lengths: list[int]
    """Number of real tokens of each document."""


@dataclass(frozen=True, eq=False)
class ActivationSet:
    """The kept tokens of a set of texts: their activations, document by document, in shards on disk."""

    folder: Path
    """Where the shards lie."""
    key: str
    """Content key: hash of the site, the texts, the rule of what is kept, and the version of the code."""
    d_in: int
    """Width of the activations."""
    n_documents: int
    """Documents of the text set, those without a kept token included."""
    norm_cap: float
    """Tokens with a larger norm were dropped."""
    shards: tuple[Shard, ...]
    """The shards, in the order of their documents."""
    precision: Precision = "bfloat16"
    """How they are stored."""

    @classmethod
    def open(cls, folder: Path) -> ActivationSet:
        """Open a finished set and check every byte of it.

        Raises:
            CorruptActivationsError: The manifest cannot be read, or a shard is not what it says.
        """
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            shards = tuple(Shard(**shard) for shard in manifest.pop("shards"))
            found = cls(folder=folder, shards=shards, **manifest)
        except (OSError, ValueError, TypeError, KeyError) as error:
            msg = f"{folder / 'manifest.json'} cannot be read ({error}); delete the folder to compute it again"
            raise CorruptActivationsError(msg) from error
        for shard in found.shards:
            shard.verify(folder)
        return found

    @property
    def n_tokens(self) -> int:
        """Tokens kept."""
        return sum(shard.n_rows for shard in self.shards)

    @property
    def counts(self) -> dict[str, int]:
        """Tokens kept and dropped, by reason."""
        return {
            "kept": self.n_tokens,
            "dropped_bos": sum(shard.n_first for shard in self.shards),
            "dropped_outlier": sum(shard.n_outliers for shard in self.shards),
        }

    def chunks(
        self, max_tokens: int = 16_384
    ) -> Iterator[tuple[Float[torch.Tensor, "n d_in"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
        """All kept tokens in the order of the texts, whole documents at a time.

        Args:
            max_tokens: Upper bound of a chunk; a document that is longer is a chunk of its own.

        Yields:
            Activations in float32, the document index of each row, and its position in the document.
        """
        for shard in self.shards:
            index = self._index(shard)
            for start, stop in _whole_documents(index["document"], max_tokens):
                acts = as_float(self._rows(shard, start, stop))
                yield acts, index["document"][start:stop], index["position"][start:stop]

    def batches(self, batch_size: int, *, seed: int, n_batches: int) -> Iterator[Float[torch.Tensor, "batch d_in"]]:
        """Shuffled batches in float32; the same seed gives the same batches.

        Blocks of 64 neighbouring rows come in a random order and fill a buffer of 65,536 rows (fewer if the set is
        smaller). Batches are drawn from it without replacement; when half of it is used up, the next blocks take
        the free places. So a batch of 2,048 holds two neighbours of one block on average, every row enters the
        buffer once before the set starts again, in another order. A thread reads what comes next while batches are
        drawn. Memory is that of the buffer and half of it again, however many tokens there are: files are read, never
        mapped, since mapped pages would count as memory of this process.

        Args:
            batch_size: Rows of a batch.
            seed: Decides the order.
            n_batches: Number of batches; the set is gone through as often as that needs.

        Raises:
            ValueError: The set holds no token.
        """
        if not self.n_tokens:
            raise ValueError(f"no token to train on: all tokens in {self.folder} were dropped")
        rng = np.random.default_rng(seed)
        spans = _Spans(self._shuffled_blocks(rng))
        capacity = max(2 * batch_size, min(BUFFER_ROWS, self.n_tokens))
        drawn = (capacity // 2) // batch_size * batch_size
        buffer = np.empty((capacity, self.d_in), dtype=STORED[self.precision].read)
        free = np.arange(capacity)
        self._read_into(buffer, spans.of(capacity))
        with ThreadPoolExecutor(1, "shards") as reader:
            ahead: Future[np.ndarray] | None = None
            for number in range(n_batches):
                offset = number * batch_size % drawn
                if offset == 0:
                    if number:
                        buffer[free] = ahead.result() if ahead else self._rows_of(spans.of(drawn))
                    free, ahead = rng.permutation(capacity)[:drawn], None
                elif ahead is None and (number * batch_size - offset + drawn) < n_batches * batch_size:
                    # Not before a second batch is asked for: who takes one waits for no more. What comes next is
                    # drawn here and only read there, so that the order owes nothing to the threads.
                    ahead = reader.submit(self._rows_of, spans.of(drawn))
                yield as_float(buffer[free[offset : offset + batch_size]])

    def kept_mask(self, documents: Sequence[int], n_positions: int) -> Bool[torch.Tensor, "batch pos"]:
        """Which cells of a rectangle of tokens are rows of this set.

        Args:
            documents: Indices into the text set, one for each row of the rectangle.
            n_positions: Its width.
        """
        mask = torch.zeros(len(documents), n_positions, dtype=torch.bool)
        for row, document in enumerate(documents):
            index = self._index(self._shard_of(document))
            mask[row, torch.from_numpy(index["position"][index["document"] == document]).long()] = True
        return mask

    def splice_batches(self, n_documents: int, batch_size: int = 8) -> Iterator[SpliceBatch]:
        """The first documents as the language model reads them, for `Site.token_losses`.

        Args:
            n_documents: How many (all, if there are fewer).
            batch_size: Documents at a time.
        """
        n_documents = min(n_documents, self.n_documents)
        for start in range(0, n_documents, batch_size):
            documents = range(start, min(start + batch_size, n_documents))
            rows = [self._tokens(document) for document in documents]
            tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
            for index, row in enumerate(rows):
                tokens[index, : len(row)] = row
            yield SpliceBatch(tokens, self.kept_mask(documents, tokens.shape[1]), [len(row) for row in rows])

    def _tokens(self, document: int) -> torch.Tensor:
        shard = self._shard_of(document)
        index = self._index(shard)
        stop = np.cumsum(index["lengths"])[document - shard.first_document]
        start = stop - index["lengths"][document - shard.first_document]
        return torch.from_numpy(index["tokens"][start:stop]).long()

    def _shard_of(self, document: int) -> Shard:
        for shard in self.shards:
            if 0 <= document - shard.first_document < shard.n_documents:
                return shard
        raise IndexError(f"no document {document}: the set has {self.n_documents}")

    def _index(self, shard: Shard) -> dict[str, np.ndarray]:
        return self._read(read_index, shard)

    def _rows(self, shard: Shard, start: int, stop: int) -> np.ndarray:
        return self._read(read_rows, shard, start, stop)

    def _read(self, how: Callable[..., T], shard: Shard, *what: int) -> T:
        try:
            of = shard.path(self.folder), shard.sha256, (shard.n_rows, self.d_in), self.precision
            return how(*of, *what)
        except (ValueError, OSError) as error:
            raise CorruptActivationsError(f"{error}; delete the folder {self.folder} to compute it again") from None

    @cached_property
    def _blocks(self) -> np.ndarray:
        """Shard, first row and end of every block, `[blocks, 3]`."""
        return np.concatenate([_blocks_of(shard) for shard in self.shards])

    def _shuffled_blocks(self, rng: np.random.Generator) -> Iterator[tuple[int, int, int]]:
        while True:
            yield from rng.permutation(self._blocks).tolist()

    def _rows_of(self, spans: Sequence[tuple[int, int, int]]) -> np.ndarray:
        """Rows of several spans, one behind the other."""
        found = np.empty((sum(stop - start for _, start, stop in spans), self.d_in), STORED[self.precision].read)
        self._read_into(found, spans)
        return found

    def _read_into(self, rows: np.ndarray, spans: Sequence[tuple[int, int, int]]) -> None:
        place = 0
        for number, start, stop in spans:
            rows[place : place + stop - start] = self._rows(self.shards[number], start, stop)
            place += stop - start


class _Spans:
    """Cuts blocks, each a shard, its first row and end, into as many rows as are asked for."""

    def __init__(self, blocks: Iterator[tuple[int, int, int]]) -> None:
        self._blocks = blocks
        self._rest: tuple[int, int, int] | None = None

    def of(self, n_rows: int) -> list[tuple[int, int, int]]:
        """The next rows; a block that is cut goes on in the next call."""
        found: list[tuple[int, int, int]] = []
        while n_rows:
            number, start, stop = self._rest or next(self._blocks)
            end = min(stop, start + n_rows)
            found.append((number, start, end))
            self._rest = (number, end, stop) if end < stop else None
            n_rows -= end - start
        return found


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _blocks_of(shard: Shard) -> np.ndarray:
    starts = np.arange(0, shard.n_rows, BLOCK_ROWS)
    stops = np.minimum(starts + BLOCK_ROWS, shard.n_rows)
    return np.stack([np.full_like(starts, shard.number), starts, stops], axis=1)


def _whole_documents(document: np.ndarray, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut rows that are sorted by document into spans of at most so many, at borders of documents."""
    borders = [*np.flatnonzero(np.diff(document)) + 1, len(document)]
    start = stop = 0
    for border in borders:
        if border - start > max_tokens and stop > start:
            yield start, stop
            start = stop
        stop = int(border)
    if stop > start:
        yield start, stop
