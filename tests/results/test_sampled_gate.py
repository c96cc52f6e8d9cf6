from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sampled_rows import SUITE, design, rows
from scipy import stats

from sae_sanity.results.analysis import analyse
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.sampled_gate import sampled_gate
from sae_sanity.results.stats import arm_scores


def gate(frame, suite=SUITE, **options):
    frame = frame[frame["metric"] != "sequence"]
    tables = {key: arm_scores(group, key[1]) for key, group in frame.groupby(["metric", "arm"])}
    return {check.name: check for check in sampled_gate(tables, suite, trained="trained", **options)}


def failing(frame, suite=SUITE, **options):
    return {name for name, check in gate(frame, suite, **options).items() if not check.passed}


def with_missing(frame, arm, n):
    """The same with n answers of an arm missing."""
    lost = frame.index[frame["metric"].eq("missing") & frame["arm"].eq(arm)][:n]
    frame = frame.copy()
    frame.loc[lost, "value"] = 1.0
    return frame


@pytest.fixture(scope="module")
def sound():
    return rows()


def test_a_sound_assay_passes_all_six_in_order(sound):
    assert list(gate(sound)) == ["range", "controls", "seeds", "off_floor", "judge", "complete"]
    assert failing(sound) == set()
    assert failing(rows(trained_seeds=3)) == set(), "the control has one seed, trained three"


@pytest.mark.parametrize("rng", range(4))
def test_being_no_better_than_random_is_a_finding(rng):
    assert failing(rows(0.65, rng=rng)) == set()


def test_range_against_the_spread_of_standardised_means():
    check = gate(rows(seed_sd=0.3))["range"]
    assert not check.passed
    assert "ceiling - floor 0.4" in check.detail
    assert gate(rows(seed_sd=0.05))["range"].passed


@pytest.mark.parametrize("metric", ["detection", "detection_saebench", "missing", "alive"])
def test_controls_fail_where_a_row_differs_by_the_last_bit(sound, metric):
    frame = sound.copy()
    one = frame.index[frame["arm"].eq("permuted_decoder") & frame["metric"].eq(metric)][2]
    frame.loc[one, "value"] = np.nextafter(frame.loc[one, "value"], 2000)
    assert "controls" in failing(frame)
    assert "permuted_decoder differs from trained" in gate(frame)["controls"].detail


def test_controls_fail_where_other_latents_were_drawn(sound):
    frame = sound.copy()
    one = frame.index[frame["arm"].eq("permuted_decoder") & frame["metric"].eq("detection")][0]
    frame.loc[one, "item"] = "latent 99999"
    assert "other latents or seeds" in gate(frame)["controls"].detail
    gone = sound[~(sound["arm"].eq("permuted_decoder") & sound["metric"].eq("detection_saebench"))]
    assert "no scores of permuted_decoder in detection_saebench" in gate(gone)["controls"].detail
    none = gate(sound[sound["arm"] != "permuted_decoder"])["controls"]
    assert (none.passed, none.detail) == (False, "no scores of permuted_decoder")
    assert not gate(sound, replace(SUITE, must_equal=()))["controls"].passed


def test_controls_that_must_lose_lose(sound):
    suite = replace(SUITE, must_lose=("broken",))
    broken = sound[sound["arm"].eq("trained") & sound["metric"].isin(["detection", "alive"])].assign(arm="broken")
    worse = broken.assign(value=broken["value"] - 0.2 * broken["metric"].eq("detection"))
    assert "trained above broken: +0.2" in gate(pd.concat([sound, worse]), suite)["controls"].detail
    assert gate(pd.concat([sound, worse]), suite)["controls"].passed
    assert "not above broken" in gate(pd.concat([sound, broken]), suite)["controls"].detail
    assert not gate(sound, suite)["controls"].passed


def test_seeds_finds_one_that_beats_the_others():
    frame = rows(seeds=6, seed_sd=0.001)
    assert gate(frame)["seeds"].detail.startswith("random: best seed")
    lucky = frame["arm"].eq("random") & frame["seed"].eq(3) & frame["metric"].eq("detection")
    frame.loc[lucky, "value"] += 0.2
    check = gate(frame)["seeds"]
    assert not check.passed
    assert check.detail.endswith("; seeds that beat the others: 3")


def test_seeds_needs_three():
    check = gate(rows(seeds=2))["seeds"]
    assert not check.passed
    assert check.detail.endswith("has 2 seed(s); to hold one against the others it takes 3")


def test_seeds_takes_the_null_with_the_most_of_them():
    few = rows(seeds=2).query("arm == 'frozen_encoder@iso'")
    more = pd.concat([few, rows(seeds=4).query("arm != 'frozen_encoder@iso'")])
    assert gate(more)["seeds"].detail.startswith("random: best seed")


def test_one_seed_seldom_beats_the_others_under_the_null():
    fails = [("seeds" in failing(rows(n=10, seeds=5, seed_sd=0.02, rng=rng))) for rng in range(20)]
    assert sum(fails) <= 3


def test_off_floor(sound):
    assert "trained against @none: +0.2" in gate(sound)["off_floor"].detail
    assert failing(rows(0.46)) == {"off_floor"}
    assert failing(sound[sound["arm"] != "@none"]) == {"range", "off_floor"}


def test_a_judge_near_chance_makes_the_suite_invalid_with_that_reason():
    frame = rows(judge=0.52)
    assert "judge" in failing(frame)
    (suite,) = analyse(frame, design())
    assert suite.verdict is Verdict.INVALID
    assert "judge: the judge is near chance; accuracy 0.5" in suite.reason


