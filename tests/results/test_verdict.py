from __future__ import annotations

import itertools

import pytest

from sae_sanity.results.outcome import Verdict
from sae_sanity.results.verdict import EXIT_CODES, fold_comparisons, fold_suites, verdict_of

B, N, E, W, I, X = (  # noqa: E741
    Verdict.BEATS,
    Verdict.NEGLIGIBLE,
    Verdict.EQUIVALENT,
    Verdict.WORSE,
    Verdict.INCONCLUSIVE,
    Verdict.INVALID,
)


@pytest.mark.parametrize(
    ("lo", "hi", "verdict"),
    [
        pytest.param(0.001, 0.02, B, id="hi at the margin"),
        pytest.param(0.03, 0.04, B, id="beyond the margin"),
        pytest.param(0.001, 0.0199, N, id="above 0, short of the margin"),
        pytest.param(0.0, 0.0199, E, id="lo at 0"),
        pytest.param(0.0, 0.0, E, id="exactly equal"),
        pytest.param(-0.0199, 0.0, E, id="hi at 0"),
        pytest.param(-0.0199, 0.0199, E, id="just inside"),
        pytest.param(-0.02, 0.01, I, id="lo at minus the margin"),
        pytest.param(-0.01, 0.02, I, id="hi at the margin, lo below 0"),
        pytest.param(0.0, 0.02, I, id="lo at 0, hi at the margin"),
        pytest.param(-0.05, 0.0, I, id="hi at 0, lo far below"),
        pytest.param(-0.05, 0.05, I, id="wide"),
        pytest.param(-0.01, -1e-9, W, id="hi below 0"),
        pytest.param(-0.001, -0.0005, W, id="worse by less than the margin"),
        pytest.param(None, None, I, id="no interval"),
    ],
)
def test_boundaries(lo, hi, verdict):
    assert verdict_of(lo, hi, margin=0.02) is verdict


@pytest.mark.parametrize(("lo", "hi", "margin"), [(0.1, 0.0, 0.02), (float("nan"), 0.1, 0.02), (0.0, 0.1, 0.0)])
def test_what_is_no_interval_or_margin_is_refused(lo, hi, margin):
    with pytest.raises(ValueError):
        verdict_of(lo, hi, margin=margin)


@pytest.mark.parametrize(
    ("verdicts", "suite"),
    [
        ([B], B),
        ([B, B], B),
        ([B, N], N),
        ([B, I], I),
        ([N, I], N),
        ([E, N], E),
        ([W, E, N], W),
        ([B, X], X),
        ([W, X], X),
        ([I, X], X),
        ([], X),
    ],
)
def test_fold_comparisons(verdicts, suite):
    assert fold_comparisons(verdicts) is suite
    assert fold_comparisons(verdicts[::-1]) is suite


@pytest.mark.parametrize(
    ("verdicts", "check"),
    [
        ([B, B], "PASS"),
        ([B, I], "INCONCLUSIVE"),
        ([B, X], "INVALID"),
        ([I, X], "INVALID"),
        ([N, B], "FAIL"),
        ([E, X], "FAIL"),
        ([W, I], "FAIL"),
        ([], "INVALID"),
    ],
)
def test_fold_suites(verdicts, check):
    assert fold_suites(verdicts) == check


def test_only_beats_alone_ever_passes():
    for verdicts in itertools.product(Verdict, repeat=3):
        assert (fold_suites(verdicts) == "PASS") == (set(verdicts) == {B})
        assert (fold_comparisons(verdicts) is B) == (set(verdicts) == {B})


def test_exit_codes():
    assert EXIT_CODES == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}
