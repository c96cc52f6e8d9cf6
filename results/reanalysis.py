"""A published table, judged again: every baseline of Korznikov et al. 2026 against its trained SAE.

The paper gives means with a ±, neither rows nor pairs, and calls the ± a standard error in one place (section 4.1) and
a standard deviation in another (appendix E). So both readings are judged, as the difference of independent means. None
is paired and no control is known: all that can be INVALID is a metric whose trained SAE lies at the floor.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from math import hypot, sqrt
from typing import TYPE_CHECKING

from scipy import stats

from .frozen import Frozen
from .outcome import Verdict
from .verdict import verdict_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAPER = "korznikov2026"
FILE = "korznikov2026_tables.csv"

METRICS = {"ev": "EV", "probe_top1": "probing top-1", "probe_top5": "probing top-5", "ravel": "RAVEL"}
"""Columns of the tables, and what they are called."""

MARGIN = 0.02
"""Equivalence margin of the verdicts (METHOD section 5)."""

TOST_MARGIN = 0.05
"""Margin of the wide equivalence test that is counted beside them: two and a half times ours."""

ALPHA = 0.05

SEEDS = (3, 5, 10)
"""Numbers of seeds for which the second reading is judged: the paper does not state how many it had."""

MOST_SEEDS = 1000

ROUNDS_TO = 0.0005
"""A ± that is printed as .000 may be as large as this."""

RAVEL_FLOOR = 0.485
"""RAVEL of the collapsed run (llama-3-8b/L16, JumpReLU, frozen decoder, cov), whose reconstruction explains nothing: it
is the only floor that the tables measure."""

OFF_FLOOR = 0.05
"""How far above the floor a trained SAE must be for a difference of MARGIN or more to have room."""

LEFT_OUT = "frozen_encoder@cov"
"""Baseline outside the 24 contrasts: it did not train (explained variance .11 and −.02 at the first site)."""


class Reading(Frozen):
    """One comparison under one reading of the ±."""

    seeds: int | None
    """Seeds assumed for each arm, where the ± is a standard deviation; null where it is a standard error."""
    standard_error: float
    """Of the difference of the two means."""
    df: float | None
    """Welch-Satterthwaite degrees of freedom; null for the normal distribution, where nobody says how many."""
    lo: float
    """Lower end of the 90 % interval."""
    hi: float
    """Upper end."""
    p: float
    """Two-sided p of no difference."""
    p_tost: float
    """TOST p of a difference as large as TOST_MARGIN."""
    verdict: Verdict
    """By the interval and MARGIN alone (METHOD section 5)."""


class Contrast(Frozen):
    """A trained SAE against one baseline on one metric."""

    site: str
    """Language model and layer."""
    architecture: str
    """SAE architecture."""
    baseline: str
    """Arm and how it was initialised."""
    metric: str
    """Column of the table."""
    counted: bool
    """Whether it is one of the 24 contrasts of each metric."""
    trained: float
    """Mean of the trained SAE."""
    trained_pm: float
    """Its ±."""
    other: float
    """Mean of the baseline."""
    other_pm: float
    """Its ±."""
    difference: float
    """Trained minus baseline."""
    as_error: Reading
    """The ± as the standard error of a mean."""
    as_deviation: tuple[Reading, ...]
    """The ± as the standard deviation over seeds, for each of SEEDS."""
    seeds_to_conclude: int | None
    """Fewest seeds of each arm at which the second reading ends in a verdict, were means and deviations the same; null
    where no number does: the difference lies too near the margin."""
    invalid: str
    """Why the metric cannot tell here; empty where nothing speaks against it."""
    note: str = ""
    """What a reader must know."""

    def shown(self, reading: Reading) -> Verdict:
        """Verdict of a reading, INVALID where the metric cannot tell."""
        return Verdict.INVALID if self.invalid else reading.verdict

    @property
    def over_seeds(self) -> Verdict | None:
        """Verdict of the second reading where it is the same for all SEEDS; None where it depends on their number."""
        found = {self.shown(reading) for reading in self.as_deviation}
        return found.pop() if len(found) == 1 else None


class Count(Frozen):
    """What the counted contrasts of one metric come to under one reading."""

    metric: str
    """Column of the table."""
    seeds: int | None
    """As in `Reading`."""
    contrasts: int
    """How many are counted."""
    baseline_worse: int
    """Baseline below trained, two-sided at ALPHA."""
    baseline_better: int
    """Baseline above trained."""
    equivalent: int
    """TOST at TOST_MARGIN passes."""
    verdicts: dict[Verdict, int]
    """Our verdicts, INVALID among them."""


class Reanalysis(Frozen):
    """The whole table, judged again."""

    paper: str
    """Which paper."""
    contrasts: tuple[Contrast, ...]
    """Site by site, baseline by baseline, metric by metric."""
    counts: tuple[Count, ...]
    """Of the counted contrasts, metric by metric, the first reading first."""


def reanalyse() -> Reanalysis:
    """Judge the paper's tables again."""
    contrasts = tuple(c for trained, others in _blocks(_rows()) for other in others for c in _contrasts(trained, other))
    return Reanalysis(paper=PAPER, contrasts=contrasts, counts=_counts(contrasts))


