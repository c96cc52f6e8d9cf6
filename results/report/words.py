"""Sentences that several formats share, so that a figure or a decision reads the same in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..compare import iut_p
from .forest import difference
from .numbers import decimals_for, number, p_value

if TYPE_CHECKING:
    from ..decision import LockStatus
    from ..outcome import CheckReport, Comparison, SuiteResult

SHOWN_ONLY = "shown only: the policy requires other suites"
"""What is said of a suite that does not vote."""

RELATIVE = (
    "BEATS: better than there; WORSE: worse; EQUIVALENT: no different, to within the margin; "
    "NEGLIGIBLE: better by less than the margin."
)
"""What the verdicts mean where a run is held against an earlier one."""

PLAN_BEFORE, PLAN_AFTERWARDS = "Registered as", "Held afterwards against"
"""What stands before the hash of a plan that the run knew, and of one that it did not know."""

_THE_VERDICT = "the check is "


def margin_words(comparison: Comparison) -> str:
    """`±0.020`, with the decimals of the comparison's figures."""
    return f"±{number(comparison.margin, decimals_for(comparison.margin))}"


def p_words(comparison: Comparison) -> str:
    """The p as it enters the verdict of the suite."""
    return p_value(None if comparison.estimate is None else iut_p(comparison.estimate))


def figures(comparison: Comparison) -> str:
    """`+0.061 [+0.038, +0.084], margin ±0.020, p 0.001`."""
    numbers = difference(comparison.estimate, decimals_for(comparison.margin))
    return f"{numbers}, margin {margin_words(comparison)}, p {p_words(comparison)}"


def sentence(comparison: Comparison) -> str:
    """A comparison on one line: arm, verdict, figures, and why where that is no ordinary verdict."""
    why = f" ({comparison.reason})" if comparison.reason else ""
    return f"{comparison.baseline}: {comparison.verdict}: {figures(comparison)}{why}"


def required_of(suite: SuiteResult) -> tuple[Comparison, ...]:
    """The comparisons that the suite's verdict needs."""
    return tuple(comparison for comparison in suite.comparisons if comparison.required)


def verdict_words(suite: SuiteResult) -> str:
    """The suite's verdict, marked where it does not vote."""
    return suite.verdict.value if suite.votes else f"{suite.verdict} (shown only)"


def plan_words(lock: LockStatus) -> str:
    """What stands before the hash of a registered plan: whether the run knew it."""
    return PLAN_BEFORE if lock.before else PLAN_AFTERWARDS


def decision_words(report: CheckReport) -> str:
    """`warn: the check is INCONCLUSIVE (policy: on_inconclusive = warn)`."""
    decision = report.decision
    return f"{decision.action}: {'; '.join(decision.reasons)}" if decision.reasons else decision.action


def says_more_than_the_verdict(report: CheckReport) -> bool:
    """Whether the decision is not just what follows from the verdict where no policy says otherwise."""
    other = [reason for reason in report.decision.reasons if not reason.startswith(_THE_VERDICT)]
    return report.decision.action == "warn" or bool(other)
