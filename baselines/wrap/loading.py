"""From a folder in SAELens' format to an SAE, everything checked before SAELens sees it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from sae_lens import __version__
from sae_lens.loading.pretrained_sae_loaders import read_sae_components_from_disk
from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.jumprelu_sae import JumpReLUSAE
from sae_lens.saes.sae import SAE
from safetensors import safe_open

from .artefact import Artefact
from .config import Config, understand
from .errors import BadSAE, Unsupported
from .files import CFG, WEIGHTS, need
from .foreign import check_output
from .hashing import hash_sae
from .layout import SCALING_FACTOR, check_tensors
from .reading import read_recipe, unsupported
from .recipe import Recipe
from .safetensors_header import TensorInfo, read_header
from .strict_json import read_object

_RUNS_WITH = ("k", "normalize_activations", "apply_b_dec_to_input", "reshape_activations")
"""Fields of cfg.json that the registry may correct."""

LARGEST = 1e15
"""Largest weight that is taken for one: a latent that rarely fires must not overflow float32 on the day it does."""

_LARGEST = {"r_mag": 40.0}  # a Gated SAE takes its exponential


def load_folder(folder: Path, *, name: str, recipe: Recipe | None = None) -> Artefact:
    """Load an SAE from a folder in SAELens' format, on the CPU in float32 (as `SAE.from_pretrained` does).

    Every file is parsed here first; SAELens then gets the checked configuration and a file of exactly the right size.
    Memory is taken only for weights that are in the file.

    Args:
        folder: with cfg.json and sae_weights.safetensors.
        name: what reports call it.
        recipe: what is known about it; read from the folder if None. The registry's corrections of it are applied.

    Raises:
        BadSAE: something is missing, malformed, contradictory, too large, not finite, or not supported.
    """
    recipe = read_recipe(folder) if recipe is None else recipe
    where = str(folder / CFG)
    raw = read_object(need(folder, CFG)) | _corrections(recipe)
    config = understand(raw, where)
    if reason := unsupported(recipe):
        raise Unsupported(f"{folder}: {reason}")
    weights = need(folder, WEIGHTS)
    _check_weights(weights, config)
    sae = _load(folder, weights, config)
    check_sae(sae, str(weights))
    return Artefact(name, sae, _with_weights(recipe, config, sae), hash_sae(sae))


def _corrections(recipe: Recipe) -> dict[str, Any]:
    return {name: recipe.get(name) for name in _RUNS_WITH if recipe.source(name) == "registry"}


def _check_weights(weights: Path, config: Config) -> None:
    tensors = read_header(weights)
    sizes = {axis: config.effective[axis] for axis in ("d_in", "d_sae")}
    check_tensors(tensors, config.architecture, sizes, weights)
    _check_memory(tensors, weights)
    if SCALING_FACTOR in tensors:
        with _refusing(str(weights)), safe_open(weights, framework="pt") as file:
            factor = file.get_tensor(SCALING_FACTOR).float()
        if not torch.allclose(factor, torch.ones_like(factor)):
            raise BadSAE(
                f"{weights}: scaling_factor is not 1 (a fine-tuned SAE of SAELens before 6); SAELens 6 cannot apply it"
            )


def _check_memory(tensors: Mapping[str, TensorInfo], weights: Path) -> None:
    largest = max(info.end - info.start for info in tensors.values())
    # In float32, and one tensor twice while it is converted.
    need_bytes = 2 * sum(info.end - info.start for info in tensors.values()) + largest
    free = psutil.virtual_memory().available
    if need_bytes > free:
        raise BadSAE(f"{weights}: needs {need_bytes / 1e9:.1f} GB of memory; {free / 1e9:.1f} GB is free")


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Turn what safetensors and SAELens still raise into the one error; out of memory stays what it is."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise BadSAE(f"{where}: SAELens cannot load it: {type(error).__name__}: {error}") from None


def _load(folder: Path, weights: Path, config: Config) -> SAE[Any]:
    # The version beside the metadata comes first: SAELens must read the form that was checked.
    raw = dict(config.raw) if config.old else {**config.raw, "sae_lens_version": __version__}

    def checked(
        path: str | Path, device: str, cfg_overrides: dict[str, Any] | None
    ) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        # What was checked is what is used: cfg.json is not read a second time.
        return read_sae_components_from_disk({**raw, "device": device, **(cfg_overrides or {})}, weights, device)

    with _refusing(str(folder)), warnings.catch_warnings():
        # SAELens warns of model_from_pretrained_kwargs, which the recipe holds.
        warnings.simplefilter("ignore")
        return SAE.load_from_disk(folder, device="cpu", dtype="float32", converter=checked)


def check_sae(sae: SAE[Any], where: str) -> None:
    """Check that all numbers of an SAE are finite and sensible, and that it encodes activations as finite numbers.

    Raises:
        BadSAE: a tensor holds NaN, Inf or a number beyond `LARGEST`, or `encode` gives NaN or Inf.
    """
    for name, tensor in sae.state_dict().items():
        if not bool(tensor.isfinite().all()):
            bad = int((~tensor.isfinite()).sum())
            raise BadSAE(f"{where}: tensor {name!r} has {bad} NaN or Inf of {tensor.numel()}; finite ones are needed")
        largest, allowed = float(tensor.max() if name == "r_mag" else tensor.abs().max()), _LARGEST.get(name, LARGEST)
        if largest > allowed:
            raise BadSAE(f"{where}: tensor {name!r} reaches {largest:.2g}; at most {allowed:g} is allowed")
    sae.turn_off_forward_pass_hook_z_reshaping()
    # Only encode: a TopK SAE may have decoder rows of zeros, which only `in_raw_space` makes harmless to decode.
    check_output(sae, where, decode=False)
    if sae.cfg.reshape_activations == "hook_z":
        sae.turn_on_forward_pass_hook_z_reshaping()


def _with_weights(recipe: Recipe, config: Config, sae: SAE[Any]) -> Recipe:
    """Add what only the weights say: one threshold for all latents is how SAELens saves a BatchTopK SAE."""
    said = config.metadata.get("training_architecture") or recipe.source("architecture") not in ("default", *_CFG)
    if said or recipe.get("architecture") not in SAE_TRAINING_CLASS_REGISTRY or not isinstance(sae, JumpReLUSAE):
        return recipe
    threshold = sae.threshold.detach()
    if len(threshold) > 1 and float(threshold[0]) > 0 and bool((threshold == threshold[0]).all()):
        return recipe.with_values("weights", architecture="batchtopk")
    return recipe


_CFG = ("cfg.json", "cfg.json (before SAELens 6)")
