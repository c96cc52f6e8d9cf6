"""What one suite says: its arms, its comparisons, its gate, its verdict, and that of the recipe beside a given SAE."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from .advice import ENOUGH_SEEDS, UNTOLD, suite_reason
from .compare import by_cluster, compare, iut_p
from .design import ArmFacts
from .gate import Scores, find, recipe_gate, run_gate, vouched
from .outcome import ArmSummary, Comparison, GateCheck, RecipeClaim, SuiteResult, Verdict
from .sampled import ALIVE, UNREAD, coverage_note, mix_of, of_saes, overlap_note
from .sampled_gate import sampled_gate
from .stats import ArmScores, arm_scores, benjamini_hochberg, stratified
from .stats.crossed import RECIPE_SEEDS
from .stopped import STEP, steps_of
from .verdict import fold_comparisons

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

    from .design import Design, SuiteDesign

Role = Literal["trained", "recipe", "baseline", "control", "floor", "ceiling", "chance"]

Gate = tuple[GateCheck, ...]


@dataclass(frozen=True)
class _Measured:
    """One suite as it was measured, and how it is to be judged."""

    design: Design
    suite: SuiteDesign
    tables: Scores
    """What is compared, by (metric, arm)."""
    shown_as: Scores
    """What a table of arms shows: where items are sampled, one value per SAE."""
    seed: int
    n_resamples: int

    @property
    def arms(self) -> dict[str, ArmScores]:
        """The primary metric of every arm, as it is shown."""
        return {arm: table for (metric, arm), table in self.shown_as.items() if metric == self.suite.metric}

    @property
    def recipe(self) -> str:
        """Arm that stands for the recipe; empty where the trained arm does, as it does where worlds are replicates."""
        return "" if self.suite.nested else self.design.recipe


def judge_suite(
    scores: pd.DataFrame, design: Design, suite: SuiteDesign, *, seed: int, n_resamples: int
) -> SuiteResult:
    """Judge one suite of a design.

    Args:
        scores: One row per item of any suite, columns as in `scores.COLUMNS`.
        design: What is compared with what.
        suite: The suite.
        seed: Seed of the sign-flip tests; each comparison has its own stream, whatever else is compared.
        n_resamples: Sign patterns of a sign-flip test that cannot be exact.

    Returns:
        Its result, without what other suites add (`p_holm`). Where the gate failed every comparison is INVALID: an
        assay that cannot tell finds no difference anywhere, which is not equivalence. The numbers stay.

    Raises:
        ValueError: If a score is not finite or an item occurs twice.
    """
    one = _measured(scores, design, suite, seed=seed, n_resamples=n_resamples)
    required = tuple(_with_clusters(one, arm, required=True) for arm in suite.required)
    shown = [_with_clusters(one, arm) for arm in suite.shown]
    further = [_against(one, m, arm) for m in suite.exploratory for arm in (*suite.required, *suite.shown)]
    adjusted = _with_bh([*shown, *further])
    told = _recipe_gate(one) if one.recipe else ()
    gate = _gate(one, required, told)
    verdict = _suite_verdict(required, gate)
    return SuiteResult(
        suite=suite.suite,
        metric=suite.metric,
        votes=suite.votes,
        verdict=verdict,
        reason=suite_reason(verdict, required, gate, level=1 - 2 * design.alpha),
        p=_largest_p(required),
        p_holm=None,
        unit=suite.unit,
        note=suite.note,
        floor=_score(one.arms, suite.floor),
        chance=_score(one.arms, suite.chance),
        ceiling=_score(one.arms, suite.ceiling),
        arms=_with_overlap(_summaries(one), one),
        comparisons=_as_told([*required, *adjusted[: len(shown)]], gate),
        recipe=_recipe(one, told) if one.recipe else None,
        exploratory=_as_told(adjusted[len(shown) :], gate),
        gate=gate,
    )


def _measured(scores: pd.DataFrame, design: Design, suite: SuiteDesign, *, seed: int, n_resamples: int) -> _Measured:
    rows = scores.loc[(scores["suite"] == suite.suite) & ~_unread(scores, suite)]
    groups = rows.groupby(["metric", "arm"], sort=True, observed=True)
    tables = {(str(metric), str(arm)): arm_scores(group, str(arm)) for (metric, arm), group in groups}  # pyright: ignore[reportGeneralTypeIssues]
    if suite.strata:
        tables = {key: stratified(table) for key, table in tables.items()}
    shown_as = of_saes(tables, trained=design.trained) if suite.sampled else tables
    return _Measured(design, suite, tables, shown_as, seed, n_resamples)


def _unread(scores: pd.DataFrame, suite: SuiteDesign) -> npt.NDArray[np.bool_]:
    """Which rows are never analysed: a million sequences are not worth a table."""
    return scores["metric"].isin(UNREAD if suite.sampled else ()).to_numpy()


def _against(one: _Measured, metric: str, arm: str, *, required: bool = False, by: str = "") -> Comparison:
    """The arm under test, or another one, against an arm."""
    by, suite = by or one.design.trained, one.suite
    trained, other = one.tables.get((metric, by)), one.tables.get((metric, arm))
    return compare(
        trained,
        other,
        metric=metric,
        arm=arm,
        required=required,
        margin=suite.margin,
        rng=np.random.default_rng([one.seed, crc32(f"{suite.suite}/{metric}/{arm}".encode())]),
        facts=[*_facts(one, trained), *_facts(one, other)],
        alpha=one.design.alpha,
        n_resamples=one.n_resamples,
        nested=suite.nested,
        trials=suite.trials,
        mix=mix_of(one.tables.get((ALIVE, by))) if suite.sampled else None,
        steps=steps_of(trained, other, (one.tables.get((STEP, by)), one.tables.get((STEP, arm)))),
    )


def _with_clusters(one: _Measured, arm: str, *, required: bool = False) -> Comparison:
    """On the primary metric, with what every cluster says; latents of different SAEs are no pairs."""
    suite, arms = one.suite, one.arms
    pairs = () if suite.sampled else by_cluster(arms.get(one.design.trained), arms.get(arm))
    return _against(one, suite.metric, arm, required=required).model_copy(update={"clusters": pairs})


def _facts(one: _Measured, scores: ArmScores | None) -> list[ArmFacts]:
    """L0 of one arm's seeds. Once a design knows any L0, an arm whose L0 nobody measured is not matched."""
    if scores is None or not one.design.facts:
        return []
    known = {(fact.arm, fact.seed, fact.cluster): fact for fact in one.design.facts}
    wanted = [(scores.arm, seed, world) for world in _worlds(one.suite, scores) for seed in scores.seeds]
    return [known.get(each) or ArmFacts(*each[:2], nan, nan, nan, cluster=each[2]) for each in wanted]


