"""SAEs in folders of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...baselines.wrap import Unsupported, load_folder, read_recipe, unsupported
from ..errors import UsageError
from .located import Kind, Located, each_of, refusals, refusing, select, skipped

CFG = "cfg.json"
HERE = "."
"""The sae_id of an SAE that lies in the named folder itself, where there are others below it."""
_DEPTH = 5  # deeper than any release nests its SAEs, and shallow enough not to walk through a home folder


def locate_folder(folder: Path, target: str, sae_ids: Sequence[str]) -> tuple[Located, ...]:
    """Find the SAEs in a folder: the one in it, else those in the folders below; their ids are relative paths.

    Raises:
        UsageError: There is none, several and none was chosen, or a chosen one is refused.
    """
    known = tuple(_sae_folders(folder))
    if not known:
        raise UsageError(f"no SAE in {target}: neither it nor a folder below holds {CFG} (SAELens' format)")
    if known == (HERE,) and sae_ids:
        raise UsageError(f"{target} is one SAE; leave --sae-id out")
    if HERE in known and not sae_ids:
        return (locate_one(folder, ""),)
    return each_of(select(target, known, sae_ids), lambda sae_id: locate_one(folder / sae_id, sae_id), "folder")


def locate_one(
    folder: Path,
    name: str,
    *,
    label: str = "",
    kind: Kind = "folder",
    extra: Mapping[str, Any] | None = None,
) -> Located:
    """Read the recipe of the SAE in a folder.

    Args:
        folder: With cfg.json.
        name: The sae_id; "" where the target is this SAE.
        label: What reports call it where it has no sae_id; the folder's name by default.
        kind: Where the folder is from.
        extra: What SAELens' registry knows of it.

    Raises:
        UsageError: The configuration is refused.
    """
    try:
        with refusals():
            recipe = read_recipe(folder, extra=extra)
    except Unsupported as error:
        return skipped(name, kind, str(error))
    skip = unsupported(recipe)
    load = partial(load_folder, folder, name=name or label or folder.resolve().name, recipe=recipe)
    return Located(name, kind, recipe, refusing(load), skip)


def _sae_folders(folder: Path) -> Iterator[str]:
    """Relative paths of the folders with a cfg.json, in order; links are not followed."""
    for path, folders, files in os.walk(folder):
        relative = Path(path).relative_to(folder)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and len(relative.parts) < _DEPTH)
        # A name with a newline or an escape in it would write what it likes into a report.
        if CFG in files and relative.as_posix().isprintable():
            yield relative.as_posix()
