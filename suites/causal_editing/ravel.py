"""RAVEL's data: facts about entities, and templates that ask for them (Huang et al. 2024, arXiv 2402.17700)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAIN, HELD_OUT = "train", ("val", "test")
"""Names of splits: what a mask is learned on, and what it is judged on."""


@dataclass(frozen=True)
class Source:
    """Where data is from."""

    name: str
    """A package, a repo or a folder."""
    version: str
    """Its version or commit; empty where there is none."""
    licence: str
    """The licence of the data."""
    url: str
    """Where it can be had; empty where that is not known."""
    what: str
    """What was taken from it."""


@dataclass(frozen=True)
class RavelData:
    """Entities of one type, their attributes, and the templates that ask for them."""

    entity_type: str
    """What the entities are, as in `city`."""
    values: Mapping[str, Mapping[str, str]]
    """Entity -> attribute -> value; what is not known of an entity is not there."""
    templates: Mapping[str, tuple[str, ...]]
    """Attribute -> templates, each with exactly one `%s` in the entity's place."""
    entity_split: Mapping[str, str]
    """Entity -> train, val or test."""
    template_split: Mapping[str, str]
    """Template -> train, val or test."""
    sources: tuple[Source, ...]
    """Where all of it is from."""

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names of the attributes, in the data's order."""
        return tuple(self.templates)

    @property
    def sha256(self) -> str:
        """Hash of everything but the sources; the order counts, because pairs are drawn in it."""
        content = [self.entity_type, *self.files().values()]
        return hashlib.sha256(json.dumps(content, ensure_ascii=True).encode()).hexdigest()

    def files(self) -> dict[str, Mapping[str, Any]]:
        """Contents of RAVEL's four files, by file name."""
        contents = (self.templates, self.template_split, self.values, self.entity_split)
        return dict(zip(file_names(self.entity_type), contents, strict=True))


def file_names(entity_type: str) -> tuple[str, str, str, str]:
    """Names of RAVEL's four files: templates of attributes, their splits, values of entities, their splits."""
    kinds = ("attribute_to_prompts", "prompt_to_split", "entity_attributes", "entity_to_split")
    a, b, c, d = (f"ravel_{entity_type}_{kind}.json" for kind in kinds)
    return a, b, c, d


def load_ravel(where: str, entity_type: str, attributes: tuple[str, ...] = ()) -> RavelData:
    """Read data in the layout of `adamkarvonen/ravel_prompts`, of which every file is checked.

    Args:
        where: A folder with the four files, or with a folder `base` that has them; or a dataset of the hub, as
            `org/repo` or `hf://datasets/org/repo`, with `@revision` behind it if needed.
        entity_type: As in `city`.
        attributes: The attributes to keep; empty for all. An attribute that no entity has a value of (RAVEL's control
            prompts) is left out.

    Raises:
        ValueError: It cannot be had, or is no such data: files, JSON, types, `%s`, splits, fewer than two values of an
            attribute, or nothing to train or to judge on; one line that names file and value.
    """
    from .ravel_checks import checked
    from .ravel_files import open_ravel

    found = open_ravel(where, entity_type)
    return checked(entity_type, found.contents, found.sources, found.place, attributes)


def save_ravel(data: RavelData, folder: str | Path) -> tuple[Path, ...]:
    """Write the four files and `SOURCES.md`; the folder appears whole or stays as it was.

    Args:
        data: What `load_ravel` gives back again, sources included.
        folder: A new or empty folder, or one that holds such data and nothing else, which is replaced.

    Returns:
        The files.

    Raises:
        ValueError: There is something else in the folder, or the data would be refused by `load_ravel`; one line.
        OSError: It cannot be written.
    """
    from .ravel_checks import checked
    from .ravel_files import write_ravel

    checked(data.entity_type, data.files(), data.sources, "data to be saved", data.attributes)
    return write_ravel(data, Path(folder))
