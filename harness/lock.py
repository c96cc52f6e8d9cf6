"""Locks of a folder: one run at a time, or several that take turns; a process that dies lets go of its own."""

from __future__ import annotations

import errno
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import UsageError
from .progress import Progress

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
_LOOK_AGAIN = 0.2
"""Seconds between two attempts."""


class InUseError(UsageError):
    """Another check is at work in the folder: nothing is wrong with the SAE."""


@contextmanager
def attempt(path: Path, *, shared: bool = False) -> Iterator[bool]:
    """Try to hold a lock file, for as long as the block lasts.

    Args:
        path: the file, made if there is none. It is never removed: who has just opened it would hold another one.
        shared: whether others may hold it too that want to share it.

    Yields:
        Whether it is held.

    Raises:
        UsageError: where the file system has no locks.
    """
    # Both ways: on NFS a shared lock wants a file that can be read.
    with path.open("a+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise UsageError(f"the file system of {path} has no locks; put results and cache on one that has") from None
        yield held


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a results folder, so that two checks cannot write it at once.

    Args:
        folder: results folder.
        shared: held with other shards of one check, but not with a check of all.

    Raises:
        UsageError: when another check holds it.
    """
    with attempt(folder / ".lock", shared=shared) as held:
        if not held:
            raise InUseError(f"results folder {folder} is in use by another check; wait for it, or use another")
        yield


@contextmanager
def waiting(
    path: Path, progress: Progress, stage: str, *, unless: Callable[[], bool] = lambda: False
) -> Iterator[bool]:
    """Hold a lock file, after whoever holds it now.

    Args:
        path: the file.
        progress: told of `stage` while there is somebody to wait for.
        stage: what to call that.
        unless: what makes it needless.

    Yields:
        Whether it is held; not where it has become needless.
    """
    told = False
    while not unless():
        with attempt(path) as held:
            if held and not unless():
                if told:
                    progress.finish()
                yield True
                return
        if not told:
            progress.start(stage, 1)
            told = True
        progress.advance(0)
        time.sleep(_LOOK_AGAIN)
    if told:
        progress.finish()
    yield False
