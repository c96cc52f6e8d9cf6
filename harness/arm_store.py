"""Where the SAEs of a check are kept: ordinary SAELens folders, each with a small record beside the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sae_lens.saes.sae import SAE
from torch import nn

from ..results.design import ArmFacts
from .errors import UsageError
from .plan import ArmSeed

RECORD = "arm.json"
WEIGHTS = "sae_weights.safetensors"


class ArmStore:
    """The folder `arms/` of a results folder: `arms/<arm>/seed-<n>/`, readable by `SAE.load_from_disk`.

    An SAE that SAELens cannot save (a foreign class, or a control made of one) has its record there and is made again
    by `rebuild` when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made when something is written."""
        self.folder = folder
        self.rebuild: Callable[[ArmSeed], nn.Module] | None = None

    def path(self, sae: ArmSeed) -> Path:
        """Folder of one SAE."""
        return self.folder / sae.arm / f"seed-{sae.seed}"

    def record(self, sae: ArmSeed) -> dict[str, Any] | None:
        """Return what was written beside the weights, or None where the SAE is not finished.

        Raises:
            UsageError: when the record is damaged.
        """
        path = self.path(sae) / RECORD
        return read_record(path) if path.exists() else None

    def has(self, sae: ArmSeed, key: str) -> bool:
        """Whether the SAE with this content key is finished."""
        record = self.record(sae)
        return record is not None and record["key"] == key

    def load(self, sae: ArmSeed) -> SAE[Any] | nn.Module:
        """Load an SAE with SAELens' own call, after checking its bytes.

        Raises:
            UsageError: when the weights are not those that were written, or are not on disk and cannot be made again.
        """
        record, path = self.record(sae), self.path(sae)
        if record is not None and not record["saved"]:
            return self._rebuilt(sae)
        if record is None or not (path / WEIGHTS).exists() or file_hash(path / WEIGHTS) != record["weights"]:
            damaged(path / WEIGHTS)
        return SAE.load_from_disk(path)

    def _rebuilt(self, sae: ArmSeed) -> nn.Module:
        if self.rebuild is None:
            raise UsageError(f"{sae.arm} seed {sae.seed} is of a class that SAELens cannot save: it is not on disk")
        return self.rebuild(sae)

    def facts(self, sae: ArmSeed) -> ArmFacts:
        """L0 and dead share of a finished SAE."""
        record = self.record(sae)
        return ArmFacts(**record["facts"]) if record else damaged(self.path(sae) / RECORD)

    def write(self, facts: ArmFacts, model: SAE[Any] | nn.Module, key: str, about: Mapping[str, Any]) -> None:
        """Write an SAE: weights and config by SAELens, then the record; the folder appears whole or not at all.

        Args:
            facts: arm, seed and what was measured of it.
            model: the SAE, reading raw activations.
            key: its content key.
            about: what else the record holds, such as the recipe.
        """
        saved = isinstance(model, SAE)

        def fill(folder: Path) -> None:
            if isinstance(model, SAE):
                model.save_model(folder)
            weights = file_hash(folder / WEIGHTS) if saved else key
            record = {"key": key, "weights": weights, "saved": saved, "facts": vars(facts), **about}
            (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

        whole_folder(self.path(ArmSeed(facts.arm, facts.seed)), fill)

    def take(self, sae: ArmSeed, folder: Path) -> None:
        """Take over a finished folder as it is, without a second copy on disk where links can be made."""
        whole_folder(self.path(sae), lambda temporary: link_files(folder, temporary))


def whole_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that appears whole or not at all."""
    temporary = final.with_name(final.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    fill(temporary)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(temporary, final)


def link_files(source: Path, target: Path) -> None:
    """Put the files of one folder into another, as hard links where the file system has them."""
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)


def copy_files(source: Path, target: Path) -> None:
    """Put copies of the files of one folder into another."""
    for file in source.iterdir():
        shutil.copyfile(file, target / file.name)


def read_record(path: Path) -> dict[str, Any]:
    """Read an arm's record.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if {"key", "weights", "saved", "facts"} <= record.keys() else damaged(path)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        return damaged(path)


def damaged(path: Path) -> Any:  # noqa: ANN401  # never returns
    """Raise the one line for a file that is not what was written."""
    raise UsageError(f"{path} is damaged; delete the folder {path.parent} and run the same command again")


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
