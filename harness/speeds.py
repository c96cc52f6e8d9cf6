"""How long the stages of finished runs took on this machine, kept in the cache: the next plan is scaled by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import median
from typing import Any

from ..results.files import write_atomically
from .baseline_store import cache_folder

FILE = "speeds.json"
VERSION = 6
"""Of the rules of thumb that records are held against: raise it when one of them changes, and earlier records, which
are ratios to other rules, are left out."""
KEPT = 300
"""Newest records that are kept."""
VOTES = 3
"""Records that a factor is the median of: one run beside a busy neighbour decides nothing."""


@dataclass(frozen=True)
class About:
    """What the speed of a stage depends on besides its size."""

    device: str
    """Torch device."""
    model: str
    """Language model with the arithmetic that was asked for, or kind of world."""
    architecture: str
    """Architecture of the SAEs."""


@dataclass(frozen=True)
class Took:
    """One stage of one finished run."""

    stage: str
    """Name of the stage, as in `Estimate.stages`."""
    about: About
    """What it was a stage of."""
    thumb: float
    """Seconds that rules of thumb said."""
    seconds: float
    """Seconds that it took."""


class Speeds:
    """The record of one machine."""

    def __init__(self, path: Path) -> None:
        """Use a file, which need not exist; one that cannot be read counts as empty."""
        self.path = path
        self.took = _read(path)

    @classmethod
    def of_user(cls) -> Speeds:
        """Return that of the user's cache."""
        return cls(cache_folder() / FILE)

    def factor(self, stage: str, about: About, thumb: float) -> float | None:
        """Seconds for each second of the rule of thumb, by the runs that are most like the one at hand.

        Only runs on the same device count. Those with the same model and architecture are preferred, then those of
        about the same size, then the newest.

        Returns:
            The median of the nearest few; None where nothing like it has run here.
        """
        known = [(n, t) for n, t in enumerate(self.took) if t.stage == stage and t.about.device == about.device]
        nearest = sorted(known, key=lambda each: (*_distance(each[1], about, thumb), -each[0]))[:VOTES]
        if not nearest:
            return None
        first = _distance(nearest[0][1], about, thumb)
        return median(t.seconds / t.thumb for _, t in nearest if _distance(t, about, thumb) == first)

    def add(self, took: Sequence[Took]) -> None:
        """Keep what a run took. A cache that cannot be written costs nothing but the next plan's accuracy."""
        if not took:
            return
        self.took = (*_read(self.path), *took)[-KEPT:]
        data = {"version": VERSION, "took": [asdict(each) for each in self.took]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(data, indent=0).encode() + b"\n")
        except OSError:
            return


def _distance(took: Took, about: About, thumb: float) -> tuple[int, int, int]:
    size = abs(round(log(max(thumb, 1e-9) / took.thumb, 4)))  # a factor of four makes another size
    return took.about.model != about.model, took.about.architecture != about.architecture, size


def _took(data: dict[str, Any]) -> Took:
    return Took(str(data["stage"]), About(**data["about"]), float(data["thumb"]), float(data["seconds"]))


def _read(path: Path) -> tuple[Took, ...]:
    try:
        data = json.loads(path.read_bytes())
        found = [_took(each) for each in data["took"]] if data["version"] == VERSION else []
        return tuple(each for each in found if each.thumb > 0 and 0 <= each.seconds < float("inf"))
    except (OSError, ValueError, KeyError, TypeError):
        return ()
