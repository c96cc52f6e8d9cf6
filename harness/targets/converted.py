"""Releases that are not in SAELens' format (Gemma Scope, Llama Scope): read by SAELens' own converters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, hf_hub_url
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_CONFIG_GETTERS, get_conversion_loader_name
from sae_lens.loading.pretrained_saes_directory import get_config_overrides

from ...baselines.wrap import Artefact, BadSAE, Recipe, unsupported, wrap_object
from ...baselines.wrap.config import understand
from ...baselines.wrap.reading import recipe_of
from ...suites.hub_errors import hub_reason
from ..errors import UsageError
from .downloads import commit_of, hub_failures, verify
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
    what, files = f"{sae_id} of release {release}", _Files(repo_id)
    with hub_failures(what), refusals(), _convertible(what), files.checked():
        recipe = _recipe(release, repo_id, path, sae_id, what)
    recipe = recipe.with_values(_SOURCE, l0=known.get("l0"), norm_scaling_factor=known.get("norm_scaling_factor"))

    def load() -> Artefact:
        return _load(release, sae_id, recipe, files)

    return Located(sae_id, "release", recipe, refusing(load), unsupported(recipe))


def _recipe(release: str, repo_id: str, path: str, sae_id: str, what: str) -> Recipe:
    getter = NAMED_PRETRAINED_SAE_CONFIG_GETTERS[get_conversion_loader_name(release)]
    # In the flat layout of before SAELens 6, whatever SAELens wrote the converter.
    raw = getter(repo_id, path, "cpu", False, get_config_overrides(release, sae_id))
    return recipe_of(understand(raw, what), _SOURCE, what)


def _load(release: str, sae_id: str, recipe: Recipe, files: _Files) -> Artefact:
    what = f"{sae_id} of release {release}"
    with hub_failures(what), _convertible(what), files.checked(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SAELens warns of what the recipe says
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
    # SAELens folds expected_average_only_in where it knows the factor: what was folded must not be folded again.
    recipe = recipe.with_values(_SOURCE, normalize_activations=sae.cfg.normalize_activations)
    return replace(wrap_object(sae, name=sae_id), recipe=recipe)


class _Files:
    """Files of one repo as a converter gets them: all of one commit, each compared with its hash before it is read."""

    def __init__(self, repo_id: str) -> None:
        self.repo_id = repo_id
        self.commit: str | None = None

    def download(
        self,
        repo_id: str,
        filename: str,
        *,
        subfolder: str | None = None,
        force_download: bool = False,
    ) -> str:
        """Stand in for `hf_hub_download`; the first file decides the commit."""
        name = f"{subfolder}/{filename}" if subfolder else filename
        revision = self.commit if repo_id == self.repo_id else None
        # The client's own errors: a converter may know what to do without a file.
        path = Path(hf_hub_download(repo_id, name, revision=revision, force_download=force_download))
        verify(path, f"{name} of {repo_id}")
        if repo_id == self.repo_id:
            self.commit = commit_of(path, name)
        return str(path)

    def url(self, repo_id: str, filename: str) -> str:
        """Stand in for `hf_hub_url`: a header is read by range before the file is downloaded."""
        return hf_hub_url(repo_id, filename, revision=self.commit if repo_id == self.repo_id else None)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Let SAELens' converters have their files from here: they name neither a revision nor a hash."""
        theirs = {"hf_hub_download": self.download, "hf_hub_url": self.url}
        before = {name: getattr(pretrained_sae_loaders, name) for name in theirs}
        try:
            for name, ours in theirs.items():
                setattr(pretrained_sae_loaders, name, ours)
            yield
        finally:
            for name, own in before.items():
                setattr(pretrained_sae_loaders, name, own)


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
