"""Entry points by name: how another package adds a suite or a judge."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint


def by_name(what: str, points: Iterable[EntryPoint]) -> dict[str, EntryPoint]:
    """Entry points by their name, none of them imported, in their order.

    Args:
        what: what each of them gives, in the words of the message.
        points: the built-in ones first.

    Raises:
        ValueError: Two packages give different things of the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in points:
        known = found.setdefault(point.name, point)
        if known.value != point.value:
            msg = f"{what} {point.name!r} is given by both {known.value!r} and {point.value!r}; rename one of them"
            raise ValueError(msg)
    return found
