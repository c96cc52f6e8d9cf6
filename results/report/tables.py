"""The tables of one suite: its arms, the evidence of each comparison, the other metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ..outcome import ArmSummary, Comparison, Estimate, SuiteResult
from .columns import Column, fitting, stacked, table
from .forest import BESIDE, HEADING, beside, difference
from .look import Look
from .numbers import MINUS, MISSING, TIMES, decimals_for, known, mean_and_sd, number, p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MATCHED = {True: "matched", False: "unmatched", None: MISSING}
"""Words for whether L0 is within its tolerance."""

EXPLAINED = (
    f"norm.: (score {MINUS} floor) / (ceiling {MINUS} floor). p: the larger of crossed t and sign-flip, one-sided. "
    "wins: share of clusters in which trained is higher. MDE: smallest difference found with 80 % power. "
    f"n: clusters {TIMES} baseline seeds. data needed: for an MDE of δ."
)
"""What the headings of the tables mean."""


def suite_decimals(suite: SuiteResult) -> int:
    """Decimals of a suite's scores, from its margin."""
    return decimals_for(suite.comparisons[0].margin if suite.comparisons else None)


def metrics_of(arms: Sequence[ArmSummary]) -> tuple[str, ...]:
    """Names of the secondary metrics, in the order in which they first appear."""
    return tuple(dict.fromkeys(metric for arm in arms for metric in arm.secondary))


def _dead(arm: ArmSummary) -> str:
    return number(None if arm.dead_share is None else 100 * arm.dead_share, 1)


def arm_columns(arms: Sequence[ArmSummary], metric: str, decimals: int, *, nested: bool = False) -> tuple[Column, ...]:
    """Columns of the table of arms, the most important first; `nested`: seeds are starts of worlds."""

    def column(header: str, cell: Callable[[ArmSummary], str]) -> Column:
        return Column(header, tuple(map(cell, arms)))

    return (
        Column("arm", tuple(arm.arm for arm in arms), "left", wraps=True),
        Column("role", tuple(arm.role for arm in arms), "left"),
        column("starts" if nested else "seeds", lambda arm: str(arm.seeds)),
        column(
            f"{stacked(metric)}\n± {'world' if nested else 'seed'} sd",
            lambda arm: mean_and_sd(arm.score, arm.seed_sd, decimals),
        ),
        column("norm.", lambda arm: number(arm.normalised, 2)),
        column("L0", lambda arm: number(arm.l0, 1)),
        column("dead\n%", _dead),
        Column("L0 is", tuple(MATCHED[arm.matched] for arm in arms), "left"),
        *(column(stacked(name), lambda arm, n=name: number(arm.secondary.get(n))) for name in metrics_of(arms)),
    )


def left_out(names: Sequence[str], look: Look) -> list[Text]:
    """A line that names the columns that had no room; none where all had."""
    return [look.text(f"No room here for {', '.join(names)}: in the JSON report.", "dim")] if names else []


def arm_table(suite: SuiteResult, look: Look) -> list[Table | Text]:
    """Every arm with its score, L0 and dead latents; then what a reader must know of single arms."""
    if not suite.arms:
        return [look.text("No arm was measured.")]
    nested = any(comparison.nested for comparison in suite.comparisons)
    columns, rest = fitting(arm_columns(suite.arms, suite.metric, suite_decimals(suite), nested=nested), look)
    notes = [look.text(f"{arm.arm}: {arm.note}", "dim") for arm in suite.arms if arm.note]
    return [table(columns, look), *left_out(rest, look), *notes]


def needed(estimate: Estimate | None, margin: float, *, clusters: str = "clusters") -> str:
    """How much data would make the minimum detectable effect as small as the margin; `clusters`: what they are."""
    if estimate is None:
        return MISSING
    if known(estimate.mde) and (estimate.mde or 0.0) <= margin:
        return "enough"
    if estimate.mde is None and estimate.clusters_needed is None and estimate.seeds_needed is None:
        return MISSING
    ways = (estimate.clusters_needed, clusters), (estimate.seeds_needed, "seeds")
    return " or ".join(f"{n} {what}" for n, what in ways if n is not None) or "neither alone"


def cluster_word(comparison: Comparison) -> str:
    """What the clusters of a comparison are."""
    return "worlds" if comparison.nested else "latents" if comparison.sampled else "clusters"


def _needed(comparison: Comparison) -> str:
    return needed(comparison.estimate, comparison.margin, clusters=cluster_word(comparison))


def _size(estimate: Estimate | None) -> str:
    return MISSING if estimate is None else f"{estimate.n_clusters}{TIMES}{estimate.n_baseline}"


def evidence_columns(comparisons: Sequence[Comparison], skip: Sequence[str]) -> tuple[Column, ...]:
    """Columns of the evidence, the most important first, without the headings in `skip`."""
    estimates = tuple(comparison.estimate for comparison in comparisons)
    first = zip(*(beside(c.estimate, decimals_for(c.margin)) for c in comparisons), strict=True)

    def p(header: str, field: str) -> Column:
        return Column(header, tuple(p_value(getattr(estimate, field, None)) for estimate in estimates))

    columns = (
        Column("trained minus", tuple(comparison.baseline for comparison in comparisons), "left", wraps=True),
        *(Column(header, cells) for header, cells in zip(BESIDE, first, strict=True)),
        Column("n", tuple(map(_size, estimates))),
        Column("data\nneeded", tuple(map(_needed, comparisons)), "left"),
        p("crossed\nt p", "p_crossed"),
        p("sign-\nflip p", "p_signflip"),
        p("Wilcoxon\np", "p_wilcoxon"),
        p("TOST\np", "p_tost"),
    )
    return tuple(column for column in columns if column.header not in skip)


def evidence_table(comparisons: Sequence[Comparison], look: Look, skip: Sequence[str] = ()) -> list[Table | Text]:
    """How strong the evidence of each comparison is, and how much data it would have needed."""
    columns, rest = fitting(evidence_columns(comparisons, skip), look)
    return [table(columns, look), *left_out(rest, look)]


def _exploratory_rows(comparison: Comparison) -> tuple[str, ...]:
    decimals = decimals_for(comparison.margin)
    numbers = difference(comparison.estimate, decimals), p_value(comparison.p_adjusted)
    return (f"  {comparison.baseline}", *numbers, comparison.verdict.value)


def exploratory_columns(comparisons: Sequence[Comparison]) -> tuple[Column, ...]:
    """Columns of the other metrics, a row of its own above the comparisons of each metric."""
    rows: list[tuple[str, ...]] = []
    for metric in dict.fromkeys(comparison.metric for comparison in comparisons):
        rows.append((metric, "", "", ""))
        rows += [_exploratory_rows(c) for c in comparisons if c.metric == metric]
    names, numbers, adjusted, verdicts = zip(*rows, strict=True)
    return (
        Column("metric, trained minus", names, "left", wraps=True),
        Column(HEADING, numbers, "left"),
        Column("BH p", adjusted),
        Column("verdict", verdicts, "left"),
    )


def exploratory_table(comparisons: Sequence[Comparison], look: Look) -> Table:
    """Other metrics, grouped by metric: difference, interval, Benjamini-Hochberg p."""
    return table(exploratory_columns(comparisons), look)
