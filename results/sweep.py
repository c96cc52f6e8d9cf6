"""A sweep at a glance: what every suite says of every SAE, beside what tells the SAEs apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from .comparison import Comparison, Verdict
from .frozen import Frozen
from .outcome import CheckReport, Skip

if TYPE_CHECKING:
    from .outcome import SuiteResult

_LAYER = re.compile(r"(?:^|\.)(?:blocks|layers|layer|h)\.(\d+)(?:\.|$)")


class SweptSAE(Frozen):
    """What is known of one SAE of a sweep without its scores."""

    name: str
    """What the sweep calls it."""
    folder: str
    """Its results folder inside that of the sweep."""
    model: str = ""
    """Language model; the target's name where it has its own, empty without one."""
    hook_name: str = ""
    """Where it sits."""
    architecture: str = ""
    """Its architecture."""
    d_sae: int | None = None
    """Its latents."""

    @property
    def layer(self) -> int | None:
        """The number of its layer, where the hook's name has one."""
        found = _LAYER.search(self.hook_name)
        return int(found[1]) if found else None


class SweepCell(Frozen):
    """What one suite says of one SAE."""

    suite: str
    """Name of the suite."""
    metric: str
    """Its primary metric."""
    verdict: Verdict
    """Its verdict."""
    votes: bool
    """Whether the verdict of the sweep needs BEATS here."""
    recipe: Verdict | None
    """The same of the recipe of a given SAE; null where none was retrained."""
    baseline: str
    """The required arm that it is least above; empty where nothing was compared."""
    difference: float | None
    """Mean difference to that arm, in score units."""
    lo: float | None
    """Lower end of its 90 % interval."""
    hi: float | None
    """Upper end."""
    margin: float | None
    """The suite's margin."""
    p_holm: float | None
    """The suite's p, adjusted by Holm over all SAEs and suites of the sweep."""


class SweepRow(Frozen):
    """One SAE of a sweep."""

    sae: SweptSAE
    """What it is."""
    layer: int | None
    """The number of its layer, where the hook's name has one."""
    l0: float | None
    """Active latents per token, measured on held-out texts."""
    cells: tuple[SweepCell, ...]
    """One for each of its suites."""


class SweepOverview(Frozen):
    """All SAEs of a sweep; `report` has everything else."""

    schema_version: Literal[1] = 1
    """Version of this schema."""
    rows: tuple[SweepRow, ...]
    """One for each SAE that was checked, in the order of the sweep."""
    skipped: tuple[Skip, ...]
    """SAEs that could not be checked, and what of others was not measured."""
    report: CheckReport
    """The report of all of them, as `sae-sanity report` on the sweep's folder gives it."""

    @property
    def suites(self) -> tuple[str, ...]:
        """Every suite of the sweep, in the order of their first appearance."""
        return tuple(dict.fromkeys(cell.suite for row in self.rows for cell in row.cells))


def overview(report: CheckReport, saes: Mapping[str, SweptSAE]) -> SweepOverview:
    """Bring the report of a sweep into rows.

    Args:
        report: of all SAEs; each suite names its SAE as `subject`.
        saes: what is known of each SAE, by name, in the order of the rows.
    """
    found: dict[str, list[SuiteResult]] = {name: [] for name in saes}
    for suite in report.suites:
        found[suite.subject].append(suite)
    rows = tuple(_row(saes[name], suites) for name, suites in found.items())
    return SweepOverview(rows=rows, skipped=report.skipped, report=report)


def hardest(suite: SuiteResult) -> Comparison | None:
    """The required comparison that is closest to failing: the smallest difference; None where nothing was compared."""
    made = [c for c in suite.comparisons if c.required and c.estimate is not None]
    return min(made, key=lambda c: c.estimate.difference if c.estimate else 0.0, default=None)


def _row(sae: SweptSAE, suites: list[SuiteResult]) -> SweepRow:
    l0 = next((arm.l0 for s in suites for arm in s.arms if arm.role == "trained" and arm.l0 is not None), None)
    return SweepRow(sae=sae, layer=sae.layer, l0=l0, cells=tuple(map(_cell, suites)))


def _cell(suite: SuiteResult) -> SweepCell:
    comparison = hardest(suite)
    estimate = comparison.estimate if comparison else None
    return SweepCell(
        suite=suite.suite,
        metric=suite.metric,
        verdict=suite.verdict,
        votes=suite.votes,
        recipe=suite.recipe.verdict if suite.recipe else None,
        baseline=comparison.baseline if comparison else "",
        difference=estimate.difference if estimate else None,
        lo=estimate.lo if estimate else None,
        hi=estimate.hi if estimate else None,
        margin=comparison.margin if comparison else None,
        p_holm=suite.p_holm,
    )
