from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_scores import SUITE, design, facts, scores

from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.compare import iut_p
from sae_sanity.results.outcome import CheckReport, Manifest, Skip, Verdict

MANIFEST = Manifest(command="x", config_hash="0", settings={}, versions={}, hashes={})


def only(frame, **changes):
    (suite,) = analyse(frame, design(**changes))
    return suite


def report(*suites, **options):
    return conclude(suites, target="my-sae", manifest=MANIFEST, **options)


def test_a_good_sae_beats_and_the_report_says_so():
    suite = only(scores())
    assert suite.verdict is Verdict.BEATS
    assert [c.verdict for c in suite.comparisons if c.required] == [Verdict.BEATS] * 2
    result = report(suite)
    assert (result.verdict, result.exit_code, result.claim) == ("PASS", 0, "artefact")
    assert result.headline == "my-sae beats every required random baseline in every suite (probing)."
    assert any("three or more trained seeds" in line for line in result.advice)


def test_the_numbers_of_the_table_are_plain_means():
    frame = scores()
    suite = only(frame)
    arms = {arm.arm: arm for arm in suite.arms}
    means = frame.groupby(["metric", "arm"])["value"].mean()
    for name, arm in arms.items():
        assert arm.score == pytest.approx(means["accuracy", name])
        assert arm.secondary == pytest.approx({"auc": means["auc", name]})
    floor, ceiling = means["accuracy", "random"], means["accuracy", "@dense_probe"]
    assert (suite.floor, suite.ceiling) == pytest.approx((floor, ceiling))
    assert suite.chance == pytest.approx(means["accuracy", "@shuffled_labels"])
    wanted = (means["accuracy", "trained"] - floor) / (ceiling - floor)
    assert arms["trained"].normalised == pytest.approx(wanted)
    assert arms["random"].normalised == 0
    per_seed = frame[(frame["metric"] == "accuracy") & (frame["arm"] == "random")].groupby("seed")["value"].mean()
    assert arms["random"].seed_sd == pytest.approx(per_seed.std())
    assert arms["trained"].seed_sd is None


def test_arms_come_in_order_with_their_roles():
    assert [(arm.arm, arm.role) for arm in only(scores()).arms] == [
        ("trained", "trained"),
        ("random", "baseline"),
        ("frozen_encoder@iso", "baseline"),
        ("frozen_decoder@iso", "baseline"),
        ("permuted_encoder", "control"),
        ("permuted_decoder", "control"),
        ("@dense_probe", "ceiling"),
        ("@shuffled_labels", "chance"),
    ]


def test_l0_and_dead_share_come_from_the_facts():
    frame = scores()
    (suite,) = analyse(frame, design(facts=facts(frame)))
    arms = {arm.arm: arm for arm in suite.arms}
    assert (arms["random"].l0, arms["random"].dead_share, arms["random"].matched) == (20, pytest.approx(0.1), True)
    assert (arms["@dense_probe"].l0, arms["@dense_probe"].matched) == (None, None)
    assert suite.verdict is Verdict.BEATS


def test_an_unmatched_required_arm_makes_the_suite_invalid_and_a_shown_one_does_not():
    frame = scores()
    (suite,) = analyse(frame, design(facts=facts(frame, off=("random",))))
    assert suite.verdict is Verdict.INVALID
    assert "unmatched L0: random seed 0 has 30, target 20" in suite.reason
    (shown,) = analyse(frame, design(facts=facts(frame, off=("frozen_decoder@iso",))))
    assert shown.verdict is Verdict.BEATS
    assert shown.comparisons[2].verdict is Verdict.INVALID


def test_an_arm_whose_l0_nobody_measured_carries_no_verdict():
    frame = scores()
    known = [fact for fact in facts(frame) if (fact.arm, fact.seed) != ("random", 2)]
    (suite,) = analyse(frame, design(facts=known))
    assert suite.comparisons[0].reason == "unmatched L0: random seed 2 has not been measured"


def test_one_required_baseline_that_is_not_beaten_decides_the_suite():
    suite = only(scores(frozen_encoder_iso=0.7))
    assert suite.verdict is Verdict.EQUIVALENT
    assert suite.reason.startswith("against frozen_encoder@iso: EQUIVALENT (")
    result = report(suite)
    assert (result.verdict, result.exit_code) == ("FAIL", 1)
    assert result.headline == "my-sae does not beat random: EQUIVALENT in probing."
    assert any("is equivalent to this baseline" in line for line in result.advice)


def test_a_shown_baseline_decides_nothing():
    suite = only(scores(frozen_decoder_iso=0.95))
    assert suite.comparisons[2].verdict is Verdict.WORSE
    assert suite.verdict is Verdict.BEATS


def test_a_failed_gate_overrides_every_verdict():
    suite = only(scores(permuted_encoder=0.7))
    assert suite.verdict is Verdict.INVALID
    assert "controls:" in suite.reason
    assert (report(suite).verdict, report(suite).exit_code) == ("INVALID", 4)


def test_a_failed_gate_leaves_numbers_and_no_verdict():
    """An assay that cannot tell finds no difference anywhere, which would read as EQUIVALENT."""
    sound, blind = only(scores(0.62)), only(scores(0.62, permuted_encoder=0.7))
    assert Verdict.EQUIVALENT in {c.verdict for c in sound.comparisons}
    for before, after in ((sound.comparisons, blind.comparisons), (sound.exploratory, blind.exploratory)):
        assert {(c.verdict, c.reason) for c in after} == {(Verdict.INVALID, "the assay could not have told")}
        assert [(c.baseline, c.estimate, c.p_adjusted) for c in after] == [
            (c.baseline, c.estimate, c.p_adjusted) for c in before
        ]


