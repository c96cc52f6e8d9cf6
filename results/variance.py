"""What the variance of a difference is made of, taken from a finished run: how another run would have to be sized."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from .frozen import Frozen
from .sampled import ALIVE, means, mix_of
from .stats import ArmScores, Claim, Components, arm_scores, crossed_t, mismatch, paired_t, stratified, two_sample
from .stats.components import seed_mean_squares
from .stats.two_sample import Sides, luck_of_seeds

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from .design import Design, SuiteDesign

PUBLISHED = "variance_components.json"
"""File of `results/published/` with the components of our own runs."""

FEW_SEEDS = 5
"""Below so many seeds of an arm a standard deviation over seeds is hardly known."""


class ArmVariance(Frozen):
    """Trained against one required arm: standard deviations of populations, and the mean squares they come from."""

    trained_seeds: int
    """Seeds of the arm under test."""
    baseline_seeds: int
    """Seeds of the other arm."""
    cluster_sd: float
    """SD over clusters of the true difference; worlds: of the difference with its starts; sampled: 0, nothing pairs."""
    seed_sd_trained: float | None
    """SD over seeds of the trained arm's mean, beyond noise and the drawing of items; null with one seed."""
    seed_sd_baseline: float | None
    """The same of the other arm; null where worlds are the only sample."""
    noise_sd_trained: float | None
    """SD of a cluster x seed residual of the trained arm; sampled: SD over latents inside one SAE."""
    noise_sd: float | None
    """The same of the other arm."""
    crossed: Components | None = None
    """Mean squares where clusters are paired, both arms' seeds counted; null where items are sampled."""
    trials: Components | None = None
    """Mean squares with trials of the trained SAEs in the place of seeds; null for suites without trials."""
    sampled: Sides | None = None
    """Variance within and between SAEs where items are sampled from each; else null."""


class SuiteVariance(Frozen):
    """The components of one suite."""

    metric: str
    """Primary metric."""
    clusters: int
    """Clusters that were paired; sampled: latents of one SAE, on average."""
    items_per_cluster: float
    """Items of a cluster, on average."""
    trained_seeds: int
    """Seeds of the arm under test."""
    baseline_seeds: int
    """Fewest seeds of a required arm."""
    nested: bool = False
    """Whether clusters are worlds that starts are nested in."""
    arms: dict[str, ArmVariance]
    """By required arm."""
    source: str = ""
    """The run that they were taken from, in words."""
    note: str = ""
    """What makes them less than they look; empty where nothing does."""


class Variances(Frozen):
    """The components of the suites of one run, or of several."""

    suites: dict[str, SuiteVariance]
    """By suite."""


def published_variances() -> Variances:
    """Components of our own runs, made by `benchmarks/variance_components.py`."""
    text = files("sae_sanity.results").joinpath("published", PUBLISHED).read_text(encoding="utf-8")
    return Variances.model_validate(json.loads(text))


def variances_of(scores: pd.DataFrame, design: Design, *, source: str = "") -> Variances:
    """Take the variance components of every required comparison from the rows of a finished run.

    Args:
        scores: One row per item, columns as in `scores.COLUMNS`.
        design: What is compared with what.
        source: The run, in words.

    Returns:
        Suites and arms whose variances are known; an arm with one seed, or one that cannot be paired, is left out.
    """
    found = {suite.suite: _suite(scores, design, suite, source) for suite in design.suites}
    return Variances(suites={name: each for name, each in found.items() if each is not None})


def _suite(scores: pd.DataFrame, design: Design, suite: SuiteDesign, source: str) -> SuiteVariance | None:
    trained = _arm(scores, suite, suite.metric, design.trained)
    if trained is None:
        return None
    mix = mix_of(_arm(scores, suite, ALIVE, design.trained)) if suite.sampled else {}
    others = {arm: _arm(scores, suite, suite.metric, arm) for arm in suite.required}
    arms = {arm: found for arm, other in others.items() if other and (found := _of(trained, other, suite, mix))}
    if not arms:
        return None
    sizes = trained.items.groupby(level="cluster").size()
    latents = [arm.sampled.latents for arm in arms.values() if arm.sampled]
    fewest = min(arm.baseline_seeds for arm in arms.values())
    return SuiteVariance(
        metric=suite.metric,
        clusters=round(float(np.mean(latents))) if latents else len(sizes),
        items_per_cluster=1.0 if latents else float(sizes.mean()),
        trained_seeds=len(trained.seeds),
        baseline_seeds=fewest,
        nested=suite.nested,
        arms=arms,
        source=source,
        note="" if suite.nested else _note(len(trained.seeds), fewest),
    )


