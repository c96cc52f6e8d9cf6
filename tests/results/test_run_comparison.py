"""Two runs compared: which suites, whether the assay can tell, what is refused, what the exit code says."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from synthetic_scores import SUITE, design, facts, scores

from sae_sanity.results.decision import RunComparison, SuiteComparison
from sae_sanity.results.outcome import Comparison, Estimate, Verdict
from sae_sanity.results.run_comparison import NotComparable, RunScores, compare_runs, exit_code_of

AUC = replace(SUITE, suite="other")


def run(name, frame, *suites, subject="", known=(), **changes):
    return RunScores(name, design(*suites, facts=known, **changes), frame, subject)


def compared(mine, other, **options):
    return compare_runs([(mine, other)], ours=mine.name, theirs=other.name, n_resamples=99, **options)


def verdict(found):
    return found.comparisons[0].comparison.verdict


def test_a_run_against_itself_is_the_same():
    frame = scores()
    found = compared(run("a", frame), run("b", frame))
    one = found.comparisons[0].comparison
    assert (one.verdict, one.estimate.difference, one.baseline) == (Verdict.EQUIVALENT, 0, "b")
    assert exit_code_of(found) == 0


def test_a_worse_sae_is_worse_and_a_better_one_better():
    old, new = run("old", scores(0.7)), run("new", scores(0.64))
    assert verdict(compared(new, old)) is Verdict.WORSE
    assert exit_code_of(compared(new, old)) == 1
    assert verdict(compared(old, new)) is Verdict.BEATS
    assert exit_code_of(compared(old, new)) == 0


def test_an_sae_that_fell_to_the_floor_is_worse_and_not_invalid():
    """Its own gate fails, but the assay told in the other run."""
    broken = scores(0.5)
    assert verdict(compared(run("new", broken), run("old", scores(0.7)))) is Verdict.WORSE


def test_an_sae_that_is_as_bad_in_both_runs_was_told_from_nothing():
    found = compared(run("a", scores(0.5)), run("b", scores(0.5)))
    assert verdict(found) is Verdict.INVALID
    assert "assay gate, in both runs; in a: controls" in found.comparisons[0].comparison.reason
    assert exit_code_of(found) == 4


def without(arm):
    frame = scores(0.7)
    return frame[frame["arm"] != arm]


def moved(arm, by, *, seed=None):
    frame = scores(0.7)
    at = frame["arm"].eq(arm) & (True if seed is None else frame["seed"].eq(seed))
    return frame.assign(value=frame["value"] + by * at)


def spread(arm, step):
    frame = scores(0.7)
    return frame.assign(value=frame["value"] + step * (frame["seed"] - 2) * frame["arm"].eq(arm))


BROKEN = [
    pytest.param(without("@dense_probe"), "range", id="no ceiling"),
    pytest.param(spread("random", 0.12), "range", id="seeds far apart"),
    pytest.param(moved("random", 0.2, seed=1), "seeds", id="a random seed that wins"),
    pytest.param(moved("permuted_decoder", 1e-6), "controls", id="a control that must change nothing"),
    pytest.param(without("permuted_encoder"), "controls", id="a control that nobody measured"),
    pytest.param(without("@shuffled_labels"), "off_floor", id="no chance"),
]


@pytest.mark.parametrize(("frame", "check"), BROKEN)
@pytest.mark.parametrize("ours", [True, False])
def test_an_assay_that_is_broken_in_one_run_is_no_fault_of_its_sae(frame, check, ours):
    broken, sound = run("broken", frame), run("sound", scores(0.7))
    found = compared(*((broken, sound) if ours else (sound, broken)))
    one = found.comparisons[0].comparison
    assert one.verdict is Verdict.INVALID
    assert one.reason.startswith(f"assay gate in broken: {check}: ")
    assert one.estimate is not None
    assert exit_code_of(found) == 4


def test_a_broken_control_that_must_change_nothing_is_not_hidden_by_one_that_does_not_lose():
    frame = scores(0.5)
    at = frame["arm"].eq("permuted_decoder")
    both = compared(run("new", frame.assign(value=frame["value"] + 1e-6 * at)), run("old", scores(0.7)))
    assert verdict(both) is Verdict.INVALID
    assert both.comparisons[0].comparison.reason.startswith("assay gate in new: controls: ")


@pytest.mark.parametrize(("ours", "theirs"), [(0.02, 0.5), (0.5, 0.02)])
def test_different_margins_are_told_and_the_smaller_one_counts(ours, theirs):
    """Whichever run is named first; the wide one would have called a loss of .1 equivalent."""
    frame = scores()
    found = compared(run("a", frame, margin=ours), run("b", frame, margin=theirs))
    assert found.comparisons[0].comparison.margin == 0.02
    assert found.notes == (f"probing: margin is {ours:g} in a and {theirs:g} in b; compared by the smaller",)
    assert compared(run("a", frame), run("b", frame)).notes == ()


def test_references_that_differ_are_other_data():
    other = scores(_dense_probe=0.8)
    with pytest.raises(NotComparable, match=r"@dense_probe, which reads no SAE, is 0\.894") as caught:
        compared(run("a", scores()), run("b", other))
    assert "\n" not in str(caught.value)


def test_references_with_other_items_are_other_data():
    frame = scores()
    keep = ~(frame["arm"].eq("@shuffled_labels") & frame["cluster"].eq("c00"))
    with pytest.raises(NotComparable, match=r"36 items.*33 items"):
        compared(run("a", frame), run("b", frame[keep]))


def test_a_suite_that_only_one_has_is_a_line():
    both = pd.concat([scores(), scores(suite="other")], ignore_index=True)
    found = compared(run("a", both, SUITE, AUC), run("b", scores()))
    assert [each.suite for each in found.comparisons] == ["probing"]
    assert found.skipped == ("other: only in a",)


def test_suites_can_be_chosen():
    both = pd.concat([scores(), scores(suite="other")], ignore_index=True)
    a, b = run("a", both, SUITE, AUC), run("b", both, SUITE, AUC)
    assert [each.suite for each in compared(a, b).comparisons] == ["probing", "other"]
    assert [each.suite for each in compared(a, b, suites=("other",)).comparisons] == ["other"]


def test_another_primary_metric_and_missing_rows_are_lines():
    frame = scores()
    found = compared(run("a", frame, metric="auc"), run("b", frame))
    assert found.comparisons == ()
    assert "its primary metric is auc in a and accuracy in b" in found.skipped[0]
    assert exit_code_of(found) == 4
    bare = compared(run("a", frame[frame["arm"] != "trained"]), run("b", frame))
    assert bare.skipped == ("probing: no scores of the SAE under test in a",)


def test_steps_of_an_interview_that_was_stopped_are_not_compared():
    frame = scores()
    steps = frame[frame["arm"].eq("trained") & frame["metric"].eq("accuracy")].assign(metric="step")
    found = compared(run("a", pd.concat([frame, steps])), run("b", frame))
    assert found.comparisons == ()
    assert "step by step" in found.skipped[0]


def test_saes_of_a_check_of_several_have_their_names():
    frame = scores()
    found = compared(run("a", frame, subject="layer_1"), run("b", frame, subject="layer_1"))
    assert found.comparisons[0].suite == "layer_1: probing"


def test_other_sparsity_is_told():
    frame = scores()
    known = facts(frame)
    found = compared(run("a", frame, known=facts(frame, off=("trained",))), run("b", frame, known=known))
    assert found.notes == ("L0 is 30 in a and 20 in b: more latents are an advantage",)
    assert compared(run("a", frame, known=known), run("b", frame, known=known)).notes == ()


def one(verdict_, lo=None, hi=None):
    numbers = dict.fromkeys(Estimate.model_fields) | {"difference": 0.0, "superiority": 0.5, "lo": lo, "hi": hi}
    estimate = Estimate.model_validate(numbers | {"n_clusters": 9, "n_trained": 1, "n_baseline": 1})
    fields = {"metric": "m", "baseline": "b", "required": True, "claim": "artefact", "margin": 0.02}
    return SuiteComparison(suite="s", comparison=Comparison(**fields, verdict=verdict_, estimate=estimate))


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([("BEATS", 0.01, 0.05)], 0),
        ([("EQUIVALENT", -0.01, 0.01), ("NEGLIGIBLE", 0.001, 0.01)], 0),
        ([("INCONCLUSIVE", -0.01, 0.05)], 0),
        ([("INCONCLUSIVE", -0.03, 0.05)], 3),
        ([("INCONCLUSIVE", None, None)], 3),
        ([("WORSE", -0.03, -0.01), ("INVALID", None, None)], 1),
        ([("INVALID", None, None), ("BEATS", 0.01, 0.05)], 4),
        ([], 4),
    ],
)
def test_exit_codes(parts, code):
    found = RunComparison(ours="a", theirs="b", comparisons=tuple(one(*part) for part in parts))
    assert exit_code_of(found) == code
