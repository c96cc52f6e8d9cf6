"""Shots of the baselines on disk: every SAE of a check is held against the same ones, in whatever process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ...results.files import write_atomically
from .arrows import Missed, Shot

CODE_VERSION = 3
"""Part of every key: raise it when a change alters what an arrow reaches."""


def key_of(ingredients: Mapping[str, Any]) -> str:
    """Content key of one problem: 64 hexadecimal digits.

    Args:
        ingredients: JSON-able, everything that decides a shot: activations, rows, labels, seed, libraries.
    """
    text = json.dumps([CODE_VERSION, ingredients], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ShotStore:
    """A folder with one JSON file for each problem: the AUCs of every arrow, to the last digit, or why there are none.

    A file is written anew after each arrow, whole or not at all, so that a kill loses one fit. Processes that shoot the
    same arrow at the same time find the same numbers, and the last one writes them.
    """

    folder: Path
    """Made when the first shot is kept."""

    def read(self, key: str) -> dict[str, Shot | Missed]:
        """What is kept of one problem, by arrow; a file that is damaged, or not ours, counts as none.

        Args:
            key: of the problem (`key_of`).
        """
        try:
            content = json.loads(self._path(key).read_text(encoding="utf-8"))
            arrows = content["arrows"]
            if content["key"] != key or content["sha256"] != _hash(arrows):
                return {}
            return {name: _parse(value) for name, value in arrows.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def add(self, key: str, name: str, shot: Shot | Missed) -> None:
        """Keep the shot of one arrow beside those that are kept.

        Raises:
            OSError: The disk is full or the folder cannot be written.
        """
        arrows = {other: asdict(kept) for other, kept in (self.read(key) | {name: shot}).items()}
        text = json.dumps({"key": key, "sha256": _hash(arrows), "arrows": arrows})
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(key), text.encode())

    def _path(self, key: str) -> Path:
        return self.folder / f"{key[:32]}.json"


def _hash(arrows: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(arrows).encode()).hexdigest()


def _parse(value: Mapping[str, Any]) -> Shot | Missed:
    if "reason" in value:
        return Missed(**value)
    shot = Shot(**value)
    if not (isfinite(shot.validation_auc) and isfinite(shot.test_auc)):
        msg = f"a kept shot is not a number: {shot}"
        raise ValueError(msg)
    return shot
