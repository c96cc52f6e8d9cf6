"""What a release may say of where an SAE was checked: never a path of the machine that checked it."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..outcome import CheckReport

NAMELESS = "local SAE"
"""What a folder is called whose path has no name in it, such as `.`."""

_PLACE = re.compile(r"[/~]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]|\\\\")
"""How a path of this machine begins."""

_REPO = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""`org/repo`, which is of the hub, or a folder in a folder; its text does not tell."""


def is_folder(target: str) -> bool:
    """Whether a target can only be a folder: neither `org/repo`, `hf://…`, `module:factory` nor a release."""
    if target.startswith("hf://"):
        return False
    return bool(_PLACE.match(target)) or ("/" in target and not _REPO.fullmatch(target))


def public_name(target: str, *, local: bool = False) -> str:
    """A target as a release may name it.

    Args:
        target: As it was typed.
        local: Whether it is known to be a folder; what can be nothing else is one anyway.

    Returns:
        The last part of a folder's path, any other target as it is.
    """
    if not (local or is_folder(target)):
        return target
    name = re.split(r"[/\\]", target.rstrip("/\\"))[-1]
    return NAMELESS if name in ("", ".", "..", "~") else name


def public(report: CheckReport, *, local: bool = False) -> CheckReport:
    """A report whose target, headline, skips, reasons of the decision and command name folders by their last part.

    Args:
        report: What a check concluded.
        local: Whether its target is known to be a folder, though it reads like a repo of the hub.

    Raises:
        ValueError: If the command is no command line.
    """
    told = {report.target: public_name(report.target, local=local)}
    if report.since:
        told |= {place: public_name(place, local=True) for place in (report.since.ours, report.since.theirs)}
    told = {place: name for place, name in told.items() if place != name}
    command = _command(shlex.split(report.manifest.command), told)
    changes = {
        "target": told.get(report.target, report.target),
        "headline": _said(report.headline, told),
        "skipped": tuple(
            skip.model_copy(update={"what": _said(skip.what, told), "reason": _said(skip.reason, told)})
            for skip in report.skipped
        ),
        "decision": report.decision.model_copy(
            update={"reasons": tuple(_said(reason, told) for reason in report.decision.reasons)}
        ),
        "manifest": report.manifest.model_copy(update={"command": command}),
    }
    return report.model_copy(update=changes)


def _said(text: str, told: dict[str, str]) -> str:
    """A sentence with names in the place of paths, longest first; a path that only begins another word stays."""
    for place in sorted(told, key=len, reverse=True):
        whole = rf"(?<![^\s'\"(]){re.escape(place)}(?![^\s'\"/,;:.)])"
        text = re.sub(whole, lambda _, name=told[place]: name, text)
    return text


def _command(words: Iterable[str], told: dict[str, str]) -> str:
    """The command with names in the place of paths, also behind `name=` and between commas."""
    kept, where = [], False
    for word in words:
        # The results folder is one of this machine, and is left out whole.
        if not where and word != "--results":
            kept.append(told.get(word) or _shortened(word))
        where = word == "--results" and not where
    return shlex.join(kept)


def _shortened(word: str) -> str:
    name, equals, value = word.rpartition("=")
    parts = [public_name(part) if _PLACE.match(part) else part for part in value.split(",")]
    return f"{name}{equals}{','.join(parts)}"
