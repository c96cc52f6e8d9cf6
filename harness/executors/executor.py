"""The contract of an executor: cells with content keys in, rows in the store out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from ...results.outcome import Skip
from ...results.scores import Row, Score
from ...suites.suite import Noting, Skipping
from ..errors import UsageError, unknown

if TYPE_CHECKING:
    from ...results.store import Store
    from ...suites.suite import Suite
    from ..arm_store import ArmStore
    from ..plan import ArmSeed, Plan
    from ..progress import Progress
    from ..subject import Subject

EXECUTORS = ("local", "ray")
"""Names of the executors."""


@dataclass(frozen=True)
class Cell:
    """One suite on one SAE, or one reference of a suite."""

    suite: Suite
    """What measures."""
    sae: ArmSeed
    """What is measured; the arm of a reference starts with `@`."""
    key: str
    """Content key: the cell is skipped only where a result with this key exists."""

    @property
    def reference(self) -> str:
        """Name of the reference, or nothing."""
        return self.sae.arm[1:] if self.sae.arm.startswith("@") else ""


class Found(NamedTuple):
    """What was measured of one cell."""

    scores: list[Score]
    """Its rows."""
    notes: tuple[str, ...] | None
    """What the suite says of how it went; None where it never says anything."""
    skipped: tuple[Skip, ...] = ()
    """Items that this cell was not measured on."""


@dataclass(frozen=True)
class Bench:
    """Everything that a process needs to measure cells and to keep what it found."""

    plan: Plan
    """Arms, seeds and settings."""
    subject: Subject
    """What suites measure on."""
    arms: ArmStore
    """The SAEs."""
    store: Store
    """Where rows go."""
    progress: Progress
    """Told after every cell."""

    def measure(self, cell: Cell) -> Found:
        """Measure one cell; nothing is written.

        Raises:
            NotMeasurable: where its suite cannot measure what it is for.
            UsageError: where the SAE is damaged.
        """
        # Every arm gets the same random numbers, whatever else was measured before it: comparisons stay paired.
        rng = np.random.default_rng(self.plan.settings.seed)
        site, suite = self.subject.site, cell.suite
        if cell.reference:
            rows = suite.measure_reference(cell.reference, site, rng)
        else:
            sae: Any = self.arms.load(cell.sae)
            rows = suite.measure(sae, site, rng)
        notes = suite.notes() if isinstance(suite, Noting) else None
        return Found(scores_of(cell, rows), notes, suite.skipped() if isinstance(suite, Skipping) else ())

    def keep(self, cell: Cell, found: Found) -> None:
        """Write one cell, whole or not at all."""
        manifest: dict[str, object] = {
            "suite": cell.suite.name,
            "arm": cell.sae.arm,
            "seed": cell.sae.seed,
            "key": cell.key,
        }
        notes = {} if found.notes is None else {"notes": list(found.notes)}
        skipped = {"skipped": [each.model_dump() for each in found.skipped]} if found.skipped else {}
        self.store.write(cell.key, found.scores, manifest | notes | skipped)


@runtime_checkable
class Executor(Protocol):
    """Measures the cells of a check; who does it must not show in the rows."""

    name: str
    """What progress says before the stage, as `Ray: `; nothing where this process measures."""

    def measure(self, cells: Sequence[Cell], bench: Bench) -> list[Skip]:
        """Measure cells and keep each as soon as it is there, telling `bench.progress` how many are done.

        Returns:
            Suites that cannot measure here: of such a suite nothing more is tried.
        """
        ...

    def close(self) -> None:
        """Let go of what was taken."""
        ...


def scores_of(cell: Cell, rows: Sequence[Row]) -> list[Score]:
    """Put suite, arm and seed on the rows that a suite returned."""
    name, sae = cell.suite.name, cell.sae
    return [Score(name, r.metric, r.item, r.cluster, sae.arm, sae.seed, float(r.value)) for r in rows]


@contextmanager
def executing(name: str, ray_address: str | None = None) -> Iterator[Executor]:
    """Make an executor by its name, and let it go at the end, whatever happens.

    Args:
        name: one of `EXECUTORS`.
        ray_address: address of a Ray cluster; None for that of RAY_ADDRESS, else one on this machine.

    Raises:
        UsageError: for an unknown name, an address without Ray, or a missing package.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if ray_address is not None and name != "ray":
        raise UsageError("ray_address is set, but executor is local; add --executor ray")
    with closing(_made(name, ray_address)) as executor:
        yield executor


def _made(name: str, ray_address: str | None) -> Executor:
    # Late: few have Ray, and its import takes a second.
    if name == "ray":
        from .ray import RayExecutor

        return RayExecutor(ray_address)
    from .local import LocalExecutor

    return LocalExecutor()
