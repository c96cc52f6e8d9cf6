"""Latents side by side: texts with their active tokens marked, the judge's words and answers, the scores."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ...latents_seen import SeenAnswer
from ..latents import LONGEST, TITLES, rate
from ..numbers import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...latents_seen import LatentSeen, SeenText, SideBySide


@dataclass(frozen=True)
class Passage:
    """A text in pieces."""

    pieces: tuple[tuple[str, bool], ...]
    """Text, and whether the latent fires in it; in order."""
    fires: str = ""
    """Of the detection: whether the latent fires there, in words."""
    said: str = ""
    """Of the detection: what the judge said, in words."""
    right: bool = True
    """Of the detection: whether the judge was right."""


@dataclass(frozen=True)
class Card:
    """One latent."""

    arm: str
    """Name of the arm."""
    facts: str
    """Which latent it is and how often it fires."""
    scores: str
    """Its scores."""
    missing: str
    """Why something is missing; empty where nothing is."""
    explanation: str | None
    """The judge's words."""
    top: tuple[Passage, ...]
    """Texts that were shown for the explanation."""
    detected: tuple[Passage, ...]
    """Texts of the detection."""


@dataclass(frozen=True)
class CardRow:
    """Latents of all arms from one stratum of firing rate."""

    title: str
    """How they were chosen."""
    stratum: int
    """The stratum."""
    cards: tuple[Card, ...]
    """One of each arm."""


def cards(rows: Sequence[SideBySide]) -> tuple[CardRow, ...]:
    """Rows of latents as the page shows them."""
    return tuple(CardRow(TITLES[row.why], row.stratum, tuple(map(_card, row.latents))) for row in rows)


def pieces(seen: SeenText, longest: int = LONGEST) -> tuple[tuple[str, bool], ...]:
    """A text cut where the latent begins or ceases to fire.

    Args:
        seen: The text and its active spans.
        longest: Characters that are shown; the rest becomes three dots.
    """
    active = [False] * min(len(seen.text), longest)
    for start, end in seen.active:
        active[start:end] = [True] * (min(end, len(active)) - min(start, len(active)))
    cuts = [0, *(i for i in range(1, len(active)) if active[i] != active[i - 1]), len(active)]
    found = [(_broken(seen.text[a:b]), active[a]) for a, b in pairwise(cuts) if b > a]
    return tuple(found) + ((("…", False),) if len(seen.text) > longest else ())


def _broken(text: str) -> str:
    """Line breaks as signs, as SAEBench shows them."""
    return text.replace("\r\n", "↵").replace("\n", "↵")


def _card(one: LatentSeen) -> Card:
    return Card(
        arm=one.arm,
        facts=f"latent {one.latent:,} of seed {one.seed}, fires on {rate(one.firing_rate)} of tokens",
        scores=f"detection {number(one.detection, 2)}, SAEBench {number(one.saebench, 2)}",
        missing=_cut(one.missing),
        explanation=None if one.explanation is None else _cut(one.explanation),
        top=tuple(map(_passage, one.top)),
        detected=tuple(map(_passage, one.detected)),
    )


def _passage(seen: SeenText) -> Passage:
    if not isinstance(seen, SeenAnswer):
        return Passage(pieces(seen))
    return Passage(pieces(seen), _word(seen.label), _word(seen.prediction), seen.right)


def _word(value: bool | None) -> str:
    return "no answer" if value is None else "yes" if value else "no"


def _cut(text: str) -> str:
    return text[:LONGEST] + "…" if len(text) > LONGEST else text
