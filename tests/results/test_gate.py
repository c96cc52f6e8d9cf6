from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic_scores import SUITE, scores

from sae_sanity.results.gate import run_gate
from sae_sanity.results.stats import arm_scores


def gate(frame, suite=SUITE):
    tables = {key: arm_scores(group, key[1]) for key, group in frame.groupby(["metric", "arm"])}
    return {check.name: check for check in run_gate(tables, suite, trained="trained")}


def without(frame, arm):
    return frame[frame["arm"] != arm]


def failing(frame, suite=SUITE):
    return {name for name, check in gate(frame, suite).items() if not check.passed}


def test_a_sound_assay_passes_all_four_in_order():
    assert list(gate(scores())) == ["range", "controls", "seeds", "off_floor"]
    assert failing(scores()) == set()
    assert failing(scores(trained_seeds=3)) == set()


@pytest.mark.parametrize("rng", range(5))
def test_being_no_better_than_random_is_a_finding_and_not_an_invalid_assay(rng):
    assert failing(scores(0.6, rng=rng)) == set()


def test_range_fails_where_the_ceiling_is_within_the_noise_of_reseeding():
    frame = scores()
    seeds = frame["arm"].eq("frozen_encoder@iso")
    frame.loc[seeds, "value"] += frame.loc[seeds, "seed"].map(lambda s: 0.1 * (s - 2))
    assert failing(frame) == {"range"}
    assert "reseed deviations 0.4" in gate(frame)["range"].detail


def test_range_does_not_mind_how_a_broken_control_scatters():
    frame = scores(trained_seeds=3)
    extra = frame[frame["arm"].eq("permuted_encoder")].assign(seed=1)
    extra["value"] -= 5
    assert "range" not in failing(np_concat(frame, extra))


def test_range_fails_without_ceiling_floor_or_a_second_seed():
    assert failing(without(scores(), "@dense_probe")) == {"range"}
    assert "range" in failing(without(scores(), "random"))
    assert "no arm has two seeds" in gate(scores(seeds=1))["range"].detail


def test_controls_fail_where_a_broken_sae_does_not_lose():
    frame = scores(permuted_encoder=0.7)
    assert failing(frame) == {"controls"}
    assert "not above permuted_encoder" in gate(frame)["controls"].detail


def test_controls_fail_where_a_row_differs_by_the_last_bit():
    frame = scores()
    one = frame.index[(frame["arm"] == "permuted_decoder") & (frame["metric"] == "auc")][7]
    frame.loc[one, "value"] = np.nextafter(frame.loc[one, "value"], 1)
    assert failing(frame) == {"controls"}
    assert "differs from trained: largest difference 5" in gate(frame)["controls"].detail


@pytest.mark.parametrize("arm", ["permuted_encoder", "permuted_decoder"])
def test_controls_fail_where_one_was_not_measured(arm):
    frame = without(scores(), arm)
    assert failing(frame) == {"controls"}
    assert f"no scores of {arm}" in gate(frame)["controls"].detail


def test_controls_fail_where_none_is_named():
    assert failing(scores(), replace(SUITE, must_lose=(), must_equal=())) == {"controls"}


def test_controls_fail_where_a_control_lacks_items_or_has_a_foreign_seed():
    frame = scores()
    control = frame["arm"].eq("permuted_decoder")
    assert failing(frame[~(control & frame["item"].eq("i1"))]) == {"controls"}
    assert failing(frame.assign(seed=frame["seed"].where(~control, 9))) == {"controls"}


def test_controls_fail_where_one_seed_of_a_control_lacks_an_item():
    frame = scores(trained_seeds=2)
    both = frame[frame["arm"].eq("trained")].assign(arm="permuted_decoder")
    whole = np_concat(without(frame, "permuted_decoder"), both)
    assert failing(whole) == set()
    last = whole.index[-1]
    assert failing(whole.drop(index=last)) == {"controls"}


def test_a_control_is_paired_with_the_trained_seed_that_it_was_cut_from():
    """Seed 0 is far below the other trained seeds; its control loses to it but would not lose to their mean alone."""
    frame = scores(trained_seeds=3)
    rows = frame["arm"].eq("trained") & frame["seed"].gt(0)
    frame.loc[rows, "value"] -= 0.3
    assert "controls" not in failing(frame)


def test_seeds_fail_where_one_random_seed_beats_the_others():
    frame = scores(seeds=6)
    lucky = frame["arm"].eq("random") & frame["seed"].eq(4)
    frame.loc[lucky, "value"] += 0.06
    assert "seeds" in failing(frame)
    assert "seeds that beat the others: 4" in gate(frame)["seeds"].detail


def test_seeds_do_not_fail_for_a_lucky_seed_short_of_the_margin():
    frame = scores(seeds=6)
    lucky = frame["arm"].eq("random") & frame["seed"].eq(4)
    frame.loc[lucky, "value"] += 0.06
    assert "seeds" not in failing(frame, replace(SUITE, margin=0.2))


def test_seeds_do_not_fail_where_seeds_differ_widely_anyway():
    frame = scores(seeds=6)
    random = frame["arm"].eq("random")
    frame.loc[random, "value"] += frame.loc[random, "seed"].map(dict(enumerate([0.03, -0.04, 0.01, -0.02, 0.06, 0.0])))
    assert "seeds" not in failing(frame)


@pytest.mark.parametrize("seeds", [1, 2])
def test_seeds_fail_where_there_are_too_few_to_hold_one_against_the_rest(seeds):
    assert f"random has {seeds} seed(s)" in gate(scores(seeds=seeds))["seeds"].detail
    assert "seeds" in failing(scores(seeds=seeds))


@pytest.mark.parametrize("floor", ["shuffled_labels", "@shuffled_labels"])
def test_seeds_are_those_of_a_required_arm_where_the_floor_is_a_reference(floor):
    check = gate(scores(), replace(SUITE, floor=floor, required=("frozen_encoder@iso",)))["seeds"]
    assert check.passed
    assert check.detail.startswith("frozen_encoder@iso: best seed")


def test_references_may_be_named_with_their_sign():
    assert gate(scores(), replace(SUITE, chance="@shuffled_labels", ceiling="@dense_probe")) == gate(scores())


def test_off_floor_fails_at_chance():
    assert failing(scores(0.5, permuted_encoder=0.4)) == {"off_floor"}


def test_off_floor_fails_without_a_chance_reference_or_with_other_items():
    assert failing(without(scores(), "@shuffled_labels")) == {"off_floor"}
    assert failing(scores(), replace(SUITE, chance="")) == {"off_floor"}
    frame = scores()
    assert failing(frame[~(frame["arm"].eq("@shuffled_labels") & frame["item"].eq("i1"))]) == {"off_floor"}


def test_nothing_measured_fails_everything_and_raises_nothing():
    assert failing(scores().iloc[:0]) == {"range", "controls", "seeds", "off_floor"}


def np_concat(*frames):
    import pandas as pd

    return pd.concat(frames, ignore_index=True)
