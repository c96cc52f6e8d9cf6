"""From the configuration files of an SAE to its recipe; no weights are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEConfig

from .config import NORMALIZATIONS, Config, count, is_number, name_of, positive, understand
from .errors import BadSAE, short
from .files import CFG, RUNNER_CFG, find, need
from .layout import LAYOUTS
from .recipe import RECIPE_FIELDS, Recipe
from .strict_json import read_object

NEW, OLD, RUNNER = "cfg.json", "cfg.json (before SAELens 6)", "runner_cfg.json"
"""Sources."""

_COEFFICIENTS = ("l1_coefficient", "l0_coefficient")
_TOKENS = ("training_tokens", "total_training_tokens")
_BATCH = ("train_batch_size_tokens", "train_batch_size")
_MODEL = ("model_name", "hook_name", "hook_head_index", "context_size", "prepend_bos", "dataset_path")


def read_recipe(folder: Path, *, extra: Mapping[str, Any] | None = None) -> Recipe:
    """Read the recipe of the SAE in a folder from cfg.json (of any SAELens version) and runner_cfg.json.

    Args:
        folder: in SAELens' format.
        extra: what SAELens' registry knows, under names of `RECIPE_FIELDS`; the rest is ignored.

    Raises:
        BadSAE: a file is missing, malformed, or has a value that no SAE can have.
    """
    path = need(folder, CFG)
    config = understand(read_object(path), str(folder / CFG))
    recipe = recipe_of(config, OLD if config.old else NEW, str(folder / CFG))
    if (runner := find(folder, RUNNER_CFG)) is not None:
        recipe = _with_runner(recipe, config, read_object(runner), str(folder / RUNNER_CFG))
    return _with_extra(recipe, extra or {})


def recipe_of(config: Config, source: str, where: str) -> Recipe:
    """Return the recipe that a checked configuration holds.

    Args:
        config: the configuration.
        source: of what it says itself; what SAELens fills in has the source "default".
        where: name of the file or object, for errors.

    Raises:
        BadSAE: an option of the training configuration has the wrong type.
    """
    effective, metadata = config.effective, config.metadata
    details = dict(metadata.get("training_architecture_details") or {})
    trained_as = metadata.get("training_architecture") or config.architecture
    # SAELens keeps sae_lens_version beside the metadata or inside it, and fills in its own where there is none.
    version = config.raw.get("sae_lens_version") or (config.raw.get("metadata") or {}).get("sae_lens_version")
    values: dict[str, Any] = {name: metadata.get(name) or None for name in ("model_name", "hook_name")}
    values |= {name: metadata.get(name) for name in ("hook_head_index", "context_size", "prepend_bos")}
    values |= {
        "model_from_pretrained_kwargs": _harmless(metadata.get("model_from_pretrained_kwargs")),
        "dataset_path": name_of(metadata.get("dataset_path")),
        "architecture": trained_as,
        "saved_as": config.architecture,
        "k": _k(effective, details),
        "l0": positive(metadata.get("l0")),
        "options": options_of(trained_as, {**details, **_inference_options(config)}, where) or None,
        "sae_lens_version": name_of(version),
    }
    for name in ("d_in", "d_sae", "normalize_activations", "apply_b_dec_to_input", "reshape_activations", "dtype"):
        values[name] = effective.get(name, _sae_lens_default(config, name))
    recipe = Recipe().with_values("default", **values)
    said = {name: value for name, value in values.items() if _says(config, name)}
    return recipe.with_values(source, **said).filled(source, **_training({**config.raw, **details}))


def _k(effective: Mapping[str, Any], details: Mapping[str, Any]) -> float | int | None:
    # Matching pursuit picks at most one new latent per iteration.
    recorded = details.get("k", effective.get("max_iterations"))
    return effective.get("k", positive(recorded))


def _says(config: Config, name: str) -> bool:
    """Whether the configuration itself has a value, rather than SAELens filling it in."""
    if name in ("prepend_bos", "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "dtype"):
        return name in config.raw or (not config.old and name in config.metadata)
    return name not in ("architecture", "saved_as") or "architecture" in config.raw or "k" in config.effective


def _sae_lens_default(config: Config, name: str) -> Any:  # noqa: ANN401
    fields = {f.name: f.default for f in dataclasses.fields(SAEConfig)}
    default = fields.get(name, dataclasses.MISSING)
    # A missing dtype is unknown rather than float32: SAELens refuses to guess it too.
    return None if default is dataclasses.MISSING or name == "dtype" else default


def _inference_options(config: Config) -> dict[str, Any]:
    """What the inference configuration has beyond the fields of all SAEs; the training details do not repeat it."""
    common = {f.name for f in dataclasses.fields(SAEConfig)} | {"k"}
    own = {f.name for f in dataclasses.fields(SAE_CLASS_REGISTRY[config.architecture][1])} - common
    return {name: config.effective[name] for name in own if name in config.effective}


def options_of(architecture: str, details: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Pick the further fields of a training configuration, with the types that SAELens gives them.

    Raises:
        BadSAE: a field has another type.
    """
    if architecture not in SAE_TRAINING_CLASS_REGISTRY:
        return {}
    fields = {f.name: f for f in dataclasses.fields(SAE_TRAINING_CLASS_REGISTRY[architecture][1])}
    names = sorted(set(details) & set(fields) - {f.name for f in dataclasses.fields(SAEConfig)} - {"k", *_COEFFICIENTS})
    for name in names:
        if not _fits(fields[name], details[name]):
            needed = str(fields[name].type).removeprefix("<class '").removesuffix("'>")
            raise BadSAE(f"{where}: {architecture} option {name} is {short(details[name])}; {needed} is needed")
    return {name: details[name] for name in names if details[name] is not None}


