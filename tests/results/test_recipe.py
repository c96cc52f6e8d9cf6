"""The two claims on a given SAE: what it does itself, and what its recipe does on the baselines' tokens."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console
from synthetic_scores import design, scores

from sae_sanity.results.analysis import analyse, conclude, with_holm
from sae_sanity.results.gate import vouched
from sae_sanity.results.outcome import GateCheck, Manifest, Skip, Verdict
from sae_sanity.results.report import from_json, render_text, to_json
from sae_sanity.results.stats import holm

MANIFEST = Manifest(command="x", config_hash="0", settings={}, versions={}, hashes={}, recipe={"k": "32 (cfg.json)"})


def with_retrained(level, *, seeds=3, rng=1):
    """Scores of one given SAE, its baselines, and of `seeds` retrained ones at a level of their own."""
    given = scores(0.7, trained_seeds=1)
    again = scores(level, trained_seeds=seeds, rng=rng)
    again = again.loc[again["arm"] == "trained"].assign(arm="retrained")
    # the same documents: differences between clusters are shared by all arms of a check
    shift = given.loc[given["arm"] == "random"].groupby(["metric", "item", "cluster"])["value"].mean()
    there = scores(level, rng=rng)
    there = there.loc[there["arm"] == "random"].groupby(["metric", "item", "cluster"])["value"].mean()
    keys = pd.MultiIndex.from_frame(again[["metric", "item", "cluster"]])
    again = again.assign(value=again["value"] + (shift - there).reindex(keys).to_numpy())
    return pd.concat([given, again], ignore_index=True)


def suite_of(level, **options):
    (suite,) = analyse(with_retrained(level, **options), replace(design(), recipe="retrained"))
    return suite


def test_artefact_and_recipe_are_judged_apart():
    suite = suite_of(0.7)
    assert suite.verdict is Verdict.BEATS
    assert suite.recipe is not None
    assert suite.recipe.verdict is Verdict.BEATS
    assert {c.claim for c in suite.comparisons if c.required} == {"artefact"}
    assert {c.claim for c in suite.recipe.comparisons} == {"recipe"}
    assert [c.baseline for c in suite.recipe.comparisons] == ["random", "frozen_encoder@iso"]
    assert [(arm.arm, arm.role) for arm in suite.arms[:3]] == [
        ("trained", "trained"),
        ("retrained", "recipe"),
        ("random", "baseline"),
    ]


def test_a_released_sae_that_only_had_more_tokens_is_found_out():
    suite = suite_of(0.55)
    assert suite.verdict is Verdict.BEATS
    assert suite.recipe is not None
    assert suite.recipe.verdict is Verdict.WORSE
    report = conclude([suite], target="my-sae", manifest=MANIFEST)
    assert (report.verdict, report.recipe, report.exit_code) == ("PASS", "FAIL", 0)
    assert report.headline.endswith("Its recipe, retrained on the tokens that the baselines had, does not.")
    assert any("before crediting the method" in line for line in report.advice)


def test_two_seeds_cannot_speak_of_a_recipe():
    recipe = suite_of(0.7, seeds=2).recipe
    assert recipe is not None
    assert (recipe.verdict, recipe.reason) == (
        Verdict.INCONCLUSIVE,
        "2 trained seeds cannot speak of a recipe; 3 can",
    )


def test_a_recipe_at_chance_is_no_finding():
    recipe = suite_of(0.5).recipe  # the level of shuffled labels
    assert recipe is not None
    assert recipe.verdict is Verdict.INVALID
    assert "retrained against @shuffled_labels" in recipe.reason


def with_a_bad_sae(retrained: float) -> pd.DataFrame:
    """The given SAE is at chance."""
    frame = with_retrained(retrained)
    worse = frame["arm"].isin(["trained", "permuted_decoder"])
    lost = 0.21 * (1 - 0.5 * (frame["metric"] == "auc"))
    return frame.assign(value=frame["value"].where(~worse, frame["value"] - lost))


def test_a_bad_sae_fails_where_its_recipe_shows_that_the_assay_could_tell():
    (suite,) = analyse(with_a_bad_sae(0.7), replace(design(), recipe="retrained"))
    assert suite.verdict is Verdict.WORSE
    off_floor = next(check for check in suite.gate if check.name == "off_floor")
    assert off_floor.passed
    assert off_floor.detail.startswith("answered by the recipe (retrained): retrained against @shuffled_labels: +")
    assert "; the SAE itself fails: trained against @shuffled_labels: -" in off_floor.detail
    assert suite.recipe is not None
    assert suite.recipe.verdict is Verdict.BEATS
    assert conclude([suite], target="my-sae", manifest=MANIFEST).exit_code == 1


def test_a_bad_sae_is_invalid_where_its_recipe_is_no_better():
    (suite,) = analyse(with_a_bad_sae(0.5), replace(design(), recipe="retrained"))
    assert suite.verdict is Verdict.INVALID
    assert "off_floor" in suite.reason


def test_a_recipe_vouches_for_no_sae_that_seems_to_win():
    """All baselines below chance, the SAE at chance: BEATS would be the floor's doing."""
    frame = with_a_bad_sae(0.7)
    random = ~frame["arm"].isin(["trained", "permuted_decoder", "retrained", "@shuffled_labels", "@dense_probe"])
    frame = frame.assign(value=frame["value"].where(~random, frame["value"] - 0.3))
    (suite,) = analyse(frame, replace(design(), recipe="retrained"))
    assert all(c.estimate.lo > 0 for c in suite.comparisons if c.required and c.estimate)
    assert suite.verdict is Verdict.INVALID


