"""Whether a configuration file can be used, said without a language model, a network or a key."""

from __future__ import annotations

from pathlib import Path

from .check import registered_plan, validate
from .config import FILE_NAME, PYPROJECT, TABLE, find_file, pyproject_table, resolve
from .design import check_policy
from .errors import UsageError
from .measures import check_suites

OK, NOTHING = "ok", f"no table [tool.{TABLE}], nothing to look at"


def found_here() -> Path:
    """The configuration of the working directory.

    Raises:
        UsageError: when there is none.
    """
    if (path := find_file()) is None:
        raise UsageError(f"no configuration here: neither {FILE_NAME} nor a {PYPROJECT} with a table [tool.{TABLE}]")
    return path


def validated(path: Path) -> str:
    """Validate a configuration, and the registered plan that it names.

    Flags and the environment are left out: what a command adds may mend or break it.

    Returns:
        What is to be said of it in a word or two; a pyproject.toml without our table is nothing to complain of.

    Raises:
        UsageError: naming the first thing that is wrong.
    """
    if path.name == PYPROJECT and pyproject_table(path) is None:
        return NOTHING
    try:
        settings = resolve({}, config=path, environ={})
        check_suites(settings)
        check_policy(settings)
        validate(settings, given="" if settings.l0 else "foreign")
        registered_plan(settings)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    shadowed = path.name == PYPROJECT and (path.parent / FILE_NAME).exists()
    return f"{OK}, but {FILE_NAME} beside it is read instead" if shadowed else OK
