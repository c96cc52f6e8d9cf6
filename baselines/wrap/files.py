"""Finding and reading the files of a folder that nobody vouches for."""

from __future__ import annotations

import contextlib
import os
from itertools import islice
from pathlib import Path

from .errors import BadSAE

CFG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"
RUNNER_CFG = "runner_cfg.json"

_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt", ".npz", ".npy")


def check_folder(folder: Path) -> None:
    """Check that `folder` is one.

    Raises:
        BadSAE: it is missing or something else.
    """
    try:
        what = "" if folder.is_dir() else "not a folder" if folder.exists() else "no such folder"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    if what:
        raise BadSAE(f"{folder}: {what}; a folder with {CFG} and {WEIGHTS} is needed")


def _in_hub_cache(folder: str, target: str) -> bool:
    """Whether a link from a snapshot folder leads to a blob of the same repository, as in Hugging Face's cache."""
    repository, found, _ = folder.rpartition(f"{os.sep}snapshots{os.sep}")
    return bool(found) and os.path.dirname(target) == os.path.join(repository, "blobs")


def find(folder: Path, name: str) -> Path | None:
    """Return the real path of a regular file in `folder`, or None where there is none.

    Raises:
        BadSAE: the name leads out of the folder, or to a folder, pipe or device.
    """
    home, target = os.path.realpath(folder), os.path.realpath(folder / name)
    if not os.path.lexists(folder / name):
        return None
    if os.path.dirname(target) != home and not _in_hub_cache(home, target):
        raise BadSAE(f"{folder / name}: a link out of the folder, to {target}; copy the file into the folder")
    # Asked of the path, never by opening it: a named pipe would wait for a writer.
    if not os.path.isfile(target):
        raise BadSAE(f"{folder / name}: not a regular file; a file is needed")
    return Path(target)


def need(folder: Path, name: str) -> Path:
    """Return the real path of a file that must be there.

    Raises:
        BadSAE: it is not there, with what lies there instead.
    """
    check_folder(folder)
    path = find(folder, name)
    if path is None:
        raise BadSAE(f"{folder}: no {name}{_instead(folder)}")
    return path


def _instead(folder: Path) -> str:
    pickles = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        pickles = [e.name for e in islice(entries, 10_000) if e.name.endswith(_PICKLES)]
    if not pickles:
        return f"; a folder with {CFG} and {WEIGHTS} is needed, as SAELens' save_model writes it"
    return (
        f"; {min(pickles)} may be a pickle, which can run code when it is read, so it is never read: load it where you "
        f"trust it (torch.load(..., weights_only=True)) and save it with SAELens' save_model"
    )


def read(path: Path, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        BadSAE: it is larger or cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise BadSAE(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > limit:
        raise BadSAE(f"{path}: more than {limit} bytes; at most that many are read")
    return data
