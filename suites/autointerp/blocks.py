"""Ask about some latents of every SAE, see whether that is enough, and go on if it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan

from ...results.scores import Row
from ...results.stopped import STEP
from .asking import Heard
from .interview import Interview
from .latent import Latent
from .rows import CHANCE
from .strata import Choice

BLOCK = 20
"""Steps between two looks; the trial of the judge is asked with the first ones."""

Ask = Callable[[list[Latent]], tuple[list[Interview], Heard]]
"""Asks about latents in one mixed queue."""
Decided = Callable[[Sequence[Sequence[float]]], bool]
"""Told the detection of each step so far, of every SAE by position; says whether that is enough."""


@dataclass(frozen=True)
class Asked:
    """What was asked before it was enough."""

    found: tuple[list[Interview], ...]
    """Of each SAE, in the order of the choice."""
    choices: tuple[Choice, ...]
    """What was drawn of each SAE, as far as it was asked about."""
    tried: list[Interview]
    """Of the trial of the judge."""
    heard: Heard
    """All answers, and what they took."""
    steps: int
    """Steps that were taken."""
    saved: float
    """Share of the latents, those of the trial among them, that were not asked about."""


def ask_in_blocks(
    latents: Sequence[Sequence[Latent]],
    choices: Sequence[Choice],
    trial: Sequence[Latent],
    ask: Ask,
    *,
    size: int | None = None,
    decided: Decided | None = None,
) -> Asked:
    """Ask about the latents of each SAE, some steps at a time.

    Args:
        latents: of each SAE those of its choice that can be asked about, in that order.
        choices: what was drawn of each SAE.
        trial: latents that try the judge; they are among the first ones.
        ask: asks about some of them.
        size: steps of a block; None for all at once.
        decided: asked after each block but the last whether to stop; None to go on to the end.

    Returns:
        What was asked. A latent that could not be asked about, or got no answer, is at chance at its step.
    """
    planned = max((len(choice.latents) for choice in choices), default=0)
    waiting = [{latent.number: latent for latent in own} for own in latents]
    found: list[list[Interview]] = [[] for _ in choices]
    tried: list[Interview] = []
    heard: list[Heard] = []
    done = 0
    while not heard or (done < planned and not (decided and decided(_scores(found, choices, done)))):
        upto = planned if size is None else min(planned, done + size)
        turn = [
            [own[n] for n in choice.latents[done:upto] if n in own]
            for own, choice in zip(waiting, choices, strict=True)
        ]
        first = [] if heard else list(trial)
        answers, took = ask([latent for group in (*turn, first) for latent in group])
        told = iter(answers)
        for own, group in zip(found, turn, strict=True):
            own += [next(told) for _ in group]
        tried += list(told)
        heard.append(took)
        done = upto
    asked = tuple(replace(each, latents=each.latents[:done], strata=each.strata[:done]) for each in choices)
    whole = sum(map(len, latents)) + len(trial)
    share = 1 - (sum(map(len, found)) + len(tried)) / whole if whole else 0.0
    return Asked(tuple(found), asked, tried, together(heard), done, share)


def together(heard: Sequence[Heard]) -> Heard:
    """All that one judge answered in several goes."""
    costs = [each.cost for each in heard]
    known = [cost for cost in costs if cost is not None]
    return Heard(
        tuple(answer for each in heard for answer in each.answers),
        sum(each.questions for each in heard),
        sum(each.prompt_tokens for each in heard),
        sum(each.completion_tokens for each in heard),
        sum(known) if len(known) == len(costs) else None,
    )


def rows_of_steps(choice: Choice) -> list[Row]:
    """At which step each latent was asked about, from 1: by it a verdict can be redone from stored rows."""
    drawn = zip(choice.latents, choice.strata, strict=True)
    return [Row(STEP, f"latent {number}", f"f{stratum}", float(k)) for k, (number, stratum) in enumerate(drawn, 1)]


def notes_of_steps(asked: Asked, planned: int, wanted: int) -> tuple[str, ...]:
    """What stopping early came to.

    Args:
        asked: what was asked.
        planned: steps that were drawn.
        wanted: steps that the settings ask for.
    """
    lines = [
        f"early stop: {asked.steps} of {planned} steps asked, a latent of every SAE each; {asked.saved:.0%} of the "
        "latents were not asked about"
    ]
    if planned < wanted:
        lines.append(
            f"early stop: {planned} steps instead of {wanted}: a stratum of firing rate of some SAE has no more latents"
        )
    return tuple(lines)


def _scores(found: Sequence[Sequence[Interview]], choices: Sequence[Choice], done: int) -> list[list[float]]:
    return [_by_step(own, choice.latents[:done]) for own, choice in zip(found, choices, strict=True)]


def _by_step(interviews: Sequence[Interview], numbers: Sequence[int]) -> list[float]:
    """Detection at each step, as in the rows."""
    known = {each.latent.number: each.balanced.balanced_accuracy for each in interviews}
    return [CHANCE if isnan(score := known.get(n, CHANCE)) else score for n in numbers]
