"""One run at a time in a results folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError


class InUseError(UsageError):
    """Another check is at work in the folder: nothing is wrong with the SAE."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a results folder, so that two checks cannot write it at once.

    Raises:
        UsageError: when another check holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(
                f"results folder {folder} is in use by another check; wait for it, or use another"
            ) from None
        yield
