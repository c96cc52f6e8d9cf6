"""Releases that are not in SAELens' format (Gemma Scope, Llama Scope): read by SAELens' own converters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_CONFIG_GETTERS, get_conversion_loader_name
from sae_lens.loading.pretrained_saes_directory import get_config_overrides

from ...baselines.wrap import Artefact, BadSAE, Recipe, unsupported, wrap_object
from ...baselines.wrap.config import understand
from ...baselines.wrap.reading import recipe_of
from ...suites.hub_errors import hub_reason
from ..errors import UsageError
from .downloads import hub_failures, verify
from .located import Located, refusals, refusing

_SOURCE = "registry"


def locate_converted(release: str, repo_id: str, path: str, sae_id: str, known: Mapping[str, Any]) -> Located:
    """Read the recipe of an SAE by SAELens' converter; what its configuration lacks the converter knows by heart.

    Args:
        release: Its release.
        repo_id: Where that lies.
        path: Its folder there.
        sae_id: Its id.
        known: What the registry says beyond that.

    Raises:
        UsageError: Its configuration cannot be had, or not be read.
    """
    what = f"{sae_id} of release {release}"
    with hub_failures(what), refusals(), _convertible(what):
        recipe = _recipe(release, repo_id, path, sae_id, what)
    recipe = recipe.with_values(_SOURCE, l0=known.get("l0"), norm_scaling_factor=known.get("norm_scaling_factor"))

    def load() -> Artefact:
        return _load(release, repo_id, path, sae_id, recipe)

    return Located(sae_id, "release", recipe, refusing(load), unsupported(recipe))


def _recipe(release: str, repo_id: str, path: str, sae_id: str, what: str) -> Recipe:
    getter = NAMED_PRETRAINED_SAE_CONFIG_GETTERS[get_conversion_loader_name(release)]
    # In the flat layout of before SAELens 6, whatever SAELens wrote the converter.
    raw = getter(repo_id, path, "cpu", False, get_config_overrides(release, sae_id))
    return recipe_of(understand(raw, what), _SOURCE, what)


def _load(release: str, repo_id: str, path: str, sae_id: str, recipe: Recipe) -> Artefact:
    what = f"{sae_id} of release {release}"
    with hub_failures(what), _convertible(what), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SAELens warns of what the recipe says
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
    _verify(repo_id, path, what)
    # SAELens folds expected_average_only_in where it knows the factor: what was folded must not be folded again.
    recipe = recipe.with_values(_SOURCE, normalize_activations=sae.cfg.normalize_activations)
    return replace(wrap_object(sae, name=sae_id), recipe=recipe)


def _verify(repo_id: str, path: str, what: str) -> None:
    snapshots = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model") / "snapshots"
    for folder in snapshots.glob("*"):
        for file in (folder / path).rglob("*"):
            if file.is_file():
                verify(file, what)


@contextmanager
def _convertible(what: str) -> Iterator[None]:
    """One line about files that the converter cannot make sense of; errors that have one already keep it."""
    try:
        yield
    except Exception as error:  # a stranger's files go through a converter that expects well-meant ones
        if isinstance(error, (BadSAE, UsageError)) or hub_reason(error):
            raise
        first = next(iter(str(error).splitlines()), "")
        raise UsageError(f"{what}: SAELens cannot convert it: {type(error).__name__}: {first[:200]}") from None