def as_standard_error(difference: float, ours: float, theirs: float) -> Reading:
    """The ± as standard errors of independent means: normal, for the degrees of freedom are nowhere stated."""
    return _reading(difference, hypot(_at_least(ours), _at_least(theirs)), seeds=None, df=None)


def as_standard_deviation(difference: float, ours: float, theirs: float, seeds: int) -> Reading:
    """The ± as standard deviations over so many seeds of each arm: Welch's t of two independent samples."""
    first, second = (_at_least(pm) ** 2 / seeds for pm in (ours, theirs))
    df = (first + second) ** 2 * (seeds - 1) / (first**2 + second**2)
    return _reading(difference, sqrt(first + second), seeds=seeds, df=df)


def _reading(difference: float, error: float, *, seeds: int | None, df: float | None) -> Reading:
    law = stats.norm if df is None else stats.t(df)
    half = float(law.isf(ALPHA)) * error
    lo, hi = difference - half, difference + half
    return Reading(
        seeds=seeds,
        standard_error=error,
        df=df,
        lo=lo,
        hi=hi,
        p=float(2 * law.sf(abs(difference) / error)),
        p_tost=float(law.sf((TOST_MARGIN - abs(difference)) / error)),
        verdict=verdict_of(lo, hi, margin=MARGIN),
    )


def _at_least(pm: float) -> float:
    return pm or ROUNDS_TO


def _rows() -> list[dict[str, str]]:
    text = files("sae_sanity.results").joinpath("published", FILE).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _blocks(rows: Sequence[dict[str, str]]) -> list[tuple[dict[str, str], list[dict[str, str]]]]:
    """Each trained SAE with its baselines."""
    trained = [row for row in rows if row["arm"] == "trained"]
    return [(t, [r for r in rows if _place(r) == _place(t) and r["arm"] != "trained"]) for t in trained]


def _place(row: dict[str, str]) -> tuple[str, str]:
    return row["site"], row["architecture"]


def _contrasts(trained: dict[str, str], other: dict[str, str]) -> list[Contrast]:
    return [_contrast(trained, other, metric) for metric in METRICS]


def _contrast(trained: dict[str, str], other: dict[str, str], metric: str) -> Contrast:
    ours, theirs = ((float(row[metric]), float(row[f"{metric}_pm"])) for row in (trained, other))
    # The table has three decimals; so has the difference.
    difference = round(ours[0] - theirs[0], 3)
    baseline = f"{other['arm']}@{other['init']}"
    at_floor = metric == "ravel" and ours[0] - RAVEL_FLOOR < OFF_FLOOR
    return Contrast(
        site=trained["site"],
        architecture=trained["architecture"],
        baseline=baseline,
        metric=metric,
        counted=baseline != LEFT_OUT,
        trained=ours[0],
        trained_pm=ours[1],
        other=theirs[0],
        other_pm=theirs[1],
        difference=difference,
        as_error=as_standard_error(difference, ours[1], theirs[1]),
        as_deviation=tuple(as_standard_deviation(difference, ours[1], theirs[1], n) for n in SEEDS),
        seeds_to_conclude=_seeds_to_conclude(difference, ours[1], theirs[1]),
        invalid=f"trained {ours[0]:.3f} is at the floor, about {RAVEL_FLOOR}" if at_floor else "",
        note="collapsed run: explains nothing, probes at chance" if float(other["ev"]) == 0 else "",
    )


def _seeds_to_conclude(difference: float, ours: float, theirs: float) -> int | None:
    readings = (as_standard_deviation(difference, ours, theirs, n) for n in range(2, MOST_SEEDS + 1))
    return next((r.seeds for r in readings if r.verdict is not Verdict.INCONCLUSIVE), None)


def _counts(contrasts: Sequence[Contrast]) -> tuple[Count, ...]:
    readings: list[Callable[[Contrast], Reading]] = [lambda c: c.as_error]
    readings += [lambda c, i=i: c.as_deviation[i] for i in range(len(SEEDS))]
    counted = {metric: [c for c in contrasts if c.counted and c.metric == metric] for metric in METRICS}
    return tuple(_count(metric, found, reading) for reading in readings for metric, found in counted.items())


def _count(metric: str, contrasts: Sequence[Contrast], reading: Callable[[Contrast], Reading]) -> Count:
    apart = [c for c in contrasts if reading(c).p < ALPHA]
    shown = [c.shown(reading(c)) for c in contrasts]
    return Count(
        metric=metric,
        seeds=reading(contrasts[0]).seeds,
        contrasts=len(contrasts),
        baseline_worse=sum(c.difference > 0 for c in apart),
        baseline_better=sum(c.difference < 0 for c in apart),
        equivalent=sum(reading(c).p_tost < ALPHA for c in contrasts),
        verdicts={verdict: shown.count(verdict) for verdict in Verdict if verdict in shown},
    )
