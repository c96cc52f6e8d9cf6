"""From interviews to score rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan

import numpy as np

from ...results.scores import Row
from .interview import Interview
from .planted import SHUFFLED, with_shuffled_labels
from .scoring import mark
from .strata import Choice

CHANCE = 0.5
"""Balanced accuracy of a judge that always says the same."""
NONE_IN_SAEBENCH = 10 / 14
"""SAEBench's score of a judge that always says that no text has the latent."""
PERMUTATIONS = 20
"""Permutations of the labels of a planted latent: one alone scores anything near chance."""


def rows_of_sae(interviews: Sequence[Interview], choice: Choice, d_sae: int) -> list[Row]:
    """Everything that was found of one SAE.

    Per latent that was asked about (item `latent 12`, cluster: its stratum of firing rate): `detection`, the balanced
    accuracy in the balanced layout; `detection_saebench`, SAEBench's score in its layout; `detection_worst` and
    `detection_best`, what `detection` would be if a missing answer had been all wrong or all right; `missing`. Per
    text `sequence` and `sequence_saebench`, 1 where the judge was right. Per stratum `alive`, the SAE's mix. And
    `detection_with_dead`, `dead_share` and `unasked` of the whole SAE.
    """
    rows = [Row("alive", f"f{h}", f"f{h}", float(n)) for h, n in enumerate(choice.mix)]
    asked = [each for each in interviews if each.latent.balanced]
    for each in asked:
        rows += _of_latent(each, f"latent {each.latent.number}", f"f{each.latent.stratum}")
    unasked = len(choice.latents) - len(asked)
    dead = choice.dead / d_sae
    detection = _by_mix(asked, choice)
    whole = {"detection_with_dead": dead * CHANCE + (1 - dead) * detection, "dead_share": dead, "unasked": unasked}
    return [*rows, *(Row(metric, "all", "all", float(value)) for metric, value in whole.items())]


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
    interviews: Sequence[tuple[str, bool, Interview]], everyone: Sequence[Interview], rng: np.random.Generator
) -> dict[str, list[Row]]:
    """What the trial found of the judge, by reference.

    `planted`: detection of planted latents that have an answer, the judge's share of yes, and its agreement with
    itself; `shuffled`: the same answers against permuted labels; `nothing`: a latent with nothing to find; `none`: a
    judge that always says none.

    Args:
        interviews: name of each planted latent, whether there is something to find, and what the judge said.
        everyone: all interviews, for the share of yes and the agreement.
        rng: decides the permutations.
    """
    asked = [(name, known, each) for name, known, each in interviews if each.latent.balanced]
    found: dict[str, list[Row]] = {"planted": [], "shuffled": [], "nothing": []}
    for name, known, each in asked:
        values = {"detection": each.balanced.balanced_accuracy, "detection_saebench": each.saebench.score}
        found["planted" if known else "nothing"] += [Row(m, name, "planted", v) for m, v in values.items()]
        if known:
            found["shuffled"].append(Row("detection", f"{SHUFFLED}{name}", "planted", _shuffled(each, rng)))
    yes = [each.balanced.yes_rate for each in everyone if not each.balanced.failed]
    agreed = [each.agrees for each in everyone if each.agrees is not None]
    found["planted"] += [Row("yes_rate", f"answer {i}", "planted", value) for i, value in enumerate(yes)]
    found["planted"] += [Row("repeat", f"answer {i}", "planted", value) for i, value in enumerate(agreed)]
    silent = {"detection": CHANCE, "detection_saebench": NONE_IN_SAEBENCH}
    found["none"] = [Row(metric, "none", "none", value) for metric, value in silent.items()]
    return found


def _shuffled(each: Interview, rng: np.random.Generator) -> float:
    said = each.balanced.predicted
    numbers = None if said is None else [i for i, yes in enumerate(said, 1) if yes]
    copies = (with_shuffled_labels(each.latent, rng).balanced for _ in range(PERMUTATIONS))
    return float(np.mean([mark(copy, numbers).balanced_accuracy for copy in copies]))
