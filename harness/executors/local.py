"""The executor that everybody has: one cell after another, in this process."""

from __future__ import annotations

from collections.abc import Sequence

from ...results.outcome import Skip
from ...suites.suite import NotMeasurable
from .executor import Bench, Cell


class LocalExecutor:
    """Measures in the order of the plan."""

    name: str = ""
    """Nothing to be said."""

    def measure(self, cells: Sequence[Cell], bench: Bench) -> list[Skip]:
        """Measure cells one after another; of a suite that cannot measure here nothing more is tried."""
        skipped: dict[str, Skip] = {}
        for done, cell in enumerate(cells, 1):
            try:
                if cell.suite.name not in skipped:
                    bench.keep(cell, bench.measure(cell))
            except NotMeasurable as error:
                skipped[cell.suite.name] = Skip(what=cell.suite.name, reason=str(error))
            bench.progress.advance(done)
        return list(skipped.values())

    def close(self) -> None:
        """There is nothing to let go of."""
