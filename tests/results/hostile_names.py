"""Names that a user, a file or a hub may choose, and a report in which everything is called so."""

from __future__ import annotations

from sae_sanity.results.decision import LockStatus
from sae_sanity.results.outcome import CheckReport, Skip, SuiteResult

NASTY = ["[red]x", "@iso [bold]", "[/]", "[link=http://x]y[/link]", ":warning:", "\\[b]", "中文", "a" * 120]


def renamed(report: CheckReport, name: str) -> CheckReport:
    """The report with one name in place of every string that a user or a hub may choose."""

    def suite(one: SuiteResult) -> SuiteResult:
        return one.model_copy(
            update={
                "subject": name,
                "note": name,
                "reason": name,
                "arms": tuple(arm.model_copy(update={"arm": name, "note": name}) for arm in one.arms),
                "comparisons": tuple(c.model_copy(update={"baseline": name, "reason": name}) for c in one.comparisons),
                "exploratory": tuple(c.model_copy(update={"baseline": name, "metric": name}) for c in one.exploratory),
                "gate": tuple(check.model_copy(update={"detail": name}) for check in one.gate),
            }
        )

    changes = {
        "target": name,
        "headline": name,
        "advice": (name,),
        "skipped": (Skip(what=name, reason=name),),
        "suites": tuple(map(suite, report.suites)),
        "decision": report.decision.model_copy(update={"reasons": (name,)}),
        "manifest": report.manifest.model_copy(
            update={"command": name, "notes": (name,), "recipe": {name: name}, "hashes": {name: name}}
        ),
    }
    if report.lock:
        changes["lock"] = LockStatus(sha256="e1" * 32, departures=(name,))
    if report.since:
        pairs = tuple(
            one.model_copy(
                update={
                    "suite": name,
                    "comparison": one.comparison.model_copy(update={"baseline": name, "reason": name}),
                }
            )
            for one in report.since.comparisons
        )
        changes["since"] = report.since.model_copy(
            update={"ours": name, "theirs": name, "comparisons": pairs, "skipped": (name,), "notes": (name,)}
        )
    return report.model_copy(update=changes)
