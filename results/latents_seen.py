"""What people look at: single latents of every arm, with their texts, the judge's words and their scores."""

from __future__ import annotations

from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError, model_validator

from .files import write_atomically
from .frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

FILE = "latents.jsonl"
"""How the file of a cell is called, behind the cell's key and a point."""
MOST_TOP = 5
"""Examples that are kept of those that were shown for the explanation."""
MOST_DETECTED = 10
"""Examples that are kept of those that were shown for detection."""

Why = Literal["random", "best", "worst", "different"]


class SeenText(Frozen):
    """A text and where the latent fires in it."""

    text: str
    """The text, as its tokens spell it: line breaks and all."""
    active: tuple[tuple[int, int], ...] = ()
    """Where active tokens begin and end, in characters; ascending, and apart from each other or touching."""

    @model_validator(mode="after")
    def _inside(self) -> SeenText:
        ends = [0, *(end for span in self.active for end in span), len(self.text)]
        if any(a > b for a, b in pairwise(ends)):
            raise ValueError(f"active tokens at {self.active} of a text of {len(self.text)} characters")
        return self

    @classmethod
    def of(cls, tokens: Sequence[str], active: Sequence[bool]) -> SeenText:
        """A text from its tokens.

        Args:
            tokens: Decoded tokens, in order.
            active: Of each, whether the latent fires on it.
        """
        ends = np.cumsum([0, *map(len, tokens)]).tolist()
        spans = zip(ends, ends[1:], active, strict=False)
        return cls(text="".join(tokens), active=tuple((a, b) for a, b, fires in spans if fires and b > a))


class SeenAnswer(SeenText):
    """A text of the detection, and what was said about it."""

    label: bool
    """Whether the latent fires in it."""
    prediction: bool | None
    """Whether the judge says so; null without a usable answer."""

    @property
    def right(self) -> bool:
        """Whether the judge was right."""
        return self.prediction == self.label


class LatentSeen(Frozen):
    """One latent of one SAE: what it fires on, what the judge said, what that scored."""

    arm: str
    """Name of the arm."""
    seed: int
    """Seed of the arm."""
    latent: int
    """Index in the SAE."""
    firing_rate: float
    """Share of the tokens on which it fires."""
    stratum: int
    """Stratum of log firing rate, from 0: latents of different arms stand side by side within one, never by cosine."""
    explanation: str | None
    """The judge's words; null where there are none."""
    detection: float | None
    """Balanced accuracy in the balanced layout, chance .5; null where missing."""
    saebench: float | None
    """The same in SAEBench's layout; null where missing."""
    missing: str = ""
    """Why something is null; empty where nothing is."""
    top: tuple[SeenText, ...] = ()
    """Texts that were shown for the explanation, strongest first."""
    detected: tuple[SeenAnswer, ...] = ()
    """Texts of the detection."""

    @property
    def score(self) -> float | None:
        """The balanced score; None where it is missing: SAEBench's begins at .714 and is on no scale with it."""
        return self.detection

    def shortened(self) -> LatentSeen:
        """With no more texts than are kept."""
        return self.model_copy(update={"top": self.top[:MOST_TOP], "detected": self.detected[:MOST_DETECTED]})


class SideBySide(Frozen):
    """One latent of each arm, all from one stratum of firing rate."""

    why: Why
    """How they were chosen: at random, as the best or the worst, or where the arms' typical latents differ most."""
    stratum: int
    """The stratum."""
    latents: tuple[LatentSeen, ...]
    """At most one of each arm, in the order of the arms; an arm without a latent there is left out."""


class DamagedLatents(ValueError):  # noqa: N818 - a value in the report, named for what it is
    """A file of latents does not hold what was written; one line with the file and the line."""


def latents_path(folder: Path, key: str) -> Path:
    """The file of one cell."""
    return folder / f"{key}.{FILE}"


def write_latents(path: Path, seen: Iterable[LatentSeen]) -> None:
    """Write the latents of one cell, a JSON object on each line, whole or not at all.

    Raises:
        OSError: The disk is full or the folder cannot be written; what was there before still is.
    """
    lines = (each.shortened().model_dump_json() + "\n" for each in seen)
    write_atomically(path, "".join(lines).encode())


