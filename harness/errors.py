"""Errors that a user can mend: one line, exit code 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

USERS_TO_MEND = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO})
"""Errors of the system that a user can do something about: a full or failing disk, a folder that is not theirs."""

MOST_NAMES = 40
"""More names than this are counted, not listed."""


class UsageError(Exception):
    """Bad input. Its text is one line: what, its value, what would be right."""


def unknown(kind: str, value: str, known: Iterable[str]) -> UsageError:
    """Make the error for a name that does not exist, with the closest one that does."""
    names = sorted(known)
    close = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    known_names = ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} of them"
    return UsageError(f"no such {kind}: {value!r}{hint} (known: {known_names})")
