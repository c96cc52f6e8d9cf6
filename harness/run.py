"""Run a plan: make the arms, measure every cell that is missing, conclude. The same command goes on after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..results.design import Design
from ..results.outcome import Skip
from ..results.scores import Row, Score
from ..results.stopping import StoppingRule, stopping_rule
from ..results.store import Store, content_key
from ..suites.suite import JointSuite, Noting, NotMeasurable
from .arm_store import WEIGHTS, ArmStore
from .arms import ArmMaker, Material
from .design import make_design
from .joint import Joint
from .plan import ArmSeed, Plan
from .progress import Progress
from .record import versions

if TYPE_CHECKING:
    from ..suites.suite import Suite
    from .subject import Subject


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


@dataclass(frozen=True)
class Outcome:
    """What a run leaves: which cells are its own, and the design by which to judge them."""

    cells: tuple[str, ...]
    """Keys of the cells of this run, in its order."""
    design: Design
    """With L0 and dead share of every arm."""
    hashes: dict[str, str]
    """sha256 of the weights of every SAE."""
    skipped: tuple[Skip, ...] = ()
    """Suites whose judge failed or whose budget is spent."""
    notes: tuple[str, ...] = ()
    """What suites say of how it went."""


class Runner:
    """Runs one plan in one results folder."""

    def __init__(
        self, plan: Plan, subject: Subject, suites: Sequence[Suite], results: Path, progress: Progress
    ) -> None:
        """Prepare; nothing is computed before `run`."""
        self.plan, self.subject, self.suites, self.progress = plan, subject, tuple(suites), progress
        self.store = Store(results)
        self.arms = ArmStore(results / "arms")

    def run(self) -> Outcome:
        """Make arms and measure the cells that are missing; rows are on disk when it returns."""
        subject = self.subject
        material = Material(
            subject.train,
            subject.calibration,
            subject.held_out_activations,
            subject.model_name,
            texts=subject.hashes.get("texts/train", ""),
            artefact=subject.artefact,
            model_sha256=subject.site.weights_sha256,
            centred=subject.site.centre,
        )
        facts = ArmMaker(self.plan, material, self.arms, self.progress).make()
        cells = list(self.cells())
        skipped = self._measure_missing(cells)
        skipped += [skip for suite in self.suites if (skip := self._measure_together(suite, cells))]
        design = make_design(self.plan, self.suites, facts)
        finished = tuple(cell.key for cell in cells if self.store.has(cell.key))
        notes = dict.fromkeys(
            n for key in finished for n in cast("list[str]", self.store.manifest(key).get("notes", []))
        )
        return Outcome(finished, design, self._hashes(), tuple(skipped), tuple(notes))

    def cells(self) -> Iterator[Cell]:
        """Every cell of the plan, with its key; the arms have to exist, because the key holds their weights."""
        prints = {sae: self.arms.fingerprint(sae) or "" for sae in self.plan.saes()}
        for suite in self.suites:
            saes = measured_by(suite, self.plan)
            # Where SAEs are measured together, each cell depends on all of them.
            pool = content_key({"saes": [prints[sae] for sae in saes]}) if is_joint(suite) else ""
            for name in suite.references():
                yield self._cell(suite, ArmSeed(f"@{name}", 0), name, pool)
            for sae in saes:
                yield self._cell(suite, sae, prints[sae], pool)

    def _measure_missing(self, cells: Sequence[Cell]) -> list[Skip]:
        """Measure what is not on disk, cell by cell; of a suite that cannot measure here nothing more is tried."""
        missing = [cell for cell in cells if not self.store.has(cell.key) and not isinstance(cell.suite, JointSuite)]
        skipped: dict[str, Skip] = {}
        self.progress.start(f"measuring {len(missing)} of {len(cells)} cells", len(missing))
        for done, cell in enumerate(missing, 1):
            try:
                if cell.suite.name not in skipped:
                    self._measure(cell)
            except NotMeasurable as error:
                skipped[cell.suite.name] = Skip(what=cell.suite.name, reason=str(error))
            self.progress.advance(done)
        self.progress.finish()
        return list(skipped.values())

    def _measure_together(self, suite: Suite, cells: Sequence[Cell]) -> Skip | None:
        own = tuple(cell for cell in cells if cell.suite is suite)
        if not isinstance(suite, JointSuite) or all(self.store.has(cell.key) for cell in own):
            return None
        seed, rule = self.plan.settings.seed, self._stopping_rule(suite, own)
        joint = Joint(suite, own, self.arms.load, self.store.folder, seed, rule)
        return joint.measure(self.store, scores_of)

    def _stopping_rule(self, suite: Suite, cells: Sequence[Cell]) -> StoppingRule | None:
        """What knows arms and margin, so that the suite need not; None where everything is asked."""
        if not self.plan.settings.early_stop:
            return None
        design = make_design(self.plan, [suite])
        arms = [cell.sae.arm for cell in cells if not cell.reference]
        return stopping_rule(design.suites[0], arms, trained=design.trained, alpha=design.alpha)

    def _cell(self, suite: Suite, sae: ArmSeed, what: str, pool: str) -> Cell:
        ingredients = {
            "suite": suite.name,
            "version": suite.version,
            "settings": suite.settings(),
            "site": self.subject.site.fingerprint,
            "arm": sae.arm,
            "seed": sae.seed,
            "sae": what,
            "base_seed": self.plan.settings.seed,
            "versions": versions(),
        }
        return Cell(suite, sae, content_key(ingredients | ({"pool": pool} if pool else {})))

    def _hashes(self) -> dict[str, str]:
        """sha256 of the weights of every SAE that is on disk, for the manifest."""
        records = {f"{s.arm}/{s.seed}": self.arms.record(s) for s in self.plan.saes()}
        return {n: r["files"].get(WEIGHTS, r["key"]) for n, r in records.items() if r}

    def _measure(self, cell: Cell) -> None:
        # Every arm gets the same random numbers, whatever else was measured before it: comparisons stay paired.
        rng = np.random.default_rng(self.plan.settings.seed)
        site = self.subject.site
        if cell.reference:
            rows = cell.suite.measure_reference(cell.reference, site, rng)
        else:
            rows = cell.suite.measure(cast("Any", self.arms.load(cell.sae)), site, rng)
        manifest = {"suite": cell.suite.name, "arm": cell.sae.arm, "seed": cell.sae.seed, "key": cell.key}
        notes = {"notes": list(cell.suite.notes())} if isinstance(cell.suite, Noting) else {}
        self.store.write(cell.key, scores_of(cell, rows), manifest | notes)


def measured_by(suite: Suite | type[Suite], plan: Plan) -> tuple[ArmSeed, ...]:
    """The SAEs of a plan that a suite measures: one that costs much leaves out the controls that its gate ignores."""
    if not (is_joint(suite) or getattr(suite, "costly", False)):
        return plan.saes()
    (design,) = make_design(plan, [suite]).suites
    ignored = set(plan.controls) - {*design.must_lose, *design.must_equal}
    return tuple(sae for sae in plan.saes() if sae.arm not in ignored)


def is_joint(suite: Suite | type[Suite]) -> bool:
    """Whether a suite sees all SAEs before it measures one."""
    return hasattr(suite, "measure_together")


def scores_of(cell: Cell, rows: Sequence[Row]) -> list[Score]:
    """Put suite, arm and seed on the rows that a suite returned."""
    name, sae = cell.suite.name, cell.sae
    return [Score(name, r.metric, r.item, r.cluster, sae.arm, sae.seed, float(r.value)) for r in rows]
