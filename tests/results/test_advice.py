from __future__ import annotations

import pytest

from sae_sanity.results.advice import advice, headline, suite_reason
from sae_sanity.results.outcome import Comparison, Estimate, GateCheck, RecipeClaim, SuiteResult, Verdict


def estimate(**changes):
    values = {
        "difference": 0.01,
        "lo": -0.01,
        "hi": 0.03,
        "standard_error": 0.01,
        "df": 9.0,
        "p_crossed": 0.2,
        "p_signflip": 0.2,
        "p_wilcoxon": 0.2,
        "p_tost": 0.2,
        "d_z": 0.3,
        "superiority": 0.6,
        "mde": 0.03,
        "clusters_needed": 24,
        "seeds_needed": 9,
        "n_clusters": 12,
        "n_trained": 3,
        "n_baseline": 5,
    }
    return Estimate(**(values | changes))


def comparison(verdict, *, reason="", numbers=None, required=True):
    return Comparison(
        metric="m",
        baseline="random",
        required=required,
        claim="recipe",
        margin=0.02,
        verdict=verdict,
        estimate=numbers or estimate(),
        reason=reason,
    )


def suite(verdict, *comparisons, gate=(), p_holm=0.01, name="probing"):
    return SuiteResult(
        suite=name,
        metric="m",
        verdict=verdict,
        reason="",
        p=0.01,
        p_holm=p_holm,
        unit="",
        note="",
        floor=None,
        chance=None,
        ceiling=None,
        arms=(),
        comparisons=comparisons,
        exploratory=(),
        gate=gate,
    )


I = Verdict.INCONCLUSIVE  # noqa: E741


@pytest.mark.parametrize(
    ("numbers", "line"),
    [
        ({}, "about 24 clusters (have 12) or 9 baseline seeds (have 5) would resolve a difference of 0.02"),
        ({"seeds_needed": None}, "about 24 clusters (have 12) would resolve a difference of 0.02"),
        ({"clusters_needed": None}, "about 9 baseline seeds (have 5) would resolve a difference of 0.02"),
        (
            {"clusters_needed": None, "seeds_needed": None},
            "neither more clusters (have 12) nor more baseline seeds (have 5) alone would resolve a difference of 0.02"
            " (detectable now: 0.03); more of both would",
        ),
        (
            {"mde": 0.015},
            "this run can see a difference of 0.02 (detectable 0.015), so the truth lies near 0 or the margin;"
            " only a clearly larger run would decide",
        ),
    ],
)
def test_an_inconclusive_comparison_says_how_large_a_run_would_decide(numbers, line):
    given = suite(I, comparison(I, numbers=estimate(**numbers)))
    assert advice([given]) == (f"probing vs random: INCONCLUSIVE; {line}.",)


def test_an_unknown_variance_says_what_to_measure():
    numbers = estimate(lo=None, hi=None, standard_error=None, df=None, p_crossed=None, mde=None, n_baseline=1)
    lines = advice([suite(I, comparison(I, numbers=numbers, reason="one baseline seed"))])
    assert "one baseline seed; measure at least two clusters and 5 baseline seeds" in lines[0]
    assert lines[1] == "A release verdict should rest on 5 or more baseline seeds; this run has 1."


@pytest.mark.parametrize("verdict", [Verdict.WORSE, Verdict.EQUIVALENT, Verdict.NEGLIGIBLE])
def test_a_conclusion_says_that_more_data_would_not_help(verdict):
    (line,) = advice([suite(verdict, comparison(verdict))])
    assert line.startswith(f"probing vs random: {verdict.value}; the SAE ")
    assert line.endswith("more data would not change that.")


def test_a_pass_needs_no_advice_and_a_shown_baseline_gets_none():
    assert advice([suite(Verdict.BEATS, comparison(Verdict.BEATS), comparison(I, required=False))]) == ()


def test_holm_above_the_level_is_said():
    (line,) = advice([suite(Verdict.BEATS, comparison(Verdict.BEATS), p_holm=0.0625)])
    assert "p over all suites (Holm) is 0.062" in line


@pytest.mark.parametrize("verdict", [Verdict.EQUIVALENT, Verdict.WORSE, Verdict.NEGLIGIBLE, I])
def test_an_assay_that_could_not_have_told_compares_nothing(verdict):
    """A judge near chance finds everything EQUIVALENT, and more data would change that."""
    gate = (GateCheck(name="judge", passed=False, detail="the judge is near chance"),)
    recipe = RecipeClaim(
        arm="random", verdict=Verdict.INVALID, reason="", p=None, p_holm=None, comparisons=(comparison(verdict),)
    )
    given = suite(Verdict.INVALID, comparison(verdict), gate=gate).model_copy(update={"recipe": recipe})
    sound = suite(verdict, comparison(verdict), name="editing")
    lines = advice([given, sound])
    assert [line for line in lines if line.startswith("probing")] == [
        "probing: INVALID; judge: the judge is near chance."
    ]
    assert [line for line in lines if line.startswith("editing vs random")]


def test_every_failed_gate_check_is_named_once():
    gate = (GateCheck(name="range", passed=False, detail="too narrow"), GateCheck(name="seeds", passed=True, detail=""))
    given = suite(Verdict.INVALID, comparison(Verdict.BEATS), gate=gate)
    assert advice([given, given]) == ("probing: INVALID; range: too narrow.",)
    assert suite_reason(Verdict.INVALID, given.comparisons, gate) == "the assay could not have told: range: too narrow"


def test_a_reason_names_only_the_comparisons_that_decided():
    deciding, other = comparison(Verdict.EQUIVALENT), comparison(Verdict.BEATS)
    reason = suite_reason(Verdict.EQUIVALENT, [other, deciding], (), level=0.9)
    assert reason == "against random: EQUIVALENT (+0.010, 90 % interval -0.010 to +0.030, margin 0.02)"
    assert suite_reason(Verdict.INVALID, [], ()) == "no baseline is required, so there is nothing to beat"
    unmatched = comparison(Verdict.INVALID, reason="unmatched L0")
    assert suite_reason(Verdict.INVALID, [unmatched], ()) == "against random: INVALID (unmatched L0)"


@pytest.mark.parametrize(
    ("check", "verdicts", "sentence"),
    [
        ("PASS", [Verdict.BEATS] * 2, "x beats every required random baseline in every suite (a, b)."),
        ("FAIL", [Verdict.WORSE, Verdict.EQUIVALENT], "x does not beat random: WORSE in a; EQUIVALENT in b."),
        ("INVALID", [Verdict.INVALID, I], "No verdict on x: the assay could not have told (a)."),
        ("INVALID", [], "No verdict on x: the assay could not have told (no suite was measured)."),
        ("INCONCLUSIVE", [Verdict.BEATS, I], "x is not yet shown to beat random: undecided in b."),
    ],
)
def test_headline(check, verdicts, sentence):
    suites = [suite(verdict, name=name) for verdict, name in zip(verdicts, "ab", strict=False)]
    assert headline(check, suites, target="x") == sentence
