"""From an interval to a verdict, from comparisons to a suite, from suites to a check."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Literal

from .outcome import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .decision import Decision

CheckVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
ExitCode = Literal[0, 1, 3, 4]

EXIT_CODES: dict[CheckVerdict, ExitCode] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3, "INVALID": 4}


def exit_code_of(verdict: CheckVerdict, decision: Decision) -> ExitCode:
    """Exit code of a check: that of its verdict, but 1 for a PASS that the policy stops all the same."""
    return 1 if verdict == "PASS" and decision.action == "fail" else EXIT_CODES[verdict]


FAILING = (Verdict.WORSE, Verdict.EQUIVALENT, Verdict.NEGLIGIBLE)
"""Verdicts that conclude against the SAE, the most damning first."""


def verdict_of(lo: float | None, hi: float | None, *, margin: float) -> Verdict:
    """Verdict of one comparison from its 1 − 2 alpha interval (METHOD section 5).

    Args:
        lo: Lower end; None where no interval is known.
        hi: Upper end.
        margin: Equivalence margin delta > 0.

    Returns:
        BEATS, NEGLIGIBLE, EQUIVALENT, WORSE or INCONCLUSIVE; INVALID comes from elsewhere.

    Raises:
        ValueError: If the margin is not positive or the interval is not an interval.
    """
    if not (isfinite(margin) and margin > 0):
        msg = f"margin must be a positive number, got {margin}"
        raise ValueError(msg)
    if lo is None or hi is None:
        return Verdict.INCONCLUSIVE
    if not lo <= hi:
        msg = f"[{lo}, {hi}] is not an interval"
        raise ValueError(msg)
    if lo > 0:
        return Verdict.BEATS if hi >= margin else Verdict.NEGLIGIBLE
    if hi < 0:
        return Verdict.WORSE
    return Verdict.EQUIVALENT if -margin < lo and hi < margin else Verdict.INCONCLUSIVE


def fold_comparisons(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of a suite from those of its required comparisons (intersection-union, Berger 1982).

    BEATS only if all BEAT; INVALID if any is; else the most damning conclusion; else INCONCLUSIVE. Nothing
    required means nothing beaten: INVALID.
    """
    if not verdicts or Verdict.INVALID in verdicts:
        return Verdict.INVALID
    if all(verdict is Verdict.BEATS for verdict in verdicts):
        return Verdict.BEATS
    return next((verdict for verdict in FAILING if verdict in verdicts), Verdict.INCONCLUSIVE)


def fold_suites(verdicts: Sequence[Verdict]) -> CheckVerdict:
    """Verdict of a check: PASS only if every suite BEATS; FAIL if any valid suite concluded otherwise.

    A failure stands whatever another suite could not tell; short of one, INVALID comes before INCONCLUSIVE.
    """
    if any(verdict in FAILING for verdict in verdicts):
        return "FAIL"
    if not verdicts or Verdict.INVALID in verdicts:
        return "INVALID"
    return "PASS" if all(verdict is Verdict.BEATS for verdict in verdicts) else "INCONCLUSIVE"