def _fits(field: dataclasses.Field[Any], value: Any) -> bool:  # noqa: ANN401
    kind = str(field.type)
    if value is None:
        return "None" in kind
    if isinstance(value, list) or "list" in kind:
        return isinstance(value, list) and "list" in kind and len(value) <= 1000 and all(type(v) is int for v in value)
    if isinstance(value, bool):
        return "bool" in kind
    if isinstance(value, str):
        return "Literal" in kind and repr(value) in kind
    return is_number(value) and ("float" in kind or ("int" in kind and type(value) is int))


def _training(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Lr, tokens, batch and coefficient where a file has them in a form that makes sense; else they stay unknown."""
    tokens, batch = (next((raw[n] for n in names if n in raw), None) for names in (_TOKENS, _BATCH))
    coefficient = next((raw[n] for n in _COEFFICIENTS if n in raw), None)
    return {
        "lr": positive(raw.get("lr")),
        "tokens": count(tokens),
        "batch_size": count(batch),
        "sparsity_coefficient": positive(coefficient),
    }


def _with_runner(recipe: Recipe, config: Config, runner: Mapping[str, Any], where: str) -> Recipe:
    inner = runner.get("sae")
    sae = inner if isinstance(inner, dict) else runner
    recipe = recipe.filled(RUNNER, **_training({**runner, **sae}))
    recipe = recipe.filled(RUNNER, **{n: _model_value(n, runner.get(n)) for n in _MODEL})
    # cfg.json is written after SAELens has folded the scale in; the runner's configuration stays what it was.
    normalization = sae.get("normalize_activations")
    known = isinstance(normalization, str) and normalization in NORMALIZATIONS
    recipe = recipe.filled(RUNNER, normalize_activations_in_training=normalization if known else None)
    trained_as = str(sae.get("architecture"))
    if config.metadata.get("training_architecture") or trained_as not in SAE_TRAINING_CLASS_REGISTRY:
        return recipe
    options = options_of(trained_as, {**sae, **recipe.get("options", {})}, where)
    # Before SAELens recorded training_architecture, cfg.json named only what the SAE is saved as.
    recipe = recipe.with_values(RUNNER, architecture=trained_as, options=options or None)
    return recipe.filled(RUNNER, k=positive(sae.get("k")))


def _model_value(name: str, value: Any) -> Any:  # noqa: ANN401
    if name in ("hook_head_index", "context_size"):
        return value if type(value) is int and value >= 0 else None
    if name == "prepend_bos":
        return value if isinstance(value, bool) else None
    return name_of(value)


def _with_extra(recipe: Recipe, extra: Mapping[str, Any]) -> Recipe:
    known = {name: value for name, value in extra.items() if name in RECIPE_FIELDS}
    for name in ("l0", "norm_scaling_factor"):
        # The registry writes 0 for what it does not know.
        known[name] = positive(known.get(name))
    return recipe.with_values("registry", **known)


def _harmless(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Drop what would run code from a hub: it is honoured from nobody's file."""
    return {n: v for n, v in (options or {}).items() if n != "trust_remote_code"} or None


_TRANSCODER = "they read one site and write another"
NOT_SUPPORTED: Mapping[str, str] = {
    "transcoder": _TRANSCODER,
    "skip_transcoder": _TRANSCODER,
    "jumprelu_transcoder": _TRANSCODER,
    "jumprelu_skip_transcoder": _TRANSCODER,
    "temporal": "a latent depends on the tokens before it",
}
"""Architectures of SAELens that no baseline is defined for, and why."""


def unsupported(recipe: Recipe) -> str:
    """Say in one line why an SAE cannot be checked, or return ""."""
    saved_as, normalization = recipe.get("saved_as"), recipe.get("normalize_activations")
    if saved_as is not None and saved_as not in LAYOUTS:
        return f"{saved_as} SAEs are not supported: {NOT_SUPPORTED.get(saved_as, 'no baselines are defined for them')}"
    if recipe.get("hook_head_index") is not None:
        return f"it reads one head, hook_head_index {recipe.get('hook_head_index')}; only whole sites are supported"
    if normalization == "covariance_whitening":
        return (
            "its covariance_whitening is not folded into the weights; fold it with SAELens' fold_activation_whitening"
        )
    return ""
