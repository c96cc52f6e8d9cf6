"""Two runs, item by item: the SAE under test of one against that of the other, on each suite's primary metric."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from .decision import RunComparison, SuiteComparison
from .gate import OF_THE_SAE, find, run_gate
from .outcome import Comparison, Verdict
from .regression import code_of
from .sampled import ALIVE, UNREAD, mix_of
from .sampled_gate import sampled_gate
from .stats import arm_scores, mismatch, stratified
from .stats.permutation import N_RESAMPLES
from .stopped import STEP
from .two_saes import compare_saes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    import pandas as pd

    from .design import Design, SuiteDesign
    from .gate import Scores

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
        for suite, twin in _shared(mine, other, suites):
            one = _suite(mine, other, suite, twin, seed=seed, n_resamples=n_resamples)
            if isinstance(one, str):
                left_out.append(f"{_label(mine, suite)}: {one}")
            else:
                found.append(SuiteComparison(suite=_label(mine, suite), comparison=one))
            remarks += _margin_note(mine, other, suite, twin)
        left_out += _only_one(mine, other, suites)
        remarks += _l0_note(mine, other)
    remarks = dict.fromkeys(remarks)
    return RunComparison(
        ours=ours, theirs=theirs, comparisons=tuple(found), skipped=tuple(left_out), notes=tuple(remarks)
    )


def exit_code_of(found: RunComparison) -> Literal[0, 1, 3, 4]:
    """What `regression.code_of` says of all suites that were compared."""
    return code_of(found.comparisons)


def _shared(mine: RunScores, other: RunScores, suites: Collection[str]) -> Iterator[tuple[SuiteDesign, SuiteDesign]]:
    """Every suite that both runs have and that is asked for, as ours and as theirs."""
    theirs = {suite.suite: suite for suite in other.design.suites}
    for suite in mine.design.suites:
        if suite.suite in theirs and (not suites or suite.suite in suites):
            yield suite, theirs[suite.suite]


def _suite(
    mine: RunScores, other: RunScores, suite: SuiteDesign, theirs: SuiteDesign, *, seed: int, n_resamples: int
) -> Comparison | str:
    """One suite; a sentence where it cannot be compared."""
    tables = [_tables(run, each) for run, each in ((mine, suite), (other, theirs))]
    if problem := _incomparable(mine, other, suite, theirs, tables):
        return problem
    judged = replace(suite, margin=min(suite.margin, theirs.margin))
    _same_references(tables, mine, other, judged)
    arms = [each[suite.metric, run.design.trained] for each, run in zip(tables, (mine, other), strict=True)]
    comparison = compare_saes(
        replace(arms[0], arm=mine.name),
        replace(arms[1], arm=other.name),
        judged,
        name=other.name,
        rng=np.random.default_rng([seed, crc32(suite.suite.encode())]),
        mix=mix_of(tables[0].get((ALIVE, mine.design.trained))) if suite.sampled else None,
        alpha=mine.design.alpha,
        n_resamples=n_resamples,
    )
    failed = [_failures(each, run, of) for each, run, of in zip(tables, (mine, other), (suite, theirs), strict=True)]
    if problem := _assay_problem(failed, (mine.name, other.name)):
        return comparison.model_copy(update={"verdict": Verdict.INVALID, "reason": problem})
    return comparison


def _incomparable(
    mine: RunScores, other: RunScores, suite: SuiteDesign, theirs: SuiteDesign, tables: Sequence[Scores]
) -> str:
    """Why two runs of a suite cannot be paired; empty where they can."""
    if suite.metric != theirs.metric:
        return f"its primary metric is {suite.metric} in {mine.name} and {theirs.metric} in {other.name}"
    both = list(zip(tables, (mine, other), strict=True))
    for each, run in both:
        if (suite.metric, run.design.trained) not in each:
            return f"no scores of the SAE under test in {run.name}"
    if any((STEP, run.design.trained) in each for each, run in both):
        return "the judge was asked step by step, and steps were drawn for the arms of their own run"
    return ""


def _tables(run: RunScores, suite: SuiteDesign) -> Scores:
    """Scores of what the comparison and the gate read."""
    rows = run.scores.loc[run.scores["suite"] == suite.suite]
    if suite.sampled:
        rows = rows.loc[~rows["metric"].isin(UNREAD)]
    groups = rows.groupby(["metric", "arm"], sort=True, observed=True)
    tables = {(str(metric), str(arm)): arm_scores(group, str(arm)) for (metric, arm), group in groups}  # pyright: ignore[reportGeneralTypeIssues]
    return {key: stratified(table) for key, table in tables.items()} if suite.strata else tables


@dataclass(frozen=True)
class _Failures:
    """What failed in the gate of one run, check by check with its line."""

    of_assay: Mapping[str, str]
    """What was broken in that run, whatever its SAE is worth."""
    of_sae: Mapping[str, str]
    """What a bad SAE fails before a sound assay: it is on the floor, or its own broken copies do not lose to it."""


def _failures(tables: Scores, run: RunScores, suite: SuiteDesign) -> _Failures:
    failed = _failed(tables, run, suite)
    forgiven = OF_THE_SAE if _asked(tables, suite) else frozenset()
    if suite.must_equal and "controls" in failed and "controls" in _failed(tables, run, replace(suite, must_lose=())):
        forgiven -= {"controls"}  # a control that must change nothing did: no SAE is to blame for that
    return _Failures(
        {name: line for name, line in failed.items() if name not in forgiven},
        {name: line for name, line in failed.items() if name in forgiven},
    )


def _failed(tables: Scores, run: RunScores, suite: SuiteDesign) -> dict[str, str]:
    ask = sampled_gate if suite.sampled else run_gate
    gate = ask(tables, suite, trained=run.design.trained, alpha=run.design.alpha)
    return {check.name: check.detail for check in gate if not check.passed}


def _asked(tables: Scores, suite: SuiteDesign) -> bool:
    """Whether there is what the SAE has to be above; a question that was not put is no fault of the SAE."""
    losing_in = suite.control_metric or suite.metric
    arms = {arm: table for (metric, arm), table in tables.items() if metric == suite.metric}
    controls = bool(suite.must_lose or suite.must_equal)
    return controls and find(arms, suite.chance) is not None and all((losing_in, a) in tables for a in suite.must_lose)


def _assay_problem(failed: Sequence[_Failures], names: Sequence[str]) -> str:
    """Why the assay could not have told two SAEs apart; empty where it could.

    What was broken in a run (range, seeds, a control that must change nothing, a judge) was broken for its SAE. But an
    SAE that fails the gate itself where the other one passes has become bad, which is the finding; where neither
    passes nobody was told from anything.
    """
    for each, name in zip(failed, names, strict=True):
        for check, line in each.of_assay.items():
            return f"assay gate in {name}: {check}: {line}"
    if not all(each.of_sae for each in failed):
        return ""
    check, line = next(iter(failed[0].of_sae.items()))
    return f"assay gate, in both runs; in {names[0]}: {check}: {line}"


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


def _margin_note(mine: RunScores, other: RunScores, suite: SuiteDesign, theirs: SuiteDesign) -> list[str]:
    """A line where the runs were judged by different margins."""
    if suite.margin == theirs.margin:
        return []
    both = f"{suite.margin:g} in {mine.name} and {theirs.margin:g} in {other.name}"
    return [f"{_label(mine, suite)}: margin is {both}; compared by the smaller"]


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
