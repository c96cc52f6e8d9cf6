"""The report as JUnit XML, for the test pages of GitLab, Jenkins and others.

One test suite per suite: a case for the assay gate and one for each required comparison. A page is red exactly where
the decision is `fail`: what the policy lets pass with a warning is skipped, with the reason as its message.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..outcome import Verdict
from ..run_comparison import exit_code_of
from .look import visible
from .panels import gate_words
from .words import SHOWN_ONLY, decision_words, figures, required_of, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..decision import RunComparison, SuiteComparison
    from ..outcome import CheckReport, Comparison, SuiteResult

Status = Literal["passed", "failure", "error", "skipped"]

COUNTED: Mapping[str, Status] = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Attributes of a test suite, and the cases that each counts."""

# What XML 1.0 cannot hold, not even as a reference, and `visible` leaves: noncharacters.
_NO_XML = re.compile("[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """One test case."""

    name: str
    """What was asked."""
    status: Status = "passed"
    """How it came out."""
    kind: str = ""
    """Verdict word, the `type` of what went wrong."""
    message: str = ""
    """One line saying why it did not pass."""
    properties: tuple[tuple[str, str], ...] = ()
    """Figures, as printed elsewhere."""


def to_junit(report: CheckReport) -> str:
    """A report as JUnit XML.

    Args:
        report: What a check concluded.

    Returns:
        XML 1.0 with a declaration and a trailing newline: `testsuites` with the test suite `check` (the decision, the
        registered plan, an earlier run, what was not measured), then one per suite. Counts of failures, errors and
        skipped cases add up. There are no times: a report is no run.
    """
    soft = report.decision.action != "fail"
    suites = [("check", tuple(_check_cases(report, soft)))]
    suites += [(suite.label, tuple(_suite_cases(suite, soft))) for suite in report.suites]
    root = ET.Element("testsuites", {"name": "sae-sanity"} | _counts(case for _, cases in suites for case in cases))
    for name, cases in suites:
        root.append(_testsuite(name, cases))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _check_cases(report: CheckReport, soft: bool) -> Iterator[Case]:
    status: dict[str, Status] = {"pass": "passed", "warn": "skipped", "fail": "failure"}
    yield Case(
        "decision",
        status[report.decision.action],
        report.verdict,
        decision_words(report),
        (
            *(("target", report.target), ("verdict", report.verdict), ("exit_code", str(report.exit_code))),
            ("config_hash", report.manifest.config_hash),
        ),
    )
    yield from _since_cases(report, soft)
    for skip in report.skipped:
        yield Case(f"measured: {skip.what}", "skipped", "not measured", skip.reason)


def _since_cases(report: CheckReport, soft: bool) -> Iterator[Case]:
    if report.since is None:
        return
    shown = {suite.label for suite in report.suites if not suite.votes}
    for one in report.since.comparisons:
        name = f"{one.suite}: not worse than {one.comparison.baseline}"
        told = one.comparison.verdict, sentence(one.comparison), _properties(one.comparison)
        case = Case(name, _since_status(report.since, one), *told)
        yield _lenient(case, votes=one.suite not in shown, soft=soft)


def _since_status(since: RunComparison, one: SuiteComparison) -> Status:
    """Passed only where it was shown to be not worse: no verdict and too little data show nothing."""
    code = exit_code_of(since.model_copy(update={"comparisons": (one,)}))
    return "passed" if code == 0 else "error" if code == 4 else "failure"


def _suite_cases(suite: SuiteResult, soft: bool) -> Iterator[Case]:
    told = all(check.passed for check in suite.gate)
    for case in (_gate_case(suite, told), *(_comparison_case(one, told) for one in required_of(suite))):
        yield _lenient(case, votes=suite.votes, soft=soft)


def _gate_case(suite: SuiteResult, told: bool) -> Case:
    properties = tuple((c.name, f"{'pass' if c.passed else 'FAIL'}: {c.detail}") for c in suite.gate)
    explained = any(one.verdict is Verdict.INVALID for one in required_of(suite))
    if told and (suite.verdict is not Verdict.INVALID or explained):
        return Case("assay gate", properties=properties)
    return Case("assay gate", "error", "INVALID", suite.reason or gate_words(suite), properties)


def _comparison_case(one: Comparison, told: bool) -> Case:
    name, properties = f"beats {one.baseline}", _properties(one)
    if not told:
        message = f"the assay could not have told; {sentence(one)}"
        return Case(name, "skipped", Verdict.INVALID, message, properties)
    if one.verdict is Verdict.BEATS:
        return Case(name, kind=one.verdict, properties=properties)
    status: Status = "error" if one.verdict is Verdict.INVALID else "failure"
    return Case(name, status, one.verdict, sentence(one), properties)


def _lenient(case: Case, *, votes: bool, soft: bool) -> Case:
    """The case as skipped where the policy does not stop for it."""
    if case.status == "passed" or (votes and not soft):
        return case
    why = "the policy only warns" if votes else SHOWN_ONLY
    return Case(case.name, "skipped", case.kind, f"{case.message} ({why})", case.properties)


def _properties(one: Comparison) -> tuple[tuple[str, str], ...]:
    return (("verdict", one.verdict), ("metric", one.metric), ("figures", figures(one)))


def _counts(cases: Iterable[Case]) -> dict[str, str]:
    found = [case.status for case in cases]
    return {"tests": str(len(found))} | {name: str(found.count(status)) for name, status in COUNTED.items()}


def _testsuite(name: str, cases: tuple[Case, ...]) -> ET.Element:
    node = ET.Element("testsuite", {"name": _xml(name)} | _counts(cases))
    for case in cases:
        node.append(_testcase(name, case))
    return node


def _testcase(suite: str, case: Case) -> ET.Element:
    node = ET.Element("testcase", {"classname": _xml(f"sae-sanity.{suite}"), "name": _xml(case.name)})
    if case.properties:
        holder = ET.SubElement(node, "properties")
        for name, value in case.properties:
            ET.SubElement(holder, "property", {"name": _xml(name), "value": _xml(value)})
    if case.status == "skipped":
        ET.SubElement(node, "skipped", {"type": _xml(case.kind), "message": _xml(case.message)})
    elif case.status != "passed":
        ET.SubElement(node, case.status, {"type": _xml(case.kind), "message": _xml(case.message)}).text = _xml(
            case.message
        )
    return node


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", visible(text))
