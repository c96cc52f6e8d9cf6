"""Score rows: what one suite measured on one arm, one row per item, never averaged before it is stored."""

from __future__ import annotations

from typing import NamedTuple

STRATUM = "|"
"""What ends the name of an item's stratum, with which the item's begins, where a suite has strata: attributes."""
TRIAL = "#"
"""What stands between an item and its trial, where a suite tries each SAE several times with luck of its own."""

COLUMNS = ("suite", "metric", "item", "cluster", "arm", "seed", "value")


class Row(NamedTuple):
    """One measured value, before anybody knows which arm it belongs to."""

    metric: str
    """Name of the metric, such as `explained_variance`."""
    item: str
    """The unit that is paired between arms: a document, a dataset."""
    cluster: str
    """What items are nested in; the statistics resample clusters, never items."""
    value: float
    """The score; NaN is not allowed, a missing value is a missing row."""


class Score(NamedTuple):
    """One stored row: a `Row` with the suite, arm and seed that it came from."""

    suite: str
    """Name of the suite."""
    metric: str
    """Name of the metric."""
    item: str
    """The unit that is paired between arms."""
    cluster: str
    """What the item is nested in."""
    arm: str
    """`trained`, `random`, `frozen_decoder@iso`, ...; a reference of the suite starts with `@`."""
    seed: int
    """Seed of the arm (0 for a reference)."""
    value: float
    """The score."""
