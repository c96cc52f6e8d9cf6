"""Make the SAEs of a plan: take the one under test, train, draw, derive, match L0, measure, keep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from sae_lens.saes.sae import SAE

from ..baselines import (
    CONTROLS,
    Baseline,
    Learner,
    Moments,
    Schedule,
    Shape,
    calibrate_l0,
    fit_scale,
    measure_moments,
    measure_sparsity,
    new_learner,
    sparse_learner,
    to_inference,
    train_together,
)
from ..baselines.interface import AnySAE
from ..baselines.normalisation import RUN_TIME
from ..baselines.wrap import BadSAE, in_raw_space, load_folder, shape_of
from ..results.design import ArmFacts
from ..results.store import content_key
from .arm_store import ArmStore, unsound
from .baseline_store import BaselineStore, Kept, fitting
from .errors import UsageError
from .plan import ArmSeed, Plan
from .progress import Progress
from .record import versions
from .shared_baselines import shared_arms, with_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..baselines.wrap import Artefact

TRAINING_VERSION = 2
"""Raised when a change of `baselines/` changes trained weights."""

SPARSE_VERSION = 2
"""Raised when a change of the sparse step alone changes trained weights."""

_MOMENT_BATCHES = 32


@runtime_checkable
class Rows(Protocol):
    """Activations for one purpose: collected from texts (`ActivationSet`) or drawn in a synthetic world."""

    @property
    def d_in(self) -> int:
        """Width of an activation."""
        ...

    @property
    def n_tokens(self) -> int:
        """How many there are in one pass of `chunks`."""
        ...

    @property
    def key(self) -> str:
        """Content key."""
        ...

    def batches(self, batch_size: int, *, seed: int, n_batches: int) -> Iterator[torch.Tensor]:
        """Batches to learn from, [batch_size, d_in], the same ones every time."""
        ...

    def chunks(self) -> Iterator[Any]:
        """Everything once, as tuples that begin with activations [chunk, d_in]."""
        ...


@dataclass(frozen=True)
class Material:
    """What arms are made from."""

    train: Rows
    """What they learn from."""
    calibration: Rows
    """Where thresholds are set."""
    held_out: Rows
    """Where L0 and dead latents are measured."""
    model_name: str
    """Recorded in the saved SAEs."""
    texts: str = ""
    """sha256 of the training texts."""
    artefact: Artefact | None = None
    """The SAE under test, where it exists already."""
    model_sha256: str = ""
    """sha256 of the language model's weights."""
    centred: bool = False
    """Whether activations are taken minus their mean over d_in."""
    draw: int | None = None
    """Which of several worlds this is: mixed into every seed, since a start of one world is no start of another."""
    device: str = "cpu"
    """Where arms learn; what they are measured on is on the CPU."""
    sparse_step: bool = False
    """Whether arms learn by `SparseLearner`: the same losses, sums in another order, choices from float32 values."""