def _worlds(suite: SuiteDesign, scores: ArmScores) -> tuple[str, ...]:
    """What facts call the clusters that seeds are nested in; one empty name where they are not nested."""
    return tuple(map(str, scores.items.index.unique("cluster"))) if suite.nested else ("",)


def _with_bh(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Benjamini-Hochberg over one exploratory table; a comparison without a p stays without."""
    known = {i: p for i, c in enumerate(comparisons) if (p := iut_p(c.estimate)) is not None}
    adjusted = dict(zip(known, benjamini_hochberg(list(known.values())), strict=True))
    return tuple(c.model_copy(update={"p_adjusted": adjusted.get(i)}) for i, c in enumerate(comparisons))


def _gate(one: _Measured, required: Sequence[Comparison], told: Gate) -> Gate:
    """The gate of the arm under test; a given SAE that is found WORSE has its recipe to answer for the assay."""
    ask = sampled_gate if one.suite.sampled else run_gate
    gate = ask(one.tables, one.suite, trained=one.design.trained, alpha=one.design.alpha)
    if one.recipe and fold_comparisons([c.verdict for c in required]) is Verdict.WORSE:
        return vouched(gate, told, recipe=one.recipe)
    return gate


def _recipe_gate(one: _Measured) -> Gate:
    ask = sampled_gate if one.suite.sampled else recipe_gate
    return ask(one.tables, one.suite, trained=one.design.trained, recipe=one.recipe, alpha=one.design.alpha)


def _told(gate: Gate) -> bool:
    """Whether the assay could have told."""
    return all(check.passed for check in gate)


def _suite_verdict(required: Sequence[Comparison], gate: Gate) -> Verdict:
    return fold_comparisons([comparison.verdict for comparison in required]) if _told(gate) else Verdict.INVALID


def _as_told(comparisons: Sequence[Comparison], gate: Gate) -> tuple[Comparison, ...]:
    """The same comparisons, without the verdicts that an assay that could not have told has no right to."""
    if _told(gate):
        return tuple(comparisons)
    return tuple(
        c
        if c.verdict is Verdict.INVALID
        else c.model_copy(update={"verdict": Verdict.INVALID, "reason": "; ".join(filter(None, (UNTOLD, c.reason)))})
        for c in comparisons
    )


def _recipe(one: _Measured, gate: Gate) -> RecipeClaim:
    """The recipe's verdict: its own gate, and enough seeds to speak of a recipe."""
    suite, name = one.suite, one.recipe
    comparisons = tuple(_against(one, suite.metric, arm, required=True, by=name) for arm in suite.required)
    verdict = _suite_verdict(comparisons, gate)
    seeds = len(one.arms[name].seeds) if name in one.arms else 0
    if verdict is not Verdict.INVALID and seeds < RECIPE_SEEDS:
        reason = f"{seeds} trained seeds cannot speak of a recipe{ENOUGH_SEEDS}"
        verdict = Verdict.INCONCLUSIVE
    else:
        reason = suite_reason(verdict, comparisons, gate, level=1 - 2 * one.design.alpha)
    return RecipeClaim(
        arm=name,
        verdict=verdict,
        reason=reason,
        p=_largest_p(comparisons),
        p_holm=None,
        comparisons=_as_told(comparisons, gate),
    )


def _largest_p(required: Sequence[Comparison]) -> float | None:
    """Intersection-union p; None unless every required comparison has one."""
    known = [p for comparison in required if (p := iut_p(comparison.estimate)) is not None]
    return max(known) if known and len(known) == len(required) else None


def _score(arms: dict[str, ArmScores], name: str) -> float | None:
    table = find(arms, name)
    return table.score if table else None


def _summaries(one: _Measured) -> tuple[ArmSummary, ...]:
    """One line per arm: trained, baselines, floor, controls, then references."""
    arms, suite = one.arms, one.suite
    order = [one.design.trained, one.design.recipe, *suite.required, *suite.shown, suite.floor]
    order += [*suite.must_lose, *suite.must_equal]
    names = dict.fromkeys([name for name in order if name in arms] + sorted(arms, key=lambda a: (a[0] == "@", a)))
    return tuple(_summary(one, arms[name]) for name in names)


def _summary(one: _Measured, scores: ArmScores) -> ArmSummary:
    suite, arms = one.suite, one.arms
    worlds = _worlds(suite, scores)
    facts = [f for f in one.design.facts if f.arm == scores.arm and f.seed in scores.seeds and f.cluster in worlds]
    tables = {metric: table for (metric, arm), table in one.shown_as.items() if arm == scores.arm}
    return ArmSummary(
        arm=scores.arm,
        role=_role(scores.arm, one.design, suite),
        seeds=len(scores.seeds),
        score=scores.score,
        seed_sd=scores.reseed_sd(nested=suite.nested),
        normalised=_normalised(scores.score, _score(arms, suite.floor), _score(arms, suite.ceiling)),
        secondary={m: table.score for m, table in tables.items() if m not in (suite.metric, ALIVE, STEP)},
        l0=float(np.mean([fact.l0 for fact in facts])) if facts else None,
        dead_share=float(np.mean([fact.dead_share for fact in facts])) if facts else None,
        matched=all(fact.matched for fact in facts) if facts else None,
        note="; ".join(dict.fromkeys(fact.note for fact in facts if fact.note)),
    )


def _with_overlap(summaries: tuple[ArmSummary, ...], one: _Measured) -> tuple[ArmSummary, ...]:
    """Where items are sampled, say of each arm which of its latents are compared, and what of the mix it leaves out."""
    mix = mix_of(one.tables.get((ALIVE, one.design.trained))) if one.suite.sampled else {}
    named = [s.arm for s in summaries if mix and s.arm[0] != "@"]
    found = {arm: overlap_note(one.tables[one.suite.metric, arm], mix) for arm in named}
    # Strata are drawn over the overlap of all arms, so that most leave out the same: said once.
    saes = {arm: note for arm, note in found.items() if arm == named[0] or note != found[named[0]]}
    notes = {arm: (coverage_note(one.tables, arm), saes.get(arm, "")) for arm in named}
    return tuple(
        s.model_copy(update={"note": "; ".join(filter(None, (s.note, *notes.get(s.arm, ()))))}) for s in summaries
    )


def _normalised(score: float, floor: float | None, ceiling: float | None) -> float | None:
    """(score − floor) / (ceiling − floor); None where there is no range."""
    if floor is None or ceiling is None or floor == ceiling:
        return None
    return (score - floor) / (ceiling - floor)


def _role(arm: str, design: Design, suite: SuiteDesign) -> Role:
    if arm in (design.trained, design.recipe):
        return "trained" if arm == design.trained else "recipe"
    if arm in (*suite.required, *suite.shown):
        return "baseline"
    named: dict[str, Role] = {suite.ceiling: "ceiling", suite.chance: "chance", suite.floor: "floor"}
    return named.get(arm) or named.get(arm.removeprefix("@"), "control")
