"""Where score rows live: a Parquet file and a JSON manifest per cell; a kill leaves no half cell."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .scores import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .scores import Score

SCHEMA = pa.schema([(name, {"seed": pa.int64(), "value": pa.float64()}.get(name, pa.string())) for name in COLUMNS])
"""Columns of a cell: text but for the seed and the value."""


class StoreError(ValueError):
    """The store cannot do what was asked; one line that says what to do."""


class CorruptCell(StoreError):  # noqa: N818 - a value in the report, named for what it is
    """A cell's files do not hold what was written."""


class ForeignStore(StoreError):  # noqa: N818 - a value in the report, named for what it is
    """The folder holds the results of another configuration."""


def content_key(mapping: Mapping[str, object]) -> str:
    """sha256 of the canonical JSON of a mapping, as 64 hex digits.

    Args:
        mapping: JSON-able values under string keys; order does not matter, lists and tuples are the same.

    Returns:
        The key.

    Raises:
        ValueError: If a value is NaN, infinite or no JSON, or a key is no string.
    """
    return hashlib.sha256(_canonical(mapping)).hexdigest()


class Store:
    """A folder of cells that belongs to one configuration.

    `cells/<key>.parquet` holds a cell's rows and `cells/<key>.json` its manifest, which is written last and
    so marks the cell complete. Nothing in a file depends on the time or the machine.
    """

    def __init__(self, folder: str | Path) -> None:
        """Name the folder; nothing is created before the first write.

        Args:
            folder: Folder of the store.
        """
        self.folder = Path(folder)

    def claim(self, config_hash: str, settings: Mapping[str, object]) -> None:
        """Make the folder this configuration's own, or find that it already is.

        Args:
            config_hash: Hash of everything that decides the numbers.
            settings: The resolved settings, JSON-able, kept to say what differs.

        Raises:
            ForeignStore: If the folder belongs to another configuration.
            StoreError: If the folder cannot be written or its `store.json` is damaged.
        """
        wanted = {"config_hash": config_hash, "settings": json.loads(_canonical(settings))}
        path = self.folder / "store.json"
        if not path.exists() and self._put(path, _pretty(wanted), exclusive=True):
            return
        held = _load_json(path, f"{path} is damaged; use another results folder")
        if held.get("config_hash") != config_hash:
            raise ForeignStore(_difference(self.folder, held.get("settings"), wanted["settings"]))

    def write(self, key: str, scores: Iterable[Score] | pd.DataFrame, manifest: Mapping[str, object]) -> None:
        """Write one cell whole or not at all.

        Args:
            key: Content key of the cell.
            scores: Its rows, columns as in `scores.COLUMNS`.
            manifest: Suite, arm, seed and whatever the key was made of, JSON-able.

        Raises:
            ValueError: If a score is not finite or a column is missing.
            StoreError: If the folder cannot be written.
        """
        data = _parquet(scores)
        rows, manifest_path = self._paths(key)
        text = _pretty({**manifest, "sha256": hashlib.sha256(data).hexdigest()})
        # An older manifest must never vouch for newer rows, so it goes first and comes back last.
        try:
            manifest_path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(_unwritable(manifest_path, error)) from None
        self._put(rows, data)
        self._put(manifest_path, text)

    def has(self, key: str) -> bool:
        """Whether the cell is complete."""
        rows, manifest = self._paths(key)
        return manifest.is_file() and rows.is_file()

    def read(self, key: str) -> pd.DataFrame:
        """Rows of one cell, checked against its manifest.

        Args:
            key: Content key of the cell.

        Returns:
            Its rows, columns as in `scores.COLUMNS`.

        Raises:
            CorruptCell: If a file is missing, changed, or holds something else.
        """
        path, _ = self._paths(key)
        wanted = self.manifest(key).get("sha256")
        try:
            data = path.read_bytes()
        except OSError:
            raise CorruptCell(_damaged(path, "it cannot be read")) from None
        if hashlib.sha256(data).hexdigest() != wanted:
            raise CorruptCell(_damaged(path, "its content is not what its manifest says"))
        return _frame(path, data)

    def manifest(self, key: str) -> dict[str, object]:
        """Manifest of one cell.

        Raises:
            CorruptCell: If it is missing or no JSON.
        """
        path = self._paths(key)[1]
        try:
            return _load_json(path, "")
        except StoreError:
            raise CorruptCell(_damaged(path, "it cannot be read")) from None

    def keys(self) -> tuple[str, ...]:
        """Keys of all complete cells, sorted."""
        found = (path.stem for path in (self.folder / "cells").glob("*.json"))
        return tuple(sorted(key for key in found if self.has(key)))

    def discard(self, key: str) -> None:
        """Remove one cell, so that it is measured again."""
        for path in reversed(self._paths(key)):
            path.unlink(missing_ok=True)

    def _paths(self, key: str) -> tuple[Path, Path]:
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,128}", key):
            msg = f"{key!r} is no cell key"
            raise ValueError(msg)
        return self.folder / "cells" / f"{key}.parquet", self.folder / "cells" / f"{key}.json"

    def _put(self, path: Path, data: bytes, *, exclusive: bool = False) -> bool:
        """Write a file whole; with `exclusive`, False where another process was first."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _atomic(path, data, exclusive=exclusive)
        except OSError as error:
            raise StoreError(_unwritable(path, error)) from None


def _atomic(path: Path, data: bytes, *, exclusive: bool) -> bool:
    """Temporary file in the same folder, synced, then renamed: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            # A link fails where the name is taken: of two processes that claim a folder one hears of it.
            with suppress(FileExistsError):
                os.link(name, path)
                return True
            return False
        os.replace(name, path)
        _sync_folder(path.parent)
        return True
    finally:
        Path(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _parquet(scores: Iterable[Score] | pd.DataFrame) -> bytes:
    """Rows as Parquet bytes; the same rows give the same bytes (no pandas metadata, fixed codec)."""
    frame = cast(
        "pd.DataFrame",
        scores if isinstance(scores, pd.DataFrame) else pd.DataFrame(list(scores), columns=pd.Index(COLUMNS)),
    )
    if list(frame.columns) != list(COLUMNS):
        msg = f"a cell has the columns {list(COLUMNS)}, got {list(frame.columns)}"
        raise ValueError(msg)
    bad = ~np.isfinite(frame["value"].to_numpy(dtype=np.float64))
    if bad.any():
        first = frame[bad].iloc[0]
        name = f"{first['suite']}: {first['metric']} of item {first['item']!r}"
        msg = f"{name} is {first['value']}, not a finite score"
        raise ValueError(msg)
    table = pa.table([pa.array(frame[f.name].tolist(), type=f.type) for f in SCHEMA], schema=SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _frame(path: Path, data: bytes) -> pd.DataFrame:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError):
        raise CorruptCell(_damaged(path, "it is no Parquet file")) from None
    if not table.schema.equals(SCHEMA):
        raise CorruptCell(_damaged(path, f"its columns are {table.schema.names}, not {list(COLUMNS)}"))
    frame = table.to_pandas()
    if frame.isna().to_numpy().any() or not np.isfinite(frame["value"].to_numpy()).all():
        raise CorruptCell(_damaged(path, "it holds a score that is missing or not finite"))
    return frame


def _canonical(mapping: Mapping[str, object]) -> bytes:
    if stray := [key for key in mapping if not isinstance(key, str)]:
        msg = f"keys must be strings, got {stray[0]!r}"
        raise ValueError(msg)
    try:
        return json.dumps(mapping, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except TypeError as error:
        msg = f"cannot be hashed as JSON: {error}"
        raise ValueError(msg) from None


def _pretty(mapping: Mapping[str, object]) -> bytes:
    return (json.dumps(json.loads(_canonical(mapping)), sort_keys=True, indent=2) + "\n").encode()


def _load_json(path: Path, message: str) -> dict[str, object]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        raise StoreError(message) from None
    if not isinstance(value, dict):
        raise StoreError(message)
    return cast("dict[str, object]", value)


def _difference(folder: Path, held: object, wanted: Mapping[str, object]) -> str:
    ours = held if isinstance(held, dict) else {}
    for name in sorted({*ours, *wanted}):
        if ours.get(name) != wanted.get(name) or (name in ours) != (name in wanted):
            there, here = (json.dumps(d[name]) if name in d else "nothing" for d in (ours, wanted))
            what = f"{name} is {there} there and {here} here"
            return f"{folder} holds the results of another run: {what}; use another folder"
    return f"{folder} holds the results of another run (same settings, other code or data); use another folder"


def _damaged(path: Path, problem: str) -> str:
    return f"{path}: damaged cell, {problem}; delete this file and run the same command again"


def _unwritable(path: Path, error: OSError) -> str:
    return f"cannot write {path}: {error.strerror or error}"
