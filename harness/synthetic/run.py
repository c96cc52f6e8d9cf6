"""Run a synthetic recipe: in every world make the arms, measure each of them, keep the rows; then judge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...baselines import Learner, Oracle, parse_arm
from ...results.design import ArmFacts
from ...results.scores import Row, Score
from ...results.store import Store, content_key
from ...results.synthetic import SUITE
from ...suites.synthetic import ceiling_rows, make_world, nothing_rows, rate_rows, world_rows
from ..arm_store import WEIGHTS, ArmStore
from ..arms import TRAINING_VERSION, ArmMaker
from ..baseline_store import BaselineStore
from ..errors import UsageError
from ..plan import Plan, make_plan
from ..progress import Progress
from ..record import versions
from .material import EVALUATION, material_of

if TYPE_CHECKING:
    from ...baselines.interface import AnySAE
    from ...suites.synthetic import World
    from .config import SyntheticSettings

SCORES_VERSION = 1
"""Raised when a change alters what is measured."""

CEILING_SAMPLES = 2000
"""Samples of the least-squares and OMP ceilings: they are slow, and one number for a world."""

CHANCE_SEED = 10**6
"""Seeds of `random` count from 0: the dictionary of `@chance` is none of them."""

Watch = Callable[["World", int, Sequence[Learner]], None]
"""Told about every step of training: the world, how many steps are done, the arms as they are."""


@dataclass(frozen=True)
class Measured:
    """What a run leaves."""

    cells: tuple[str, ...]
    """Keys of its cells, in the store of its folder."""
    facts: tuple[ArmFacts, ...]
    """L0 and dead share of every arm, start and world."""
    hashes: dict[str, str]
    """sha256 of the weights of every SAE."""


def synthetic_plan(settings: SyntheticSettings) -> Plan:
    """Which arms are made in every world.

    Raises:
        UsageError: for an unknown baseline.
    """
    return make_plan(settings.of_arms())


class SyntheticRunner:
    """Runs one recipe in all of its worlds; the same call goes on after a kill."""

    def __init__(
        self, settings: SyntheticSettings, folder: Path, progress: Progress, watch: Watch | None = None
    ) -> None:
        """Prepare; nothing is computed before `run`."""
        self.settings, self.folder, self.progress = settings, folder, progress
        self.plan, self.store, self.watch = synthetic_plan(settings), Store(folder), watch

    def run(self) -> Measured:
        """Train and measure what is missing; rows are on disk when it returns."""
        cells: list[str] = []
        facts: list[ArmFacts] = []
        hashes: dict[str, str] = {}
        for number, seed in enumerate(self.settings.world_seeds, 1):
            self.progress.start(f"world {number} of {self.settings.worlds} ({self.settings.world})", 1)
            world = self._world(seed)
            self.progress.finish()
            done = self._in_world(world)
            cells += done.cells
            facts += done.facts
            hashes |= done.hashes
        return Measured(tuple(cells), tuple(facts), hashes)

    def _world(self, seed: int) -> World:
        try:
            return make_world(self.settings.spec, seed, device=self.settings.device)
        except ValueError as error:  # memory of the device, which is known only now
            raise UsageError(str(error)) from None

    def _in_world(self, world: World) -> Measured:
        arms = ArmStore(self.folder / "worlds" / f"seed-{world.seed}")
        # Arms of a world are of no use to another check, and there are many: the user's own store is left alone.
        maker = ArmMaker(self.plan, material_of(world, self.settings), arms, self.progress, BaselineStore(None))
        if self.watch is not None:
            watch = self.watch
            maker.watch = lambda step, learners: watch(world, step, learners)
        facts = tuple(replace(fact, cluster=f"world-{world.seed}") for fact in maker.make())
        cells = [*self._references(world, maker), *self._arms(world, arms)]
        missing = [cell for cell in cells if not self.store.has(cell.key)]
        self.progress.start(f"measuring {len(missing)} of {len(cells)} SAEs and references", len(missing))
        for done, cell in enumerate(missing, 1):
            rows = [Score(SUITE, *row[:3], cell.arm, cell.seed, float(row.value)) for row in cell.measure()]
            self.store.write(cell.key, rows, {"suite": SUITE, "arm": cell.arm, "seed": cell.seed, "key": cell.key})
            self.progress.advance(done)
        self.progress.finish()
        records = {s: arms.record(s) for s in self.plan.saes()}
        hashes = {f"world-{world.seed}/{s.arm}/{s.seed}": r["files"][WEIGHTS] for s, r in records.items() if r}
        return Measured(tuple(cell.key for cell in cells), facts, hashes)

    def _references(self, world: World, maker: ArmMaker) -> Iterator[_Cell]:
        oracle = Oracle(truth=world.features[world.rates.argsort(descending=True, stable=True)].cpu())
        for name, baseline in {"@oracle": oracle, "@chance": parse_arm("random")}.items():
            yield self._cell(
                world, name, 0, lambda b=baseline: self._with_ceilings(world, maker.reference(b, CHANCE_SEED))
            )
        yield self._cell(world, "@mean_direction", 0, self._nothing(world))
        yield self._cell(world, "@world", 0, lambda: rate_rows(world))

    def _nothing(self, world: World) -> Callable[[], list[Row]]:
        n = self.settings.evaluation_samples
        return lambda: nothing_rows(world, self.settings.width, n_samples=n, seed=EVALUATION)

    def _with_ceilings(self, world: World, sae: Any) -> list[Row]:  # noqa: ANN401  # a SAELens SAE
        k = max(1, round(self.settings.target_l0))
        n = min(CEILING_SAMPLES, self.settings.evaluation_samples)
        ceilings = ceiling_rows(world, sae.W_dec.detach(), k=k, n_samples=n, seed=EVALUATION)
        return [*self._rows(world, sae), *ceilings]

    def _rows(self, world: World, sae: AnySAE) -> list[Row]:
        return world_rows(sae, world, n_samples=self.settings.evaluation_samples, seed=EVALUATION)

    def _arms(self, world: World, arms: ArmStore) -> Iterator[_Cell]:
        for sae in self.plan.saes():
            yield self._cell(
                world, sae.arm, sae.seed, lambda s=sae: self._rows(world, arms.load(s)), arms.fingerprint(sae) or ""
            )

    def _cell(self, world: World, arm: str, seed: int, measure: Callable[[], list[Row]], weights: str = "") -> _Cell:
        own = self.settings.model_dump(mode="json", exclude={"preset", "worlds", "seed", "baselines", "tau", "starts"})
        ingredients = {
            "suite": SUITE,
            "version": SCORES_VERSION,
            "settings": own,
            "world": material_of(world, self.settings).train.key,
            "training": TRAINING_VERSION,
            "arm": arm,
            "seed": seed,
            "sae": weights,
            "versions": versions(),
        }
        return _Cell(arm, seed, content_key(ingredients), measure)


@dataclass(frozen=True)
class _Cell:
    """One SAE or reference in one world."""

    arm: str
    seed: int
    key: str
    measure: Callable[[], list[Row]]
