"""Progress as a protocol: the work reports stages, the command line decides how they look."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol, runtime_checkable


@runtime_checkable
class Lines(Protocol):
    """Where lines go: a text file, or what a test puts in its place."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Show it now."""


@runtime_checkable
class Progress(Protocol):
    """What long work calls."""

    def start(self, stage: str, total: int) -> None:
        """Begin a stage of `total` units."""

    def advance(self, done: int) -> None:
        """Say that `done` units of the stage are finished."""

    def finish(self) -> None:
        """End the stage."""


class Silent:
    """Shows nothing."""

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""

    def advance(self, done: int) -> None:
        """Say how far the stage is."""

    def finish(self) -> None:
        """End the stage."""


class PlainProgress:
    """Lines for logs: one when a stage begins, one at most every few seconds, one when it ends."""

    def __init__(self, stream: Lines | None = None, every: float = 15.0) -> None:
        """Write to `stream` (stderr by default), at most one line per `every` seconds within a stage."""
        self.stream = stream or sys.stderr
        self.every = every
        self.stage, self.total, self.begun, self.said = "", 0, 0.0, 0.0

    def _say(self, text: str) -> None:
        self.said = time.monotonic()
        self.stream.write(f"sae-sanity: {text}\n")
        self.stream.flush()

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""
        self.stage, self.total, self.begun = stage, total, time.monotonic()
        self._say(f"{stage} …")

    def advance(self, done: int) -> None:
        """Say how far the stage is."""
        if time.monotonic() - self.said >= self.every:
            self._say(f"{self.stage}: {done} of {self.total}")

    def finish(self) -> None:
        """End the stage."""
        self._say(f"{self.stage}: done in {time.monotonic() - self.begun:.0f} s")


class RichProgress:
    """A live bar per stage on a terminal; the bars of finished stages stay."""

    def __init__(self) -> None:
        """Draw on stderr, so that stdout holds the report alone."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Bars(*columns, console=Console(stderr=True))
        self.task = None

    def __enter__(self) -> RichProgress:
        """Begin to draw."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing, whatever happened."""
        self.bars.stop()

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""
        self.task = self.bars.add_task(stage, total=total)

    def advance(self, done: int) -> None:
        """Say how far the stage is."""
        if self.task is not None:
            self.bars.update(self.task, completed=done)

    def finish(self) -> None:
        """End the stage."""
        if self.task is not None:
            self.bars.update(self.task, completed=self.bars.tasks[self.task].total)
