"""Where a report goes: one format on stdout, any number of files, each in the format of its extension."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..results.files import write_output
from .errors import UsageError, unknown

if TYPE_CHECKING:
    from ..results.outcome import CheckReport, SuiteResult


@dataclass(frozen=True)
class Destinations:
    """What `--format`, `--json` and `--output` ask for."""

    format: str
    """Format on stdout."""
    files: tuple[tuple[Path, str], ...] = ()
    """Files, each with its format."""


def destinations(
    format_: str | None = None, *, json: bool = False, output: Sequence[Path] | None = None
) -> Destinations:
    """Read the options and refuse what cannot be written, before anything is computed.

    Args:
        format_: `--format`; None where it was not given.
        json: `--json`, which stands for `--format json`.
        output: Every `--output`.

    Raises:
        UsageError: For an unknown format or extension, `--json` beside another format, what is no regular file, or a
            file in a folder that does not exist.
    """
    from ..results.report import FORMATS

    if format_ is not None and format_ not in FORMATS:
        raise unknown("format", format_, FORMATS)
    if json and format_ not in (None, "json"):
        raise UsageError(f"--json and --format {format_} are two formats for one stdout; write one with --output FILE")
    files = tuple((path, _format_of(path)) for path in output or ())
    return Destinations("json" if json else format_ or "table", files)


def deliver(report: CheckReport, to: Destinations) -> None:
    """Write the files, then print the report on stdout.

    Raises:
        UsageError: For a file that cannot be written; what was there before stays as it was.
    """
    from ..results.report import FORMATS, render_text

    for path, name in to.files:
        save(path, encoded(FORMATS[name](report)))
    if to.format == "table":
        render_text(report, console())
    else:
        _print(FORMATS[to.format](report))


def console() -> Any:  # noqa: ANN401  # rich's Console, imported late to keep `--help` fast
    """Rich's console on stdout, 100 columns wide where that is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=100)


def _format_of(path: Path) -> str:
    from ..results.report import EXTENSIONS

    name = EXTENSIONS.get(path.suffix.lower())
    if name is None:
        known = ", ".join(f"{extension} ({name})" for extension, name in EXTENSIONS.items())
        raise UsageError(f"--output is {path}: its extension must be one of {known}")
    check_file(path)
    return name


def check_file(path: Path) -> None:
    """Refuse an `--output` that cannot be, before anything is computed.

    Raises:
        UsageError: For a folder, a device or a pipe, a link in a circle, or a file in a folder that does not exist or
            is not ours. A link is judged by what it leads to.
    """
    place = os.path.realpath(path)
    folder = os.path.dirname(place)
    # os.path, which answers no where it may not look.
    if os.path.isdir(place):
        raise UsageError(f"--output is {path}: it is a folder; name a file")
    # A link that is left after all were followed leads back to itself.
    if os.path.islink(place) or (os.path.exists(place) and not os.path.isfile(place)):
        raise UsageError(f"--output is {path}: it is no regular file; name one")
    if not os.path.isdir(folder):
        raise UsageError(f"--output is {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"--output is {path}: {folder} cannot be written to")


def save(path: Path, data: bytes) -> None:
    """Write an `--output`; what was there before stays as it was if that fails.

    Raises:
        UsageError: for a file that cannot be written.
    """
    try:
        write_output(path, data)
    except OSError as error:
        raise UsageError(f"--output is {path}: it cannot be written ({error.strerror})") from None


def check_figures(folder: Path | None) -> None:
    """Refuse what cannot become the folder of `--figures`, before hours are spent.

    Raises:
        UsageError: for a folder that cannot be made or written to.
    """
    if folder is None:
        return
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UsageError(f"--figures is {folder}: {nearest} is not a writable folder")


def draw(report: CheckReport, folder: Path | None) -> None:
    """Draw what the suites of a report have figures of, as PNG and SVG, and say how many on stderr.

    Args:
        report: What a check concluded.
        folder: `--figures`; None where nobody asked.

    Raises:
        UsageError: for a folder that cannot be written.
    """
    if folder is None:
        return
    from ..results.report.figures import save_suite_figures  # late: it loads matplotlib

    files: list[Path] = []
    try:
        for place, suite in enumerate(report.suites, 1):
            files += save_suite_figures(suite, folder / _stem(report, suite, place))
    except OSError as error:
        raise UsageError(f"--figures is {folder}: it cannot be written ({error.strerror})") from None
    told = f"wrote {len(files)} figures to {folder}" if files else "no suite of this check has a figure; nothing drawn"
    sys.stderr.write(f"sae-sanity: {told}\n")


def _stem(report: CheckReport, suite: SuiteResult, place: int) -> str:
    """Beginning of a file's name: the suite, or its worlds and architecture; with the SAE where there are several."""
    name = f"{suite.detail.world}-{report.manifest.settings.get('architecture')}" if suite.detail else suite.suite
    return f"{place}-{_plain(suite.subject)}-{_plain(name)}" if suite.subject else _plain(name)


def _plain(name: str) -> str:
    """A name from outside as a part of a file's name: no path, and not longer than a file's name may be."""
    return re.sub(r"[^\w.@-]+", "-", name, flags=re.ASCII)[-80:].lstrip(".-")


def _print(text: str) -> None:
    # A file format is UTF-8 whatever the terminal's encoding is.
    sys.stdout.flush()
    sys.stdout.buffer.write(encoded(text))
    sys.stdout.flush()


def encoded(text: str) -> bytes:
    """Text as the bytes of a file: UTF-8, and what no text may hold (half of a surrogate pair) spelled out."""
    return text.encode("utf-8", "backslashreplace")