def _note(trained: int, baseline: int) -> str:
    few = [f"{n} {what} seeds" for n, what in ((trained, "trained"), (baseline, "baseline")) if n < FEW_SEEDS]
    return f"{' and '.join(few)}: the SDs over seeds are hardly known" if few else ""


def _arm(scores: pd.DataFrame, suite: SuiteDesign, metric: str, arm: str) -> ArmScores | None:
    mine = (scores["suite"] == suite.suite) & (scores["metric"] == metric) & (scores["arm"] == arm)
    if not mine.any():
        return None
    table = arm_scores(scores.loc[mine], arm)
    return stratified(table) if suite.strata else table


def _of(trained: ArmScores, other: ArmScores, suite: SuiteDesign, mix: dict[str, float]) -> ArmVariance | None:
    if suite.sampled:
        return _sampled(trained, other, mix)
    if mismatch(trained, other):
        return None
    return _nested(trained, other) if suite.nested else _crossed(trained, other, trials=suite.trials)


def _nested(trained: ArmScores, other: ArmScores) -> ArmVariance | None:
    """Worlds are the only sample: an ordinary paired t, starts averaged inside each."""
    parts = paired_t(trained.clusters, other.clusters).components
    if parts is None:
        return None
    return ArmVariance(
        trained_seeds=len(trained.seeds),
        baseline_seeds=len(other.seeds),
        cluster_sd=parts.cluster**0.5,
        seed_sd_trained=None,
        seed_sd_baseline=None,
        noise_sd_trained=None,
        noise_sd=None,
        crossed=parts,
    )


def _crossed(trained: ArmScores, other: ArmScores, *, trials: bool) -> ArmVariance | None:
    # A claim about the SAEs at hand needs no seed of theirs; what they show of one is added for plans of a recipe.
    parts = crossed_t(trained.clusters, other.clusters).components
    if parts is None:
        return None
    several = len(trained.seeds) > 1
    parts = _with_trained(parts, trained.clusters) if several else parts
    pure = {
        "trained": max(parts.trained - parts.trained_error / parts.clusters, 0.0),
        "baseline": max(parts.baseline - parts.baseline_error / parts.clusters, 0.0),
    }
    noise = parts.baseline_error / parts.baseline_seeds + parts.trained_error / parts.trained_seeds
    columns = trained.trials if trials else np.empty((0, 0))
    return ArmVariance(
        trained_seeds=len(trained.seeds),
        baseline_seeds=len(other.seeds),
        cluster_sd=max(parts.cluster - noise, 0.0) ** 0.5,
        seed_sd_trained=pure["trained"] ** 0.5 if several else None,
        seed_sd_baseline=pure["baseline"] ** 0.5,
        noise_sd_trained=parts.trained_error**0.5 if several else None,
        noise_sd=parts.baseline_error**0.5,
        crossed=parts,
        trials=_by_trial(parts, columns, other) if columns.shape[1] > 1 else None,
    )


def _with_trained(parts: Components, columns: npt.NDArray[np.float64]) -> Components:
    squares = seed_mean_squares(columns)
    return replace(parts, trained_seeds=columns.shape[1], trained=squares[0], trained_error=squares[1])


def _by_trial(parts: Components, columns: npt.NDArray[np.float64], other: ArmScores) -> Components:
    difference = columns.mean(axis=1) - other.clusters.mean(axis=1)
    return _with_trained(replace(parts, cluster=float(difference.var(ddof=1))), columns)


