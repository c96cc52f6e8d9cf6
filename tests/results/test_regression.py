"""When an SAE is shown to be no worse than that of another run, and what a policy makes of it where it is not."""

from __future__ import annotations

import pytest

from sae_sanity.results.decision import RunComparison, SuiteComparison
from sae_sanity.results.outcome import Comparison, Estimate
from sae_sanity.results.policy import Policy, decide
from sae_sanity.results.regression import code_of, not_worse, what_speaks_against


def one(suite, verdict, lo=None, hi=None):
    numbers = dict.fromkeys(Estimate.model_fields) | {"difference": 0.0, "superiority": 0.5, "lo": lo, "hi": hi}
    estimate = Estimate.model_validate(numbers | {"n_clusters": 9, "n_trained": 1, "n_baseline": 1})
    fields = {"metric": "m", "baseline": "v1", "required": True, "claim": "artefact", "margin": 0.02}
    return SuiteComparison(suite=suite, comparison=Comparison(**fields, verdict=verdict, estimate=estimate))


WORSE = one("a", "WORSE", -0.03, -0.01)
SLIGHTLY = one("b", "WORSE", -0.01, -0.001)
INVALID = one("c", "INVALID", -0.001, 0.001)
UNSURE = one("d", "INCONCLUSIVE", -0.03, 0.05)
UNKNOWN = one("e", "INCONCLUSIVE")
FINE = (one("f", "EQUIVALENT", -0.01, 0.01), one("g", "INCONCLUSIVE", -0.01, 0.05), one("h", "BEATS", 0.01, 0.05))

CASES = [
    ((WORSE, SLIGHTLY, *FINE), 1, ("worse than v1 in a, b",)),
    ((INVALID, *FINE), 4, ("not comparable with v1 (INVALID) in c",)),
    ((UNSURE, UNKNOWN, *FINE), 3, ("may be worse than v1 by the margin in d, e",)),
    ((), 4, ("no suite that counts could be compared with v1",)),
    (FINE, 0, ()),
    (
        (WORSE, INVALID, UNSURE),
        1,
        (
            "worse than v1 in a",
            "not comparable with v1 (INVALID) in c",
            "may be worse than v1 by the margin in d",
        ),
    ),
]


def against(*comparisons):
    return RunComparison(ours="v2", theirs="v1", comparisons=comparisons)


@pytest.mark.parametrize(("compared", "code", "lines"), CASES)
def test_a_line_for_each_kind_and_none_exactly_where_the_code_is_zero(compared, code, lines):
    assert code_of(compared) == code
    assert what_speaks_against(compared, "v1") == lines
    assert (code == 0) == (lines == ())


@pytest.mark.parametrize(("compared", "code", "lines"), CASES)
@pytest.mark.parametrize("response", ["fail", "warn"])
def test_a_policy_answers_whatever_is_not_shown_to_be_no_worse(compared, code, lines, response):
    decision = decide(Policy(on_regression=response), "PASS", since=against(*compared))
    assert decision.action == (response if code else "pass")
    assert decision.reasons == lines


def test_only_suites_that_vote_count():
    since = against(WORSE, *FINE)
    assert decide(Policy(), "PASS", since=since, voting=["f", "g"]).action == "pass"
    assert decide(Policy(), "PASS", since=since, voting=["a", "f"]).action == "fail"
    nothing = decide(Policy(), "PASS", since=since, voting=["elsewhere"])
    assert (nothing.action, nothing.reasons) == ("fail", ("no suite that counts could be compared with v1",))


def test_without_an_earlier_run_nothing_is_said():
    assert decide(Policy(), "PASS").reasons == ()


def test_an_assay_that_could_not_tell_shows_nothing_however_narrow_its_interval():
    assert not not_worse(INVALID.comparison)
