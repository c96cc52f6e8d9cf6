"""The report around its suites: the verdict, the assay gate, advice, what was skipped, how to reproduce."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..advice import ENOUGH_SEEDS
from ..outcome import CheckReport, Comparison, GateCheck, Manifest, RecipeClaim, SuiteResult, Verdict
from .forest import difference
from .look import STYLES, Look
from .numbers import decimals_for, number, p_value, short_hash
from .words import SHOWN_ONLY, decision_words, says_more_than_the_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CLAIMS = {
    "artefact": "this SAE as it is (artefact); not the way it was trained, which needs 3 or more trained seeds",
    "recipe": "this way of training SAEs (recipe), judged over 3 or more trained seeds",
    "both": "this SAE as it is (artefact); beside it its way of training (recipe), on the baselines' own tokens",
}
"""The claims in words."""

QUESTIONS = {
    "range": "is the ceiling far enough above the floor?",
    "controls": "do known-broken controls come out as they must?",
    "seeds": "do random seeds agree with each other?",
    "off_floor": "is trained off the floor?",
}
"""What each check of the gate asks."""


def gate_words(suite: SuiteResult) -> str:
    """Whether the assay could have told, in words with counts."""
    passed, asked = sum(check.passed for check in suite.gate), len(suite.gate)
    if not asked:
        return "assay not checked"
    return f"assay could {'tell' if passed == asked else 'NOT tell'} ({passed} of {asked} checks passed)"


def deciding(suite: SuiteResult) -> Comparison | None:
    """The required comparison that decides the suite's verdict: of those that share it, the lowest interval.

    Returns:
        None where nothing was compared, or the suite is INVALID: then no comparison decides.
    """
    if suite.verdict is Verdict.INVALID:
        return None
    required = [c for c in suite.comparisons if c.required and c.estimate is not None]
    sharing = [c for c in required if c.verdict is suite.verdict] or required
    return min(sharing, key=_lowest, default=None)


def _lowest(comparison: Comparison) -> float:
    estimate = comparison.estimate
    assert estimate is not None  # noqa: S101
    return estimate.difference if estimate.lo is None else estimate.lo


def _p_words(suite: SuiteResult) -> str:
    return f"p {p_value(suite.p)}, Holm p {p_value(suite.p_holm)}"


def _sureness(suite: SuiteResult) -> tuple[str, ...]:
    comparison = deciding(suite)
    if comparison is None:
        return (_p_words(suite),)
    decimals = decimals_for(comparison.margin)
    return (
        f"decided by {comparison.baseline}:",
        f"{difference(comparison.estimate, decimals)}, margin ±{number(comparison.margin, decimals)}",
        _p_words(suite),
    )


def _recipe_words(recipe: RecipeClaim) -> str:
    if recipe.reason.endswith(ENOUGH_SEEDS):
        return f"recipe ({recipe.arm}): {recipe.verdict}: {recipe.reason}"
    return f"recipe ({recipe.arm}): {recipe.verdict}, p {p_value(recipe.p)}, Holm p {p_value(recipe.p_holm)}"


def _verdict_lines(suite: SuiteResult, look: Look) -> Group:
    recipe = (_recipe_words(suite.recipe),) if suite.recipe else ()
    aside = () if suite.votes else (SHOWN_ONLY,)
    lines = *aside, *((suite.reason,) if suite.reason else ()), *_sureness(suite), *recipe, gate_words(suite)
    return Group(*map(look.text, lines))


def _suite_grid(suites: Iterable[SuiteResult], look: Look) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", max_width=18)
    grid.add_column(no_wrap=True, width=len(Verdict.INCONCLUSIVE))
    grid.add_column(overflow="fold", ratio=1)
    for index, suite in enumerate(suites):
        if index:
            grid.add_row("")
        grid.add_row(look.text(suite.label, "bold"), look.word(suite.verdict), _verdict_lines(suite, look))
    return grid


def verdict_panel(report: CheckReport, look: Look) -> Panel:
    """Verdict, headline, claim, one entry per suite, and the first thing that would change it."""
    headline = look.word(report.verdict).append(f"  {look.say(report.headline)}", "bold")
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold", ratio=1)
    if says_more_than_the_verdict(report):
        facts.add_row("decision", look.text(decision_words(report), "bold"))
    facts.add_row("checked", look.text(report.target))
    facts.add_row("claim", look.text(CLAIMS["both" if report.recipe else report.claim]))
    if report.advice:
        facts.add_row("to strengthen it" if report.verdict == "PASS" else "to change it", look.text(report.advice[0]))
    suites = _suite_grid(report.suites, look) if report.suites else look.text("No suite was measured.")
    return Panel(
        Group(headline, "", facts, "", suites),
        box=box.ASCII if look.ascii else box.ROUNDED,
        title=Text(f"sae-sanity: {report.verdict}", "bold"),
        title_align="left",
        subtitle=Text(f"exit code {report.exit_code}", "dim"),
        subtitle_align="right",
        border_style=STYLES[report.verdict],
        padding=(1, 2),
        width=look.width,
    )


def _gate_row(check: GateCheck, look: Look) -> tuple[Text, Text, Text]:
    detail = look.text(QUESTIONS.get(check.name, ""))
    detail.append(f"{' ' if check.name in QUESTIONS else ''}{look.say(check.detail)}", "dim")
    return look.text("pass") if check.passed else look.word("FAIL"), look.text(check.name), detail


def gate_table(suite: SuiteResult, look: Look) -> Group:
    """Each check of one suite's gate with its numbers."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, width=4)
    grid.add_column(overflow="fold", min_width=9, max_width=18)
    grid.add_column(overflow="fold", ratio=1)
    for check in suite.gate:
        grid.add_row(*_gate_row(check, look))
    heading = look.text(f"{suite.label}: ", "bold").append(gate_words(suite))
    return Group(heading, *([grid] if suite.gate else []))


def bullets(lines: Iterable[str], look: Look) -> Table:
    """Sentences as a list with hanging indents."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold", ratio=1)
    for line in lines:
        grid.add_row("-", look.text(line))
    return grid


def _value(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


def _pairs(pairs: Mapping[str, object], look: Look, joint: str = "=") -> Text:
    return look.text("   ".join(f"{key}{joint}{_value(value)}" for key, value in pairs.items()) or "none")


def manifest_grid(manifest: Manifest, look: Look) -> Table:
    """Hashes, settings, versions and exclusions; the command stands apart, in one piece."""
    rows: list[tuple[str, RenderableType]] = [
        ("config hash", look.text(manifest.config_hash)),
        ("settings", _pairs({k: v for k, v in manifest.settings.items() if v not in ("", [])}, look)),
        ("versions", _pairs(manifest.versions, look, " ")),
        ("sha256", _pairs({key: short_hash(value) for key, value in manifest.hashes.items()}, look, " ")),
    ]
    if manifest.recipe:
        rows.insert(1, ("recipe", bullets([f"{k}: {v}" for k, v in manifest.recipe.items()], look)))
    if manifest.notes:
        rows.append(("notes", bullets(manifest.notes, look)))
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold", ratio=1)
    for row in rows:
        grid.add_row(*row)
    return grid
