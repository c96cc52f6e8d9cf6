"""Make the SAEs of a plan and keep them: ordinary SAELens folders, each with a small record beside the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    measure_moments,
    measure_sparsity,
    new_learner,
    to_inference,
    train_together,
)
from ..results.design import ArmFacts
from ..results.store import content_key
from .errors import UsageError
from .plan import ArmSeed, Plan
from .progress import Progress
from .record import versions

if TYPE_CHECKING:
    from ..suites.activations import ActivationSet

RECORD = "arm.json"
WEIGHTS = "sae_weights.safetensors"
TRAINING_VERSION = 1
"""Raised when a change of `baselines/` changes trained weights."""

_MOMENT_BATCHES = 32


@dataclass(frozen=True)
class Material:
    """The activations that arms are made from."""

    train: ActivationSet
    """What they learn from."""
    calibration: ActivationSet
    """Where thresholds are set."""
    held_out: ActivationSet
    """Where L0 and dead latents are measured."""
    model_name: str
    """Recorded in the saved SAEs."""


class ArmStore:
    """The folder `arms/` of a results folder: `arms/<arm>/seed-<n>/`, readable by `SAE.load_from_disk`."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made when something is written."""
        self.folder = folder

    def path(self, sae: ArmSeed) -> Path:
        """Folder of one SAE."""
        return self.folder / sae.arm / f"seed-{sae.seed}"

    def record(self, sae: ArmSeed) -> dict[str, Any] | None:
        """Return what was written beside the weights, or None where the SAE is not finished.

        Raises:
            UsageError: when the record is damaged.
        """
        path = self.path(sae) / RECORD
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            return record if {"key", "weights", "facts"} <= record.keys() else _damaged(path)
        except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
            return _damaged(path)

    def has(self, sae: ArmSeed, key: str) -> bool:
        """Whether the SAE with this content key is finished."""
        record = self.record(sae)
        return record is not None and record["key"] == key

    def load(self, sae: ArmSeed) -> SAE[Any]:
        """Load an SAE with SAELens' own call, after checking its bytes.

        Raises:
            UsageError: when the weights are not those that were written.
        """
        record, path = self.record(sae), self.path(sae)
        if record is None or not (path / WEIGHTS).exists() or _sha256(path / WEIGHTS) != record["weights"]:
            _damaged(path / WEIGHTS)
        return SAE.load_from_disk(path)

    def facts(self, sae: ArmSeed) -> ArmFacts:
        """L0 and dead share of a finished SAE."""
        record = self.record(sae)
        return ArmFacts(**record["facts"]) if record else _damaged(self.path(sae) / RECORD)

    def write(self, sae: ArmSeed, model: SAE[Any], facts: ArmFacts, key: str) -> None:
        """Write an SAE: weights and config by SAELens, then the record; the folder appears whole or not at all."""
        final = self.path(sae)
        temporary = final.with_name(final.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(final, ignore_errors=True)
        model.save_model(temporary)
        record = {"key": key, "weights": _sha256(temporary / WEIGHTS), "facts": vars(facts)}
        (temporary / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(temporary, final)


def _damaged(path: Path) -> Any:  # noqa: ANN401  # never returns
    raise UsageError(f"{path} is damaged; delete the folder {path.parent} and run the same command again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArmMaker:
    """Makes what a plan needs and the store does not have yet."""

    def __init__(self, plan: Plan, material: Material, store: ArmStore, progress: Progress) -> None:
        """Prepare; nothing is computed before `make`."""
        settings = plan.settings
        self.plan, self.material, self.store, self.progress = plan, material, store, progress
        self.shape = Shape(
            settings.architecture,
            material.train.d_in,
            settings.d_sae,
            settings.l0,
            settings.hook_name,
            material.model_name,
        )
        self.schedule = Schedule(plan.steps, settings.batch_size, settings.lr)

    def key(self, sae: ArmSeed) -> str:
        """Content key of one SAE: recipe, data and code, never a file name."""
        return content_key(
            {
                "arm": sae.arm,
                "seed": sae.seed,
                "shape": vars(self.shape),
                "schedule": vars(self.schedule),
                "data": [self.material.train.key, self.material.calibration.key, self.material.held_out.key],
                "order": self.plan.settings.seed,
                "code": TRAINING_VERSION,
                "versions": versions(),
            }
        )

    def make(self) -> tuple[ArmFacts, ...]:
        """Make every missing SAE and return the facts of all, in the plan's order."""
        missing = self._missing()
        if missing:
            moments = measure_moments(self._first_batches())
            self._train([(b, s) for b in self.plan.trained for s in self.plan.seeds], missing, moments)
            self._draw(missing, moments)
            self._derive(missing)
        return tuple(self.store.facts(s) for s in self.plan.saes())

    def _missing(self) -> list[ArmSeed]:
        """SAEs that are not there, and the controls of every trained one that is not: they are made from it."""
        absent = [s for s in self.plan.saes() if not self.store.has(s, self.key(s))]
        parents = {s.seed for s in absent if s.arm == self.plan.trained[0].arm}
        return [s for s in self.plan.saes() if s in absent or (s.arm in CONTROLS and s.seed in parents)]

    def _stream(self, start: int) -> Iterator[torch.Tensor]:
        batches = self.material.train.batches(
            self.schedule.batch_size, seed=self.plan.settings.seed, n_batches=self.schedule.steps
        )
        for _ in range(start):
            next(batches)
        return batches

    def _first_batches(self) -> Iterator[torch.Tensor]:
        return (batch for batch, _ in zip(self._stream(0), range(_MOMENT_BATCHES), strict=False))

    def _learner(self, baseline: Baseline, seed: int, moments: Moments) -> Learner:
        first = next(self._stream(0)) * moments.scale
        return new_learner(baseline, self.shape, moments, seed, first)

    def _train(self, wanted: list[tuple[Baseline, int]], missing: list[ArmSeed], moments: Moments) -> None:
        # The key names all arms, so that a run killed after some were written still finds the others' state.
        key = content_key({"arms": [self.key(ArmSeed(b.arm, s)) for b, s in wanted]})
        wanted = [(b, s) for b, s in wanted if ArmSeed(b.arm, s) in missing]
        if not wanted:
            return
        learners = [self._learner(baseline, seed, moments) for baseline, seed in wanted]
        checkpoint = self.store.folder / "training.safetensors"
        self.progress.start(f"training {len(learners)} SAEs together", self.schedule.steps)
        train_together(
            learners,
            self._stream,
            moments,
            self.schedule,
            checkpoint=checkpoint,
            key=key,
            on_step=self.progress.advance,
        )
        self.progress.finish()
        for learner in learners:
            self._keep(learner, moments)
        checkpoint.unlink(missing_ok=True)

    def _draw(self, missing: list[ArmSeed], moments: Moments) -> None:
        for baseline in self.plan.untrained:
            for seed in self.plan.random_seeds:
                if ArmSeed(baseline.arm, seed) in missing:
                    self._keep(self._learner(baseline, seed, moments), moments)

    def _keep(self, learner: Learner, moments: Moments) -> None:
        """Match the L0 of a finished arm, measure it, write it."""
        sae = to_inference(learner.sae, moments)
        self._match_and_write(ArmSeed(learner.baseline.arm, learner.seed), sae, recalibrate=True)

    def _derive(self, missing: list[ArmSeed]) -> None:
        for name in self.plan.controls:
            for seed in self.plan.seeds:
                if (control := ArmSeed(name, seed)) in missing:
                    trained = self.store.load(ArmSeed(self.plan.trained[0].arm, seed))
                    sae = CONTROLS[name].derive(trained, torch.Generator().manual_seed(seed))
                    self._match_and_write(control, sae, recalibrate=CONTROLS[name].recalibrate)

    def _match_and_write(self, name: ArmSeed, sae: SAE[Any], *, recalibrate: bool) -> None:
        target = self.shape.l0
        if recalibrate:
            calibration = self.material.calibration
            calibrate_l0(sae, _acts(calibration), target, n_tokens=calibration.n_tokens)
        sparsity = measure_sparsity(sae, _acts(self.material.held_out))
        sae.cfg.metadata.l0 = sparsity.l0
        facts = ArmFacts(name.arm, name.seed, sparsity.l0, target, sparsity.dead_share)
        self.store.write(name, sae, facts, self.key(name))


def _acts(activations: ActivationSet) -> Iterator[torch.Tensor]:
    return (chunk[0] for chunk in activations.chunks())
