"""What the suite `hard_probing` shows beside its verdict: the gain of every arm by regime and by training-set size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .frozen import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from .outcome import SuiteResult

SUITE = "hard_probing"
"""Name of the suite in score rows."""
GAIN, CHOSEN = "gain_", "chosen"
"""Metrics that are read: the gain by regime (shift is in no other), and whether an arrow of the SAE was chosen."""
DENSE = "@dense_quiver"
"""The quiver without any SAE, whose gain is 0 by definition."""
TOLD_FIRST = ("sae_auc", CHOSEN, "precision_at_n", "spurious_at_n", "gain_multi_token", "missed")
"""Metrics of an arm before its gains by regime, which have a table of their own: a terminal has no room for all."""


class Gain(Frozen):
    """What the SAEs of one arm add to the quiver under one kind of condition."""

    arm: str
    """Name of the arm; a reference starts with `@`."""
    regime: str
    """`standard`, `scarcity`, `imbalance`, `noise` or `shift`."""
    level: float | None
    """Level of the regime, such as the number of training points; null for all levels together."""
    n_problems: int
    """Problems, counted once for all seeds of the arm."""
    n_families: int
    """Families of datasets that they come from."""
    gain: float
    """Mean gain in test AUC: over seeds and problems of a family first, then over families."""
    lo: float | None
    """Lower end of the 90 % t interval over families; null with fewer than two."""
    hi: float | None
    """Upper end of the interval."""
    win_rate: float
    """Share of problems and seeds with a gain above 0."""
    loss_rate: float
    """Share with a gain below 0: the SAE's arrow was chosen, and tested worse."""
    chosen: float | None
    """Share in which an arrow of the SAE was chosen; null where nobody chose."""


def gains(scores: pd.DataFrame, *, by_level: bool = False, alpha: float = 0.05) -> tuple[Gain, ...]:
    """Summarise the rows of a check.

    Args:
        scores: One row per item, columns as in `scores.COLUMNS`; rows of other suites are not read.
        by_level: Whether every level of a regime is a summary of its own.
        alpha: One-sided level of the interval.

    Returns:
        One for each arm, regime and level in the order in which they come; nothing where the suite was not measured.
    """
    rows = scores.loc[scores["suite"] == SUITE]
    parts = rows["item"].str.extract(r" (?P<regime>[a-z]+) (?P<level>\S+) seed \d+$")
    rows = rows.assign(**parts)
    rows = rows.loc[(rows["metric"] == GAIN + rows["regime"]) | (rows["metric"] == CHOSEN)]
    rows = rows.assign(level=rows["level"].astype(float))  # late: other metrics have items of other kinds
    keys = ["arm", "regime", *(["level"] if by_level else [])]
    return tuple(_summaries(rows, keys, alpha))


def with_gains(result: SuiteResult, scores: pd.DataFrame) -> SuiteResult:
    """Add what the suite shows beside its verdict.

    Args:
        result: What the suite says.
        scores: The rows that it was judged by, columns as in `scores.COLUMNS`.

    Returns:
        The same with the gains, by regime first and then by level, arms in the order of its table; other metrics of
        an arm in the order of `TOLD_FIRST`.
    """
    places = {arm.arm: place for place, arm in enumerate(result.arms)}
    found = (sorted(gains(scores, by_level=by), key=lambda one: places[one.arm]) for by in (False, True))
    arms = (arm.model_copy(update={"secondary": _told_first(arm.secondary)}) for arm in result.arms)
    return result.model_copy(update={"arms": tuple(arms), "gains": tuple(one for each in found for one in each)})


def _told_first(metrics: dict[str, float]) -> dict[str, float]:
    names = dict.fromkeys([*(name for name in TOLD_FIRST if name in metrics), *metrics])
    return {name: metrics[name] for name in names}


def _summaries(rows: pd.DataFrame, keys: list[str], alpha: float) -> Iterator[Gain]:
    from .synthetic import t_interval  # late: it loads scipy, which `Gain` as a part of every report does without

    for values, group in rows.groupby(keys, sort=False):
        gain = group.loc[group["metric"] != CHOSEN]
        chosen = group.loc[group["metric"] == CHOSEN, "value"]
        families = gain.groupby("cluster")["value"].mean().to_numpy(dtype=np.float64)
        mean, lo, hi = t_interval(families, alpha=alpha)
        arm, regime, *level = values  # pyright: ignore[reportGeneralTypeIssues]
        yield Gain(
            arm=str(arm),
            regime=str(regime),
            level=float(level[0]) if level else None,
            n_problems=gain["item"].nunique(),
            n_families=len(families),
            gain=mean,
            lo=lo,
            hi=hi,
            win_rate=float((gain["value"] > 0).mean()),
            loss_rate=float((gain["value"] < 0).mean()),
            chosen=float(chosen.mean()) if len(chosen) else None,
        )
