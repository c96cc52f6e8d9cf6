from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.stats import arm_scores, mismatch


def rows(values, *, arm="a"):
    """values: {(cluster, item, seed): score}."""
    return pd.DataFrame(
        [("s", "m", item, cluster, arm, seed, v) for (cluster, item, seed), v in values.items()], columns=COLUMNS
    )


FULL = {
    ("x", "1", 0): 0.2,
    ("x", "2", 0): 0.4,
    ("y", "1", 0): 0.9,
    ("x", "1", 1): 0.0,
    ("x", "2", 1): 0.2,
    ("y", "1", 1): 0.7,
}


def test_items_are_averaged_inside_clusters_and_clusters_weigh_the_same():
    scores = arm_scores(rows(FULL), "a")
    assert scores.seeds == (0, 1)
    assert scores.clusters == pytest.approx(np.array([[0.3, 0.1], [0.9, 0.7]]))
    assert scores.seed_means == pytest.approx([0.6, 0.4])
    assert scores.score == pytest.approx(0.5)
    assert scores.seed_sd == pytest.approx(np.std([0.6, 0.4], ddof=1))


def test_row_order_does_not_matter():
    shuffled = rows(FULL).sample(frac=1, random_state=3)
    assert arm_scores(shuffled, "a").items.equals(arm_scores(rows(FULL), "a").items)


def test_one_seed_has_no_deviation():
    one = {key: v for key, v in FULL.items() if key[2] == 0}
    assert arm_scores(rows(one), "a").seed_sd is None


def test_a_duplicated_row_is_an_error_that_names_it():
    doubled = pd.concat([rows(FULL), rows(FULL).iloc[[4]]])
    with pytest.raises(ValueError, match=r"a: item '2' of cluster 'x' occurs twice under seed 1"):
        arm_scores(doubled, "a")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_an_error(bad):
    with pytest.raises(ValueError, match="1 scores are not finite"):
        arm_scores(rows(FULL | {("x", "1", 0): bad}), "a")


def test_the_same_item_name_in_two_clusters_is_two_items():
    assert len(arm_scores(rows(FULL), "a").items) == 3


def test_arms_with_the_same_items_match():
    assert mismatch(arm_scores(rows(FULL), "a"), arm_scores(rows(FULL), "b")) == ""


def test_arms_with_other_items_say_how_many():
    other = {("x", "1", 0): 1.0, ("z", "7", 0): 1.0}
    assert (
        mismatch(arm_scores(rows(FULL), "a"), arm_scores(rows(other), "b"))
        == "items differ: 2 only in a, 1 only in b, 1 in both"
    )


def test_an_item_that_changed_its_cluster_does_not_match():
    moved = {("y" if key[:2] == ("x", "2") else key[0], *key[1:]): v for key, v in FULL.items()}
    assert "items differ" in mismatch(arm_scores(rows(FULL), "a"), arm_scores(rows(moved), "b"))


def test_a_seed_that_lacks_an_item_is_ragged():
    torn = {key: v for key, v in FULL.items() if key != ("y", "1", 1)}
    scores = arm_scores(rows(torn), "a")
    assert scores.ragged == "a: of 3 items seed 1 lacks 1"
    assert mismatch(arm_scores(rows(FULL), "b"), scores) == scores.ragged
