from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from gate_reports import kinds, report, since, suite
from hostile_names import NASTY, renamed

from sae_sanity.results.decision import Decision
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.policy import Policy
from sae_sanity.results.report.junit import to_junit

REPORTS = kinds()
OUTCOMES = ("failure", "error", "skipped")


def parsed(one):
    return ET.fromstring(to_junit(one))  # noqa: S314  # our own text


def outcome(case):
    (found,) = [node.tag for node in case if node.tag in OUTCOMES] or ["passed"]
    return found


def cases(root, name):
    (node,) = [one for one in root if one.get("name") == name]
    return {case.get("name"): outcome(case) for case in node}


@pytest.mark.parametrize("kind", REPORTS)
def test_shape(kind):
    """The rules of Jenkins' junit-10.xsd and pytest's own that a report can break."""
    root = parsed(REPORTS[kind])
    assert root.tag == "testsuites"
    for node in root:
        assert node.tag == "testsuite"
        assert set(node.attrib) == {"name", "tests", "failures", "errors", "skipped"}
        for case in node:
            assert case.tag == "testcase"
            assert set(case.attrib) == {"classname", "name"}
            tags = [child.tag for child in case]
            assert tags in ([], ["properties"], *([one] for one in OUTCOMES), *(["properties", o] for o in OUTCOMES))
            for property_ in case.iter("property"):
                assert set(property_.attrib) == {"name", "value"}
            for child in case:
                assert child.tag == "properties" or set(child.attrib) == {"type", "message"}
        names = [case.get("name") for case in node]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", REPORTS)
def test_counts_add_up(kind):
    root = parsed(REPORTS[kind])
    for node in (root, *root):
        found = [outcome(case) for case in node.iter("testcase")]
        assert int(node.get("tests")) == len(found)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(node.get(attribute)) == found.count(tag)


@pytest.mark.parametrize("kind", REPORTS)
def test_red_exactly_where_the_decision_is_fail(kind):
    root = parsed(REPORTS[kind])
    red = int(root.get("failures")) + int(root.get("errors"))
    assert bool(red) == (REPORTS[kind].decision.action == "fail")


@pytest.mark.parametrize("kind", REPORTS)
def test_one_suite_per_suite_one_case_per_required_comparison_and_one_for_the_gate(kind):
    root, one = parsed(REPORTS[kind]), REPORTS[kind]
    assert [node.get("name") for node in root] == ["check", *(suite.label for suite in one.suites)]
    for suite_ in one.suites:
        wanted = ["assay gate", *(f"beats {c.baseline}" for c in suite_.comparisons if c.required)]
        assert list(cases(root, suite_.label)) == wanted
    assert cases(root, "check")["measured: autointerp"] == "skipped"


def test_failures_are_conclusions_and_errors_are_invalid():
    assert cases(parsed(REPORTS["fail"]), "bad") == {
        "assay gate": "passed",
        "beats random": "failure",
        "beats frozen_encoder@iso": "failure",
    }
    blind = cases(parsed(REPORTS["invalid"]), "blind")
    assert blind == {"assay gate": "error", "beats random": "skipped", "beats frozen_encoder@iso": "skipped"}
    assert set(cases(parsed(REPORTS["invalid, warn"]), "blind").values()) == {"skipped"}


def test_inconclusive_is_a_failure_unless_the_policy_only_warns():
    assert cases(parsed(REPORTS["inconclusive"]), "unsure")["beats frozen_encoder@iso"] == "failure"
    root = parsed(REPORTS["inconclusive, warn"])
    assert cases(root, "unsure")["beats frozen_encoder@iso"] == "skipped"
    messages = [node.get("message") for node in root.iter("skipped")]
    assert any("INCONCLUSIVE" in message and "the policy only warns" in message for message in messages)


def test_a_suite_without_a_vote_is_skipped_and_says_why():
    root = parsed(REPORTS["no vote"])
    assert cases(root, "bad")["beats frozen_encoder@iso"] == "skipped"
    assert cases(root, "good") == dict.fromkeys(cases(root, "good"), "passed")
    assert any("the policy requires other suites" in node.get("message") for node in root.iter("skipped"))


def test_an_unmatched_comparison_is_an_error_and_the_gate_is_not():
    one = suite("good")
    rows = tuple(c.model_copy(update={"verdict": Verdict.INVALID, "reason": "L0 unmatched"}) for c in one.comparisons)
    found = cases(parsed(report(one.model_copy(update={"verdict": Verdict.INVALID, "comparisons": rows}))), "good")
    assert found == {"assay gate": "passed", "beats random": "error", "beats frozen_encoder@iso": "error"}


def test_a_suite_that_compared_nothing_is_an_error_of_its_gate():
    one = suite("good").model_copy(update={"verdict": Verdict.INVALID, "comparisons": (), "reason": "no rows"})
    root = parsed(report(one))
    assert cases(root, "good") == {"assay gate": "error"}
    assert next(root.iter("error")).get("message") == "no rows"


def compared(status, lo, hi, policy=None, votes=True):
    """A report whose only suite stands so against an earlier run."""
    good = suite("good", votes=votes)
    found = since(good)
    (pair,) = found.comparisons
    numbers = pair.comparison.estimate.model_copy(update={"lo": lo, "hi": hi})
    one = pair.comparison.model_copy(update={"verdict": Verdict(status), "estimate": numbers, "margin": 0.02})
    made = found.model_copy(update={"comparisons": (pair.model_copy(update={"comparison": one}),)})
    whole = report(good, suite("also"), policy=policy, since=made)
    decision = Decision(action="fail") if policy is None else Decision(action="warn")
    return parsed(whole.model_copy(update={"decision": decision}))


@pytest.mark.parametrize(
    ("status", "lo", "hi", "told"),
    [
        ("BEATS", 0.01, 0.05, "passed"),
        ("EQUIVALENT", -0.01, 0.01, "passed"),
        # Perhaps better by more than the margin, and not worse.
        ("INCONCLUSIVE", -0.01, 0.05, "passed"),
        ("INCONCLUSIVE", -0.05, 0.01, "failure"),
        ("INCONCLUSIVE", None, None, "failure"),
        ("WORSE", -0.05, -0.01, "failure"),
        ("INVALID", 0.01, 0.05, "error"),
    ],
)
def test_not_worse_passes_only_where_it_was_shown(status, lo, hi, told):
    name = "good: not worse than the last release"
    assert cases(compared(status, lo, hi), "check")[name] == told
    softened = "skipped" if told != "passed" else told
    assert cases(compared(status, lo, hi, Policy(on_regression="warn")), "check")[name] == softened
    assert cases(compared(status, lo, hi, votes=False), "check")[name] == softened


def test_worse_than_an_earlier_run_is_a_failure():
    assert cases(parsed(REPORTS["worse"]), "check") == {
        "decision": "failure",
        "good: not worse than the last release": "failure",
        "measured: autointerp": "skipped",
    }


@pytest.mark.parametrize("name", [*NASTY, "\x00\x08", "\ufffe\uffff", "\ud800", "<a>&\"'", "]]>", "\U0010ffff"])
def test_any_name_is_legal_xml(name):
    text = to_junit(renamed(REPORTS["fail"], name))
    ET.fromstring(text.encode("utf-8"))  # noqa: S314
    assert not re.search("[\x00-\x09\x0b-\x1f\ud800-\udfff\ufffe\uffff]", text)
