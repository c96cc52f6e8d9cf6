"""From score rows to what a check concludes: comparisons, gate, verdicts."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Literal
from zlib import crc32

import numpy as np

from .advice import ENOUGH_SEEDS, advice, headline, suite_reason
from .compare import by_cluster, compare, iut_p
from .design import ArmFacts
from .gate import Scores, find, recipe_gate, run_gate, vouched
from .outcome import ArmSummary, CheckReport, Comparison, GateCheck, Manifest, RecipeClaim, Skip, SuiteResult, Verdict
from .policy import Policy, decide
from .sampled import ALIVE, UNREAD, coverage_note, mix_of, of_saes, overlap_note
from .sampled_gate import sampled_gate
from .scores import COLUMNS
from .stats import ArmScores, arm_scores, benjamini_hochberg, holm, stratified
from .stats.crossed import RECIPE_SEEDS
from .stats.permutation import N_RESAMPLES
from .stopped import STEP, steps_of
from .verdict import FAILING, exit_code_of, fold_comparisons, fold_suites

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

    from .decision import LockStatus, RunComparison
    from .design import Design, SuiteDesign
    from .latents_seen import SideBySide

Role = Literal["trained", "recipe", "baseline", "control", "floor", "ceiling", "chance"]


def analyse(
    scores: pd.DataFrame, design: Design, *, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> tuple[SuiteResult, ...]:
    """Judge every suite of a design.

    Args:
        scores: One row per item, columns as in `scores.COLUMNS`.
        design: What is compared with what, by which margins.
        seed: Seed of the sign-flip tests; each comparison has its own stream, whatever else is compared.
        n_resamples: Sign patterns of a sign-flip test that cannot be exact.

    Returns:
        One result per suite of the design, in its order. A suite or arm without rows is a result with its
        reason; rows of a suite that the design does not name are not read.

    Raises:
        ValueError: If a column is missing, a score is not finite or an item occurs twice.
    """
    if lacking := [column for column in COLUMNS if column not in scores.columns]:
        msg = f"the scores lack the columns {lacking}"
        raise ValueError(msg)
    results = [_suite(scores, design, suite, seed=seed, n_resamples=n_resamples) for suite in design.suites]
    return with_holm(results)


def conclude(
    suites: Sequence[SuiteResult],
    *,
    target: str,
    skipped: Sequence[Skip] = (),
    manifest: Manifest,
    incomplete: Sequence[str] = (),
    policy: Policy | None = None,
    lock: LockStatus | None = None,
    since: RunComparison | None = None,
    latents: Sequence[SideBySide] = (),
) -> CheckReport:
    """Put the suites together into the answer of a check.

    Args:
        suites: Results of `analyse`.
        target: What was checked.
        skipped: What was not measured; a required suite without rows is INVALID by itself.
        manifest: How to reproduce.
        incomplete: SAEs that were asked for and could not be checked: nothing PASSes without them.
        policy: What follows from the verdict; every suite votes and everything but PASS stops without one.
        lock: The plan that was registered before the run.
        since: The same against an earlier run.
        latents: Latents to look at.

    Returns:
        The report with its verdict, exit code, headline and advice.
    """
    missing = [Verdict.INVALID] * len(incomplete)
    artefact, of_recipe = two_claims([suite for suite in suites if suite.votes])
    verdict = fold_suites([*(suite.verdict for suite in artefact), *missing])
    voting = [suite.label for suite in suites if suite.votes]
    decision = decide(policy or Policy(), verdict, lock=lock, since=since, voting=voting)
    required = [c for suite in artefact for c in suite.comparisons if c.required]
    recipe = fold_suites([*(claim.verdict for claim in of_recipe), *missing]) if of_recipe else None
    return CheckReport(
        target=target,
        verdict=verdict,
        exit_code=exit_code_of(verdict, decision),
        headline=headline(verdict, artefact, target=target, recipe=recipe, incomplete=incomplete),
        claim="recipe" if required and all(c.claim == "recipe" for c in required) else "artefact",
        recipe=recipe,
        suites=tuple(suites),
        skipped=tuple(skipped),
        advice=advice(suites),
        manifest=manifest,
        decision=decision,
        lock=lock,
        since=since,
        latents=tuple(latents),
    )


def two_claims(
    suites: Sequence[SuiteResult],
) -> tuple[Sequence[SuiteResult], Sequence[SuiteResult | RecipeClaim]]:
    """What is judged: the SAE or recipe under test by its suites, and apart from that the recipe of a given SAE.

    Beside a given SAE a suite that has worlds as replicates speaks of the recipe alone: no SAE of its worlds is the
    given one. Where nothing else is measured, the recipe is what is under test.
    """
    given = any(suite.recipe for suite in suites)
    if not given:
        return suites, ()
    artefact = [suite for suite in suites if suite.recipe]
    return artefact, [suite.recipe or suite for suite in suites]


def _suite(scores: pd.DataFrame, design: Design, suite: SuiteDesign, *, seed: int, n_resamples: int) -> SuiteResult:
    tables = _tables(scores.loc[(scores["suite"] == suite.suite) & ~_unread(scores, suite)])
    if suite.strata:
        tables = {key: stratified(table) for key, table in tables.items()}
    shown_as = of_saes(tables, trained=design.trained) if suite.sampled else tables
    arms = {arm: table for (metric, arm), table in shown_as.items() if metric == suite.metric}

    def against(metric: str, arm: str, *, required: bool = False, by: str = design.trained) -> Comparison:
        trained, other = tables.get((metric, by)), tables.get((metric, arm))
        return compare(
            trained,
            other,
            metric=metric,
            arm=arm,
            required=required,
            margin=suite.margin,
            rng=np.random.default_rng([seed, crc32(f"{suite.suite}/{metric}/{arm}".encode())]),
            facts=[*_facts(design, suite, trained), *_facts(design, suite, other)],
            alpha=design.alpha,
            n_resamples=n_resamples,
            nested=suite.nested,
            trials=suite.trials,
            mix=mix_of(tables.get((ALIVE, by))) if suite.sampled else None,
            steps=steps_of(trained, other, (tables.get((STEP, by)), tables.get((STEP, arm)))),
        )

    def shown_against(arm: str, *, required: bool) -> Comparison:
        """With what every cluster says; latents of different SAEs are no pairs."""
        pairs = () if suite.sampled else by_cluster(tables.get((suite.metric, design.trained)), arms.get(arm))
        return against(suite.metric, arm, required=required).model_copy(update={"clusters": pairs})

    required = tuple(shown_against(arm, required=True) for arm in suite.required)
    # Where worlds are the replicates, the trained arm is the recipe itself.
    has_recipe = bool(design.recipe) and not suite.nested
    recipes = suite.required if has_recipe else ()
    again = tuple(against(suite.metric, arm, required=True, by=design.recipe) for arm in recipes)
    shown = [shown_against(arm, required=False) for arm in suite.shown]
    further = [against(m, arm) for m in suite.exploratory for arm in (*suite.required, *suite.shown)]
    adjusted = _with_bh([*shown, *further])
    ask, ask_of_recipe = (sampled_gate, sampled_gate) if suite.sampled else (run_gate, recipe_gate)
    gate = ask(tables, suite, trained=design.trained, alpha=design.alpha)
    if has_recipe and fold_comparisons([c.verdict for c in required]) in FAILING:
        told = ask_of_recipe(tables, suite, trained=design.trained, recipe=design.recipe, alpha=design.alpha)
        gate = vouched(gate, told, recipe=design.recipe)
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
        floor=_score(arms, suite.floor),
        chance=_score(arms, suite.chance),
        ceiling=_score(arms, suite.ceiling),
        arms=_with_overlap(_summaries(shown_as, arms, design, suite), tables, design, suite),
        comparisons=(*required, *adjusted[: len(shown)]),
        recipe=_recipe(tables, arms, design, suite, again) if has_recipe else None,
        exploratory=adjusted[len(shown) :],
        gate=gate,
    )


def _tables(rows: pd.DataFrame) -> Scores:
    groups = rows.groupby(["metric", "arm"], sort=True, observed=True)
    return {(str(metric), str(arm)): arm_scores(group, str(arm)) for (metric, arm), group in groups}  # pyright: ignore[reportGeneralTypeIssues]


def _unread(scores: pd.DataFrame, suite: SuiteDesign) -> npt.NDArray[np.bool_]:
    """Which rows are never analysed: a million sequences are not worth a table."""
    return scores["metric"].isin(UNREAD if suite.sampled else ()).to_numpy()


def _with_overlap(
    summaries: tuple[ArmSummary, ...], tables: Scores, design: Design, suite: SuiteDesign
) -> tuple[ArmSummary, ...]:
    """Where items are sampled, say of each arm which of its latents are compared, and what of the mix it leaves out."""
    mix = mix_of(tables.get((ALIVE, design.trained))) if suite.sampled else {}
    named = [s.arm for s in summaries if mix and s.arm[0] != "@"]
    found = {arm: overlap_note(tables[suite.metric, arm], mix) for arm in named}
    # Strata are drawn over the overlap of all arms, so that most leave out the same: said once.
    saes = {arm: note for arm, note in found.items() if arm == named[0] or note != found[named[0]]}
    notes = {arm: (coverage_note(tables, arm), saes.get(arm, "")) for arm in named}
    return tuple(
        s.model_copy(update={"note": "; ".join(filter(None, (s.note, *notes.get(s.arm, ()))))}) for s in summaries
    )


def _facts(design: Design, suite: SuiteDesign, scores: ArmScores | None) -> list[ArmFacts]:
    """L0 of one arm's seeds. Once a design knows any L0, an arm whose L0 nobody measured is not matched."""
    if scores is None or not design.facts:
        return []
    known = {(fact.arm, fact.seed, fact.cluster): fact for fact in design.facts}
    wanted = [(scores.arm, seed, world) for world in _worlds(suite, scores) for seed in scores.seeds]
    return [known.get(one) or ArmFacts(*one[:2], nan, nan, nan, cluster=one[2]) for one in wanted]