@pytest.mark.parametrize(("judge", "passed"), [(0.95, True), (0.63, True), (0.57, False), (0.3, False)])
def test_a_judge_must_be_above_chance_by_more_than_a_little(judge, passed):
    assert gate(rows(judge=judge))["judge"].passed is passed


def test_a_judge_of_wild_answers_is_not_surely_above_chance(sound):
    frame = sound.copy()
    planted = frame["arm"].eq("@planted") & frame["metric"].eq("detection")
    values = np.array([1, 1, 1, 1, 0.6, 0.1, 0.2, 0.0])
    frame.loc[planted, "value"] = values
    check = gate(frame)["judge"]
    bound = stats.ttest_1samp(values, 0, alternative="greater").confidence_interval(0.95).low
    assert not check.passed
    assert f"accuracy {values.mean():.3f} on 8 planted latents (at least {bound:.3f})" in check.detail


@pytest.mark.parametrize(("name", "words"), [("shuffled", "shuffled labels"), ("nothing", "nothing to find")])
@pytest.mark.parametrize("level", [0.4, 0.6])
def test_answers_off_chance_where_nothing_can_be_found_tell_of_a_leak(name, words, level):
    check = gate(rows(blank={name: level}))["judge"]
    assert failing(rows(blank={name: level})) == {"judge"}
    assert check.detail.startswith(f"off chance on {words}: something tells the judge the answer; accuracy 0.9")
    assert f"on 8 with {words}" in check.detail


@pytest.mark.parametrize(("off", "passed"), [(0.0, True), (0.03, True), (0.07, False), (-0.03, True), (-0.07, False)])
def test_off_chance_is_a_z_test_with_the_known_spread(sound, off, passed):
    """Eight answers whose spread is .05 each: the mean lies within 2.576 * .05 / sqrt(8) = .0455 in 99 of 100."""
    frame = sound.copy()
    blank = frame["arm"].eq("@nothing") & frame["metric"].eq("detection")
    frame.loc[blank, "value"] = 0.5 + off
    check = gate(frame)["judge"]
    assert check.passed is passed
    z = stats.norm.ppf(0.995) * 0.05 / np.sqrt(8)
    assert f"{0.5 + off:.3f} on 8 with nothing to find (chance 0.5 ± {z:.3f})" in check.detail


def test_a_judge_that_says_the_same_of_all_texts_is_off_chance_nowhere(sound):
    frame = sound.copy()
    blank = frame["arm"].isin(["@nothing", "@shuffled"])
    frame.loc[blank & frame["metric"].eq("detection"), "value"] = 0.5
    frame.loc[blank & frame["metric"].eq("chance_sd"), "value"] = 0.0
    assert gate(frame)["judge"].passed


def test_detail_of_the_judge(sound):
    detail = gate(sound)["judge"].detail
    assert detail.endswith("± 0.046); yes-rate 0.45, self-agreement 0.88")
    bare = sound[~sound["metric"].isin(["repeat", "yes_rate"])]
    assert gate(bare)["judge"].detail.endswith("yes-rate unknown, self-agreement unknown")


@pytest.mark.parametrize("name", ["planted", "shuffled", "nothing"])
def test_a_judge_that_was_not_on_trial_fails(sound, name):
    check = gate(sound[sound["arm"] != f"@{name}"])["judge"]
    assert (check.passed, check.detail) == (False, f"no scores of @{name}: the judge was not on trial")


def test_more_than_two_percent_missing_is_incomplete(sound):
    assert "complete" not in failing(with_missing(with_missing(sound, "trained", 2), "permuted_decoder", 2))
    frame = with_missing(with_missing(sound, "trained", 3), "permuted_decoder", 3)
    assert failing(frame) == {"complete"}
    (suite,) = analyse(frame, design())
    assert suite.verdict is Verdict.INVALID
    assert "complete: incomplete: no answer for" in suite.reason
    assert "trained 3 of 120" in suite.reason


def test_arms_that_differ_in_missingness_are_incomplete():
    frame = with_missing(rows(n=400), "random", 60)
    check = gate(frame)["complete"]
    p = stats.fisher_exact([[60, 4740], [0, 1200]]).pvalue
    assert check.detail == f"incomplete: no answer for random 60 of 4800, trained 0 of 1200 (Fisher p {p:.2g})"


def test_latents_that_were_drawn_and_not_asked_are_missing_and_differ_by_arm():
    """Rows as `rows_of_sae` writes them for a latent without questions: a missing answer at chance."""
    frame = rows(n=400)
    unasked = frame["arm"].eq("random") & frame["item"].isin(
        frame.loc[frame["arm"].eq("random") & frame["metric"].eq("missing"), "item"].unique()[:60]
    )
    frame.loc[unasked & frame["metric"].eq("missing"), "value"] = 1.0
    frame.loc[unasked & frame["metric"].eq("detection"), "value"] = 0.5
    check = gate(frame)["complete"]
    assert not check.passed
    assert "random" in check.detail
    assert "Fisher" in check.detail


def test_a_latent_that_was_dropped_counts_as_missing(sound):
    dropped = sound.index[sound["metric"].eq("detection") & sound["arm"].eq("random")][:20]
    assert "random 20 of 480" in gate(sound.drop(dropped))["complete"].detail
    uncounted = sound[~(sound["metric"].eq("missing") & sound["arm"].eq("random"))]
    assert gate(uncounted)["complete"].detail == "incomplete: no rows of 'missing' of random"


def test_the_recipes_gate_asks_of_the_recipe(sound):
    again = rows(0.45, trained_seeds=3, rng=5)
    recipe = again[again["arm"].eq("trained")].assign(arm="retrained")
    both = pd.concat([sound, recipe], ignore_index=True)
    assert failing(both) == set()
    assert failing(both, recipe="retrained") == {"off_floor"}
