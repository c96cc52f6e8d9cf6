"""Run a plan: make the arms, measure every cell that is missing, conclude. The same command goes on after a kill."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..results.design import ArmFacts, Design
from ..results.outcome import Skip
from ..results.stopping import StoppingRule, stopping_rule
from ..results.store import Store, content_key
from ..suites.suite import JointSuite
from .arm_store import WEIGHTS, ArmStore
from .arms import ArmMaker, Material
from .design import make_design, spared_arms
from .executors.executor import Bench, Cell, Executor, scores_of
from .executors.local import LocalExecutor
from .joint import Joint
from .plan import ArmSeed, Plan
from .progress import Progress
from .record import versions
from .shards import Turns
from .skipped_items import skipped_items

if TYPE_CHECKING:
    from ..suites.suite import Suite
    from .config import Settings
    from .subject import Subject


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
    """Suites whose judge failed or whose budget is spent, and items that cells were not measured on."""
    notes: tuple[str, ...] = ()
    """What suites say of how it went."""


class Runner:
    """Runs one plan in one results folder."""

    def __init__(
        self,
        plan: Plan,
        subject: Subject,
        suites: Sequence[Suite],
        results: Path,
        progress: Progress,
        *,
        executor: Executor | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Prepare; nothing is computed before `run`.

        Args:
            plan: arms, seeds and settings.
            subject: what arms are made from and suites measure on.
            suites: what measures.
            results: results folder.
            progress: told about every stage.
            executor: who measures; this process by default.
            turns: which cells are this process's, where several share the folder; all by default.
        """
        self.plan, self.subject, self.suites, self.progress = plan, subject, tuple(suites), progress
        self.store = Store(results)
        self.arms = ArmStore(results / "arms")
        self.bench = Bench(plan, subject, self.arms, self.store, progress)
        self.executor = executor or LocalExecutor()
        self.turns = turns or Turns(results, None, progress)

    @cached_property
    def maker(self) -> ArmMaker:
        """Makes the arms, and makes again those that SAELens cannot save."""
        subject = self.subject
        settings = self.plan.settings
        material = Material(
            subject.train,
            subject.calibration,
            subject.held_out_activations,
            subject.model_name,
            texts=subject.hashes.get("texts/train", ""),
            artefact=subject.artefact,
            model_sha256=subject.site.weights_sha256,
            centred=subject.site.centre,
            device=learns_on(settings.device),
            sparse_step=steps_sparsely(settings),
        )
        return ArmMaker(self.plan, material, self.arms, self.progress)

    def run(self) -> Outcome:
        """Make arms and measure the cells that are missing; rows are on disk when it returns.

        Raises:
            Unfinished: where other processes that share the folder have cells to measure yet.
        """
        facts = self._arms()
        cells = list(self.cells())
        alone = [cell for cell in cells if not isinstance(cell.suite, JointSuite)]
        skipped = self._measure_missing(self.turns.own(alone))
        self.turns.finish(self._left(alone, skipped))
        skipped += [skip for suite in self.suites if (skip := self._measure_together(suite, cells))]
        skipped += spared_arms(self.plan, self.suites)
        design = make_design(self.plan, self.suites, facts)
        finished = tuple(cell.key for cell in cells if self.store.has(cell.key))
        manifests = [self.store.manifest(key) for key in finished]
        notes = dict.fromkeys(note for each in manifests for note in cast("list[str]", each.get("notes", [])))
        skipped += skipped_items(manifests)
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

    def _arms(self) -> tuple[ArmFacts, ...]:
        """Make the arms that are missing; of several processes one does, and the others wait."""
        with self.turns.alone("waiting for another shard that makes the arms"):
            self.turns.agree(self.subject.site.fingerprint, self.subject.site.arithmetic)
            return self.maker.make()

    def _measure_missing(self, cells: Sequence[Cell]) -> list[Skip]:
        """Measure what is not on disk; of a suite that cannot measure here nothing more is tried."""
        missing = [cell for cell in cells if not self.store.has(cell.key)]
        who = f"{self.turns.name}{self.executor.name}"
        self.progress.start(f"{who}measuring {len(missing)} of {len(cells)} cells", len(missing))
        skipped = self.executor.measure(missing, self.bench)
        self.progress.finish()
        return skipped

    def _left(self, cells: Sequence[Cell], skipped: Sequence[Skip]) -> int:
        """How many cells others have to measure yet; those of a suite that cannot measure here never come."""
        there, never = set(self.store.keys()), {skip.what for skip in skipped}
        return sum(cell.key not in there and cell.suite.name not in never for cell in cells)

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


def measured_by(suite: Suite | type[Suite], plan: Plan) -> tuple[ArmSeed, ...]:
    """The SAEs of a plan that a suite measures: a costly one leaves out what neither gate nor report asks for."""
    if not (is_joint(suite) or getattr(suite, "costly", False)):
        return plan.saes()
    (design,) = make_design(plan, [suite]).suites
    asked = {*design.required, *design.shown, *design.must_lose, *design.must_equal}
    ignored = {*plan.controls, *(b.arm for b in plan.baselines)} - asked
    return tuple(sae for sae in plan.saes() if sae.arm not in ignored)


def steps_sparsely(settings: Settings) -> bool:
    """Whether the arms of a check learn by the step that costs what their active latents cost."""
    # Its CUDA branches were never run; JumpReLU's sparse step steers L0 in another way.
    return settings.device == "cpu" and settings.architecture in ("topk", "batchtopk")


def learns_on(device: str) -> str:
    """Where the arms of a check learn: on its GPU; on the CPU where the language model is on another accelerator."""
    return device if device.partition(":")[0] == "cuda" else "cpu"


def is_joint(suite: Suite | type[Suite]) -> bool:
    """Whether a suite sees all SAEs before it measures one."""
    return hasattr(suite, "measure_together")