class ArmMaker:
    """Makes what a plan needs and the store does not have yet."""

    def __init__(
        self, plan: Plan, material: Material, store: ArmStore, progress: Progress, kept: BaselineStore | None = None
    ) -> None:
        """Prepare; nothing is computed before `make`.

        Args:
            plan: which SAEs.
            material: activations, and the SAE under test where there is one.
            store: where the SAEs of this check are written.
            progress: told about every stage.
            kept: trained arms of earlier checks; by default the user's own store.
        """
        self.plan, self.material, self.store, self.progress = plan, material, store, progress
        self.kept = BaselineStore.of_user() if kept is None else kept
        self.schedule = Schedule(plan.steps, plan.settings.batch_size, plan.settings.lr)
        self.store.rebuild = self._rebuild
        self.watch: Callable[[int, Sequence[Learner]], None] = lambda step, learners: None
        """Called after every step of training with the arms that learn; it must leave them as they are."""

    @cached_property
    def moments(self) -> Moments:
        """Mean, covariance and scale of the first training batches, behind the SAE's own normalisation."""
        first = (batch.cpu() for batch, _ in zip(self._batches(0), range(_MOMENT_BATCHES), strict=False))
        given = self.material.artefact
        kind = given.recipe.get("normalize_activations", "none") if given else "none"
        return measure_moments(first, normalize_activations=kind)

    @cached_property
    def artefact(self) -> Artefact:
        """The given SAE, made to read and write raw activations."""
        assert self.material.artefact is not None  # noqa: S101
        try:
            return in_raw_space(self.material.artefact, self.moments.scale)
        except BadSAE as error:
            raise UsageError(str(error)) from None

    @cached_property
    def shape(self) -> Shape:
        """Size, sparsity and architecture of every arm that is made here; the L0 of a given SAE is measured first."""
        settings, train = self.plan.settings, self.material.train
        if self.material.artefact is None:
            assert settings.l0 is not None  # noqa: S101
            sizes = (train.d_in, settings.d_sae, settings.l0)
            return Shape(settings.architecture, *sizes, settings.hook_name, self.material.model_name)
        # `adopt` put the SAE's own architecture into the settings, unless the user wants another one.
        recipe = self.material.artefact.recipe.with_values("setting", architecture=settings.architecture)
        try:
            shape = shape_of(recipe, l0=self._target)
        except ValueError as error:
            raise UsageError(str(error)) from None
        return replace(shape, hook_name=settings.hook_name, model_name=self.material.model_name)

    @property
    def recipe(self) -> dict[str, Any]:
        """How trained arms are made, in words that another person's check can be compared by."""
        shape, settings = self.shape, self.plan.settings
        return {
            "model": shape.model_name,
            "hook_name": shape.hook_name,
            "d_in": shape.d_in,
            "d_sae": shape.d_sae,
            "architecture": shape.architecture,
            "l0": shape.l0,
            "normalize_activations": shape.normalize_activations,
            "apply_b_dec_to_input": shape.apply_b_dec_to_input,
            "options": [list(option) for option in shape.options],
            "context_size": settings.context_size,
            "prepend_bos": settings.prepend_bos,
            "tokens": self.schedule.steps * self.schedule.batch_size,
            "batch_size": self.schedule.batch_size,
            "lr": self.schedule.lr,
            "order": settings.seed,
            "texts": self.material.texts,
            "model_sha256": self.material.model_sha256,
            "centred": self.material.centred,
        }

    def key(self, sae: ArmSeed) -> str:
        """Content key of one SAE: recipe, data and code, never a file name."""
        ingredients = {
            "arm": sae.arm,
            "seed": sae.seed,
            "data": [self.material.train.key, self.material.calibration.key, self.material.held_out.key],
            "code": TRAINING_VERSION,
            "versions": versions(),
        }
        if self.material.artefact is not None and sae.arm in (self.plan.under_test, *self.plan.controls):
            # What is measured of it depends on the L0 that is aimed at, not on how baselines are trained.
            return content_key(ingredients | {"artefact": self.material.artefact.sha256, "l0": self._aim})
        ingredients |= {"shape": vars(self.shape), "schedule": vars(self.schedule), "order": self.plan.settings.seed}
        # A TopK arm is made with k and judged by the L0 that was measured on the given SAE.
        ingredients |= {"target": self._target}
        if self.material.sparse_step:
            ingredients |= {"step": f"sparse {SPARSE_VERSION}"}
        if self.material.device != "cpu":
            ingredients |= {"learns_on": torch.device(self.material.device).type}
        imported = self._imports.get((sae.arm, sae.seed))
        return content_key(ingredients | ({"imported": dict(imported.record["files"])} if imported else {}))

    def make(self) -> tuple[ArmFacts, ...]:
        """Make every missing SAE and return the facts of all, in the plan's order."""
        self._adopt()
        missing = self._missing()
        if missing:
            self._import(missing)
            self._reuse(missing)
            self._train([(b, s) for b in self.plan.trained for s in self.plan.seeds], missing)
            self._draw(missing)
            self._derive(missing)
        self._share()
        return tuple(self.store.facts(s) for s in self.plan.saes())

    @property
    def _aim(self) -> float | None:
        """L0 that the user asks for; None for that of the given SAE."""
        return self.plan.settings.l0

    @cached_property
    def _target(self) -> float:
        """L0 that every arm is matched to and judged by; of a given SAE it is measured once."""
        return self.shape.l0 if self.material.artefact is None else self._given_l0()

    def _given_l0(self) -> float:
        if self._aim is not None:
            return self._aim
        self._adopt()
        return self.store.facts(ArmSeed(self.plan.under_test, self.plan.test_seeds[0])).l0

    def _adopt(self) -> None:
        """Take the given SAE as the arm under test and measure its L0, unless that has been done."""
        if self.material.artefact is None:
            return
        arm = ArmSeed(self.plan.under_test, self.plan.test_seeds[0])
        if self.store.has(arm, self.key(arm)):
            return
        sae = self.artefact.sae
        sparsity = measure_sparsity(sae, _acts(self.material.held_out))
        if sparsity.l0 == 0:
            raise UsageError(f"{self.artefact.name}: no latent is ever active on the held-out texts; is this its hook?")
        target = self._aim or sparsity.l0
        note = _l0_note(self.artefact, sparsity.l0)
        facts = ArmFacts(arm.arm, arm.seed, sparsity.l0, target, sparsity.dead_share, note)
        self.store.write(facts, sae, self.key(arm), {"artefact": self.artefact.sha256})

    def _missing(self) -> list[ArmSeed]:
        """SAEs that are not there, and the controls of every trained one that is not: they are made from it."""
        absent = [s for s in self.plan.saes() if not self.store.has(s, self.key(s))]
        parents = {s.seed for s in absent if s.arm == self.plan.under_test}
        return [s for s in self.plan.saes() if s in absent or (s.arm in CONTROLS and s.seed in parents)]

    @cached_property
    def _imports(self) -> dict[tuple[str, int], Kept]:
        """Somebody else's baselines that fit, if the user named some."""
        source = self.plan.settings.baselines_from
        names = [baseline.arm for baseline in self.plan.trained if baseline.arm != self.plan.under_test]
        return fitting(shared_arms(source), self.recipe, names, source) if source else {}

    def _import(self, missing: list[ArmSeed]) -> None:
        source = self.plan.settings.baselines_from
        for sae in [s for s in missing if (s.arm, s.seed) in self._imports]:
            kept = self._imports[sae.arm, sae.seed]
            try:
                path = with_files(kept, source)
                loaded = load_folder(path, name=sae.arm).sae
            except BadSAE as error:
                raise UsageError(f"baselines_from: {error}") from None
            if wrong := unsound(path, kept.record, links=True):
                raise UsageError(f"baselines_from: {path / wrong} is not what its record says")
            check_shape(loaded, self.shape, path)
            self._match_and_write(sae, loaded, recalibrate=True, note="trained elsewhere (baselines_from)")
            missing.remove(sae)

    def _reuse(self, missing: list[ArmSeed]) -> None:
        """Take trained arms of earlier checks; their key says that training them again would give the same bytes."""
        names = {baseline.arm for baseline in self.plan.trained}
        for sae in [s for s in missing if s.arm in names]:
            if found := self.kept.find(self.key(sae)):
                self.store.take(sae, found)
                missing.remove(sae)

    def _batches(self, start: int) -> Iterator[torch.Tensor]:
        batches = self.material.train.batches(
            self.schedule.batch_size, seed=self.plan.settings.seed, n_batches=self.schedule.steps
        )
        for _ in range(start):
            next(batches)
        return batches

    def _stream(self, start: int) -> Iterator[torch.Tensor]:
        """The same where arms learn."""
        return (batch.to(self.material.device) for batch in self._batches(start))

    def _learner(self, baseline: Baseline, seed: int) -> Learner:
        first = self.moments.seen(next(self._stream(0)))
        learner = new_learner(baseline, self.shape, self.moments, self._drawn_by(seed), first)
        learner.seed = seed
        return sparse_learner(learner) if self.material.sparse_step else learner

    def _drawn_by(self, seed: int) -> int:
        """Seed of the generator behind an arm's seed."""
        if self.material.draw is None:
            return seed
        return int(np.random.SeedSequence([self.material.draw, seed]).generate_state(1, np.uint64)[0] >> np.uint64(1))

    def _train(self, wanted: list[tuple[Baseline, int]], missing: list[ArmSeed]) -> None:
        # The key names all arms, so that a run killed after some were written still finds the others' state.
        key = content_key({"arms": [self.key(ArmSeed(b.arm, s)) for b, s in wanted]})
        wanted = [(b, s) for b, s in wanted if ArmSeed(b.arm, s) in missing]
        if not wanted:
            return
        try:
            self._train_together(wanted, key)
        except torch.OutOfMemoryError:
            raise UsageError(
                f"device is {self.material.device!r}, whose memory has no room to train {len(wanted)} SAEs of"
                f" {self.shape.d_sae:,} latents side by side; fewer seeds or baselines take less of it, and cpu none"
            ) from None
        finally:
            torch.cuda.empty_cache()  # for Ray's workers; without a GPU it does nothing

    def _train_together(self, wanted: list[tuple[Baseline, int]], key: str) -> None:
        learners = [self._learner(baseline, seed) for baseline, seed in wanted]
        checkpoint = self.store.folder / "training.safetensors"

        def on_step(done: int) -> None:
            self.progress.advance(done)
            self.watch(done, learners)

        self.progress.start(f"training {len(learners)} SAEs together", self.schedule.steps)
        train_together(
            learners,
            self._stream,
            self.moments,
            self.schedule,
            checkpoint=checkpoint,
            key=key,
            on_step=on_step,
        )
        self.progress.finish()
        for learner in learners:
            self._keep(learner)
        checkpoint.unlink(missing_ok=True)

    def _draw(self, missing: list[ArmSeed]) -> None:
        for baseline in self.plan.untrained:
            for seed in self.plan.random_seeds:
                if ArmSeed(baseline.arm, seed) in missing:
                    self._keep(self._learner(baseline, seed))

    def reference(self, baseline: Baseline, seed: int) -> SAE[Any]:
        """Make an untrained arm at the matched L0 with the decoder's scale that reconstructs best; nothing is kept."""
        sae, calibration = to_inference(self._learner(baseline, seed).sae, self.moments), self.material.calibration
        calibrate_l0(sae, _acts(calibration), self._target, n_tokens=calibration.n_tokens)
        fit_scale(sae, _acts(calibration))
        return sae

    def _keep(self, learner: Learner) -> None:
        """Match the L0 of a finished arm, measure it, write it."""
        sae, name = to_inference(learner.sae, self.moments), ArmSeed(learner.baseline.arm, learner.seed)
        self._match_and_write(name, sae, recalibrate=True)

    def _share(self) -> None:
        """Keep what cost training for later checks: all of it, since an earlier run may have been killed before."""
        for sae in (ArmSeed(b.arm, seed) for b in self.plan.trained for seed in self.plan.seeds):
            if (sae.arm, sae.seed) not in self._imports:
                self.kept.keep(self.store.path(sae), self.key(sae))

    def _derive(self, missing: list[ArmSeed]) -> None:
        for name in self.plan.controls:
            for seed in self.plan.test_seeds:
                if (control := ArmSeed(name, seed)) in missing:
                    self._match_and_write(control, self._control(control), recalibrate=CONTROLS[name].recalibrate)

    def _control(self, control: ArmSeed) -> AnySAE:
        trained = self.store.load(ArmSeed(self.plan.under_test, control.seed))
        return CONTROLS[control.arm].derive(trained, torch.Generator().manual_seed(self._drawn_by(control.seed)))

    def _rebuild(self, sae: ArmSeed) -> AnySAE:
        """Make again what SAELens could not save."""
        return self.artefact.sae if sae.arm == self.plan.under_test else self._control(sae)

    def _match_and_write(self, name: ArmSeed, sae: AnySAE, *, recalibrate: bool, note: str = "") -> None:
        target = self._target
        if recalibrate:
            calibration = self.material.calibration
            calibrate_l0(sae, _acts(calibration), target, n_tokens=calibration.n_tokens)
        sparsity = measure_sparsity(sae, _acts(self.material.held_out))
        if isinstance(sae, SAE):
            sae.cfg.metadata.l0 = sparsity.l0
        facts = ArmFacts(name.arm, name.seed, sparsity.l0, target, sparsity.dead_share, note)
        about = {"recipe": self.recipe} if name.arm in {b.arm for b in self.plan.trained} else {}
        self.store.write(facts, sae, self.key(name), about)