def read_latents(path: Path) -> tuple[LatentSeen, ...]:
    """Read what `write_latents` wrote, in its order.

    Raises:
        OSError: The file cannot be read.
        DamagedLatents: A line is not a latent.
    """
    out = []
    lines = path.read_bytes().split(b"\n")
    for i, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        try:
            out.append(LatentSeen.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DamagedLatents(f"{path}, line {i}: {problem}; delete this file and run the same command") from None
    return tuple(out)


def choose(seen: Iterable[LatentSeen], *, seed: int = 0, n_random: int = 1) -> tuple[SideBySide, ...]:
    """Choose latents for people to look at, the random ones first.

    A row has one latent of every arm, from one stratum of firing rate: rates alone move scores, and a latent has no
    counterpart in another SAE. The random rows say what is typical; the best, the worst, and the stratum where the
    arms' middle latents lie furthest apart are the extremes, and are no evidence.

    Args:
        seen: Latents of all arms, in any order of each arm; the arms are shown as they first occur.
        seed: Decides the random rows.
        n_random: How many of these.

    Returns:
        The rows; none without latents. A latent without a balanced score can only be chosen at random.
    """
    given = tuple(seen)
    order = {arm: i for i, arm in enumerate(dict.fromkeys(one.arm for one in given))}
    # Sorted, so that a choice does not depend on the order in which cells were read.
    every = sorted(given, key=lambda one: (one.stratum, order[one.arm], one.seed, one.latent))
    strata = {s: tuple(group) for s, group in groupby(every, key=lambda one: one.stratum)}
    most = max((_arms(group) for group in strata.values()), default=0)
    full = {s: group for s, group in strata.items() if _arms(group) == most}
    scored = {s: kept for s, group in full.items() if _arms(kept := _scored(group)) == most} or {
        s: kept for s, group in strata.items() if (kept := _scored(group))
    }
    return (*_random(full, seed, n_random), *_extremes(scored))


def _random(strata: dict[int, tuple[LatentSeen, ...]], seed: int, n: int) -> list[SideBySide]:
    rng = np.random.default_rng(seed)
    if not strata:
        return []
    # A stratum counts by its latents, so that what is shown is typical of what was asked about.
    sizes = np.array([len(group) for group in strata.values()], dtype=float)
    drawn = rng.choice(list(strata), size=n, p=sizes / sizes.sum())
    return [_row("random", int(s), strata[int(s)], lambda group: group[rng.integers(len(group))]) for s in drawn]


def _extremes(strata: dict[int, tuple[LatentSeen, ...]]) -> list[SideBySide]:
    if not strata:
        return []
    best = max(strata, key=lambda s: max(map(_score, strata[s])))
    worst = min(strata, key=lambda s: min(map(_score, strata[s])))
    rows = [
        _row("best", best, strata[best], lambda group: max(group, key=_score)),
        _row("worst", worst, strata[worst], lambda group: min(group, key=_score)),
    ]
    spread = {s: _spread(group) for s, group in strata.items() if _arms(group) > 1}
    if spread:
        widest = max(spread, key=lambda s: spread[s])
        rows.append(_row("different", widest, strata[widest], _typical))
    return rows


def _row(
    why: Why, stratum: int, group: tuple[LatentSeen, ...], pick: Callable[[list[LatentSeen]], LatentSeen]
) -> SideBySide:
    by_arm = [list(ones) for _, ones in groupby(group, key=lambda one: one.arm)]
    return SideBySide(why=why, stratum=stratum, latents=tuple(map(pick, by_arm)))


def _spread(group: tuple[LatentSeen, ...]) -> float:
    means = [fmean(map(_score, ones)) for _, ones in groupby(group, key=lambda one: one.arm)]
    return max(means) - min(means)


def _typical(group: list[LatentSeen]) -> LatentSeen:
    """The latent whose score is closest to the mean of its arm there."""
    mean = fmean(map(_score, group))
    return min(group, key=lambda one: abs(_score(one) - mean))


def _arms(group: tuple[LatentSeen, ...]) -> int:
    return len({one.arm for one in group})


def _scored(group: tuple[LatentSeen, ...]) -> tuple[LatentSeen, ...]:
    return tuple(one for one in group if one.score is not None)


def _score(one: LatentSeen) -> float:
    return one.score if one.score is not None else float("nan")
