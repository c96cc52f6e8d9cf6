"""When one SAE is shown to be no worse than another, and when it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .comparison import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .comparison import Comparison
    from .decision import SuiteComparison


def not_worse(one: Comparison) -> bool:
    """Whether the interval lies above minus the margin, in an assay that could have told."""
    lo = one.estimate.lo if one.estimate else None
    return one.verdict not in (Verdict.WORSE, Verdict.INVALID) and lo is not None and lo > -one.margin


def code_of(compared: Sequence[SuiteComparison]) -> Literal[0, 1, 3, 4]:
    """1 where a suite is WORSE; 4 where one is INVALID or none could be paired; 3 where one may be worse by the margin.

    0 otherwise: every 90 % interval lies above minus the margin. So an interval that reaches beyond +margin but not
    beyond −margin, INCONCLUSIVE as a difference, is still not worse.
    """
    verdicts = [each.comparison.verdict for each in compared]
    if Verdict.WORSE in verdicts:
        return 1
    if not verdicts or Verdict.INVALID in verdicts:
        return 4
    return 0 if all(not_worse(each.comparison) for each in compared) else 3


def what_speaks_against(compared: Sequence[SuiteComparison], theirs: str) -> tuple[str, ...]:
    """Why an SAE is not shown to be no worse than another, one line for each kind; empty where `code_of` is 0.

    Args:
        compared: The suites that count.
        theirs: What the other is called.
    """
    if not compared:
        return (f"no suite that counts could be compared with {theirs}",)
    open_yet = [each for each in compared if not not_worse(each.comparison)]
    kinds = {
        f"worse than {theirs} in": [each for each in open_yet if each.comparison.verdict is Verdict.WORSE],
        f"not comparable with {theirs} (INVALID) in": [
            each for each in open_yet if each.comparison.verdict is Verdict.INVALID
        ],
    }
    told = [each for found in kinds.values() for each in found]
    kinds[f"may be worse than {theirs} by the margin in"] = [each for each in open_yet if each not in told]
    return tuple(f"{what} {', '.join(each.suite for each in found)}" for what, found in kinds.items() if found)
