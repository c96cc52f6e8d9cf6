"""Settings of a check on an SAE that exists: what it says of itself fills what the user left open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Settings
from .errors import UsageError

if TYPE_CHECKING:
    from ..baselines.wrap import Known, Recipe

FROM_RECIPE: Mapping[str, str] = {
    "model": "model_name",
    "texts": "dataset_path",
    "hook_name": "hook_name",
    "architecture": "architecture",
    "d_sae": "d_sae",
    "prepend_bos": "prepend_bos",
}
"""Settings that a given SAE decides, and what its recipe calls them."""

DECIDED_BY_SAE = frozenset((*FROM_RECIPE, "context_size", "l0"))
"""Settings whose default is the SAE's own word: giving one, even the profile's value, is a choice."""

FIXED = ("d_sae",)
"""Settings that baselines cannot differ in from a given SAE: another value is a mistake, not a wish."""

PLACES = ("model", "texts")
"""Settings that may name a folder, which only the user may do: a stranger's file must not make us read one."""

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

PACKAGED = "packaged"
"""The texts where neither the user nor the SAE names any."""


def adopt(settings: Settings, recipe: Recipe) -> Settings:
    """Fill the settings of one SAE from its recipe; what the user gave wins.

    L0 is left open (None): it is measured on the SAE. Steps, batch and learning rate stay those of the profile: the
    SAE's own were chosen for the tokens that it was trained on.

    Raises:
        UsageError: when the language model is unknown, or the user asks for another width than the SAE has.
    """
    for name in FIXED:
        known = recipe.get(FROM_RECIPE[name])
        if name in settings.given and known is not None and getattr(settings, name) != known:
            raise UsageError(f"{name} is {getattr(settings, name)}, but the SAE has {known}: baselines share its width")
    found = {name: recipe.get(field) for name, field in FROM_RECIPE.items() if name not in settings.given}
    update: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    for name in PLACES:
        if name in update and not is_hub_id(str(update[name])):
            del update[name]
    if "context_size" not in settings.given:
        update["context_size"] = max(8, min(settings.context_size, recipe.get("context_size") or settings.context_size))
    if "l0" not in settings.given:
        update["l0"] = None
    update.setdefault("texts", settings.texts or PACKAGED)
    adopted = settings.model_copy(update=update)
    if not adopted.model:
        named = recipe.get("model_name")
        why = (
            f"names its language model as {str(named)[:80]!r}, which is no hub id"
            if named
            else "names no language model"
        )
        raise UsageError(f"the SAE {why}; name it with --model (hub id or folder)")
    return adopted


def is_hub_id(name: str) -> bool:
    """Whether a name in a stranger's file can only mean something on the hub, or in TransformerLens' table."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).exists()


_DEFAULTED: Mapping[str, str] = {field: name for name, field in FROM_RECIPE.items() if name not in FIXED} | {
    name: name for name in ("context_size", "tokens", "lr", "batch_size")
}
"""Parts of a recipe that the check needs, and the settings that it uses for its own arms."""


def explain(recipe: Recipe, settings: Settings) -> dict[str, str]:
    """Say of every part of a recipe what is known of it, from where, and what the check uses instead where it differs.

    Args:
        recipe: what was recovered.
        settings: as `adopt` returns them.
    """
    from ..baselines.wrap import RECIPE_FIELDS

    lines = {name: _line(recipe.values.get(name)) for name in RECIPE_FIELDS}
    for name, setting in _DEFAULTED.items():
        value = getattr(settings, setting)
        if recipe.get(name) != value:
            lines[name] += f"; used here: {_shown(value)} ({_why(name, setting, recipe, settings)})"
    lines["l0"] += "; used here: measured on held-out texts" if settings.l0 is None else f"; used here: {settings.l0:g}"
    return {name: line for name, line in lines.items() if line != "unknown" or name in _DEFAULTED}


def _line(known: Known | None) -> str:
    return "unknown" if known is None else f"{_shown(known.value)} ({known.source})"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(f"{k}={v}" for k, v in value.items()) or "none" if isinstance(value, Mapping) else f"{value}"


def _why(name: str, setting: str, recipe: Recipe, settings: Settings) -> str:
    if setting in settings.given:
        return "given"
    if name == "context_size" and recipe.get(name) is not None:
        return "the longest that is measured"
    return f"default of profile {settings.profile}"