@pytest.mark.parametrize("above", [0.0, 0.01])
def test_a_recipe_vouches_for_no_sae_on_the_floor_that_is_like_its_baselines(above):
    """EQUIVALENT or NEGLIGIBLE to baselines that are on the floor as well: METHOD 4(d) knows no such finding."""
    frame = with_a_bad_sae(0.7)
    given = frame.loc[frame["arm"] == "trained"].set_index(["metric", "item", "cluster"])["value"]
    null = frame["arm"].isin(["random", "frozen_encoder@iso", "frozen_decoder@iso"])
    there = given.reindex(pd.MultiIndex.from_frame(frame[["metric", "item", "cluster"]])).to_numpy()
    luck = 0.001 * (frame["seed"] - 2)
    frame = frame.assign(value=frame["value"].where(~null, there - above + luck))
    (suite,) = analyse(frame, replace(design(), recipe="retrained"))
    assert all(c.estimate.lo > -0.02 and c.estimate.hi < 0.02 for c in suite.comparisons if c.required and c.estimate)
    assert suite.verdict is Verdict.INVALID
    assert {c.verdict for c in suite.comparisons} == {Verdict.INVALID}
    assert suite.recipe is not None
    assert suite.recipe.verdict is Verdict.BEATS
    assert {c.verdict for c in suite.recipe.comparisons} == {Verdict.BEATS}


def test_a_recipe_whose_own_gate_failed_has_no_verdict_against_any_baseline():
    recipe = suite_of(0.5).recipe
    assert recipe is not None
    assert {(c.verdict, c.reason) for c in recipe.comparisons} == {(Verdict.INVALID, "the assay could not have told")}
    assert all(c.estimate is not None for c in recipe.comparisons)


def worlds(suite, verdict=Verdict.BEATS):
    """A suite in worlds, which never holds the given SAE: it has no claim of a recipe beside its own."""
    return suite.model_copy(update={"suite": "synthetic", "recipe": None, "verdict": verdict, "votes": True})


@pytest.mark.parametrize("given", [0.7, 0.5])
def test_worlds_alone_do_not_pass_a_given_sae(given):
    """A policy that asks for worlds alone, beside suites that measured the SAE and only show it."""
    suite = suite_of(0.7) if given == 0.7 else analyse(with_a_bad_sae(0.7), replace(design(), recipe="retrained"))[0]
    shown = suite.model_copy(update={"votes": False})
    report = conclude([shown, worlds(suite)], target="my-sae", manifest=MANIFEST)
    assert (report.verdict, report.exit_code, report.recipe) == ("INVALID", 4, "PASS")
    assert report.headline.startswith("No verdict on my-sae: no suite that votes measured the SAE itself.")


def test_worlds_alone_judge_a_recipe_where_nothing_else_was_measured():
    report = conclude([worlds(suite_of(0.7))], target="demo", manifest=MANIFEST)
    assert (report.verdict, report.recipe) == ("PASS", None)


