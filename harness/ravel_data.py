"""What `sae-sanity data build-ravel` does: RAVEL-like data built from packaged facts and written as RAVEL's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..suites.causal_editing.ravel import RavelData, save_ravel
from .errors import UsageError, unknown

ENTITIES = ("city", "country")
"""What data can be built of."""
N_CITIES = 500
"""Cities, unless a number is named."""


def build_ravel(
    folder: Path, entity: str, n_cities: int | None, attributes: Sequence[str] | None, seed: int
) -> tuple[RavelData, tuple[Path, ...]]:
    """Build data and write it.

    Args:
        folder: a new or empty folder, or one with such data of the same entity type, which is replaced.
        entity: one of `ENTITIES`.
        n_cities: the largest so many cities; None for `N_CITIES`, and with countries.
        attributes: what is asked of the entities; None for the usual ones.
        seed: of the split into halves.

    Returns:
        The data and its files.

    Raises:
        UsageError: for bad input, a package that is missing, or a folder with something else; nothing was written.
    """
    if entity not in ENTITIES:
        raise unknown("entity", entity, ENTITIES)
    if n_cities is not None and entity != "city":
        raise UsageError(f"--cities is {n_cities} and --entity {entity}: a number belongs to cities")
    if n_cities is not None and n_cities < 2:
        raise UsageError(f"--cities is {n_cities}; it must be 2 or more")
    try:
        data = _facts(entity, N_CITIES if n_cities is None else n_cities, attributes, seed)
        return data, save_ravel(data, folder)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _facts(entity: str, n_cities: int, attributes: Sequence[str] | None, seed: int) -> RavelData:
    from ..suites.causal_editing.facts import CITY_ATTRIBUTES, COUNTRY_ATTRIBUTES, city_facts, country_facts

    if entity == "city":
        return city_facts(n_cities, attributes or CITY_ATTRIBUTES, seed=seed)
    return country_facts(attributes or COUNTRY_ATTRIBUTES, seed=seed)
