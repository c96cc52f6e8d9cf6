"""What a run takes, stage by stage: read off the progress that it reports, and kept for the next plan."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..results.synthetic import SUITE
from .baseline_store import cache_folder
from .progress import Progress
from .shards import Shard, Unfinished
from .speeds import About, Speeds, Took

_STAGES = {
    "loading": re.compile(r"loading the language model"),
    "activations": re.compile(r"activations of the "),
    "training": re.compile(r"training (\d+) SAEs together"),
    "world": re.compile(r"world (\d+) of (\d+)"),
    "in world": re.compile(r"measuring (\d+) of (\d+) SAEs and references"),
    "cells": re.compile(r"measuring (\d+) of (\d+) cells"),
}
"""What the stages are called by those who report them."""
_WHO = re.compile(r"(?:shard (\d+/\d+): )?(Ray: )?")
"""What stands before the name where several processes do what is one stage."""

READING = frozenset({"sparse_probing", "hard_probing"})
"""Suites that have the language model read texts of their own, which the cache may have."""


@dataclass
class Lap:
    """One stage as it was reported."""

    name: str
    """Its name."""
    total: int
    """Its units."""
    begun: float
    """When it began, in seconds of the clock."""
    ended: float = 0.0
    """When it ended."""
    advances: list[tuple[float, int]] = field(default_factory=list)
    """When so many units were done."""
    found: frozenset[str] = frozenset()
    """Sets of activations that the cache had when it began, by name."""
    left: frozenset[str] = frozenset()
    """Sets that it had when the stage ended."""

    @property
    def has_read(self) -> bool:
        """Whether there is a set that was not there before; others may have been dropped for it."""
        return bool(self.left - self.found)


class Stopwatch:
    """Passes progress on and notes when."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the watch."""
        self.progress, self.clock = progress, clock
        self.begun = clock()
        self.laps: list[Lap] = []

    def start(self, stage: str, total: int) -> None:
        """Begin a stage."""
        self.laps.append(Lap(stage, total, self.clock(), found=_kept_sets()))
        self.progress.start(stage, total)

    def advance(self, done: int) -> None:
        """Say how far the stage is."""
        if self.laps:
            self.laps[-1].advances.append((self.clock(), done))
        self.progress.advance(done)

    def finish(self) -> None:
        """End the stage."""
        if self.laps:
            self.laps[-1].ended, self.laps[-1].left = self.clock(), _kept_sets()
        self.progress.finish()


@dataclass(frozen=True)
class Expected:
    """What is known of a run before it begins."""

    about: About
    """What it is of."""
    thumbs: Mapping[str, float]
    """Seconds of its stages by rules of thumb."""
    trainings: int
    """SAEs that it trains on the site where nothing is kept from earlier runs."""
    cells: Mapping[str, int]
    """Cells of each suite on the site that measures SAEs one by one, references counted, in the order of measuring."""


@contextmanager
def timed(
    progress: Progress,
    expected: Expected,
    *,
    speeds: Speeds | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Time a run and keep what its stages took; of one that fails nothing is kept.

    A shard keeps the stages that it did alone and, by the size of its share, what whole suites would have taken it. Of
    cells that Ray's workers measured nothing is kept: plans are of one process.

    Args:
        progress: told about every stage.
        expected: what is known of the run.
        speeds: where to keep it; the user's cache by default.
        clock: what tells the time, in seconds.
    """
    watch = Stopwatch(progress, clock)
    try:
        yield watch
    except Unfinished:
        found = seconds_by_stage(watch.laps, watch.begun, clock(), expected)
        _keep({stage: each for stage, each in found.items() if stage != "report"}, expected, speeds)
        raise
    _keep(seconds_by_stage(watch.laps, watch.begun, clock(), expected), expected, speeds)


def _keep(found: Mapping[str, float], expected: Expected, speeds: Speeds | None) -> None:
    thumbs = expected.thumbs
    took = [Took(stage, expected.about, thumbs[stage], each) for stage, each in found.items() if thumbs.get(stage)]
    (speeds or Speeds.of_user()).add(took)


def seconds_by_stage(laps: Sequence[Lap], begun: float, ended: float, expected: Expected) -> dict[str, float]:
    """Seconds of every stage that did all of its work: what was found in a cache or resumed says nothing of speed.

    Time between two reported stages belongs to the one that follows, and before the cells to the making of arms.
    """
    found: dict[str, float] = {}
    spoilt: set[str] = set()
    cursor, in_worlds = begun, False
    for lap in laps:
        kind = _kind(lap.name)
        in_worlds = in_worlds or kind == "world"
        stage = SUITE if in_worlds else kind
        for name, seconds in (
            ("arms" if kind == "cells" else stage, lap.begun - cursor),
            (stage, lap.ended - lap.begun),
        ):
            found[name] = found.get(name, 0.0) + seconds
        if not _whole(kind, lap, None if in_worlds else expected.trainings):
            spoilt |= {stage} | ({"arms"} if kind in ("training", "cells") else set())
        cursor = lap.ended
    if SUITE in found and not any(_kind(lap.name) == "training" for lap in laps):
        spoilt.add(SUITE)
    if not any(_kind(lap.name) == "training" for lap in laps):
        spoilt.add("arms")
    found["report"] = ended - cursor
    found |= _by_suite(laps, expected)
    return {stage: seconds for stage, seconds in found.items() if stage not in spoilt}


def _kind(name: str) -> str:
    name = _plain(name)
    return next((kind for kind, pattern in _STAGES.items() if pattern.match(name)), name)


def _plain(name: str) -> str:
    """The name of a stage without who does it."""
    return _WHO.sub("", name, count=1)


def _who(name: str) -> tuple[Shard | None, bool]:
    """Which shard does a stage, and whether it has Ray's workers do it."""
    found = _WHO.match(name)
    assert found is not None  # noqa: S101  # it may be empty
    return (Shard.parse(found[1]) if found[1] else None), bool(found[2])


def _whole(kind: str, lap: Lap, trainings: int | None) -> bool:
    """Whether a stage did all that a first run has to do."""
    numbers = [int(number) for number in re.findall(r"\d+", _plain(lap.name))]
    if kind == "activations":
        return lap.has_read
    if kind == "training":
        resumed = not lap.advances or lap.advances[0][1] > 1
        return not resumed and (trainings is None or numbers[0] == trainings)
    return numbers[0] == numbers[1] if kind in ("cells", "in world") else True


def _by_suite(laps: Sequence[Lap], expected: Expected) -> dict[str, float]:
    """Split the time of all cells over their suites, which are measured one after another."""
    lap = next((lap for lap in laps if _kind(lap.name) == "cells"), None)
    if lap is None:
        return {}
    shard, by_ray = _who(lap.name)
    cells = [suite for suite, number in expected.cells.items() for _ in range(number)]
    own = Counter(shard.own(cells) if shard else cells)
    times = [when for when, _ in lap.advances]
    if by_ray or not _whole("cells", lap, None) or len(times) != own.total():
        return {}
    found, begun, done = {}, lap.begun, 0
    for suite, number in own.items():
        done += number
        # What a shard reads, others find: how much of it was this one's nobody knows.
        if suite not in READING or (shard is None and lap.has_read):
            found[suite] = (times[done - 1] - begun) * expected.cells[suite] / number
        begun = times[done - 1]
    return found


def _kept_sets() -> frozenset[str]:
    folder = cache_folder() / "activations"
    names = (each.name for each in folder.iterdir()) if folder.is_dir() else ()
    # What begins with a point is the shelf's own: its lock, and sets that it is dropping.
    return frozenset(name for name in names if not name.startswith("."))
