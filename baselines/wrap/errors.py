"""The error of an SAE that cannot be used, and text made safe to print."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_LINE = 500
"""Characters of a message; a hostile file decides what is quoted in it."""


def one_line(text: str) -> str:
    """Return `text` as one printable line: no newlines, no terminal escapes, no lone surrogates, no novel."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 3] + "..."


def short(value: object) -> str:
    """Quote a value from a file, at most 60 characters of it."""
    # A list of a million numbers is not written out only to be cut.
    text = f"a {type(value).__name__} of {len(value)}" if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return '; did you mean X?' for the closest known name, or nothing."""
    close = difflib.get_close_matches(name[:100], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


class BadSAE(ValueError):  # noqa: N818
    """An SAE that is refused. Its text is one line: the file or object, the value, what would be right."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


class Unsupported(BadSAE):
    """An SAE that is sound and of a kind that no baseline is defined for: skipped with this reason, not refused."""
