"""The policy by which a finished run is judged again: that of the command or its folder, before the run's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..results.outcome import Skip
from ..results.policy import UNMET, Policy
from .config import configured, find_file, merge, profile_defaults
from .errors import UsageError
from .record import SEVERAL, load_record, load_several

if TYPE_CHECKING:
    from ..results.design import SuiteDesign
    from .record import RunRecord


@dataclass(frozen=True)
class Ruling:
    """A policy that takes the place of the one that a run was made with."""

    policy: Policy
    """What is asked."""
    source: str
    """Where it is from, in words."""

    def over(self, record: RunRecord) -> RunRecord:
        """A record as this policy has it judged: which suites vote, what must be beaten, by which margins.

        What the run's own policy required stays required. Where the two policies differ, the notes of the report say
        by which one it was judged.

        Raises:
            UsageError: for a suite, a baseline or seeds that the policy asks for and the run was not made with.
        """
        stored = record.design.policy
        arms = _required(self.policy, record)
        _refuse_what_was_not_run(self.policy, record)
        _refuse_what_was_spared(record, self.policy, arms)
        suites = tuple(_ruled(suite, self.policy, stored, arms) for suite in record.design.suites)
        unmet = [Skip(what=arm, reason=UNMET) for arm in arms if arm not in _measured(record)]
        found = replace(
            record,
            design=replace(record.design, suites=suites, policy=self.policy),
            skipped=(*(skip for skip in record.skipped if skip.reason != UNMET), *unmet),
        )
        if _alike(self.policy, stored):
            return found
        note = f"judged by the policy of {self.source}, which is not the one that the run was made with"
        manifest = found.manifest.model_copy(update={"notes": (*found.manifest.notes, note)})
        return replace(found, manifest=manifest)

    def departures(self, record: RunRecord) -> list[str]:
        """What this policy has judged otherwise than the run's own, one line each.

        Raises:
            UsageError: as for `over`.
        """
        return [
            f"{old.suite}: {field} was {getattr(old, field)} in the run, judged with {getattr(new, field)}"
            for old, new in zip(record.design.suites, self.over(record).design.suites, strict=True)
            for field in ("margin", "votes", "required")
            if getattr(old, field) != getattr(new, field)
        ]


def ruling(folder: Path, config: Path | None, changes: Mapping[str, Any]) -> Ruling | None:
    """The policy that `report` judges by; None where neither the command nor the working directory has one.

    A file that is named rules with what its policy is, none included; that of the working directory only with a policy
    of its own. The environment has no say.

    Args:
        folder: Results folder, whose own policy is what single fields are changed of where no file rules.
        config: `--config`.
        changes: `--set`, by dotted name.

    Raises:
        UsageError: for a setting that is no field of the policy, or a file that cannot be used.
    """
    if wrong := next((name for name in changes if not name.startswith("policy.")), None):
        raise UsageError(f"--set is {wrong!r}; a finished run can only be judged by another policy: policy.FIELD=VALUE")
    path = config or find_file()
    values = configured(path) if path else {}
    if path is not None and (config is not None or "policy" in values):
        return Ruling(merge(values, changes).policy, f"{path} and --set" if changes else str(path))
    if not changes:
        return None
    # Its registered plan has been held against it already, and lies where the run was.
    own = stored_policy(folder).model_copy(update={"lock": ""})
    return Ruling(merge({"policy": own.model_dump()}, changes).policy, "--set")


def stored_policy(folder: Path) -> Policy:
    """The policy that a finished run was made with.

    Raises:
        UsageError: when the folder holds no finished run, or a damaged one.
    """
    if (folder / SEVERAL).is_file():
        return load_several(folder / SEVERAL).policy
    return load_record(folder).design.policy


def _refuse_what_was_not_run(policy: Policy, record: RunRecord) -> None:
    settings = record.manifest.settings
    asked = settings.get("suites")
    planned = map(str, asked) if isinstance(asked, list) else ()
    run = dict.fromkeys([*(suite.suite for suite in record.design.suites), *planned])
    for name in policy.suites:
        if name not in run:
            there = ", ".join(run)
            raise UsageError(f"policy.suites requires {name!r}, which is not among the suites of this run ({there})")
    for field in ("seeds", "random_seeds"):
        fewest = getattr(policy, field)
        if fewest > (had := settings.get(field, Policy.model_fields[field].default)):
            raise UsageError(f"{field} of this run is {had}, but policy.{field} asks for at least {fewest}")


def _refuse_what_was_spared(record: RunRecord, policy: Policy, arms: tuple[str, ...]) -> None:
    """Another suite may have measured an arm that this one was spared: it could not say that the arm is beaten."""
    for suite in record.design.suites:
        for arm in set(_measured(record)).intersection(arms) - {*suite.required, *suite.shown}:
            if policy.requires(suite.suite):
                raise UsageError(
                    f"policy.baselines requires {arm!r}, which {suite.suite} did not measure in this run; "
                    "a check that is made with this policy measures it"
                )


def _required(policy: Policy, record: RunRecord) -> tuple[str, ...]:
    """Arms that a policy names, as they were run; late, for names of arms need torch."""
    if not policy.baselines:
        return ()
    from .design import policy_arms

    tau = record.manifest.settings.get("tau")
    settings = profile_defaults("demo").model_copy(update={"tau": tuple(tau)} if isinstance(tau, list) else {})
    arms, known = policy_arms(policy, settings), {*_measured(record), *(skip.what for skip in record.skipped)}
    if lacking := next((arm for arm in arms if arm not in known), None):
        run = ", ".join(_measured(record))
        raise UsageError(f"policy.baselines requires {lacking!r}, which is not among the arms of this run ({run})")
    return arms


def _measured(record: RunRecord) -> tuple[str, ...]:
    return tuple(dict.fromkeys(arm for suite in record.design.suites for arm in (*suite.required, *suite.shown)))


def _ruled(suite: SuiteDesign, policy: Policy, stored: Policy, arms: tuple[str, ...]) -> SuiteDesign:
    required = (*suite.required, *(arm for arm in suite.shown if arm in arms))
    # A margin that the run's own policy set is no longer what is asked where the new one is silent.
    silent = suite.suite in stored.margins and suite.suite not in policy.margins
    return replace(
        suite,
        votes=policy.requires(suite.suite),
        margin=policy.margin(suite.suite, _own_margin(suite) if silent else suite.margin),
        required=required,
        shown=tuple(arm for arm in suite.shown if arm not in required),
    )


def _own_margin(suite: SuiteDesign) -> float:
    from ..results import synthetic
    from ..suites.suite import suite_classes  # late: it loads torch
    from .synthetic.design import MARGIN

    known = {synthetic.SUITE: MARGIN} | {name: each.margin for name, each in suite_classes().items()}
    return known.get(suite.suite, suite.margin)


def _alike(policy: Policy, stored: Policy) -> bool:
    """Whether two policies ask the same; where the registered plan lies is no matter."""
    return policy.model_copy(update={"lock": ""}) == stored.model_copy(update={"lock": ""})
