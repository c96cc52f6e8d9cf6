"""The tables of evidence: how strong each comparison is, the other metrics, what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...sampled import MISSING
from ..bars import reason
from ..forest import HEADING, difference, ordered
from ..hard_probing import EXPLAINED as GAINS_EXPLAINED
from ..hard_probing import HEADING as GAINS_HEADING
from ..hard_probing import by_regime, gain_columns
from ..numbers import decimals_for, number, p_value
from ..tables import EXPLAINED, evidence_columns
from .arms import as_table
from .shapes import Cell, DataTable, Heading, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...hard_probing import Gain
    from ...outcome import CheckReport, Comparison, GateCheck, SuiteResult

OF_THE_JUDGE = ("judge", "complete")
"""Checks of the assay gate that ask what the judge could answer, and what it did."""


def evidence(comparisons: Sequence[Comparison]) -> DataTable | None:
    """Every comparison with its p values, effect sizes and the data that it would need; None without any."""
    if not comparisons:
        return None
    return as_table(
        evidence_columns(ordered(comparisons), ()),
        "Every comparison: how sure, and how much data it would take",
        EXPLAINED,
    )


def exploratory(comparisons: Sequence[Comparison]) -> DataTable | None:
    """Other metrics, grouped by metric; None without any."""
    if not comparisons:
        return None
    headings = (
        Heading("trained minus", False),
        Heading(HEADING, False),
        Heading("BH p", True),
        Heading("verdict", False),
    )
    metrics = dict.fromkeys(comparison.metric for comparison in comparisons)
    groups = tuple(Rows(tuple(_row(c) for c in comparisons if c.metric == metric), metric) for metric in metrics)
    note = "BH p: adjusted by Benjamini and Hochberg over this table."
    return DataTable("Other metrics, no part of the verdict", headings, groups, note)


def _row(comparison: Comparison) -> tuple[Cell, ...]:
    told = difference(comparison.estimate, decimals_for(comparison.margin)), p_value(comparison.p_adjusted)
    return tuple(map(Cell, (comparison.baseline, *told, comparison.verdict.value)))


def regimes(gains: Sequence[Gain]) -> DataTable | None:
    """Gains of `hard_probing`, grouped by regime; None without any."""
    tables = {name: as_table(gain_columns(found), GAINS_HEADING) for name, found in by_regime(gains).items()}
    groups = tuple(Rows(made.groups[0].rows, name) for name, made in tables.items())
    return DataTable(GAINS_HEADING, next(iter(tables.values())).headings, groups, GAINS_EXPLAINED) if tables else None


def missing(report: CheckReport) -> tuple[tuple[str, str], ...]:
    """Everything that was not measured, could not be compared or cannot carry a verdict, with the reason."""
    found = [(skip.what, skip.reason) for skip in report.skipped]
    for suite in report.suites:
        found += [*_unanswered(suite), *_of_suite(suite)]
    return tuple(dict.fromkeys(found))


def _unanswered(suite: SuiteResult) -> list[tuple[str, str]]:
    """What the judge left open, and what the gate says of the judge."""
    failed = [(f"{suite.label}: assay gate, {c.name}", c.detail) for c in suite.gate if _of_judge(c)]
    shares = [(arm.arm, arm.secondary.get(MISSING, 0.0)) for arm in suite.arms]
    return failed + [
        (f"{suite.label}: {arm}", f"no answer of the judge for {100 * share:.3g} % of the latents asked about")
        for arm, share in shares
        if share > 0
    ]


def _of_judge(check: GateCheck) -> bool:
    return check.name in OF_THE_JUDGE and not check.passed


def _of_suite(suite: SuiteResult) -> list[tuple[str, str]]:
    unmatched = [
        (f"{suite.label}: {arm.arm}", f"L0 {number(arm.l0, 1)} is not within 5 % of the target{_noted(arm.note)}")
        for arm in suite.arms
        # A control may have another L0 on purpose.
        if arm.matched is False and arm.role != "control"
    ]
    of_claims = (*suite.comparisons, *(suite.recipe.comparisons if suite.recipe else ()))
    return unmatched + [(f"{suite.label}: against {c.baseline}", why) for c in of_claims if (why := reason(c))]


def _noted(note: str) -> str:
    return f" ({note})" if note else ""
