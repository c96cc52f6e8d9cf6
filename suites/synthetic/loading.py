"""Worlds that SAELens saved: SynthSAEBench's copy on the hub, or a folder. Read as data, never unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from jaxtyping import Float
from sae_lens.synthetic import (
    SYNTHETIC_MODEL_CONFIG_FILENAME,
    SYNTHETIC_MODEL_HIERARCHY_FILENAME,
    SYNTHETIC_MODEL_WEIGHTS_FILENAME,
    SyntheticModel,
)
from safetensors import safe_open

from ..hub_errors import hub_reason
from .memory import check_memory
from .sae_lens_worlds import SaeLensWorld, quiet, world_of_model
from .spec import WorldSpec
from .tree_rates import firing_rates

PUBLISHED = "decoderesearch/synth-sae-bench-16k-v1"
"""SynthSAEBench-16k on the hub."""

CONFIG, HIERARCHY = SYNTHETIC_MODEL_CONFIG_FILENAME, SYNTHETIC_MODEL_HIERARCHY_FILENAME
WEIGHTS = SYNTHETIC_MODEL_WEIGHTS_FILENAME

_OF_UNIT_LENGTH = 1e-3


def load_world(source: str | Path, *, device: str | torch.device = "cpu", revision: str | None = None) -> SaeLensWorld:
    """Load a world that `sae_lens.synthetic.SyntheticModel` saved.

    Args:
        source: a folder, or `org/repo`, `org/repo:folder/in/it` on the Hugging Face hub (`hf://` before it or not).
        device: where samples are drawn.
        revision: branch, tag or commit on the hub.

    Returns:
        The world; its seed is its configuration's, its `spec.source` says where it is from, with the files' hash.

    Raises:
        ValueError: it cannot be had, or is no world; one line.
    """
    where = str(source)
    folder = Path(source) if _is_local(where) else _downloaded(where.removeprefix("hf://"), revision)
    config = _config(folder, where)
    _check_weights(folder, config, where)
    spec = WorldSpec("synthsaebench", config["num_features"], config["hidden_dim"], 1.0, orthogonal_steps=0)
    check_memory(spec, torch.device(device))
    try:
        with quiet():
            model = SyntheticModel.load_from_disk(folder)
        roots = model.hierarchy.roots if model.hierarchy else []
        _check_indices(roots, spec.n_features)
        l0 = float(firing_rates(roots, model.activation_generator.firing_probabilities.double()).sum())
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{where}: SAELens cannot load it: {type(error).__name__}: {_line(error)}") from None
    spec = WorldSpec("synthsaebench", spec.n_features, spec.d_in, l0, source=f"{where}#{_hash(folder)}")
    return world_of_model(model, spec, config.get("seed") or 0, torch.device(device))


def _is_local(where: str) -> bool:
    return not where.startswith("hf://") and (where.startswith(("/", ".", "~")) or Path(where).exists())


def _downloaded(repo: str, revision: str | None) -> Path:
    """Folder in the hub's cache; the hierarchy is optional, as it is for SAELens."""
    repo_id, _, inside = repo.partition(":")
    prefix = f"{inside.strip('/')}/" if inside else ""
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        paths = [Path(hf_hub_download(repo_id, prefix + name, revision=revision)) for name in (CONFIG, WEIGHTS)]
        # Of the same commit, whatever has been pushed since.
        commit = paths[0].parents[len(Path(prefix).parts)].name
        try:
            hf_hub_download(repo_id, prefix + HIERARCHY, revision=commit)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:
            pass
    except Exception as error:
        if (reason := hub_reason(error)) is None:
            raise
        raise ValueError(f"{repo}: {reason}") from None
    finally:
        if shown:
            enable_progress_bars()
    return paths[0].parent


def _config(folder: Path, where: str) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"{where} has no {name}; a world is a folder that SAELens' SyntheticModel.save wrote")
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (ValueError, RecursionError):
        raise ValueError(f"{where}/{CONFIG} is not JSON") from None
    sizes = [config.get(name) if isinstance(config, dict) else None for name in ("num_features", "hidden_dim")]
    if not all(type(size) is int and size >= 1 for size in sizes):
        raise ValueError(f"{where}/{CONFIG} must give num_features and hidden_dim as numbers of 1 or more")
    return config


def _check_weights(folder: Path, config: dict[str, Any], where: str) -> None:
    n, d = config["num_features"], config["hidden_dim"]
    shapes: dict[str, tuple[int | None, ...]] = {"feature_vectors": (n, d), "bias": (d,), "firing_probabilities": (n,)}
    optional: dict[str, tuple[int | None, ...]] = {"correlation_factor": (n, None), "correlation_diag": (n,)}
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            names = set(file.keys())
            found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except Exception as error:
        raise ValueError(f"{where}/{WEIGHTS} is no safetensors file: {_line(error)}") from None
    expected = shapes | (optional if names & set(optional) else {})
    if names != set(expected):
        raise ValueError(f"{where}/{WEIGHTS} holds {', '.join(sorted(names))}; it must hold {', '.join(expected)}")
    for name, shape in expected.items():
        right = len(found[name]) == len(shape) and all(b in (None, a) for a, b in zip(found[name], shape, strict=True))
        if not right:
            wanted = tuple("rank" if size is None else size for size in shape)
            raise ValueError(f"{where}: {name} has shape {found[name]}; the configuration says {wanted}")
    _check_values(folder / WEIGHTS, expected, where)


def _check_values(weights: Path, names: dict[str, tuple[int | None, ...]], where: str) -> None:
    rules: dict[str, tuple[str, Callable[[torch.Tensor], bool]]] = {
        "feature_vectors": ("of unit length", _unit_rows),
        "firing_probabilities": ("in [0, 1]", lambda t: bool(((t >= 0) & (t <= 1)).all())),
        "correlation_diag": ("above 0", lambda t: bool((t > 0).all())),
    }
    with safe_open(weights, framework="pt") as file:
        for name in names:
            tensor = file.get_tensor(name)
            if not tensor.dtype.is_floating_point or not torch.isfinite(tensor).all():
                raise ValueError(f"{where}: {name} holds values that are not finite numbers")
            what, holds = rules.get(name, ("", lambda t: True))
            if not holds(tensor.float()):
                raise ValueError(f"{where}: {name} must be {what}")


def _unit_rows(rows: Float[torch.Tensor, "n d"]) -> bool:
    return bool((rows.norm(dim=1) - 1).abs().max() < _OF_UNIT_LENGTH)


def _check_indices(roots: list[Any], n_features: int) -> None:
    nodes = list(roots)
    while nodes:
        node = nodes.pop()
        index = node.feature_index
        if index is not None and not (type(index) is int and 0 <= index < n_features):
            raise ValueError(f"feature_index {index!r} of the hierarchy must be below {n_features}")
        nodes.extend(node.children)


def _hash(folder: Path) -> str:
    """Hash of the files that make the world."""
    total = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, HIERARCHY):
        if (folder / name).is_file():
            with (folder / name).open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