def _worlds(suite: SuiteDesign, scores: ArmScores) -> tuple[str, ...]:
    """What facts call the clusters that seeds are nested in; one empty name where they are not nested."""
    return tuple(map(str, scores.items.index.unique("cluster"))) if suite.nested else ("",)


def _suite_verdict(required: Sequence[Comparison], gate: Sequence[GateCheck]) -> Verdict:
    if not all(check.passed for check in gate):
        return Verdict.INVALID
    return fold_comparisons([comparison.verdict for comparison in required])


def _recipe(
    tables: Scores,
    arms: dict[str, ArmScores],
    design: Design,
    suite: SuiteDesign,
    comparisons: tuple[Comparison, ...],
) -> RecipeClaim:
    """The recipe's verdict: its own gate, and enough seeds to speak of a recipe."""
    ask = sampled_gate if suite.sampled else recipe_gate
    gate = ask(tables, suite, trained=design.trained, recipe=design.recipe, alpha=design.alpha)
    verdict = _suite_verdict(comparisons, gate)
    seeds = len(arms[design.recipe].seeds) if design.recipe in arms else 0
    if verdict is not Verdict.INVALID and seeds < RECIPE_SEEDS:
        reason = f"{seeds} trained seeds cannot speak of a recipe{ENOUGH_SEEDS}"
        verdict = Verdict.INCONCLUSIVE
    else:
        reason = suite_reason(verdict, comparisons, gate, level=1 - 2 * design.alpha)
    p = _largest_p(comparisons)
    return RecipeClaim(arm=design.recipe, verdict=verdict, reason=reason, p=p, p_holm=None, comparisons=comparisons)