def test_holm_of_worlds_that_alone_vote_is_of_the_recipe():
    shown = suite_of(0.7).model_copy(update={"votes": False})
    held = worlds(shown)
    adjusted = with_holm([shown, held])
    assert [each.p_holm for each in adjusted] == [None, held.p]


def test_a_recipe_vouches_for_nothing_but_the_quality_of_the_sae():
    own = [GateCheck(name="complete", passed=False, detail="3 % missing")]
    assert vouched(own, [own[0].model_copy(update={"passed": True})], recipe="retrained") == tuple(own)


def test_broken_controls_that_do_not_lose_silence_the_recipe():
    frame = with_retrained(0.7)
    frame = frame.assign(value=frame["value"].where(frame["arm"] != "permuted_encoder", frame["value"] + 0.3))
    (suite,) = analyse(frame, replace(design(), recipe="retrained"))
    assert suite.recipe is not None
    assert suite.recipe.verdict is Verdict.INVALID
    assert "retrained not above permuted_encoder" in suite.recipe.reason


def test_recipes_are_a_family_of_their_own_for_holm():
    suites = [suite_of(level, rng=i) for i, level in enumerate((0.7, 0.66))]
    adjusted = with_holm(suites)
    found = [s.recipe.p_holm for s in adjusted if s.recipe]
    assert found == pytest.approx(list(holm([s.recipe.p or 0.0 for s in suites if s.recipe])))


def test_recipes_that_nobody_measured_are_not_said_to_pass():
    suite = suite_of(0.7)
    report = conclude([suite], target="rel", manifest=MANIFEST, incomplete=["layer_2"])
    assert report.recipe == "INVALID"


def test_a_suite_that_could_not_tell_says_nothing_of_the_recipe_either():
    frame = with_retrained(0.7)
    (suite,) = analyse(frame.loc[frame["arm"] != "permuted_encoder"], replace(design(), recipe="retrained"))
    assert suite.recipe is not None
    assert (suite.verdict, suite.recipe.verdict) == (Verdict.INVALID, Verdict.INVALID)


def test_without_a_given_sae_there_is_one_claim():
    (suite,) = analyse(scores(trained_seeds=3), design())
    report = conclude([suite], target="demo", manifest=MANIFEST)
    assert (suite.recipe, report.recipe, report.claim) == (None, None, "recipe")


def test_holm_counts_the_suites_of_all_saes():
    suites = [analyse(scores(level, rng=i), design())[0] for i, level in enumerate((0.7, 0.64, 0.63))]
    adjusted = [suite.p_holm for suite in with_holm(suites)]
    assert adjusted == pytest.approx(list(holm([suite.p or 0.0 for suite in suites])))
    assert adjusted != [suite.p_holm for suite in suites]


def test_an_sae_that_could_not_be_checked_leaves_the_check_incomplete():
    (suite,) = analyse(scores(), design())
    suite = suite.model_copy(update={"subject": "layer_1"})
    skip = Skip(what="layer_2", reason="a transcoder")
    whole = conclude([suite], target="rel", manifest=MANIFEST)
    assert whole.headline == "rel beats every required random baseline in every suite (layer_1: probing)."
    report = conclude([suite], target="rel", manifest=MANIFEST, skipped=[skip], incomplete=["layer_2"])
    assert (report.verdict, report.exit_code) == ("INVALID", 4)
    assert report.headline == "No verdict on rel: not checked: layer_2."


def test_a_failure_stands_though_the_check_is_incomplete():
    (suite,) = analyse(scores(), design())
    suite = suite.model_copy(update={"verdict": Verdict.WORSE})
    assert conclude([suite], target="rel", manifest=MANIFEST, incomplete=["x"]).verdict == "FAIL"


def test_the_report_shows_both_claims_and_the_recipe_s_sources():
    suite = suite_of(0.7).model_copy(update={"subject": "layer_1"})
    report = conclude([suite], target="rel", manifest=MANIFEST)
    out = io.StringIO()
    render_text(report, Console(file=out, width=100))
    text = out.getvalue()
    for line in ("layer_1: probing", "recipe (retrained): BEATS", "retrained minus", "k: 32 (cfg.json)"):
        assert line in text
    assert from_json(to_json(report)) == report
