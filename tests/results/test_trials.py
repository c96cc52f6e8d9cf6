"""Suites that try each SAE several times: what the luck of a trial does to a claim about a given SAE."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sae_sanity.results.compare import compare
from sae_sanity.results.design import SuiteDesign
from sae_sanity.results.gate import check_off_floor, check_seeds
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import ArmScores, arm_scores, crossed_t, paired_t

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


@pytest.mark.parametrize("trials", [3, 5])
def test_a_lucky_mask_of_a_given_sae_does_not_beat_random(trials):
    """Under the null, with masks that matter more than SAEs do."""
    rng, known, ignored = np.random.default_rng(trials), 0, 0
    for _ in range(600):
        shared = rng.normal(0.6, 0.2, CLUSTERS)
        ours = drawn(rng, shared, 1, trials, sae=0.0, mask=0.05)
        theirs = drawn(rng, shared, 5, trials, sae=0.01, mask=0.05).mean(2)
        known += (crossed_t(ours[:, 0], theirs, trials=True).lo or 0.0) > 0
        ignored += (crossed_t(ours.mean(2), theirs).lo or 0.0) > 0
    assert known / 600 <= 0.06 + 2 * (0.06 * 0.94 / 600) ** 0.5  # METHOD 5, and what 600 checks can tell
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


@pytest.mark.parametrize(("seeds", "trials"), [(1, 1), (1, 2), (2, 1)])
def test_fewer_than_three_trials_are_inconclusive(seeds, trials):
    rng = np.random.default_rng(4)
    ours, theirs = (arm(n, rng.random((CLUSTERS, k, trials))) for n, k in (("trained", seeds), ("random", 5)))
    found = compare(ours, theirs, metric="m", arm="random", required=True, margin=MARGIN, rng=rng, trials=True)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "fewer than 3 trials" in found.reason


def test_a_recipe_holds_the_luck_of_trials_in_its_seeds():
    rng = np.random.default_rng(5)
    shared = rng.normal(0.6, 0.2, CLUSTERS)
    arms = [arm(n, drawn(rng, shared, 3, 2, sae=0.01, mask=0.05)) for n in ("trained", "random")]
    options = {"metric": "m", "arm": "random", "required": True, "margin": MARGIN, "rng": rng}
    assert compare(*arms, **options, trials=True).estimate.lo == compare(*arms, **options).estimate.lo


def test_the_floor_is_not_left_by_a_lucky_mask():
    """A given SAE exactly at the floor, with two masks: the gate asks whether it is off, at one in twenty."""
    rng, known, ignored = np.random.default_rng(6), 0, 0
    for _ in range(600):
        ours = drawn(rng, np.full(CLUSTERS, 0.5), 1, 3, sae=0.0, mask=0.05)[:, 0]
        floor = np.full((CLUSTERS, 1), 0.5)
        known += (paired_t(ours, floor, trials=True).lo or 0.0) > 0
        ignored += (paired_t(ours, floor).lo or 0.0) > 0
    assert known / 600 <= 0.07
    assert ignored / 600 >= 0.15


def test_the_gate_counts_the_luck_of_masks():
    rng = np.random.default_rng(7)
    shared, noise = rng.normal(0.6, 0.2, CLUSTERS), rng.normal(0, 0.02, (CLUSTERS, 1, 3))
    scores = {
        ("m", "trained"): arm("trained", shared[:, None, None] + np.array([0.17, -0.05, 0.03]) + noise),
        ("m", "@chance"): arm("@chance", np.repeat(shared[:, None, None], 3, 2)),
    }
    arms = {name: table for (_, name), table in scores.items()}
    design = SuiteDesign("s", "m", MARGIN, "u", ("random",), chance="@chance", trials=True)
    with_luck, without = (
        check_off_floor(arms, replace(design, trials=trials), trained="trained", alpha=0.05) for trials in (True, False)
    )
    assert (with_luck.passed, without.passed) == (False, True)


def test_seeds_are_those_of_the_required_arm_that_has_the_most():
    """In the smoke profile a trained null has two seeds, and random five."""
    rng = np.random.default_rng(8)
    shared = rng.normal(0.6, 0.2, CLUSTERS)
    arms = {n: arm(n, drawn(rng, shared, k, 1, sae=0.01, mask=0.0)) for n, k in (("frozen", 2), ("random", 5))}
    design = SuiteDesign("s", "m", MARGIN, "u", ("frozen", "random"), floor="@identity")
    found = check_seeds(arms, design, alpha=0.05)
    assert found.detail.startswith("random: best seed")
    assert found.passed