def _largest_p(required: Sequence[Comparison]) -> float | None:
    """Intersection-union p; None unless every required comparison has one."""
    known = [p for comparison in required if (p := iut_p(comparison.estimate)) is not None]
    return max(known) if known and len(known) == len(required) else None


def _with_bh(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Benjamini-Hochberg over one exploratory table; a comparison without a p stays without."""
    known = {i: p for i, c in enumerate(comparisons) if (p := iut_p(c.estimate)) is not None}
    adjusted = dict(zip(known, benjamini_hochberg(list(known.values())), strict=True))
    return tuple(c.model_copy(update={"p_adjusted": adjusted.get(i)}) for i, c in enumerate(comparisons))


def with_holm(results: Sequence[SuiteResult]) -> tuple[SuiteResult, ...]:
    """Holm over all voting suites of all SAEs, and apart from that over their recipes: two claims, two families."""
    artefact, of_recipe = two_claims([result for result in results if result.votes])
    adjusted = {
        id(claim): p for family in (artefact, of_recipe) for claim, p in zip(family, _holm_of(family), strict=True)
    }
    return tuple(
        r.model_copy(
            update={
                "p_holm": adjusted.get(id(r)),
                "recipe": r.recipe.model_copy(update={"p_holm": adjusted.get(id(r.recipe))}) if r.recipe else None,
            }
        )
        for r in results
    )


def _holm_of(claims: Sequence[SuiteResult | RecipeClaim]) -> list[float | None]:
    """Holm over claims; one that cannot vote counts as p = 1, so that it makes no other easier."""
    votes = [c.p is not None and c.verdict is not Verdict.INVALID for c in claims]
    adjusted = holm([c.p if c.p is not None and v else 1.0 for c, v in zip(claims, votes, strict=True)])
    return [p if v else None for p, v in zip(adjusted, votes, strict=True)]


def _score(arms: dict[str, ArmScores], name: str) -> float | None:
    table = find(arms, name)
    return table.score if table else None


def _summaries(
    tables: Scores, arms: dict[str, ArmScores], design: Design, suite: SuiteDesign
) -> tuple[ArmSummary, ...]:
    """One line per arm: trained, baselines, floor, controls, then references."""
    floor, ceiling = _score(arms, suite.floor), _score(arms, suite.ceiling)
    order = [design.trained, design.recipe, *suite.required, *suite.shown, suite.floor]
    order += [*suite.must_lose, *suite.must_equal]
    names = dict.fromkeys([name for name in order if name in arms] + sorted(arms, key=lambda a: (a[0] == "@", a)))
    return tuple(_summary(tables, arms[name], design, suite, floor, ceiling) for name in names)


def _summary(
    tables: Scores,
    scores: ArmScores,
    design: Design,
    suite: SuiteDesign,
    floor: float | None,
    ceiling: float | None,
) -> ArmSummary:
    worlds = _worlds(suite, scores)
    facts = [f for f in design.facts if f.arm == scores.arm and f.seed in scores.seeds and f.cluster in worlds]
    return ArmSummary(
        arm=scores.arm,
        role=_role(scores.arm, design, suite),
        seeds=len(scores.seeds),
        score=scores.score,
        seed_sd=scores.reseed_sd(nested=suite.nested),
        normalised=_normalised(scores.score, floor, ceiling),
        secondary={
            m: t.score for (m, arm), t in tables.items() if arm == scores.arm and m not in (suite.metric, ALIVE, STEP)
        },
        l0=float(np.mean([fact.l0 for fact in facts])) if facts else None,
        dead_share=float(np.mean([fact.dead_share for fact in facts])) if facts else None,
        matched=all(fact.matched for fact in facts) if facts else None,
        note="; ".join(dict.fromkeys(fact.note for fact in facts if fact.note)),
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
