"""Where the SAEs of a check are kept: ordinary SAELens folders, each with a small record beside the weights."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sae_lens.saes.sae import SAE

from ..baselines.interface import AnySAE
from ..baselines.wrap import BadSAE
from ..baselines.wrap.strict_json import read_object
from ..results.design import ArmFacts
from ..results.store import content_key
from .errors import UsageError
from .plan import ArmSeed

RECORD, CONFIG, WEIGHTS = "arm.json", "cfg.json", "sae_weights.safetensors"
SAVED = (CONFIG, WEIGHTS)
"""Files of a SAELens SAE: k and normalisation are in the first, so both decide what is measured."""


class ArmStore:
    """The folder `arms/` of a results folder: `arms/<arm>/seed-<n>/`, readable by `SAE.load_from_disk`.

    An SAE that SAELens cannot save (a foreign class, or a control made of one) has its record there and is made again
    by `rebuild` when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made when something is written."""
        self.folder = folder
        self.rebuild: Callable[[ArmSeed], AnySAE] | None = None

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

    def load(self, sae: ArmSeed) -> AnySAE:
        """Load an SAE with SAELens' own call, after checking its bytes.

        Raises:
            UsageError: when the weights are not those that were written, or are not on disk and cannot be made again.
        """
        record, path = self.record(sae), self.path(sae)
        if record is not None and not record["files"]:
            return self._rebuilt(sae)
        if record is None:
            damaged(path / WEIGHTS)
        elif wrong := unsound(path, record):
            damaged(path / wrong)
        return SAE.load_from_disk(path)

    def fingerprint(self, sae: ArmSeed) -> str | None:
        """Hash of all that decides what is measured of a finished SAE; None where it is not finished."""
        record = self.record(sae)
        return content_key({"files": record["files"] or record["key"]}) if record else None

    def _rebuilt(self, sae: ArmSeed) -> AnySAE:
        if self.rebuild is None:
            raise UsageError(f"{sae.arm} seed {sae.seed} is of a class that SAELens cannot save: it is not on disk")
        return self.rebuild(sae)

    def facts(self, sae: ArmSeed) -> ArmFacts:
        """L0 and dead share of a finished SAE."""
        record = self.record(sae)
        return ArmFacts(**record["facts"]) if record else damaged(self.path(sae) / RECORD)

    def write(self, facts: ArmFacts, model: AnySAE, key: str, about: Mapping[str, Any]) -> None:
        """Write an SAE: weights and config by SAELens, then the record; the folder appears whole or not at all.

        Args:
            facts: arm, seed and what was measured of it.
            model: the SAE, reading raw activations.
            key: its content key.
            about: what else the record holds, such as the recipe.
        """

        def fill(folder: Path) -> None:
            if isinstance(model, SAE):
                model.save_model(folder)
            files = {name: file_hash(folder / name) for name in SAVED if (folder / name).exists()}
            record = {"key": key, "files": files, "facts": vars(facts), **about}
            (folder / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")

        whole_folder(self.path(ArmSeed(facts.arm, facts.seed)), fill)

    def take(self, sae: ArmSeed, folder: Path) -> None:
        """Take over a finished folder as it is, without a second copy on disk where links can be made."""
        whole_folder(self.path(sae), lambda temporary: take_files(folder, temporary, link=True))


def whole_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that appears whole or not at all; of two processes that make the same one, either may win."""
    final.parent.mkdir(parents=True, exist_ok=True)
    # A hidden name of its own: neither a second process nor a search for finished folders comes upon it.
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    temporary.chmod(0o755)
    try:
        fill(temporary)
        shutil.rmtree(final, ignore_errors=True)
        try:
            os.replace(temporary, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def take_files(source: Path, target: Path, *, link: bool) -> None:
    """Put an SAE's own files, and nothing else, into another folder.

    Args:
        source: a finished folder.
        target: where to.
        link: whether the weights may be a hard link, which takes no room. The small files are copied always: they can
            be edited in place, and an edit here must not reach there.
    """
    for name in (RECORD, *SAVED):
        file = source / name
        if file.is_symlink() or not file.is_file():
            raise FileNotFoundError(f"{file} is not an ordinary file")
        try:
            if link and name == WEIGHTS:
                os.link(file, target / name)
                continue
        except OSError:
            pass  # another file system, or one without links
        shutil.copyfile(file, target / name)


def unsound(path: Path, record: Mapping[str, Any], *, links: bool = False) -> str:
    """Name of the first file of an SAE that is not what its record says; empty where all are.

    Args:
        path: its folder.
        record: what was written beside it.
        links: whether files may be links, as in the Hugging Face cache.
    """
    for name in SAVED:
        file = path / name
        if (file.is_symlink() and not links) or not file.is_file() or file_hash(file) != record["files"].get(name):
            return name
    return ""


def read_record(path: Path) -> dict[str, Any]:
    """Read an arm's record.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        record = read_object(path)
        facts, files = record["facts"], record["files"]
        sound = type(record["key"]) is type(facts["arm"]) is str and type(facts["seed"]) is int
        sound = sound and all(type(facts[name]) in (int, float) for name in ("l0", "target_l0", "dead_share"))
        sound = sound and (not files or (set(files) == set(SAVED) and all(type(h) is str for h in files.values())))
        return record if sound else damaged(path)
    except (BadSAE, KeyError, TypeError, OSError):
        return damaged(path)


def damaged(path: Path) -> Any:  # noqa: ANN401  # never returns
    """Raise the one line for a file that is not what was written."""
    raise UsageError(f"{path} is damaged; delete the folder {path.parent} and run the same command again")


def file_hash(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
