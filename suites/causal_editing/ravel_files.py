"""RAVEL's four JSON files and `SOURCES.md`: found in a folder or on the hub, and written whole."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from ...baselines.wrap.errors import one_line
from ...baselines.wrap.strict_json import parse_object
from ..hub_errors import hub_reason
from .ravel import RavelData, Source, file_names

SOURCES = "SOURCES.md"
"""Name of the file that says where data is from."""
MAX_BYTES = 32 * 2**20
"""Largest file that is read; RAVEL's largest has under 2 MB."""
_BASE = ("", "base/")  # SAEBench downloads the repo into a folder `base`
_ADDRESS = re.compile(r"(?:hf://datasets/)?(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
_FIRST = re.compile(r"ravel_(?P<entity>[\w-]+)_attribute_to_prompts\.json")
_TYPE = re.compile(r"[\w-]+")
_COLUMNS = tuple(field.name for field in fields(Source))


@dataclass(frozen=True)
class Found:
    """Four files that are JSON objects; nothing else of them is known."""

    contents: Mapping[str, Mapping[str, Any]]
    """By file name."""
    sources: tuple[Source, ...]
    """Where they are from."""
    place: str
    """Folder or repo, for messages."""


def open_ravel(where: str, entity_type: str) -> Found:
    """Read the four files of an entity type.

    Args:
        where: Folder or dataset of the hub; see `load_ravel`.
        entity_type: As in `city`.

    Raises:
        ValueError: A file is missing, too large, no JSON object or has a key twice; one line.
    """
    if not _TYPE.fullmatch(entity_type):
        raise ValueError(f"entity type {entity_type[:60]!r} is no word; it must be like 'city'")
    folder = Path(where).expanduser()
    if where.startswith("hf://") or not folder.exists():
        folder, sources = _downloaded(where, entity_type)
        place = where
    else:
        folder = _below(folder, entity_type)
        sources, place = _sources(folder), str(folder)
    contents = {name: _read(folder / name, place) for name in file_names(entity_type)}
    return Found(contents, sources, place)


def write_ravel(data: RavelData, folder: Path) -> tuple[Path, ...]:
    """Write data; see `save_ravel`."""
    final = Path(os.path.realpath(folder.expanduser()))
    _check_replaceable(final, folder, data.entity_type)
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{final.name}-", dir=final.parent) as temporary:
        made = Path(temporary) / "new"
        made.mkdir()
        for name, content in data.files().items():
            (made / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (made / SOURCES).write_text(_sources_page(data), encoding="utf-8")
        if final.exists():
            final.rename(Path(temporary) / "old")
        made.rename(final)
    return tuple(folder / name for name in (*data.files(), SOURCES))


def _below(folder: Path, entity_type: str) -> Path:
    first = file_names(entity_type)[0]
    for base in _BASE:
        if (folder / base / first).exists():
            return folder / base
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; name a folder with {first}, or a dataset of the hub as org/repo")
    types = sorted(
        {m["entity"] for base in _BASE for p in (folder / base).glob("*") if (m := _FIRST.fullmatch(p.name))}
    )
    instead = f"it has data of {', '.join(types[:10])}" if types else "RAVEL's four JSON files are needed"
    raise ValueError(f"{folder} has no {first}; {instead}")


def _read(path: Path, place: str) -> dict[str, Any]:
    shown = f"{place}: {path.name}"
    # Asked of the path, never by opening it: a named pipe would wait for a writer.
    if not path.is_file():
        raise ValueError(f"{shown}: {'not a regular file' if path.exists() else 'it is missing'}; a file is needed")
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{shown}: {size:,} bytes; at most {MAX_BYTES:,} are read")
        return parse_object(path.read_bytes(), shown)
    except OSError as error:
        raise ValueError(f"{shown}: it cannot be read ({error.strerror})") from None


def _downloaded(where: str, entity_type: str) -> tuple[Path, tuple[Source, ...]]:
    match = _ADDRESS.fullmatch(where)
    if match is None:
        raise ValueError(f"no such folder: {where[:200]!r}; a dataset of the hub is written org/repo")
    shown = not are_progress_bars_disabled()
    disable_progress_bars()  # stderr belongs to the caller's own progress
    try:
        folder, commit = _fetch(match["repo"], match["revision"], file_names(entity_type))
    except Exception as error:
        if (reason := hub_reason(error)) is None:
            raise
        raise ValueError(f"dataset {where!r}, RAVEL's files of {entity_type!r}: {reason}") from None
    finally:
        if shown:
            enable_progress_bars()
    url = f"https://huggingface.co/datasets/{match['repo']}"
    return folder, (Source(match["repo"], commit, "as the repo states", url, "entities, values, templates, splits"),)


def _fetch(repo_id: str, revision: str | None, names: tuple[str, ...]) -> tuple[Path, str]:
    """The folder in the hub's cache, and the commit."""
    base = ""
    try:
        first = hf_hub_download(repo_id, names[0], repo_type="dataset", revision=revision)
    except EntryNotFoundError:
        base = _BASE[1]
        first = hf_hub_download(repo_id, base + names[0], repo_type="dataset", revision=revision)
    folder = Path(first).parent
    commit = (folder.parent if base else folder).name
    for name in names[1:]:
        # Of the same commit, whatever has been pushed since.
        hf_hub_download(repo_id, base + name, repo_type="dataset", revision=commit)
    return folder, commit


def _check_replaceable(final: Path, folder: Path, entity_type: str) -> None:
    if not final.exists():
        return
    if not final.is_dir():
        raise ValueError(f"{folder} is a file; name a new folder")
    ours = {*file_names(entity_type), SOURCES}
    others = sorted(path.name for path in final.iterdir() if path.name not in ours or not path.is_file())
    if others:
        what = f"{others[0]!r}, which is not data of {entity_type!r}"
        raise ValueError(one_line(f"{folder} holds {what}; name a new folder"))


def _sources_page(data: RavelData) -> str:
    rows = [[_cell(getattr(source, name)) for name in _COLUMNS] for source in data.sources]
    table = [_COLUMNS, ["---"] * len(_COLUMNS), *rows]
    lines = [f"| {' | '.join(row)} |" for row in table]
    counts = f"{len(data.values)} entities of type {data.entity_type}; attributes {', '.join(data.attributes)}."
    return "\n".join(["# Sources of this data", "", counts, f"Content sha256 {data.sha256}.", "", *lines, ""])


def _cell(text: str) -> str:
    return one_line(text).replace("|", "/") or "-"


def _sources(folder: Path) -> tuple[Source, ...]:
    """The table of `SOURCES.md`; without one, the folder itself, of a licence that nobody stated."""
    path = folder / SOURCES
    text = ""
    if path.is_file() and path.stat().st_size <= MAX_BYTES:
        text = path.read_text(encoding="utf-8", errors="replace")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    cells = [["" if cell == "-" else one_line(cell) for cell in row] for row in rows[2:] if len(row) == len(_COLUMNS)]
    stated = tuple(Source(*row) for row in cells)
    return stated or (Source(str(folder), "", "not stated", "", "entities, values, templates, splits"),)