_SAVED_AS = {"batchtopk": "jumprelu", "matryoshka_batchtopk": "jumprelu"}


def check_shape(sae: AnySAE, shape: Shape, path: Path) -> None:
    """Refuse an imported baseline that is not of the check's shape, whatever its record says.

    Raises:
        UsageError: with the first difference.
    """
    cfg, left = sae.cfg, shape.normalize_activations
    wanted = {
        "d_in": (cfg.d_in, shape.d_in),
        "d_sae": (cfg.d_sae, shape.d_sae),
        "architecture": (cfg.architecture(), _SAVED_AS.get(shape.architecture, shape.architecture)),
        "normalize_activations": (cfg.normalize_activations, left if left in RUN_TIME else "none"),
    }
    for name, (there, here) in wanted.items():
        if there != here:
            raise UsageError(f"baselines_from: {path}: {name} is {there!r} there and {here!r} here")


def _l0_note(artefact: Artefact, measured: float) -> str:
    recorded = artefact.recipe.get("l0")
    if not recorded or abs(recorded - measured) <= 0.05 * recorded:
        return ""
    return f"L0 {measured:.4g} measured here, {recorded:.4g} by its {artefact.recipe.source('l0')}"


def _acts(activations: Rows) -> Iterator[torch.Tensor]:
    return (chunk[0] for chunk in activations.chunks())
