"""Strata that count alike, whatever clusters have."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import arm_scores, crossed_t, stratified

STRATA = ("Country", "Continent", "Language")


def table(rng: np.random.Generator, *, seeds: int = 2, trials: int = 2, complete: bool = False):
    """An arm whose clusters have some of the strata, and one or two items of each."""
    shape = np.random.default_rng(1)  # the same items for every arm
    rows = []
    for c in range(30):
        for number, stratum in enumerate(STRATA):
            if complete or number == 0 or shape.random() < 0.3:
                for k in range(1 if complete else 1 + int(shape.random() < 0.5)):
                    rows += [
                        ("s", "m", f"{stratum}|c{c}<-{k}#{t}", f"c{c}", "a", s, number + rng.normal())
                        for s in range(seeds)
                        for t in range(trials)
                    ]
    return arm_scores(pd.DataFrame(rows, columns=list(COLUMNS)), "a")


def by_hand(scores) -> float:
    """Mean over strata of the mean over its clusters of the mean over items."""
    frame = scores.items.mean(axis=1).reset_index(name="value")
    frame["stratum"] = frame["item"].str.split("|").str[0]
    return float(frame.groupby(["stratum", "cluster"])["value"].mean().groupby("stratum").mean().mean())


def test_the_score_is_the_mean_over_strata():
    scores = table(np.random.default_rng(0))
    assert stratified(scores).score == pytest.approx(by_hand(scores))
    assert stratified(scores).trials.mean() == pytest.approx(by_hand(scores))
    assert abs(scores.score - by_hand(scores)) > 0.01


def test_clusters_that_have_all_strata_are_left_as_they_are():
    scores = table(np.random.default_rng(0), complete=True)
    pd.testing.assert_frame_equal(stratified(scores).items, scores.items)


def test_the_null_is_kept():
    """Clusters that share their items' luck, strata of different levels: one in twenty, not more."""
    beaten = 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        arms = [stratified(table(rng, seeds=k, trials=1)).clusters for k in (3, 4)]
        beaten += (crossed_t(*arms, claim="recipe").lo or 0.0) > 0
    assert beaten / 600 <= 0.07
