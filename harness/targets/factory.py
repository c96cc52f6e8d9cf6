"""SAE objects out of a function that the user named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ...baselines.wrap import Artefact, Unsupported, unsupported, wrap_object
from ..errors import UsageError
from .located import Located, refusals, select, skipped


def locate_factory(target: str, sae_ids: Sequence[str]) -> tuple[Located, ...]:
    """Import `package.module:factory`, call the factory without arguments, and wrap what it returns.

    The module is looked for in the working folder too. This is the only place where code is run that is not of an
    installed dependency, and the user typed its name.

    Args:
        target: As typed.
        sae_ids: Chosen among the keys, where the factory returns a dict from names to SAEs.

    Raises:
        UsageError: It cannot be imported or called, or what it returns is no SAE; one line.
    """
    made = _made(target)
    if not isinstance(made, Mapping):
        if sae_ids:
            raise UsageError(f"factory {target} returned one SAE; --sae-id {sae_ids[0]!r} needs a dict of them")
        return (_wrapped(made, "", target),)
    if not made or not all(isinstance(name, str) and name for name in made):
        raise UsageError(f"factory {target} returned a dict of {len(made)}; it must map names to SAEs")
    return tuple(_wrapped(made[name], name, target) for name in select(target, tuple(made), sae_ids))


def _wrapped(made: object, name: str, target: str) -> Located:
    try:
        with refusals():
            artefact = wrap_object(made, name=name or target.partition(":")[2])
    except Unsupported as error:
        return skipped(name, "object", str(error))

    def load() -> Artefact:
        return artefact

    return Located(name, "object", artefact.recipe, load, unsupported(artefact.recipe))


def _made(target: str) -> object:
    module_name, _, path = target.partition(":")
    with _working_folder_importable():
        with _failures(f"cannot import {module_name!r} of target {target}"):
            found = importlib.import_module(module_name)
        for attribute in path.split("."):
            if not hasattr(found, attribute):
                raise UsageError(f"target {target}: {module_name} has no {path!r}; name a function in it")
            found = getattr(found, attribute)
        if not callable(found):
            raise UsageError(f"target {target} is a {type(found).__name__}; it must be a function without arguments")
        with _failures(f"factory {target} failed"):
            return found()


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """One line about whatever the user's code raises."""
    try:
        yield
    except (Exception, SystemExit) as error:  # anything may come out of it, and all of it is theirs to mend
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise UsageError(f"{what}: {type(error).__name__}: {first[:200]}") from None


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    # A console script has its own folder on the path, not the one that the user is in.
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have put the path in order itself
            sys.path.remove(here)
