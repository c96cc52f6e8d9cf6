"""What people may look at of one latent: a few texts, the judge's words, its answers."""

from __future__ import annotations

from math import isnan
from typing import Any

from ...results.latents_seen import MOST_DETECTED, MOST_TOP, SeenAnswer, SeenText
from .interview import Interview
from .latent import Example
from .scoring import Marked


def as_seen(interview: Interview) -> dict[str, Any]:
    """Everything that `LatentSeen` holds but for the arm and its seed, which are not known here."""
    latent, marked = interview.latent, interview.balanced
    return {
        "latent": latent.number,
        "firing_rate": latent.firing_rate,
        "stratum": latent.stratum,
        "explanation": interview.explanation,
        "detection": _known(marked, marked.balanced_accuracy),
        "saebench": _known(interview.saebench, interview.saebench.score),
        "missing": _missing(interview),
        "top": tuple(_text(each) for each in latent.generation[:MOST_TOP]),
        "detected": _detected(latent.balanced or latent.saebench, marked if latent.balanced else interview.saebench),
    }


def _known(marked: Marked, score: float) -> float | None:
    return None if marked.failed or isnan(score) else score


def _missing(interview: Interview) -> str:
    if interview.explanation is None:
        return "no usable explanation"
    if not interview.latent.balanced:
        return "it fires in too few texts for the balanced layout"
    return "no usable answer" if interview.balanced.failed else ""


def _active(example: Example) -> list[bool]:
    return [value > example.threshold for value in example.activations]


def _text(example: Example) -> SeenText:
    return SeenText.of(example.tokens, _active(example))


def _detected(shown: tuple[Example, ...], marked: Marked) -> tuple[SeenAnswer, ...]:
    said = marked.predicted or (None,) * len(shown)
    return tuple(
        SeenAnswer(**_text(each).model_dump(), label=each.is_active, prediction=prediction)
        for each, prediction in list(zip(shown, said, strict=True))[:MOST_DETECTED]
    )
