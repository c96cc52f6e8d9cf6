"""Two runs, item by item: the SAE under test of one against that of the other, on each suite's primary metric."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from .decision import RunComparison, SuiteComparison
from .gate import find, run_gate
from .outcome import Comparison, GateCheck, Verdict
from .sampled import ALIVE, UNREAD, mix_of
from .sampled_gate import sampled_gate
from .stats import arm_scores, mismatch, stratified
from .stats.permutation import N_RESAMPLES
from .stopped import STEP
from .two_saes import compare_saes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    import pandas as pd

    from .design import Design, SuiteDesign
    from .gate import Scores

JUDGED = ("judge", "complete")
"""Gate checks that are about what happened in one run, not about what its assay can tell."""

L0_APART = 0.05
"""Relative difference of L0 above which a reader is told of it."""


class NotComparable(ValueError):  # noqa: N818 - named for what it says
    """Two runs did not measure the same; one line naming what and both values."""


@dataclass(frozen=True)
class RunScores:
    """A finished run of one SAE, as far as a comparison needs it."""

    name: str
    """What it is called in the comparison."""
    design: Design
    """How its rows are judged, with L0 of every arm."""
    scores: pd.DataFrame
    """Its rows, columns as in `scores.COLUMNS`."""
    subject: str = ""
    """The SAE, where a check has several; else empty."""


def compare_runs(
    pairs: Sequence[tuple[RunScores, RunScores]],
    *,
    ours: str,
    theirs: str,
    skipped: Iterable[str] = (),
    notes: Iterable[str] = (),
    suites: Collection[str] = (),
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> RunComparison:
    """Compare the SAEs of two checks, ours minus theirs.

    Args:
        pairs: Ours and theirs of every SAE that both checks have.
        ours: What our check is called.
        theirs: What the other is called.
        skipped: What was left out before, one line each.
        notes: What differs and may.
        suites: Suites to compare; all that both have where it is empty.
        seed: Seed of the sign-flip tests.
        n_resamples: Sign patterns of a sign-flip test that cannot be exact.

    Returns:
        One comparison per SAE and suite. Each stands for itself at the one-sided 5 % level: a warning is not to be had
        cheaper by measuring more suites, so WORSE is not corrected for their number.

    Raises:
        NotComparable: If what reads no SAE came out differently, which shows that the data are others.
        ValueError: If rows are damaged.
    """
    found: list[SuiteComparison] = []
    left_out, remarks = list(skipped), list(notes)
    for mine, other in pairs:
        both = {suite.suite: suite for suite in other.design.suites}
        for suite in mine.design.suites:
            if suite.suite not in both or (suites and suite.suite not in suites):
                continue
            one = _suite(mine, other, suite, both[suite.suite], seed=seed, n_resamples=n_resamples)
            if isinstance(one, str):
                left_out.append(f"{_label(mine, suite)}: {one}")
            else:
                found.append(SuiteComparison(suite=_label(mine, suite), comparison=one))
        left_out += _only_one(mine, other, suites)
        remarks += _l0_note(mine, other)
    return RunComparison(
        ours=ours, theirs=theirs, comparisons=tuple(found), skipped=tuple(left_out), notes=tuple(dict.fromkeys(remarks))
    )


def exit_code_of(found: RunComparison) -> Literal[0, 1, 3, 4]:
    """1 where a suite is WORSE; 4 where one is INVALID or none could be paired; 3 where one may be worse by the margin.

    0 otherwise: every 90 % interval lies above minus the margin. So an interval that reaches beyond +margin but not
    beyond −margin, INCONCLUSIVE as a difference, is still not worse.
    """
    compared = [each.comparison for each in found.comparisons]
    verdicts = [one.verdict for one in compared]
    if Verdict.WORSE in verdicts:
        return 1
    if not verdicts or Verdict.INVALID in verdicts:
        return 4
    return 0 if all(_not_worse(one) for one in compared) else 3


def _not_worse(one: Comparison) -> bool:
    lo = one.estimate.lo if one.estimate else None
    return lo is not None and lo > -one.margin


def _suite(
    mine: RunScores, other: RunScores, suite: SuiteDesign, theirs: SuiteDesign, *, seed: int, n_resamples: int
) -> Comparison | str:
    """One suite; a sentence where it cannot be compared."""
    if suite.metric != theirs.metric:
        return f"its primary metric is {suite.metric} in {mine.name} and {theirs.metric} in {other.name}"
    tables = [_tables(run, each) for run, each in ((mine, suite), (other, theirs))]
    arms = [each.get((suite.metric, run.design.trained)) for each, run in zip(tables, (mine, other), strict=True)]
    for arm, run in zip(arms, (mine, other), strict=True):
        if arm is None:
            return f"no scores of the SAE under test in {run.name}"
    if any((STEP, run.design.trained) in each for each, run in zip(tables, (mine, other), strict=True)):
        return "the judge was asked step by step, and steps were drawn for the arms of their own run"
    _same_references(tables, mine, other, suite)
    ours, others = (replace(arm, arm=run.name) for arm, run in zip(arms, (mine, other), strict=True) if arm is not None)
    comparison = compare_saes(
        ours,
        others,
        suite,
        name=other.name,
        rng=np.random.default_rng([seed, crc32(suite.suite.encode())]),
        mix=mix_of(tables[0].get((ALIVE, mine.design.trained))) if suite.sampled else None,
        alpha=mine.design.alpha,
        n_resamples=n_resamples,
    )
    gates = [_gate(each, run) for each, run in zip(tables, ((mine, suite), (other, theirs)), strict=True)]
    if problem := _assay_problem(gates, (mine.name, other.name)):
        return comparison.model_copy(update={"verdict": Verdict.INVALID, "reason": problem})
    return comparison


def _tables(run: RunScores, suite: SuiteDesign) -> Scores:
    """Scores of what the comparison and the gate read."""
    rows = run.scores.loc[run.scores["suite"] == suite.suite]
    if suite.sampled:
        rows = rows.loc[~rows["metric"].isin(UNREAD)]
    groups = rows.groupby(["metric", "arm"], sort=True, observed=True)
    tables = {(str(metric), str(arm)): arm_scores(group, str(arm)) for (metric, arm), group in groups}  # pyright: ignore[reportGeneralTypeIssues]
    return {key: stratified(table) for key, table in tables.items()} if suite.strata else tables


def _gate(tables: Scores, run: tuple[RunScores, SuiteDesign]) -> tuple[GateCheck, ...]:
    ask = sampled_gate if run[1].sampled else run_gate
    return ask(tables, run[1], trained=run[0].design.trained, alpha=run[0].design.alpha)


def _assay_problem(gates: Sequence[Sequence[GateCheck]], names: Sequence[str]) -> str:
    """Why the assay could not have told two SAEs apart; empty where it could.

    Both runs have the same assay: where it passes in one of them it can tell, and an SAE that fails it in the other
    has become bad, which is the finding. What a judge did, it did in one run.
    """
    failed = [{check.name: check.detail for check in gate if not check.passed} for gate in gates]
    for each, name in zip(failed, names, strict=True):
        for check in JUDGED:
            if check in each:
                return f"assay gate in {name}: {check}: {each[check]}"
    if not all(failed):
        return ""
    check, detail = next(iter(failed[0].items()))
    return f"assay gate, in both runs; in {names[0]}: {check}: {detail}"


def _same_references(tables: Sequence[Scores], mine: RunScores, other: RunScores, suite: SuiteDesign) -> None:
    """Refuse where chance or ceiling, which read no SAE, came out differently: then the data are others."""
    # A judge's answers to planted latents vary from run to run; what they must be is asked by the gate.
    for name in () if suite.sampled else (suite.chance, suite.ceiling):
        ours, theirs = (
            find({arm: table for (metric, arm), table in each.items() if metric == suite.metric}, name)
            for each in tables
        )
        if ours is None or theirs is None or not ours.arm.startswith("@"):
            continue
        apart = np.inf if mismatch(ours, theirs) else abs(ours.score - theirs.score)
        if apart > suite.margin / 2:
            found = f"{ours.score:.4g} ({len(ours.items)} items) in {mine.name}"
            found += f" and {theirs.score:.4g} ({len(theirs.items)} items) in {other.name}"
            msg = f"{suite.suite}: the data or the code differ: {ours.arm}, which reads no SAE, is {found}"
            raise NotComparable(msg)


def _label(run: RunScores, suite: SuiteDesign) -> str:
    return f"{run.subject}: {suite.suite}" if run.subject else suite.suite


def _only_one(mine: RunScores, other: RunScores, suites: Collection[str]) -> list[str]:
    """A line for every suite that only one of the runs has."""
    lines = []
    for run, against in ((mine, other), (other, mine)):
        known = {suite.suite for suite in against.design.suites}
        lines += [
            f"{_label(run, suite)}: only in {run.name}"
            for suite in run.design.suites
            if suite.suite not in known and (not suites or suite.suite in suites)
        ]
    return lines


def _l0_note(mine: RunScores, other: RunScores) -> list[str]:
    """A line where the SAEs are not equally sparse."""
    ours, theirs = (_l0(run.design) for run in (mine, other))
    if not ours or not theirs or abs(ours - theirs) <= L0_APART * theirs:
        return []
    which = f"{mine.subject}: " if mine.subject else ""
    return [f"{which}L0 is {ours:.4g} in {mine.name} and {theirs:.4g} in {other.name}: more latents are an advantage"]


def _l0(design: Design) -> float:
    """Mean L0 of the SAEs under test; 0 where nobody has measured it."""
    by_arm: dict[str, list[float]] = defaultdict(list)
    for fact in design.facts:
        by_arm[fact.arm].append(fact.l0)
    return float(np.mean(by_arm[design.trained])) if design.trained in by_arm else 0.0
