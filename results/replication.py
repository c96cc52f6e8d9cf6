"""A published experiment beside ours: each number, how far ours is from it, and whether chance explains that."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources import files
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from .frozen import Frozen
from .outcome import CheckReport, Manifest, Verdict

EV_TOLERANCE = 0.02
"""Distance in explained variance that counts as met: the paper gives two digits and no spread."""

LEVEL = 0.95
"""Level of the interval in which one further run of ours would lie."""


class Published(Frozen):
    """One number of a paper."""

    world: str
    """Kind of world."""
    architecture: str
    """SAE architecture."""
    metric: str
    """Name of the metric here."""
    value: float
    """The number."""
    reported: str
    """As the paper words it."""


class Line(Frozen):
    """One published number beside ours."""

    published: Published
    """What the paper says."""
    ours: float | None
    """Mean over our worlds; null where it was not run."""
    by_world: tuple[float, ...]
    """One number per world, starts averaged."""
    lo: float | None
    """Where one further world of ours would lie, lower end; for explained variance the published number ± .02."""
    hi: float | None
    """Upper end."""
    verdict: Literal["PASS", "DIFFERS", "NOT RUN", "OTHER SIZE"]
    """Whether the published number is met; OTHER SIZE where ours comes from another experiment than the paper's."""


class CurvePoint(Frozen):
    """Recovery in the middle of training."""

    world: str
    """Kind of world."""
    architecture: str
    """SAE architecture."""
    arm: str
    """Arm."""
    samples: int
    """Samples trained on so far."""
    recovered: float
    """Share of true features with a cosine above .8, mean over worlds."""
    by_world: tuple[float, ...]
    """The same, one number per world."""


class ArmLine(Frozen):
    """One arm in one kind of world: means over worlds."""

    world: str
    """Kind of world."""
    architecture: str
    """SAE architecture."""
    arm: str
    """Arm, or a reference that begins with `@`."""
    n_worlds: int
    """Worlds."""
    explained_variance: float | None
    """Mean explained variance."""
    recovered: float | None
    """Mean share of true features with a cosine above .8, many to one, as the paper counts."""
    recovered_sd: float | None
    """Its standard deviation over worlds."""
    matched_cosine: float | None
    """Mean one-to-one cosine."""
    weighted_recovery: float | None
    """Recovery weighted by firing rate."""
    l0: float | None
    """Mean active latents."""
    dead_share: float | None
    """Share of latents that never fired."""
    firing_f1: float | None
    """Mean F1 of the matched latent's firing."""
    explained_variance_ls: float | None
    """Explained variance of the reference's dictionary with one-shot support and least-squares magnitudes."""
    explained_variance_omp: float | None
    """The same with matching pursuit."""


class VerdictLine(Frozen):
    """Trained against one arm by the primary metric, the one-to-one cosine."""

    world: str
    """Kind of world."""
    architecture: str
    """SAE architecture."""
    baseline: str
    """The arm that trained is compared with."""
    required: bool
    """Whether the recipe's verdict needs BEATS here."""
    difference: float | None
    """Mean over worlds."""
    lo: float | None
    """Lower end of the 90 % interval."""
    hi: float | None
    """Upper end."""
    verdict: Verdict
    """Verdict of the comparison."""
    suite: Verdict
    """Verdict of the recipe in these worlds."""


class Replication(Frozen):
    """A published experiment, run again."""

    paper: str
    """What is replicated."""
    preset: str
    """Set of defaults."""
    published_size: bool
    """Whether features, dimensions, L0 and width are the paper's: only then can its numbers be met or missed."""
    lines: tuple[Line, ...]
    """One per published number."""
    arms: tuple[ArmLine, ...]
    """Every arm in every world and architecture."""
    verdicts: tuple[VerdictLine, ...]
    """Trained against every arm, by the primary metric."""
    curves: tuple[CurvePoint, ...]
    """Recovery against training length."""
    manifests: dict[str, Manifest]
    """How to reproduce every part, by `world/architecture`: command, settings, versions, hashes of the weights."""


