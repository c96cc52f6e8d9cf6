"""From a Python object to an SAE that can be measured."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAE, SAEMetadata, TrainingSAE

from ..interface import clone
from .artefact import Artefact, copy_sae
from .config import count, name_of, positive, understand
from .errors import BadSAE, Unsupported, short
from .foreign import ForeignConfig, new_foreign
from .hashing import hash_sae
from .layout import LAYOUTS, check_tensors
from .loading import check_sae, load_folder
from .reading import NOT_SUPPORTED, recipe_of, unsupported
from .recipe import Known, Recipe
from .saebench import CLASSES, TRAINED_AS, map_to_sae_lens, sae_bench_class
from .safetensors_header import TensorInfo

OBJECT = "cfg of the object"
_OF_THE_CLASS = ("saved_as", "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "options")
_OF_A_SUBCLASS = ("apply_b_dec_to_input", "normalize_activations")
SAE_BENCH = "SAEBench cfg"
"""Sources."""


def wrap_object(obj: object, *, name: str) -> Artefact:
    """Make an SAE of an object ready to be measured; the object is not changed.

    - A SAELens SAE is taken as it is, a SAELens training SAE as the inference SAE that it would be saved as; both are
      measured on the CPU. A subclass of theirs is no such SAE (saved and loaded it would be its base class).
    - One of SAEBench's custom SAEs becomes the SAELens SAE with the same numbers, where that is verified.
    - Anything else with `encode`, `decode`, `W_enc` [d_in, d_sae], `W_dec` [d_sae, d_in] and `cfg` (`d_in`, `d_sae`,
      and what it knows of the model) becomes a `ForeignSAE`, which runs on the object's own device.

    Args:
        obj: the object; it was made by code that the user chose to run.
        name: what reports call it.

    Raises:
        BadSAE: an attribute is missing or has the wrong shape, a tensor holds NaN or Inf, or the SAE is not supported.
    """
    if isinstance(obj, SAE) and _is_of_sae_lens(obj):
        return _wrap_training(obj, name) if isinstance(obj, TrainingSAE) else _wrap_inference(obj, name)
    return _wrap_foreign(_on_raw_activations(obj, name) if isinstance(obj, SAE) else obj, name)


def _is_of_sae_lens(obj: SAE[Any]) -> bool:
    """Whether an object is what SAELens' save and load would make of it again: no subclass, nothing replaced."""
    architecture, saved_as = obj.cfg.architecture(), obj.cfg.architecture()
    registry: Mapping[str, Any] = SAE_CLASS_REGISTRY
    if isinstance(obj, TrainingSAE):
        registry, saved_as = SAE_TRAINING_CLASS_REGISTRY, obj.cfg.get_inference_config_class().architecture()
    own = architecture in registry and type(obj) is registry[architecture][0]
    return own and saved_as in {*LAYOUTS, *NOT_SUPPORTED} and not {"encode", "decode"} & vars(obj).keys()


def _on_raw_activations(obj: SAE[Any], name: str) -> SAE[Any]:
    """Return an SAE of a class of its own as one that reads raw, flat activations, as a `ForeignSAE` has to."""
    cfg, kind = obj.cfg, obj.cfg.architecture()
    recipe = Recipe().with_values(
        OBJECT,
        saved_as=kind if kind in NOT_SUPPORTED else None,
        hook_head_index=_of(cfg, "hook_head_index"),
        normalize_activations=cfg.normalize_activations,
    )
    if reason := unsupported(recipe):
        raise Unsupported(f"{name}: {reason}")
    if cfg.normalize_activations == "expected_average_only_in":
        raise BadSAE(
            f"{name}: a {type(obj).__name__} with normalize_activations 'expected_average_only_in', which its encode "
            "leaves to others; fold the scale in with SAELens' fold_activation_norm_scaling_factor"
        )
    if cfg.reshape_activations == "none":
        return obj
    flat = clone(obj)
    flat.turn_off_forward_pass_hook_z_reshaping()
    return flat


def _wrap_training(obj: TrainingSAE[Any], name: str) -> Artefact:
    with tempfile.TemporaryDirectory() as folder:
        obj.save_inference_model(folder)
        try:
            artefact = load_folder(Path(folder), name=name)
        except BadSAE as error:
            raise BadSAE(str(error).replace(folder, name)) from None
    values = {
        n: Known(k.value, OBJECT if k.source == "cfg.json" else k.source) for n, k in artefact.recipe.values.items()
    }
    return replace(artefact, recipe=Recipe(values))


