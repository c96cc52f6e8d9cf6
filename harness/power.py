"""What a planned check could see, and what size would see more: from variance components of runs that were finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..results.few_seeds import FewSeeds
from ..results.stats import clusters_needed, mde, seeds_needed
from ..results.stats.crossed import MIN_TRIALS, RECIPE_SEEDS
from ..results.variance import SuiteVariance, Variances, parts_for, published_variances, variances_of
from .record import FILE, SEVERAL, load_record, load_several, rows_of

if TYPE_CHECKING:
    from ..results.design import SuiteDesign
    from ..results.stats import Claim
    from ..results.stats.power import Parts
    from ..results.variance import ArmVariance
    from .plan import Plan


@dataclass(frozen=True)
class SuitePower:
    """What one suite of a plan could see against the arm that is hardest to beat."""

    effect: float
    """The difference that is wanted: `--effect`, or the margin."""
    detectable: float | None = None
    """Smallest true difference found with 80 % power by the one-sided 5 % test; None where it is not known."""
    against: str = ""
    """The required arm against which it is largest."""
    clusters_needed: int | None = None
    """Clusters at which the wanted difference is found, seeds as planned; None where no number does."""
    seeds_needed: int | None = None
    """Seeds of the baselines at which it is, clusters as planned, for a given SAE at least as many as decide without
    more ado (`few_seeds.ENOUGH_SEEDS`); None where no number does, and in worlds."""
    source: str = ""
    """Where the variance components are from."""
    note: str = ""
    """What makes those components less than they look; else empty."""
    reason: str = ""
    """Why nothing is known; else empty."""


def variances_in(folder: Path) -> Variances:
    """Variance components of a finished check; of several SAEs those of the first that has a suite.

    Raises:
        UsageError: when the folder holds none, or a cell is damaged.
    """
    if (folder / SEVERAL).is_file():
        members = load_several(folder / SEVERAL).members.values()
        found = [variances_in(folder / member).suites for member in members]
        return Variances(suites={name: one for suites in reversed(found) for name, one in suites.items()})
    record = load_record(folder)
    # What it took, without where it lies.
    source = record.manifest.command.partition(" --results ")[0]
    return variances_of(rows_of(folder, record), record.design, source=source)


def known_variances(results: Path, components_from: Path | None = None) -> dict[str, SuiteVariance]:
    """The nearest components of every suite: of a named run, else of this configuration's own, else published.

    Args:
        results: Results folder of the planned configuration, finished or not.
        components_from: Results folder of a run that is like the planned one.

    Raises:
        UsageError: when the named folder holds no finished run, or a damaged one.
    """
    found = dict(published_variances().suites)
    found = {name: one.model_copy(update={"source": f"our own `{one.source}`"}) for name, one in found.items()}
    own = [results] if (results / FILE).is_file() or (results / SEVERAL).is_file() else []
    for folder in (*own, *filter(None, [components_from])):
        nearer = variances_in(folder).suites
        found |= {name: one.model_copy(update={"source": str(folder)}) for name, one in nearer.items()}
    return found


def power_of(
    plan: Plan,
    suite: SuiteDesign,
    *,
    clusters: int,
    variance: SuiteVariance | None,
    alpha: float,
    effect: float | None = None,
) -> SuitePower:
    """What one suite of a plan could see.

    Args:
        plan: Arms and seeds; that of the worlds for a suite in worlds.
        suite: What is compared with what.
        clusters: Clusters that it will have.
        variance: Components of the suite, if any are known.
        alpha: One-sided level.
        effect: The difference that is wanted; the margin if None.
    """
    wanted = SuitePower(suite.margin if effect is None else effect)
    if variance is None:
        return replace(wanted, reason="no finished run shows how it varies; name one with --components-from")
    wanted = replace(wanted, source=variance.source, note=_note(variance, plan, suite))
    if problem := _undecidable(plan, suite, clusters):
        return replace(wanted, reason=problem)
    parts = {
        _named(arm, held): _planned(plan, suite, arm, clusters=clusters, of=variance.arms[held])
        for arm in suite.required
        for held in _like(variance, arm)
    }
    if not parts:
        return replace(wanted, reason="no required arm")
    sees = {name: mde(part.variance() ** 0.5, part.df(), alpha=alpha) for name, part in parts.items()}
    hardest = max(sees, key=lambda name: sees[name])
    size = {"margin": wanted.effect, "alpha": alpha}
    return replace(
        wanted,
        detectable=sees[hardest],
        against=hardest,
        clusters_needed=_most([clusters_needed(part, **size) for part in parts.values()]),
        seeds_needed=None if suite.nested else _most([_seeds_needed(part, **size) for part in parts.values()]),
    )


def _seeds_needed(parts: Parts, *, margin: float, alpha: float) -> int | None:
    if isinstance(parts, FewSeeds):
        return parts.seeds_needed(margin=margin, alpha=alpha)
    return seeds_needed(parts, margin=margin, alpha=alpha)


def _most(needed: Sequence[int | None]) -> int | None:
    """Enough for all of them; None where that is nothing."""
    known = [n for n in needed if n is not None]
    return max(known) if len(known) == len(needed) else None


def _like(variance: SuiteVariance, arm: str) -> list[str]:
    """The arm itself, else those of its kind, else all: the hardest of them decides."""
    kind = arm.partition("@")[0]
    same = [name for name in variance.arms if name == arm] or [n for n in variance.arms if n.partition("@")[0] == kind]
    return same or list(variance.arms)


def _note(variance: SuiteVariance, plan: Plan, suite: SuiteDesign) -> str:
    stopped = _stops_early(plan, suite)
    return "; ".join(
        filter(None, [variance.note, "for all latents: early_stop may ask about fewer" if stopped else ""])
    )


def _stops_early(plan: Plan, suite: SuiteDesign) -> bool:
    return suite.sampled and plan.settings.early_stop


def _named(arm: str, held: str) -> str:
    return arm if arm == held else f"{arm}, as if it varied like {held}"


def _claim(plan: Plan, suite: SuiteDesign, clusters: int) -> Claim:
    replicates = clusters if suite.nested else len(plan.test_seeds)
    return "recipe" if replicates >= RECIPE_SEEDS else "artefact"


def _undecidable(plan: Plan, suite: SuiteDesign, clusters: int) -> str:
    """Why a run of this size has no interval, whatever it finds."""
    if clusters < 2:
        return "a single cluster: no interval"
    if suite.nested:
        return ""
    if min(len(plan.seeds), len(plan.random_seeds)) < 2:
        return "seeds is 1: how much another seed would differ stays unknown"
    trials = len(plan.test_seeds) * plan.settings.masks
    if suite.trials and _claim(plan, suite, clusters) == "artefact" and trials < MIN_TRIALS:
        return f"{trials} masks of the SAEs under test: fewer than {MIN_TRIALS} give no interval"
    return ""


def _planned(plan: Plan, suite: SuiteDesign, arm: str, *, clusters: int, of: ArmVariance) -> Parts:
    """Its variance, for a given SAE with no more degrees of freedom than its verdict will be held to."""
    if suite.nested:
        return parts_for(of, claim="recipe", clusters=clusters)
    claim = _claim(plan, suite, clusters)
    tries = plan.settings.masks if suite.trials and claim == "artefact" else 1
    learned = arm in {baseline.arm for baseline in plan.trained}
    seeds = len(plan.seeds if learned else plan.random_seeds)
    trained = len(plan.test_seeds) * tries
    parts = parts_for(of, claim=claim, clusters=clusters, trained_seeds=trained, baseline_seeds=seeds)
    return FewSeeds(parts, seeds) if claim == "artefact" and not _stops_early(plan, suite) else parts
