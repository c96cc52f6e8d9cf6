"""What a project asks of its SAEs before a release, fixed before the run: the table `policy` of its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .decision import Decision
from .regression import what_speaks_against

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .decision import Action, LockStatus, RunComparison
    from .outcome import Skip
    from .verdict import CheckVerdict

Response = Literal["fail", "warn"]

UNMET = "policy.baselines requires it, but nothing was judged against it"
"""Why an arm is among what was not measured, where a policy asks for it and it does not exist for the architecture."""


class Policy(BaseModel):
    """What a check must show, and what follows where it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    suites: tuple[str, ...] = ()
    """Suites that must BEAT; others that are run are shown beside them. Empty: every suite that is run."""
    baselines: tuple[str, ...] = ()
    """Arms that must be beaten in every suite, beside those that are a null for what the suite reads anyway."""
    margins: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Equivalence margin by suite, in score units, instead of the suite's own."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Fewest seeds of every trained arm."""
    random_seeds: Annotated[int, Field(ge=3)] = 3
    """Fewest seeds of every arm that is not trained."""
    on_inconclusive: Response = "fail"
    """What follows from INCONCLUSIVE (exit code 3 either way)."""
    on_invalid: Response = "fail"
    """What follows from INVALID or incomplete (exit code 4 either way)."""
    on_regression: Response = "fail"
    """What follows where a suite is not shown to be no worse than in the run named by --baseline-run."""
    lock: str = ""
    """File of the registered plan (`plan --lock`); empty for none."""
    require_lock: bool = False
    """Whether a run without a registered plan, or one that departs from it, is no pass."""

    def requires(self, suite: str) -> bool:
        """Whether the verdict of the check needs BEATS in this suite."""
        return not self.suites or suite in self.suites

    def margin(self, suite: str, default: float) -> float:
        """Equivalence margin of a suite."""
        return self.margins.get(suite, default)


def decide(
    policy: Policy,
    verdict: CheckVerdict,
    *,
    lock: LockStatus | None = None,
    since: RunComparison | None = None,
    voting: Sequence[str] | None = None,
    skipped: Sequence[Skip] = (),
) -> Decision:
    """What a gate should do.

    Args:
        policy: What the project asks.
        verdict: Of the check.
        lock: The registered plan and where the run departed from it; None where there is none.
        since: Comparison with an earlier run; None without one.
        voting: Labels of the suites whose getting worse counts; all of them where it is None.
        skipped: What was not measured; an arm that the policy requires is at least a warning.

    Returns:
        The severest of what follows from each of them, with a line for each. FAIL is always `fail`.
    """
    found = [
        *_from_verdict(policy, verdict),
        *_from_regression(policy, since, voting),
        *_from_lock(policy, lock),
        *_from_left_out(skipped),
    ]
    return Decision(action=_severest([action for action, _ in found]), reasons=tuple(reason for _, reason in found))


def _severest(actions: Sequence[str]) -> Action:
    if "fail" in actions:
        return "fail"
    return "warn" if "warn" in actions else "pass"


def _from_verdict(policy: Policy, verdict: CheckVerdict) -> list[tuple[Action, str]]:
    if verdict == "PASS":
        return []
    answers: dict[CheckVerdict, Action] = {"INCONCLUSIVE": policy.on_inconclusive, "INVALID": policy.on_invalid}
    named = f" (policy: on_{verdict.lower()} = {answers[verdict]})" if verdict in answers else ""
    return [(answers.get(verdict, "fail"), f"the check is {verdict}{named}")]


def _from_regression(
    policy: Policy, since: RunComparison | None, voting: Sequence[str] | None
) -> list[tuple[Action, str]]:
    """Whatever leaves open that a voting suite got worse, a comparison that could not be made among it."""
    if since is None:
        return []
    counting = [each for each in since.comparisons if voting is None or each.suite in voting]
    return [(policy.on_regression, line) for line in what_speaks_against(counting, since.theirs)]


def _from_lock(policy: Policy, lock: LockStatus | None) -> list[tuple[Action, str]]:
    action: Action = "fail" if policy.require_lock else "warn"
    late = "" if lock is None else "; it was held against one only afterwards"
    found: list[tuple[Action, str]] = []
    if policy.require_lock and (lock is None or not lock.before):
        found = [(action, f"no plan was registered before the run{late}")]
    departures = lock.departures if lock else ()
    return [*found, *((action, f"departed from the registered plan: {line}") for line in departures)]


def _from_left_out(skipped: Sequence[Skip]) -> list[tuple[Action, str]]:
    """Arms that the policy requires and that were never judged against: no PASS without a word."""
    return [("warn", f"{skip.what}: {skip.reason}") for skip in skipped if skip.reason == UNMET]
