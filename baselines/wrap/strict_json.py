"""JSON from strangers: small, flat, finite, without duplicates."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from .errors import BadSAE, short
from .files import read

MAX_BYTES = 1_000_000
"""Largest JSON file that is read; SAELens writes a few kilobytes."""

MAX_DEPTH = 16
"""Deepest nesting; SAELens writes three levels."""

MAX_INTEGER = 2**63 - 1
"""Largest integer: what torch can hold."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        BadSAE: see `parse_object`; also for a file over `MAX_BYTES`.
    """
    return parse_object(read(path, MAX_BYTES), str(path))


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: the text, UTF-8.
        where: name of the file in errors.

    Raises:
        BadSAE: it is not JSON or not an object; or it has a key twice, NaN, Infinity, a number that no float or
            64-bit integer can hold, nesting deeper than `MAX_DEPTH` or half a surrogate pair.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
            object_pairs_hook=_unique,
        )
    except RecursionError:
        raise BadSAE(f"{where}: nested too deeply; at most {MAX_DEPTH} levels are read") from None
    except (UnicodeDecodeError, ValueError) as error:
        raise BadSAE(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadSAE(f"{where}: holds {short(value)}; a JSON object is needed")
    _check_tree(value, where)
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text[:30]} is beyond any float")
    return value


def _integer(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) > MAX_INTEGER:
        raise ValueError(f"{text[:30]} is beyond any 64-bit integer")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return found


def _check_tree(tree: object, where: str) -> None:
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadSAE(f"{where}: nested too deeply; at most {MAX_DEPTH} levels are read")
        for value in level:
            _check_text(value, where)
        inside = [(*v.keys(), *v.values()) if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [each for values in inside for each in values]


def _check_text(value: object, where: str) -> None:
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise BadSAE(f"{where}: {short(value)} holds half a surrogate pair, which no file or terminal can hold")