def _sampled(trained: ArmScores, other: ArmScores, mix: dict[str, float]) -> ArmVariance | None:
    both = means((trained, other), mix)
    if not both or (sides := two_sample(*both).sides) is None:
        return None
    several = len(trained.seeds) > 1
    sides = replace(sides, trained=luck_of_seeds(*both).trained) if several else sides
    between = [
        None if side.spread is None else max(side.spread - side.within, 0.0) ** 0.5
        for side in (sides.trained, sides.baseline)
    ]
    inside = [(side.within * sides.latents) ** 0.5 for side in (sides.trained, sides.baseline)]
    return ArmVariance(
        trained_seeds=len(trained.seeds),
        baseline_seeds=len(other.seeds),
        cluster_sd=0.0,
        seed_sd_trained=between[0],
        seed_sd_baseline=between[1],
        noise_sd_trained=inside[0],
        noise_sd=inside[1],
        sampled=sides,
    )


def parts_for(
    arm: ArmVariance,
    *,
    claim: Claim,
    clusters: int | None = None,
    trained_seeds: int | None = None,
    baseline_seeds: int | None = None,
) -> Components | Sides:
    """The variance that a run of another size would have on average, the populations unchanged.

    Args:
        arm: What was measured.
        claim: Whether the SAEs under test are fixed ("artefact") or a sample of a recipe ("recipe").
        clusters: Clusters of the run (latents of an SAE where they are sampled); unchanged if None.
        trained_seeds: Seeds of the arm under test; trials where the suite has them and the claim is of the artefact.
        baseline_seeds: Seeds of the other arm.

    Returns:
        What `stats.mde`, `clusters_needed` and `seeds_needed` ask; as measured where the size is that of the run.
    """
    if claim == "recipe" and arm.seed_sd_trained is None:
        arm = _with_borrowed_seeds(arm)
    if arm.sampled is not None:
        return _resized_sides(arm.sampled, claim, clusters, trained_seeds, baseline_seeds)
    assert arm.crossed is not None  # noqa: S101  # one of the two, by construction
    by_trial = arm.trials if claim == "artefact" else None
    parts = _resized(by_trial or arm.crossed, clusters, trained_seeds, baseline_seeds)
    # SAEs that are taken as they are add what noise they have to every cluster, and no variance of their own.
    fixed = claim == "artefact" and by_trial is None
    return replace(parts, trained=0.0, trained_error=0.0) if fixed else parts


def _with_borrowed_seeds(arm: ArmVariance) -> ArmVariance:
    """Where one SAE was under test, another of its recipe is taken to differ as one of the baseline does."""
    if arm.sampled is not None:
        ours, theirs = arm.sampled.trained, arm.sampled.baseline
        between = max((theirs.spread or 0.0) - theirs.within, 0.0)
        sides = replace(arm.sampled, trained=replace(ours, spread=between + ours.within))
        return arm.model_copy(update={"sampled": sides})
    if arm.crossed is None or arm.noise_sd is None:  # worlds: no seed is a sample
        return arm
    parts = arm.crossed
    parts = replace(parts, trained=parts.baseline, trained_error=parts.baseline_error)
    return arm.model_copy(update={"crossed": parts})


def _resized(parts: Components, clusters: int | None, trained: int | None, baseline: int | None) -> Components:
    if (clusters or parts.clusters, baseline or parts.baseline_seeds) != (parts.clusters, parts.baseline_seeds):
        parts = parts.at(clusters=clusters, baseline_seeds=baseline)
    seeds = trained or parts.trained_seeds
    noise = parts.trained_error / seeds - parts.trained_error / parts.trained_seeds
    return replace(parts, trained_seeds=seeds, cluster=max(parts.cluster + noise, 0.0))


def _resized_sides(sides: Sides, claim: Claim, latents: int | None, trained: int | None, baseline: int | None) -> Sides:
    ours = replace(sides.trained, spread=None) if claim == "artefact" else sides.trained
    seeds = trained or ours.seeds
    sides = replace(sides, trained=replace(ours, seeds=seeds, within_df=ours.within_df * seeds / ours.seeds))
    if (latents or sides.latents, baseline or sides.baseline.seeds) == (sides.latents, sides.baseline.seeds):
        return sides
    return sides.at(clusters=latents, baseline_seeds=baseline)
