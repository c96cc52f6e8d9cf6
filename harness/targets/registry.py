"""SAELens' registry of releases: what there is, what it knows, and how a release in another format is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import unknown
from .located import Located, each_of, never, select

if TYPE_CHECKING:
    from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup

    from ...baselines.wrap import Artefact

_SAE_LENS = "sae_lens"
"""SAELens' name for its own format."""
_CONVERTED = frozenset({"gemma_2", "gemma_3", "llama_scope", "llama_scope_r1_distill", "sparsify"})
"""Formats that SAELens converts, from safetensors or from arrays of NumPy (read with pickles forbidden)."""
_TRANSCODERS = frozenset({"gemma_2_transcoder", "mwhanna_transcoder", "mntss_clt_layer_transcoder"})


@dataclass(frozen=True)
class Knowledge:
    """What the registry says of one SAE, beyond where it lies."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """L0, norm_scaling_factor and corrections of cfg.json, under the names of a recipe."""
    model: str | None = None
    """Language model; what the SAE's own files say is preferred."""


def release_names() -> tuple[str, ...]:
    """Every release id of SAELens' registry."""
    return tuple(_directory())


def releases() -> Iterator[tuple[str, str]]:
    """Every release with one line about it: model, repo, number of SAEs, and why it is skipped if it is."""
    for name, release in sorted(_directory().items()):
        skip = _skip(release, name, "SAE_ID")
        line = f"{release.model}; {release.repo_id}; {len(release.saes_map)} SAEs"
        yield name, f"{line}; skipped: {skip.partition(';')[0]}" if skip else line


def saes(release: str) -> Iterator[tuple[str, str]]:
    """Every SAE of a release with one line about it: its L0, if that is recorded, and its path in the repo.

    Raises:
        UsageError: There is no such release.
    """
    found = _release(release)
    for sae_id, path in found.saes_map.items():
        l0 = found.expected_l0.get(sae_id) or 0.0
        yield sae_id, f"L0 {l0:g}; {path}" if l0 else f"L0 not recorded; {path}"


def locate_release(name: str, sae_ids: Sequence[str]) -> tuple[Located, ...]:
    """Find the SAEs of a release; only configuration files are downloaded.

    Raises:
        UsageError: There is no such release, several SAEs and none was chosen, or a configuration cannot be had.
    """
    release = _release(name)
    chosen = select(f"release {name}", tuple(release.saes_map), sae_ids, f"`sae-sanity list saes {name}`")
    return each_of(chosen, lambda sae_id: _one(release, sae_id), "release")


def knowledge(repo_id: str, path: str) -> Knowledge:
    """What the registry knows of the SAE in a folder of a repo, if it is in SAELens' format; else nothing."""
    for name in releases_of(repo_id):
        release = _directory()[name]
        if _format(release) == _SAE_LENS:
            for sae_id, known_path in release.saes_map.items():
                if known_path.strip("/") == path:
                    return _known(release, sae_id)
    return Knowledge()


def with_model(located: Located, model: str | None) -> Located:
    """The same SAE, with the registry's name of its language model where its own files name none."""

    def load() -> Artefact:
        artefact = located.load()
        return replace(artefact, recipe=artefact.recipe.filled("registry", model_name=model))

    return replace(located, recipe=located.recipe.filled("registry", model_name=model), load=load)


def releases_of(repo_id: str) -> list[str]:
    """Releases whose files are in a repo."""
    return [name for name, release in _directory().items() if release.repo_id == repo_id]


def _one(release: PretrainedSAELookup, sae_id: str) -> Located:
    from ...baselines.wrap import Recipe
    from .converted import locate_converted
    from .hub import locate_in_repo

    known = _known(release, sae_id)
    path = release.saes_map[sae_id].strip("/")
    if skip := _skip(release, release.release, sae_id):
        recipe = Recipe().with_values("registry", model_name=known.model, l0=known.facts.get("l0"))
        return Located(sae_id, "release", recipe, never, skip)
    if _format(release) == _SAE_LENS:
        return replace(locate_in_repo(release.repo_id, path, sae_id, known), kind="release")
    return with_model(locate_converted(release.release, release.repo_id, path, sae_id, known.facts), known.model)


def _known(release: PretrainedSAELookup, sae_id: str) -> Knowledge:
    facts: dict[str, Any] = {"l0": release.expected_l0.get(sae_id) or None}  # 0 stands for what is not recorded
    facts |= {"norm_scaling_factor": release.norm_scaling_factor.get(sae_id)} | (release.config_overrides or {})
    return Knowledge({name: value for name, value in facts.items() if value is not None}, release.model)


def _skip(release: PretrainedSAELookup, name: str, sae_id: str) -> str:
    """Why no SAE of a release can be checked; empty if some can."""
    kind = _format(release)
    if kind in {_SAE_LENS, *_CONVERTED}:
        return ""
    if kind in _TRANSCODERS:
        return "transcoders are not supported: they read one site and write another"
    if kind == "temporal":
        return "temporal SAEs are not supported: a latent depends on the tokens before it"
    convert = f"SAE.from_pretrained({name!r}, {sae_id!r}).save_model(FOLDER) where you trust it, then check FOLDER"
    return f"its weights are pickles, which are never read ({kind}); convert it once: {convert}"


def _format(release: PretrainedSAELookup) -> str:
    return release.conversion_func or _SAE_LENS


def _release(name: str) -> PretrainedSAELookup:
    directory = _directory()
    if name not in directory:
        raise unknown("release", name, directory)
    return directory[name]


def _directory() -> dict[str, PretrainedSAELookup]:
    # Imported late: SAELens takes seconds, and `--help` needs none of it.
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return get_pretrained_saes_directory()
