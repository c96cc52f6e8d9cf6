"""Computing the activations of a set of texts and writing them to disk, shard by shard."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..results.files import write_atomically
from .activations import ActivationSet, Shard
from .shard_file import STORED, bytes_of_shard, shard_bytes
from .shelf import allowed, hold, make_room, settle
from .texts import TextSet

if TYPE_CHECKING:
    from .site import Site

CODE_VERSION = 1
"""Part of every content key: raise it when a change here alters what is stored."""
FORMAT = "st"
"""Ending of the folder's name: how the set is stored, which no score depends on and so is in no key."""
SHARD_BYTES = 64 * 2**20
"""Upper bound of a shard: what an interrupted run loses, and what writing one needs of memory."""
OUTLIER_FACTOR = 10.0
"""A token is dropped if its norm is above this many times the median norm (massive activations)."""

Progress = Callable[[int, int], None]
"""Called with (documents done, documents in all)."""


class _Document(NamedTuple):
    """One document after the forward pass, without its position 0."""

    tokens: list[int]
    acts: torch.Tensor
    norms: torch.Tensor


@dataclass(frozen=True, eq=False)
class Collector:
    """One set of texts at one site, on its way to disk."""

    site: Site
    """Where the activations come from."""
    texts: TextSet
    """What is read."""
    norm_cap: float | None
    """Norm above which a token is dropped; None: ten times the median norm of the first shard."""

    @cached_property
    def key(self) -> str:
        """Content key: hash of everything that decides a byte of the set."""
        cap = "first shard" if self.norm_cap is None else float(self.norm_cap).hex()
        parts = [CODE_VERSION, SHARD_BYTES, OUTLIER_FACTOR, self.site.fingerprint, self.texts.sha256, cap]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def folder(self) -> Path:
        """Where the set goes."""
        return self.site.cache / f"{self.key[:32]}.{FORMAT}"

    def run(self, progress: Progress | None = None) -> ActivationSet:
        """Compute what is not there yet, and return the set.

        Raises:
            ValueError: There are no texts, or the activations are not finite.
            OSError: The disk is full, or the set does not fit into what the cache may take.
        """
        if not self.texts.documents:
            raise ValueError(f"the text set {self.texts.name!r} is empty")
        most = allowed()
        # Nobody drops the set while it is made, or while what is returned is in use.
        held = hold(self.folder)
        try:
            if most is not None and not (self.folder / "manifest.json").exists():
                make_room(self.folder, self.n_bytes(), most)
            found = self._made(progress)
            settle(held)
        except BaseException:
            held.close()
            raise
        weakref.finalize(found, held.close)
        return found

    def n_bytes(self) -> int:
        """About what the set takes on disk, if no token is dropped for its norm; the texts are tokenised for it."""
        found = 0
        for first in range(0, len(self.texts.documents), self._per_shard):
            lengths = [len(row) for row in self.site.tokenise(self.texts.documents[first : first + self._per_shard])]
            kept, tokens = sum(max(0, length - 1) for length in lengths), sum(lengths)
            found += bytes_of_shard(self.site.d_in, kept, tokens, len(lengths), self.site.precision)
        return found

    def _made(self, progress: Progress | None) -> ActivationSet:
        shards = tuple(self._shards(progress))
        manifest = {
            "key": self.key,
            "d_in": self.site.d_in,
            "n_documents": len(self.texts.documents),
            "norm_cap": shards[0].norm_cap,
            "precision": self.site.precision,
        }
        text = json.dumps(manifest | {"shards": [shard._asdict() for shard in shards]})
        write_atomically(self.folder / "manifest.json", text.encode())
        return ActivationSet(folder=self.folder, shards=shards, **manifest)

    def _shards(self, progress: Progress | None) -> Iterator[Shard]:
        cap, total = self.norm_cap, len(self.texts.documents)
        size = self._per_shard
        for number, first in enumerate(range(0, total, size)):
            shard = self._finished(number) or self._compute(number, first, size, cap)
            cap = shard.norm_cap
            if progress is not None:
                progress(min(first + size, total), total)
            yield shard

    @property
    def _per_shard(self) -> int:
        """Documents of a shard."""
        return max(1, SHARD_BYTES // (STORED[self.site.precision].n_bytes * self.site.d_in * self.site.context_size))

    def _finished(self, number: int) -> Shard | None:
        """The shard of that number, if an earlier run left it whole."""
        try:
            shard = Shard(**json.loads(self._sidecar(number).read_text()))
            shard.verify(self.folder)
        except (OSError, ValueError, TypeError):  # CorruptActivationsError is a ValueError: computed again
            return None
        return shard

    def _compute(self, number: int, first: int, size: int, cap: float | None) -> Shard:
        documents = self._forward(self.texts.documents[first : first + size])
        if cap is None:
            cap = OUTLIER_FACTOR * _median_norm(documents)
        keep = [document.norms <= cap for document in documents]
        rows = torch.cat([document.acts[kept] for document, kept in zip(documents, keep, strict=True)])
        data = shard_bytes(rows, _index(documents, keep, first))
        shard = Shard(
            number=number,
            first_document=first,
            n_documents=len(documents),
            n_rows=len(rows),
            n_first=sum(bool(document.tokens) for document in documents),
            n_outliers=sum(int((~kept).sum()) for kept in keep),
            norm_cap=cap,
            sha256=hashlib.sha256(data).hexdigest(),
        )
        write_atomically(shard.path(self.folder), data)
        # Last, since its presence is what says that the shard is whole.
        write_atomically(self._sidecar(number), json.dumps(shard._asdict()).encode())
        return shard

    def _forward(self, texts: Sequence[str]) -> list[_Document]:
        rows = self.site.tokenise(texts)
        documents: dict[int, _Document] = {}
        # Texts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        for start in range(0, len(order), self.site.batch_size):
            chosen = order[start : start + self.site.batch_size]
            documents |= zip(chosen, self._forward_batch([rows[index] for index in chosen]), strict=True)
        return [documents[index] for index in range(len(rows))]

    def _forward_batch(self, rows: list[list[int]]) -> Iterator[_Document]:
        tokens, mask = self.site.pad(rows)
        if tokens.shape[1] < 2:  # nothing beyond position 0, and perhaps nothing at all
            tokens, mask = self.site.pad([[0, 0]] * len(rows))
        acts = self.site.activations(tokens, mask).cpu()
        norms = acts.norm(dim=-1)
        for row, act, norm in zip(rows, acts.to(STORED[self.site.precision].written), norms, strict=True):
            # Copies: a view would keep the whole batch, padding included, until the shard is written.
            kept = slice(1, max(1, len(row)))
            yield _Document(row, act[kept].clone(), norm[kept].clone())

    def _sidecar(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.json"


def _median_norm(documents: Iterable[_Document]) -> float:
    norms = torch.cat([document.norms for document in documents])
    norms = norms[norms.isfinite()]
    if not len(norms):
        raise ValueError("the activations at the hook are not finite numbers, or no text has a second token")
    return float(norms.median())


def _index(documents: Sequence[_Document], keep: Sequence[torch.Tensor], first: int) -> dict[str, np.ndarray]:
    """Which document and position each row is, and the tokens of all documents."""
    positions = [kept.nonzero().flatten().numpy() + 1 for kept in keep]
    n_kept = [len(position) for position in positions]
    return {
        "document": np.repeat(np.arange(first, first + len(documents), dtype=np.int32), n_kept),
        "position": np.concatenate(positions).astype(np.int32),
        "lengths": np.array([len(document.tokens) for document in documents], dtype=np.int32),
        "tokens": np.array([token for document in documents for token in document.tokens], dtype=np.int32),
    }
