"""The command line as a user meets it: what is typed, the exit code, the one line that bad input gets."""

from __future__ import annotations

from pathlib import Path

from sae_sanity.harness import cli


def call(*arguments: object) -> int:
    """Exit code of `sae-sanity` with these arguments."""
    try:
        return cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        return int(error.code or 0)


def one_line(text: str) -> str:
    """The only line of what was printed."""
    (line,) = text.strip().splitlines()
    return line


def untouched(path: Path) -> tuple[int, int, int]:
    """What stays the same of a file, a link or a pipe that nobody writes to or replaces; looking at it changes none."""
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_mtime_ns
