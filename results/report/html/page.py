"""What the templates are given: the report in the order in which it is read, every number already a string."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..forest import difference
from ..look import STYLES
from ..numbers import decimals_for, number, p_value
from ..panels import CLAIMS, QUESTIONS, deciding, gate_words
from .arms import arm_tables, normalised
from .evidence import evidence, exploratory, missing, regimes
from .forests import forest, overview, recipe_forest, since_forest
from .ladder import ladder, rungs
from .pairs import NOT_PAIRED, pairs
from .seen import CardRow, cards
from .worlds import world_plots, world_tables, world_words

if TYPE_CHECKING:
    from ...outcome import CheckReport, GateCheck, SuiteResult
    from .shapes import Chart, DataTable, PlotTable

ACTIONS = {"pass": "go on", "warn": "go on, with a warning", "fail": "stop"}
"""What a decision asks for."""
EXITS = {
    0: "every required baseline is beaten in every required suite",
    1: "a required baseline is not beaten, or the policy asks for more",
    3: "too little data to say",
    4: "the assay could not have told, or the run is incomplete",
}
"""What an exit code says."""
WORDS = frozenset(STYLES)
"""Words that have a colour of their own."""


@dataclass(frozen=True)
class SuiteView:
    """One suite as the page shows it."""

    id: str
    """Of the section."""
    suite: SuiteResult
    """The result; its strings are shown as they are."""
    decided: str
    """Which comparison decided, in words."""
    sureness: str
    """p and Holm p."""
    forest: PlotTable | None
    """All comparisons."""
    pairs: PlotTable | None
    """Differences of single clusters."""
    unpaired: str
    """Why there are none."""
    normalised: PlotTable | None
    """Arms between floor and ceiling."""
    arms: tuple[DataTable, ...]
    """Arms in numbers."""
    ladder: Chart | None
    """Score against tau."""
    climbs: bool
    """Whether the suite has a rung at all."""
    recipe: PlotTable | None
    """The second claim."""
    evidence: DataTable | None
    """How strong each comparison is."""
    exploratory: DataTable | None
    """Other metrics."""
    regimes: DataTable | None
    """Gains of a quiver of probes by regime."""
    world: str
    """The synthetic worlds in one sentence; empty for other suites."""
    world_plots: tuple[PlotTable, ...]
    """What only a known truth shows."""
    world_tables: tuple[DataTable, ...]
    """The same in numbers."""


@dataclass(frozen=True)
class GateView:
    """The assay gate of one suite."""

    label: str
    """The suite."""
    words: str
    """Whether it could have told."""
    checks: tuple[tuple[GateCheck, str], ...]
    """Each check with what it asks."""


@dataclass(frozen=True)
class Page:
    """Everything that the template needs beside the report itself."""

    report: CheckReport
    """The result object."""
    action: str
    """The decision in words."""
    exit_words: str
    """The exit code in words."""
    claim: str
    """What the verdict is about."""
    overview: PlotTable | None
    """Required comparisons of all suites."""
    suites: tuple[SuiteView, ...]
    """One for each suite."""
    gates: tuple[GateView, ...]
    """One for each suite."""
    since: PlotTable | None
    """Against an earlier run."""
    latents: tuple[CardRow, ...]
    """Latents side by side."""
    missing: tuple[tuple[str, str], ...]
    """What was not measured or cannot carry a verdict."""
    settings: tuple[tuple[str, str], ...]
    """Names and values of the settings."""


def page_of(report: CheckReport) -> Page:
    """The report as a page.

    Args:
        report: What a check concluded.
    """
    ids = {suite.label: f"suite-{i}" for i, suite in enumerate(report.suites, 1)}
    return Page(
        report=report,
        action=ACTIONS[report.decision.action],
        exit_words=EXITS[report.exit_code],
        claim=CLAIMS["both" if report.recipe else report.claim],
        overview=overview(report.suites, ids),
        suites=tuple(suite_view(suite, ids[suite.label]) for suite in report.suites),
        gates=tuple(map(_gate, report.suites)),
        since=since_forest(report.since) if report.since else None,
        latents=cards(report.latents),
        missing=missing(report),
        settings=tuple(
            (key, _value(value)) for key, value in report.manifest.settings.items() if value not in ("", [])
        ),
    )


def suite_view(suite: SuiteResult, section: str) -> SuiteView:
    """One suite as a section of the page."""
    sampled = any(comparison.sampled for comparison in suite.comparisons)
    detail = suite.detail
    return SuiteView(
        id=section,
        suite=suite,
        decided=_decided(suite),
        sureness=f"p {p_value(suite.p)}, Holm p {p_value(suite.p_holm)}",
        forest=forest(suite.comparisons, f"All comparisons of {suite.metric}") if suite.comparisons else None,
        pairs=pairs(suite.comparisons),
        unpaired=NOT_PAIRED if sampled else "No cluster could be paired.",
        normalised=normalised(suite),
        arms=arm_tables(suite),
        ladder=ladder(suite),
        climbs=bool(rungs(suite.arms)),
        recipe=recipe_forest(suite.recipe) if suite.recipe else None,
        evidence=evidence(suite.comparisons),
        exploratory=exploratory(suite.exploratory),
        regimes=regimes(suite.gains),
        world=world_words(detail) if detail else "",
        world_plots=world_plots(detail) if detail else (),
        world_tables=world_tables(detail) if detail else (),
    )


def _decided(suite: SuiteResult) -> str:
    comparison = deciding(suite)
    if comparison is None:
        return ""
    decimals = decimals_for(comparison.margin)
    told = difference(comparison.estimate, decimals)
    return f"{comparison.baseline}: {told}, margin ±{number(comparison.margin, decimals)}"


def _gate(suite: SuiteResult) -> GateView:
    return GateView(
        suite.label, gate_words(suite), tuple((check, QUESTIONS.get(check.name, "")) for check in suite.gate)
    )


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
