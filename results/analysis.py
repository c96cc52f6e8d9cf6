"""From score rows to what a check concludes: comparisons, gate, verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .advice import advice, headline
from .outcome import CheckReport, Manifest, RecipeClaim, Skip, SuiteResult, Verdict
from .policy import Policy, decide
from .scores import COLUMNS
from .stats import holm
from .stats.permutation import N_RESAMPLES
from .suite_result import judge_suite
from .verdict import exit_code_of, fold_suites

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from .decision import LockStatus, RunComparison
    from .design import Design
    from .latents_seen import SideBySide
    from .stats import Claim


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
    results = [judge_suite(scores, design, suite, seed=seed, n_resamples=n_resamples) for suite in design.suites]
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
    artefact, of_recipe = two_claims(suites)
    verdict = fold_suites([*(suite.verdict for suite in artefact), *missing])
    voting = [suite.label for suite in suites if suite.votes]
    decision = decide(policy or Policy(), verdict, lock=lock, since=since, voting=voting, skipped=skipped)
    recipe = fold_suites([*(claim.verdict for claim in of_recipe), *missing]) if of_recipe else None
    return CheckReport(
        target=target,
        verdict=verdict,
        exit_code=exit_code_of(verdict, decision),
        headline=headline(verdict, artefact, target=target, recipe=recipe, incomplete=incomplete),
        claim=_claim(artefact),
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


def _claim(suites: Sequence[SuiteResult]) -> Claim:
    """What a verdict on these suites is about: the recipe only where every required comparison is."""
    required = [c for suite in suites for c in suite.comparisons if c.required]
    return "recipe" if required and all(c.claim == "recipe" for c in required) else "artefact"


def two_claims(
    suites: Sequence[SuiteResult],
) -> tuple[Sequence[SuiteResult], Sequence[SuiteResult | RecipeClaim]]:
    """What is judged: the SAE or recipe under test by its voting suites, and apart from that the recipe of a given SAE.

    Beside a given SAE a suite that has worlds as replicates speaks of the recipe alone: no SAE of its worlds is the
    given one. So where nothing else votes there is nothing to judge the given SAE by, although it was measured. Where
    nothing else is measured, the recipe is what is under test.
    """
    voting = [suite for suite in suites if suite.votes]
    if not any(suite.recipe for suite in suites):
        return voting, ()
    return [suite for suite in voting if suite.recipe], [suite.recipe or suite for suite in voting]


def with_holm(results: Sequence[SuiteResult]) -> tuple[SuiteResult, ...]:
    """Holm over all voting suites of all SAEs, and apart from that over their recipes: two claims, two families."""
    artefact, of_recipe = two_claims(results)
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
