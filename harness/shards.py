"""Several processes, one check: each measures its share in one results folder, the last one makes the report."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..results.files import write_atomically
from .errors import UsageError
from .lock import InUseError, attempt, locked, waiting
from .progress import Progress

T = TypeVar("T")


class OtherSiteError(UsageError):
    """The other shards of a check have another site: no SAE of it can be checked here."""


class Unfinished(Exception):  # noqa: N818  (no error: the others go on)
    """This shard is finished and others are not: one line, and no report yet."""


@dataclass(frozen=True)
class Shard:
    """One of several processes with the same command."""

    index: int
    """Its number: 0 to `of` - 1, where `of` itself is another name of 0."""
    of: int
    """How many there are."""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read i/n. Numbers may begin at 0 or at 1, as those of job arrays do: n different ones cover everything.

        Raises:
            UsageError: for anything else.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        index, of = map(int, found.groups()) if found else (1, 0)
        if index > of or of == 0:
            raise UsageError(f"shard is {text!r}; it must be i/n, as 1/4 … 4/4 or 0/4 … 3/4")
        return cls(index % of, of)

    def __str__(self) -> str:
        """The shard as it is typed, from 1."""
        return f"{self.index or self.of}/{self.of}"

    def own(self, items: Sequence[T]) -> list[T]:
        """Every `of`-th item."""
        return list(items[self.index :: self.of])


class Turns:
    """What the processes of one check do alone, in turn, or each for itself. A whole check has every turn."""

    def __init__(self, folder: Path, shard: Shard | None, progress: Progress) -> None:
        """Take nothing yet.

        Args:
            folder: results folder, which exists when the block begins.
            shard: which of several processes this is; None for the only one.
            progress: told of every wait.
        """
        self.folder, self.shard, self.progress = folder, shard, progress
        self._held = ExitStack()
        self.name = f"shard {shard}: " if shard else ""

    def __enter__(self) -> Turns:
        """Hold the folder: alone, or with other shards.

        Raises:
            InUseError: where another check holds it, or another process is the same shard.
        """
        with ExitStack() as stack:
            stack.enter_context(locked(self.folder, shared=self.shard is not None))
            if self.shard is not None:
                name = f".lock-shard-{self.shard.index}-of-{self.shard.of}"
                if not stack.enter_context(attempt(self.folder / name)):
                    raise InUseError(f"shard {self.shard} of {self.folder} is at work already")
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Let go."""
        self._held.close()

    def own(self, items: Sequence[T]) -> list[T]:
        """The share of this process: by position, so that it is the same after a kill."""
        return list(items) if self.shard is None else self.shard.own(items)

    def agree(self, site: str, arithmetic: str) -> None:
        """Refuse to share a check with shards whose language model computes otherwise: no cell of theirs would be its.

        The first shard says in the folder what it has; a whole check, which holds the folder alone, takes that away.

        Args:
            site: fingerprint of language model and hook.
            arithmetic: type that it computes in.

        Raises:
            OtherSiteError: where other shards have another one.
        """
        path, own = self.folder / ".shards-site", f"{arithmetic} {site}"
        if self.shard is None:
            path.unlink(missing_ok=True)
        elif not path.exists():
            write_atomically(path, own.encode())
        elif (first := path.read_text(encoding="utf-8")) != own:
            other = first.partition(" ")[0]
            if other == arithmetic:
                versions = "versions of torch, transformers, nnsight or the model's files differ"
                way_out = "run them alike, or once without --shard"
                raise OtherSiteError(f"shard {self.shard} has another site than others had here: {versions}; {way_out}")
            what = f"the language model computes in {arithmetic}, and in {other} on the other shards"
            way_out = "name --set arithmetic= for all of them, in a new results folder"
            raise OtherSiteError(f"shard {self.shard}: {what}; {way_out}")

    @contextmanager
    def alone(self, why: str) -> Iterator[None]:
        """Do something that one process does for all, after whoever does it now."""
        if self.shard is None:
            yield
            return
        with waiting(self._serial, self.progress, why):
            _look_afresh(self.folder)
            yield

    def finish(self, left: int) -> None:
        """Go on alone to the report, until the block ends.

        Args:
            left: cells that are not there yet.

        Raises:
            Unfinished: where other shards have something to do yet, or another one makes the report.
        """
        if self.shard is None:
            return
        if left:
            raise Unfinished(
                f"shard {self.shard} is finished; {left} cells are left to others: whoever is last makes the report, "
                f"or the same command without --shard"
            )
        # Not held here until somebody saw that nothing is left: who holds it then makes the report.
        if not self._held.enter_context(attempt(self._serial)):
            raise Unfinished(f"shard {self.shard} is finished; another one makes the report")

    @property
    def _serial(self) -> Path:
        return self.folder / ".lock-alone"


def one_prepares(shard: Shard | None, cache: Path, key: str, progress: Progress) -> AbstractContextManager[None]:
    """Let one shard load texts and compute activations, and the others after it, all at once.

    Args:
        shard: None for a check without shards, which waits for nobody.
        cache: where the activations will be; nodes without a common cache prepare each its own.
        key: of the check.
        progress: told of a wait.
    """
    return nullcontext() if shard is None else _prepared(cache / "shards", key, progress)


@contextmanager
def _prepared(folder: Path, key: str, progress: Progress) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"{key}.done"
    stage = "waiting for another shard that computes the activations"
    with waiting(folder / f"{key}.lock", progress, stage, unless=done.exists) as first:
        yield
        if first:
            done.touch()


def _look_afresh(folder: Path) -> None:
    """List every folder: a network file system answers for a while from memory what was not there before."""
    for _ in os.walk(folder):
        pass
