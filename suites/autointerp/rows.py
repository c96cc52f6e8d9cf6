"""From interviews to score rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, sqrt

import numpy as np

from ...results.scores import Row
from .interview import Interview
from .scoring import Marked
from .strata import Choice
from .trial import Kind

CHANCE = 0.5
"""Balanced accuracy of a judge that always says the same."""
NONE_IN_SAEBENCH = 10 / 14
"""SAEBench's score of a judge that always says that no text has the latent."""


def rows_of_sae(interviews: Sequence[Interview], choice: Choice, d_sae: int) -> list[Row]:
    """Everything that was found of one SAE.

    Per latent that was drawn (item `latent 12`, cluster: its stratum of firing rate): `detection`, the balanced
    accuracy in the balanced layout; `detection_saebench`, SAEBench's score in its layout; `detection_worst` and
    `detection_best`, what `detection` would be if a missing answer had been all wrong or all right; `missing`. A latent
    that could not be asked about is missing too. Per text `sequence` and `sequence_saebench`, 1 where the judge was
    right. Per stratum `alive`, the SAE's mix of eligible latents. And of the whole SAE, as shares of all its latents,
    `dead_share`, `ineligible_share` (alive, but the texts lack windows to show) and `outside_share` (eligible, but
    outside the firing rates that all SAEs have); `detection_with_dead`; `unasked`, how many of those drawn were not
    asked about.
    """
    rows = [Row("alive", f"f{h}", f"f{h}", float(n)) for h, n in enumerate(choice.mix)]
    asked = {each.latent.number: each for each in interviews if each.latent.balanced}
    for number, stratum in zip(choice.latents, choice.strata, strict=True):
        item = f"latent {number}", f"f{stratum}"
        rows += _of_latent(asked[number], *item) if number in asked else _of_unasked(*item)
    dead, detection = choice.dead / d_sae, _by_mix(list(asked.values()), choice)
    whole = {
        "detection_with_dead": dead * CHANCE + (1 - dead) * detection,
        "dead_share": dead,
        "ineligible_share": choice.ineligible / d_sae,
        "outside_share": choice.outside / d_sae,
        "unasked": len(choice.latents) - len(asked),
    }
    return [*rows, *(Row(metric, "all", "all", float(value)) for metric, value in whole.items())]


def _of_unasked(item: str, cluster: str) -> Iterator[Row]:
    """Rows of a latent that was drawn and has no questions: an answer that is missing."""
    values = {"detection": CHANCE, "detection_worst": 0.0, "detection_best": 1.0, "missing": 1.0}
    return (Row(metric, item, cluster, value) for metric, value in values.items())


def _of_latent(each: Interview, item: str, cluster: str) -> Iterator[Row]:
    score = each.balanced.balanced_accuracy
    worst, best = (0.0, 1.0) if each.balanced.failed else (score, score)
    values = {
        "detection": score,
        "detection_saebench": each.saebench.score,
        "detection_worst": worst,
        "detection_best": best,
        "missing": float(each.balanced.failed),
    }
    for metric, value in values.items():
        if not isnan(value):
            yield Row(metric, item, cluster, value)
    for metric, marked in {"sequence": each.balanced, "sequence_saebench": each.saebench}.items():
        for number, right in enumerate(marked.correct or (), 1):
            yield Row(metric, f"{item}/{number}", cluster, float(right))


def _by_mix(asked: Sequence[Interview], choice: Choice) -> float:
    """Mean detection of the SAE's own mix of firing rates."""
    means, weights = [], []
    for stratum, alive in enumerate(choice.mix):
        scores = [each.balanced.balanced_accuracy for each in asked if each.latent.stratum == stratum]
        if scores:
            means.append(np.mean(scores))
            weights.append(alive)
    return float(np.average(means, weights=weights)) if sum(weights) else CHANCE


def rows_of_trial(
    interviews: Sequence[tuple[str, Kind, Interview]], everyone: Sequence[Interview]
) -> dict[str, list[Row]]:
    """What the trial found of the judge, by reference.

    `planted`: detection of planted latents that have an answer, the judge's share of yes, and its agreement with
    itself; `shuffled`: an explanation of a planted latent beside texts and labels that have nothing to do with it;
    `nothing`: latents with nothing to find; `none`: a judge that always says none. Where there is nothing to find,
    `chance_sd` is how far such answers lie from chance when nothing tells the judge the labels.

    Args:
        interviews: name and kind of each latent of the trial, and what the judge said.
        everyone: all interviews, for the share of yes and the agreement.
    """
    found: dict[str, list[Row]] = {"planted": [], "shuffled": [], "nothing": []}
    for name, kind, each in interviews:
        found[kind].append(Row("detection", name, "planted", each.balanced.balanced_accuracy))
        if kind != "planted":
            found[kind].append(Row("chance_sd", name, "planted", chance_sd(each.balanced)))
    yes = [each.balanced.yes_rate for each in everyone if not each.balanced.failed]
    agreed = [each.agrees for each in everyone if each.agrees is not None]
    found["planted"] += [Row("yes_rate", f"answer {i}", "planted", value) for i, value in enumerate(yes)]
    found["planted"] += [Row("repeat", f"answer {i}", "planted", value) for i, value in enumerate(agreed)]
    silent = {"detection": CHANCE, "detection_saebench": NONE_IN_SAEBENCH}
    found["none"] = [Row(metric, "none", "none", value) for metric, value in silent.items()]
    return found


def chance_sd(marked: Marked) -> float:
    """Standard deviation of the balanced accuracy of these answers, over labels that are given out at random.

    The number of right ones among the texts with a yes is hypergeometric then. 0 without a usable answer, and for a
    judge that says the same of all texts.
    """
    n, fires, yes = len(marked.fires), sum(marked.fires), sum(marked.predicted or ())
    if n < 2 or not 0 < fires < n:
        return 0.0
    variance = yes * fires * (n - fires) * (n - yes) / (n * n * (n - 1))
    return sqrt(variance) * (1 / fires + 1 / (n - fires)) / 2