def _wrap_inference(obj: SAE[Any], name: str) -> Artefact:
    config = understand(obj.cfg.to_dict(), name)
    recipe = recipe_of(config, OBJECT, name)
    if reason := unsupported(recipe):
        raise Unsupported(f"{name}: {reason}")
    tensors = {n: TensorInfo("", tuple(t.shape), 0, 0) for n, t in obj.state_dict().items()}
    check_tensors(tensors, config.architecture, {n: config.effective[n] for n in ("d_in", "d_sae")}, name)
    # Always a copy: what is measured must not change when the object does.
    sae = copy_sae(obj, device="cpu")
    check_sae(sae, name)
    return Artefact(name, sae, recipe, hash_sae(sae))


def _wrap_foreign(obj: object, name: str) -> Artefact:
    cfg = getattr(obj, "cfg", None)
    if cfg is None:
        raise BadSAE(f"{name}: a {type(obj).__name__} without cfg; encode, decode, W_enc, W_dec and cfg are needed")
    sizes = {n: _size(cfg, n, name) for n in ("d_in", "d_sae")}
    bench = sae_bench_class(obj)
    recipe = _recipe(obj, cfg, bench)
    metadata = SAEMetadata(**{n: recipe.get(n) for n in ("model_name", "hook_name") if recipe.get(n) is not None})
    foreign = new_foreign(obj, ForeignConfig(sizes["d_in"], sizes["d_sae"], metadata), name)
    if bench in CLASSES and (sae := map_to_sae_lens(foreign)) is not None:
        sae.cfg.metadata = _metadata(recipe)
        # As from a folder with the same SAE: its baselines are then the same to the last bit.
        same = recipe_of(understand(sae.cfg.to_dict(), name), SAE_BENCH, name)
        recipe = recipe.with_values(SAE_BENCH, **{n: same.get(n) for n in _OF_THE_CLASS})
        return Artefact(name, sae, recipe, hash_sae(sae))
    return Artefact(name, foreign, recipe, foreign.sha256)


def _size(cfg: object, name: str, where: str) -> int:
    if (size := count(_of(cfg, name))) is None:
        raise BadSAE(f"{where}: cfg.{name} is {short(_of(cfg, name))}; an integer from 1 is needed")
    return size


def _metadata(recipe: Recipe) -> SAEMetadata:
    names = ("model_name", "hook_name", "context_size", "prepend_bos", "dataset_path", "l0")
    return SAEMetadata(**{n: recipe.get(n) for n in names if recipe.get(n) is not None})


def _of(cfg: Any, name: str) -> Any:  # noqa: ANN401
    """A value of a configuration, which may be an object or a mapping and may keep the model's facts in `metadata`."""
    if isinstance(cfg, Mapping):
        return cfg.get(name, _of(cfg["metadata"], name) if "metadata" in cfg else None)
    value = getattr(cfg, name, None)
    metadata = getattr(cfg, "metadata", None)
    return value if value is not None or metadata is None else _of(metadata, name)


def _recipe(obj: object, cfg: object, bench: str) -> Recipe:
    k, prepend_bos = getattr(obj, "k", _of(cfg, "k")), _of(cfg, "prepend_bos")
    k = k.item() if isinstance(k, torch.Tensor) and k.numel() == 1 else k
    dtype = getattr(getattr(obj, "W_dec", None), "dtype", None)
    return Recipe().with_values(
        SAE_BENCH if bench else OBJECT,
        model_name=name_of(_of(cfg, "model_name")),
        hook_name=name_of(_of(cfg, "hook_name")),
        context_size=count(_of(cfg, "context_size")),
        prepend_bos=prepend_bos if isinstance(prepend_bos, bool) else None,
        dataset_path=name_of(_of(cfg, "dataset_path")),
        architecture=_trained_as(cfg, bench),
        d_in=count(_of(cfg, "d_in")),
        d_sae=count(_of(cfg, "d_sae")),
        k=positive(k),
        tokens=count(_of(cfg, "training_tokens")),
        dtype=str(dtype).removeprefix("torch.") if dtype is not None else None,
        **({n: getattr(cfg, n) for n in _OF_A_SUBCLASS} if isinstance(obj, SAE) else {}),
    )


def _trained_as(cfg: object, bench: str) -> str | None:
    """SAELens' name of the training architecture, or None where the object names none that is known."""
    said = _of(cfg, "training_architecture") or _of(cfg, "architecture") or CLASSES.get(bench)
    said = said() if callable(said) else said
    return (
        TRAINED_AS.get(said, said if said in SAE_TRAINING_CLASS_REGISTRY else None) if isinstance(said, str) else None
    )
