"""Suites that try each SAE several times: what the luck of a trial does to a claim about a given SAE."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sae_sanity.results.compare import compare
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import ArmScores, arm_scores, crossed_t

CLUSTERS, MARGIN = 40, 0.02


def rows(arm: str, scores: np.ndarray) -> pd.DataFrame:
    """Rows of scores of shape (clusters, seeds, trials)."""
    found = [
        ("suite", "m", f"item{c}#{trial}", f"c{c}", arm, seed, scores[c, seed, trial])
        for c, seed, trial in np.ndindex(scores.shape)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def arm(name: str, scores: np.ndarray) -> ArmScores:
    return arm_scores(rows(name, scores), name)


def drawn(rng: np.random.Generator, shared: np.ndarray, seeds: int, trials: int, *, sae: float, mask: float):
    """One arm of the null: items that all share, luck of SAEs and masks, and noise."""
    luck = rng.normal(0, sae, (1, seeds, 1)) + rng.normal(0, mask, (1, seeds, trials))
    return shared[:, None, None] + luck + rng.normal(0, 0.1, (CLUSTERS, seeds, trials))


def test_trials_are_columns_and_seeds_are_their_means():
    scores = np.random.default_rng(0).random((CLUSTERS, 2, 3))
    table = arm("a", scores)
    order = sorted(range(CLUSTERS), key=lambda c: f"c{c}")
    assert table.trials.shape == (CLUSTERS, 6)
    assert sorted(table.trials.mean(0)) == pytest.approx(sorted(scores.mean(0).ravel()))
    assert table.clusters == pytest.approx(scores.mean(2)[order])


def test_items_without_a_trial_are_one_trial():
    frame = rows("a", np.random.default_rng(0).random((5, 2, 1)))
    frame["item"] = frame["item"].str.partition("#")[0]
    table = arm_scores(frame, "a")
    assert table.trials == pytest.approx(table.clusters)


@pytest.mark.parametrize("trials", [2, 3])
def test_a_lucky_mask_of_a_given_sae_does_not_beat_random(trials):
    """Under the null, with masks that matter more than SAEs do."""
    rng, known, ignored = np.random.default_rng(trials), 0, 0
    for _ in range(600):
        shared = rng.normal(0.6, 0.2, CLUSTERS)
        ours = drawn(rng, shared, 1, trials, sae=0.0, mask=0.05)
        theirs = drawn(rng, shared, 5, trials, sae=0.01, mask=0.05).mean(2)
        known += (crossed_t(ours[:, 0], theirs, trials=True).lo or 0.0) > 0
        ignored += (crossed_t(ours.mean(2), theirs).lo or 0.0) > 0
    assert known / 600 <= 0.07
    assert ignored / 600 >= 0.1


def test_a_comparison_knows_its_trials():
    rng = np.random.default_rng(3)
    shared = rng.normal(0.6, 0.2, CLUSTERS)
    ours = arm("trained", drawn(rng, shared, 1, 3, sae=0.0, mask=0.05))
    theirs = arm("random", drawn(rng, shared, 5, 3, sae=0.01, mask=0.05))
    options = {"metric": "m", "arm": "random", "required": True, "margin": MARGIN, "rng": rng}
    with_luck = compare(ours, theirs, **options, trials=True).estimate
    without = compare(ours, theirs, **options).estimate
    assert with_luck.difference == pytest.approx(without.difference)
    assert with_luck.standard_error > without.standard_error
    assert with_luck.n_trained == 1


def test_one_trial_of_one_sae_is_inconclusive():
    rng = np.random.default_rng(4)
    ours, theirs = (arm(n, rng.random((CLUSTERS, k, 1))) for n, k in (("trained", 1), ("random", 5)))
    found = compare(ours, theirs, metric="m", arm="random", required=True, margin=MARGIN, rng=rng, trials=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "one trial" in found.reason


def test_a_recipe_holds_the_luck_of_trials_in_its_seeds():
    rng = np.random.default_rng(5)
    shared = rng.normal(0.6, 0.2, CLUSTERS)
    arms = [arm(n, drawn(rng, shared, 3, 2, sae=0.01, mask=0.05)) for n in ("trained", "random")]
    options = {"metric": "m", "arm": "random", "required": True, "margin": MARGIN, "rng": rng}
    assert compare(*arms, **options, trials=True).estimate.lo == compare(*arms, **options).estimate.lo
