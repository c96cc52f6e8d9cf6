"""The report as annotations of GitHub Actions: workflow commands on stdout, the verdict first.

GitHub keeps the first 10 errors, 10 warnings and 10 notices of a step, so a suite is one annotation with a line for
each of its required comparisons.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..outcome import Verdict
from ..run_comparison import exit_code_of
from .look import visible
from .words import decision_words, required_of, sentence, verdict_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..outcome import CheckReport, RunComparison, SuiteResult

LEVELS = {"pass": "notice", "warn": "warning", "fail": "error"}
"""Workflow command for each decision."""


def to_github(report: CheckReport) -> str:
    """A report as workflow commands.

    Args:
        report: What a check concluded.

    Returns:
        One line per annotation: `::error title=...::message`. The verdict with the decision and its reasons, each
        suite, and the comparison with an earlier run. No name can end a line, so none can start a command.
    """
    level = LEVELS[report.decision.action]
    first = (report.headline, f"Decision: {decision_words(report)}.", f"Exit code {report.exit_code}.")
    lines = [annotation(level, f"sae-sanity: {report.verdict}", first)]
    lines += [_suite(suite, level) for suite in report.suites]
    lines += [_since(report.since, level)] if report.since else []
    return "".join(f"{line}\n" for line in lines)


def annotation(level: str, title: str, lines: Iterable[str]) -> str:
    """One workflow command, without its line break.

    Args:
        level: `notice`, `warning` or `error`.
        title: Shown in bold.
        lines: Of the message; nothing in them is read as a command.
    """
    message = "%0A".join(_data(line) for line in lines)
    return f"::{level} title={_property(title)}::{message}"


def _suite(suite: SuiteResult, level: str) -> str:
    quiet = suite.verdict is Verdict.BEATS or not suite.votes
    title = f"{suite.label}: {verdict_words(suite)}"
    return annotation("notice" if quiet else level, title, _suite_lines(suite))


def _suite_lines(suite: SuiteResult) -> Iterator[str]:
    compared = required_of(suite)
    # First: what the comparisons say is worth nothing where the assay could not tell.
    yield from (f"gate: {check.name} failed: {check.detail}" for check in suite.gate if not check.passed)
    yield from map(sentence, compared)
    if not compared:
        yield suite.reason or "Nothing was compared."


def _since(since: RunComparison, level: str) -> str:
    held = exit_code_of(since) == 0
    lines = [f"{one.suite}: {sentence(one.comparison)}" for one in since.comparisons]
    title = f"{since.ours} minus {since.theirs}"
    return annotation("notice" if held else level, title, [*lines, *since.skipped, *since.notes])


def _data(text: str) -> str:
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