def published_numbers(name: str = "korznikov2026_synthetic") -> tuple[Published, ...]:
    """Numbers of a paper, from the table in `results/published/`."""
    text = (files(__package__ or "") / "published" / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(Published(**{**row, "value": float(row["value"])}) for row in csv.DictReader(text.splitlines()))


def per_world(rows: pd.DataFrame, arm: str, metric: str) -> tuple[float, ...]:
    """Mean of a metric of one arm in each world, items first, then starts."""
    mine = rows.loc[(rows["arm"] == arm) & (rows["metric"] == metric)]
    means = mine.groupby(["cluster", "seed"], observed=True)["value"].mean().groupby(level="cluster").mean()
    return tuple(float(value) for value in means)


def prediction_interval(
    values: Sequence[float], *, least_sd: float = 0.0, level: float = LEVEL
) -> tuple[float, float] | None:
    """Interval in which one further draw lies with probability `level`, for normal draws.

    mean ± t(n − 1) s √(1 + 1/n) (Hahn 1969); `least_sd` keeps equal draws from claiming no spread at all.
    """
    n = len(values)
    if n < 2:
        return None
    mean, sd = float(np.mean(values)), max(float(np.std(values, ddof=1)), least_sd)
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * sd * (1 + 1 / n) ** 0.5
    return mean - half, mean + half


def compare_with(published: Published, values: Sequence[float], *, n_features: int, same_size: bool = True) -> Line:
    """Hold one published number against ours.

    Explained variance is met within EV_TOLERANCE of the mean. Recovery is met where the published share lies in our
    prediction interval, whose standard deviation is never below the binomial one of that many features.

    Args:
        published: the paper's number.
        values: ours, one per world; empty where it was not run.
        n_features: true features of a world.
        same_size: whether the worlds are of the paper's size; else nothing is met or missed.
    """
    if not values:
        return Line(published=published, ours=None, by_world=(), lo=None, hi=None, verdict="NOT RUN")
    ours = float(np.mean(values))
    if published.metric == "explained_variance":
        interval: tuple[float, float] | None = (published.value - EV_TOLERANCE, published.value + EV_TOLERANCE)
        met = abs(ours - published.value) <= EV_TOLERANCE + 1e-9  # .67 - .65 is a little more than .02
    else:
        share = published.value
        interval = prediction_interval(values, least_sd=(share * (1 - share) / n_features) ** 0.5)
        met = interval is not None and interval[0] <= share <= interval[1]
    lo, hi = interval or (None, None)
    verdict = ("PASS" if met else "DIFFERS") if same_size else "OTHER SIZE"
    return Line(published=published, ours=ours, by_world=tuple(values), lo=lo, hi=hi, verdict=verdict)


_METRICS = (
    *("explained_variance", "recovered_0.8", "matched_cosine", "weighted_recovery_0.8", "l0", "dead_share"),
    *("firing_f1", "explained_variance_ls", "explained_variance_omp"),
)


def arm_lines(rows: pd.DataFrame, *, world: str, architecture: str) -> tuple[ArmLine, ...]:
    """Every arm of one run in a line."""
    return tuple(
        _arm_line(rows, world, architecture, str(arm)) for arm in rows["arm"].unique() if arm not in ("@world",)
    )


def _arm_line(rows: pd.DataFrame, world: str, architecture: str, arm: str) -> ArmLine:
    values = {metric: per_world(rows, arm, metric) for metric in _METRICS}
    means = {metric: float(np.mean(found)) if found else None for metric, found in values.items()}
    recovered = values["recovered_0.8"]
    return ArmLine(
        world=world,
        architecture=architecture,
        arm=arm,
        n_worlds=len(recovered),
        explained_variance=means["explained_variance"],
        recovered=means["recovered_0.8"],
        recovered_sd=float(np.std(recovered, ddof=1)) if len(recovered) > 1 else None,
        matched_cosine=means["matched_cosine"],
        weighted_recovery=means["weighted_recovery_0.8"],
        l0=means["l0"],
        dead_share=means["dead_share"],
        firing_f1=means["firing_f1"],
        explained_variance_ls=means["explained_variance_ls"],
        explained_variance_omp=means["explained_variance_omp"],
    )


def verdict_lines(report: CheckReport, *, world: str, architecture: str) -> tuple[VerdictLine, ...]:
    """What the report of one part says, a line for each arm that trained is compared with."""
    return tuple(
        VerdictLine(
            world=world,
            architecture=architecture,
            baseline=comparison.baseline,
            required=comparison.required,
            difference=comparison.estimate.difference if comparison.estimate else None,
            lo=comparison.estimate.lo if comparison.estimate else None,
            hi=comparison.estimate.hi if comparison.estimate else None,
            verdict=comparison.verdict,
            suite=suite.verdict,
        )
        for suite in report.suites
        for comparison in suite.comparisons
    )
