"""What the activation sets of a cache may take of the disk: those that nobody has used for longest go first."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

VARIABLE = "SAE_SANITY_CACHE_MAX"
"""Environment variable: most bytes of all activation sets of a cache, as 20GB or 500MB; without it there is no
limit."""
_LOCK = ".in-use"
"""Held, shared, by everyone who uses the set of its folder; its time is when the set was used last, its text the bytes
that were reserved for a set that is being made."""
_DOOR = ".room"
"""Held, alone, by who makes room beside it."""
_DROPPED = ".dropped-"
_SET = re.compile(rf"({re.escape(_DROPPED)}([0-9a-f]+-)?)?[0-9a-f]{{32}}(\.\w+)?")
"""Names of sets, of those too that a kill left half dropped; whatever else lies there is nobody's to drop."""
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def allowed() -> int | None:
    """Most bytes of all sets together; None where there is no limit.

    Raises:
        ValueError: The variable is no size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?B)?", text, flags=re.IGNORECASE)
    size = float(found[1]) * _UNITS[(found[2] or "").upper()] if found else 0.0
    if not 1 <= size < math.inf:
        raise ValueError(f"{VARIABLE} is {text!r}; it must be a size above 0, as 500MB or 20GB")
    return int(size)


def hold(folder: Path) -> TextIO:
    """Make the folder of a set if there is none, and keep others from dropping it until the file is closed.

    Returns:
        The open file; a process that dies lets go of it too.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # dropped between the two lines
            file = (folder / _LOCK).open("a+")
            with suppress(OSError):  # no locks on this file system: then nothing is dropped either
                fcntl.flock(file, fcntl.LOCK_SH)
            if _is(file, folder / _LOCK):
                os.utime(folder / _LOCK)
                return file
            file.close()


def make_room(folder: Path, need: int, most: int) -> None:
    """Drop sets beside a folder until it may take what it needs, and reserve that for it.

    Least recently used first, none that is in use. Processes do it one after another, and each counts what the others
    have reserved for sets that they still make.

    Args:
        folder: of the set that is about to be made, which the caller holds; its own finished part included in the need.
        need: bytes.
        most: bytes that all sets may take.

    Raises:
        OSError: (EDQUOT) What is in use leaves too little.
    """
    with _alone(folder.parent):
        taken = _taken(folder)
        for each in sorted(_others(folder), key=_last_used):
            if taken + need <= most:
                break
            drop(each)
            # Not a subtraction: others may have dropped it, or only a part of it could be removed.
            taken = _taken(folder)
        if taken + need > most:
            used = f" beside the {in_words(taken)} that this and other runs use now" if taken else ""
            raise OSError(
                errno.EDQUOT,
                f"the activations need {in_words(need)}{used}, but {VARIABLE} is {in_words(most)}",
                str(folder.parent),
            )
        (folder / _LOCK).write_text(str(need))


def settle(held: TextIO) -> None:
    """Give back what was reserved for a set: it is made, and its files say what it takes."""
    held.truncate(0)


def drop(folder: Path) -> bool:
    """Remove a set, unless somebody uses it; whether it is gone."""
    if folder.is_symlink():  # to a place that is not the cache's
        return False
    try:
        with (folder / _LOCK).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is(file, folder / _LOCK):  # dropped before the lock was had, and perhaps made again
                return False
            # At once, so that nobody finds half a set; a name that is left over from a kill is dropped next time.
            if not folder.name.startswith(_DROPPED):
                folder = folder.rename(folder.with_name(f"{_DROPPED}{secrets.token_hex(4)}-{folder.name}"))
            shutil.rmtree(folder)
    except OSError:  # in use, no locks here, or not ours to remove
        return False
    return True


def size_of(folder: Path) -> int:
    """Bytes of the files of a set; 0 where it has gone."""
    found = 0
    for root, _, names in os.walk(folder):  # unlike `rglob` it stands a folder that vanishes
        for name in names:
            with suppress(OSError):
                found += os.lstat(os.path.join(root, name)).st_size
    return found


def in_words(n_bytes: float | int) -> str:
    """Bytes as people read them."""
    for unit in ("bytes", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} GB"


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    with (parent / _DOOR).open("a") as door:
        with suppress(OSError):  # no locks on this file system: then nothing is dropped either
            fcntl.flock(door, fcntl.LOCK_EX)
        yield


def _others(folder: Path) -> list[Path]:
    """Sets beside a folder; a linked one takes nothing here."""
    found = (each for each in folder.parent.iterdir() if each != folder and _SET.fullmatch(each.name))
    return [each for each in found if each.is_dir() and not each.is_symlink()]


def _taken(folder: Path) -> int:
    return sum(map(_claimed, _others(folder)))


def _claimed(folder: Path) -> int:
    """Bytes of a set, or those reserved for it if they are more and somebody is making it."""
    size = size_of(folder)
    with suppress(OSError, ValueError), (folder / _LOCK).open("r+") as file:
        if _in_use(file):
            return max(size, int(file.read()))
    return size


def _in_use(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _last_used(folder: Path) -> float:
    """When a set was used last; sets of earlier versions have no file that says so."""
    for path in (folder / _LOCK, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _is(file: TextIO, path: Path) -> bool:
    """Whether an open file is still the one at a path."""
    with suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
