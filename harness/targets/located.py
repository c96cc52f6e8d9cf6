"""An SAE that was found but not loaded, and how one is chosen among several."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from ...baselines.wrap import Artefact, BadSAE, Recipe, Unsupported
from ..errors import UsageError

Kind = Literal["release", "folder", "hub", "object"]

_SHOWN = 5


@dataclass(frozen=True)
class Located:
    """One SAE of a target: its recipe is read, its weights are not."""

    name: str
    """Its sae_id within the target; "" where the target is one SAE."""
    kind: Kind
    """Where it is from."""
    recipe: Recipe
    """What its configuration files (and SAELens' registry) say."""
    load: Callable[[], Artefact]
    """Downloads the weights if need be, and loads them. Raises UsageError, in one line."""
    skip: str = ""
    """Why it cannot be checked (a transcoder, a pickle); then `load` is not to be called. Empty: it can."""


def skipped(name: str, kind: Kind, reason: str) -> Located:
    """An SAE of a kind that no baseline is defined for."""
    return Located(name, kind, Recipe(), never, reason)


def each_of(sae_ids: Sequence[str], locate: Callable[[str], Located], kind: Kind) -> tuple[Located, ...]:
    """Locate the SAEs that were chosen; one of several that is refused is skipped with the reason.

    Raises:
        UsageError: when the only one is refused.
    """
    if len(sae_ids) == 1:
        return (locate(sae_ids[0]),)
    return tuple(_or_skipped(sae_id, locate, kind) for sae_id in sae_ids)


def _or_skipped(sae_id: str, locate: Callable[[str], Located], kind: Kind) -> Located:
    try:
        return locate(sae_id)
    except RefusedSAEError as error:
        return skipped(sae_id, kind, str(error))


def never() -> Artefact:
    """Stand in for the loader of an SAE that is skipped."""
    raise AssertionError("a skipped SAE is not loaded")


def select(target: str, known: Sequence[str], wanted: Sequence[str], see: str = "") -> tuple[str, ...]:
    """Choose SAEs of a target by `--sae-id`.

    Args:
        target: As the user typed it, for messages.
        known: All sae_ids, in the order in which they are reported.
        wanted: Names or globs (`*`, `?`, `[...]`; `*` goes over `/` too); none given means the only SAE there is.
        see: A command that lists them, for messages.

    Raises:
        UsageError: There are several and none was chosen, or a glob matches none.
    """
    more = f"; {see} lists them" if see else ""
    if not wanted:
        if len(known) == 1:
            return tuple(known)
        right = f"choose with --sae-id, for example {_some(known)}{more}"
        raise UsageError(f"{target} has {len(known)} SAEs; {right}")
    chosen = {name for pattern in wanted for name in _matches(target, known, pattern, more)}
    return tuple(name for name in known if name in chosen)


def _matches(target: str, known: Sequence[str], pattern: str, more: str) -> list[str]:
    # An id may hold brackets itself; then it is meant as it is.
    found = [pattern] if pattern in known else [name for name in known if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        near = difflib.get_close_matches(pattern.replace("*", ""), known, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {_some(known)}"
        raise UsageError(f"no SAE of {target} matches --sae-id {pattern!r}; {hint}{more}")
    return found


def _some(names: Iterable[str]) -> str:
    first = [repr(name) for name in names]
    return ", ".join(first[:_SHOWN]) + (", …" if len(first) > _SHOWN else "")


class RefusedSAEError(UsageError):
    """Something is wrong with one SAE, and not with the target or the way to it."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the refusal of an SAE into an error of usage; one of a kind that is skipped passes."""
    try:
        yield
    except Unsupported:
        raise
    except BadSAE as error:
        raise RefusedSAEError(str(error)) from None


def refusing(load: Callable[[], Artefact]) -> Callable[[], Artefact]:
    """The same loader, refusing with UsageError."""

    def loaded() -> Artefact:
        try:
            with refusals():
                return load()
        except Unsupported as error:  # only its weights told
            raise UsageError(str(error)) from None

    return loaded