def test_a_comparison_that_is_invalid_by_itself_keeps_its_reason():
    frame = scores(permuted_encoder=0.7)
    (suite,) = analyse(frame, design(facts=facts(frame, off=("random",))))
    assert suite.comparisons[0].reason.startswith("unmatched L0: random seed 0")
    assert suite.comparisons[1].reason == "the assay could not have told"


def test_wide_intervals_are_inconclusive_and_the_advice_names_the_sizes():
    frame = scores(0.625)
    noisy = frame["arm"].eq("trained")
    frame.loc[noisy, "value"] += frame.loc[noisy, "cluster"].map(
        {f"c{c:02d}": v for c, v in enumerate(np.random.default_rng(4).normal(0, 0.04, 12))}
    )
    suite = only(frame, must_equal=())
    assert suite.verdict is Verdict.INCONCLUSIVE
    result = report(suite)
    assert (result.verdict, result.exit_code) == ("INCONCLUSIVE", 3)
    e = suite.comparisons[1].estimate
    assert e.mde > 0.02
    assert e.seeds_needed is None
    wanted = f"about {e.clusters_needed} clusters (have 12) would resolve a difference of 0.02."
    assert f"probing vs frozen_encoder@iso: INCONCLUSIVE; {wanted}" in result.advice


def test_iut_p_is_the_largest_and_holm_runs_over_the_suites():
    names = ("one", "two", "three")
    frame = pd.concat([scores(0.66, suite=name, rng=i) for i, name in enumerate(names)])
    suites = analyse(frame, design(*(replace(SUITE, suite=name) for name in names)))
    for suite in suites:
        assert suite.p == max(iut_p(c.estimate) for c in suite.comparisons if c.required)
    ordered = sorted(suites, key=lambda s: s.p)
    wanted = np.maximum.accumulate([s.p * (3 - i) for i, s in enumerate(ordered)])
    assert [s.p_holm for s in ordered] == pytest.approx(list(wanted))


def test_a_suite_that_cannot_vote_makes_holm_no_easier():
    frame = pd.concat([scores(suite="one"), scores(suite="two", permuted_encoder=0.7)])
    one, two = analyse(frame, design(replace(SUITE, suite="one"), replace(SUITE, suite="two")))
    assert one.p_holm == pytest.approx(2 * one.p)
    assert two.p_holm is None


def test_bh_runs_over_shown_and_exploratory_comparisons_only():
    suite = only(scores(0.612, rng=3))
    table = [c for c in (*suite.comparisons, *suite.exploratory) if not c.required]
    assert {(c.metric, c.baseline) for c in table} == {
        ("accuracy", "frozen_decoder@iso"),
        *(("auc", arm) for arm in (*SUITE.required, *SUITE.shown)),
    }
    wanted = stats.false_discovery_control([iut_p(c.estimate) for c in table])
    assert [c.p_adjusted for c in table] == pytest.approx(list(wanted))
    assert all(c.p_adjusted is None for c in suite.comparisons if c.required)


def test_nothing_measured_is_an_invalid_suite_and_not_a_crash():
    suite = only(scores().iloc[:0])
    assert suite.verdict is Verdict.INVALID
    assert all(c.reason for c in suite.comparisons)
    assert report(suite).exit_code == 4
    assert report().verdict == "INVALID"


def test_one_baseline_seed_never_passes():
    suite = only(scores(seeds=1))
    assert (suite.verdict, suite.p) == (Verdict.INVALID, None)
    wanted = "the assay could not have told; one baseline seed: how much another seed would differ is not known"
    assert {c.reason for c in suite.comparisons if c.required} == {wanted}


def test_few_seeds_are_remarked_upon():
    assert any("this run has 3" in line for line in report(only(scores(seeds=3))).advice)
    assert not any("release verdict" in line for line in report(only(scores(seeds=5))).advice)


def test_recipe_claim_needs_three_trained_seeds_in_every_required_comparison():
    assert report(only(scores(trained_seeds=3))).claim == "recipe"
    assert report(only(scores(trained_seeds=2))).claim == "artefact"
    assert report().claim == "artefact"


def test_the_result_does_not_depend_on_the_order_of_rows():
    frame = scores()
    assert only(frame) == only(frame.sample(frac=1, random_state=1))


def test_the_report_survives_json():
    result = report(only(scores()), skipped=[Skip(what="autointerp", reason="no judge")])
    assert CheckReport.model_validate_json(result.model_dump_json()) == result


def test_bad_frames_are_errors():
    with pytest.raises(ValueError, match=r"lack the columns \['arm'\]"):
        only(scores().drop(columns="arm"))
    with pytest.raises(ValueError, match="occurs twice"):
        only(pd.concat([scores(), scores().iloc[[0]]]))


def test_rows_of_other_suites_are_not_read():
    assert only(pd.concat([scores(), scores(0.1, suite="other")])) == only(scores())


def test_results_import_no_torch():
    modules = ("analysis", "store", "gate", "compare", "verdict", "stats")
    code = f"import sys, {', '.join(f'sae_sanity.results.{m}' for m in modules)}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
