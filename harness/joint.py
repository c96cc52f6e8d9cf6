"""Suites that see every SAE of a check before they measure one: what was found becomes a cell for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..results.latents_seen import LatentSeen, latents_path, write_latents
from ..results.outcome import Skip
from ..results.store import Store
from ..suites.judges.budget import BudgetSpent
from ..suites.judges.judge import JudgeUnavailable
from .record import LATENTS

if TYPE_CHECKING:
    from ..results.scores import Row
    from ..results.stopping import StoppingRule
    from ..suites.suite import JointSuite, Together
    from .plan import ArmSeed
    from .run import Cell


@dataclass(frozen=True)
class Joint:
    """One joint suite in one run."""

    suite: JointSuite
    """What measures."""
    cells: tuple[Cell, ...]
    """Its cells: references first, then SAEs in the order of measuring."""
    load: Callable[[ArmSeed], Any]
    """Loads an SAE."""
    folder: Path
    """Results folder."""
    seed: int
    """Base seed of the check."""
    decided: StoppingRule | None = None
    """Says after some of the questions whether they are enough; None where all are asked."""

    def measure(self, store: Store, rows_of: Callable[[Cell, Sequence[Row]], list[Any]]) -> Skip | None:
        """Measure every SAE at once and write all cells.

        Returns:
            None, or why there are no cells: the judge could not be asked, or its budget is spent. What was answered
            until then is kept, and the same command goes on from there.
        """
        saes = [cell for cell in self.cells if not cell.reference]
        loaders = [partial(self.load, cell.sae) for cell in saes]
        try:
            rng = np.random.default_rng(self.seed)
            # The argument came later: a suite of another package need not know it.
            how = {"decided": self.decided} if self.decided else {}
            found = self.suite.measure_together(loaders, rng, **how)
        except (JudgeUnavailable, BudgetSpent) as error:
            return Skip(what=saes[0].suite.name, reason=str(error))
        self._look(saes, found)
        rows = {id(cell): r for cell, r in zip(saes, found.rows, strict=True)}
        for cell in self.cells:
            own = found.references[cell.reference] if cell.reference else rows[id(cell)]
            manifest = {"suite": cell.suite.name, "arm": cell.sae.arm, "seed": cell.sae.seed, "key": cell.key}
            store.write(cell.key, rows_of(cell, own), manifest | {"notes": list(found.notes)})
        return None

    def _look(self, saes: Sequence[Cell], found: Together) -> None:
        """Write what people look at; before the cells, which say that all is done."""
        (self.folder / LATENTS).mkdir(exist_ok=True)
        for cell, latents in zip(saes, found.seen, strict=True):
            sae = {"arm": cell.sae.arm, "seed": cell.sae.seed}
            write_latents(latents_path(self.folder / LATENTS, cell.key), [LatentSeen(**sae, **one) for one in latents])
