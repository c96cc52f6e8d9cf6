"""cfg.json of an SAE, of any SAELens version: checked, then read as SAELens reads it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version
from sae_lens.constants import DTYPE_MAP
from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting
from sae_lens.registry import SAE_CLASS_REGISTRY, SAE_TRAINING_CLASS_REGISTRY
from sae_lens.saes.sae import SAEMetadata

from .errors import BadSAE, Unsupported, did_you_mean, short

MAX_WIDTH = 2**24
"""Largest `d_in` and `d_sae`; the widest SAEs so far have a million latents."""

NORMALIZATIONS = ("none", "expected_average_only_in", "constant_norm_rescale", "layer_norm", "covariance_whitening")
"""Values of `normalize_activations` that SAELens knows."""

OLD_NAMES = {
    "hook_point": "hook_name",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
"""Fields that SAELens renamed before version 6."""


@dataclass(frozen=True)
class Config:
    """A checked configuration."""

    raw: Mapping[str, Any]
    """As the file has it, old names replaced."""
    effective: Mapping[str, Any]
    """As SAELens reads it: its own treatment of old formats, with its defaults filled in."""
    old: bool
    """Whether it is from before SAELens 6."""

    @property
    def architecture(self) -> str:
        """Architecture that the SAE is saved as."""
        return self.effective["architecture"]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known about the language model."""
        return self.effective["metadata"]


def _is_int(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def is_number(value: object) -> bool:
    """Whether a value is an int or a finite float, and no bool."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def is_name(value: object) -> bool:
    """Whether a value is a printable text of 1 to 500 characters: what is shown to people and used as a name."""
    return isinstance(value, str) and 0 < len(value) <= 500 and value.isprintable()


def name_of(value: object) -> str | None:
    """Return a value that is a name, else None."""
    return value if isinstance(value, str) and is_name(value) else None


def positive(value: Any) -> float | int | None:  # noqa: ANN401
    """Return a value that is a number above 0, else None."""
    return value if is_number(value) and value > 0 else None


def count(value: Any) -> int | None:  # noqa: ANN401
    """Return a value that is a whole number from 1, as an int, else None."""
    return int(value) if is_number(value) and 1 <= value <= 2**62 and value == int(value) else None


_Check = tuple[Callable[[Any], bool], str]

_NAME: _Check = (lambda v: v is None or v == "" or is_name(v), "a printable text of at most 500 characters is needed")
_BOOL: _Check = (lambda v: isinstance(v, bool), "true or false is needed")
_OBJECT: _Check = (lambda v: isinstance(v, dict), "an object is needed")
_WIDTH: _Check = (lambda v: _is_int(v, 1, MAX_WIDTH), f"an integer from 1 to {MAX_WIDTH} is needed")


def _one_of(*names: str) -> _Check:
    return lambda v: isinstance(v, str) and v in names, f"one of {', '.join(names)} is needed"


def _or_null(check: _Check) -> _Check:
    return lambda v: v is None or check[0](v), check[1]


_EFFECTIVE: dict[str, _Check] = {
    "d_in": _WIDTH,
    "d_sae": _WIDTH,
    "dtype": _one_of(*DTYPE_MAP),
    "apply_b_dec_to_input": _BOOL,
    "normalize_activations": _one_of(*NORMALIZATIONS),
    "reshape_activations": _one_of("none", "hook_z"),
    "k": (lambda v: _is_int(v, 1, MAX_WIDTH), "an integer from 1 to d_sae is needed"),
    "rescale_acts_by_decoder_norm": _BOOL,
    "residual_threshold": (lambda v: is_number(v) and v >= 0, "a number, at least 0, is needed"),
    "max_iterations": (lambda v: v is None or _is_int(v, 1, MAX_WIDTH), "null or an integer from 1 is needed"),
    "stop_on_duplicate_support": _BOOL,
}

_METADATA: dict[str, _Check] = {
    "model_name": _NAME,
    "hook_name": _NAME,
    "hook_head_index": _or_null((lambda v: _is_int(v, 0, 10**6), "null or an integer from 0 is needed")),
    "context_size": _or_null((lambda v: _is_int(v, 1, 2**30), "an integer from 1 is needed")),
    "prepend_bos": _or_null(_BOOL),
    "model_from_pretrained_kwargs": _or_null(_OBJECT),
    "training_architecture": _NAME,
    "training_architecture_details": _or_null(_OBJECT),
}

_OLD: dict[str, _Check] = {
    "hook_name": (is_name, "a printable text of at most 500 characters is needed"),
    "activation_fn": _NAME,
    "activation_fn_kwargs": _or_null(_OBJECT),
    "normalize_activations": (lambda v: v is None or isinstance(v, bool | str), "a text is needed"),
}


def _check(values: Mapping[str, Any], checks: Mapping[str, _Check], where: str, prefix: str = "") -> None:
    for name, (is_right, needed) in checks.items():
        if name in values and not is_right(values[name]):
            raise BadSAE(f"{where}: {prefix}{name} is {short(values[name])}; {needed}")


def is_old(raw: Mapping[str, Any], where: str) -> bool:
    """Whether a configuration has the form of before SAELens 6, by the version that it names.

    An SAE of before 6 that SAELens 6 saved again names the old version still; its metadata give the new form away.

    Raises:
        BadSAE: the metadata is no object or the version no version.
    """
    metadata = raw.get("metadata", {})
    _check({"metadata": metadata}, {"metadata": _OBJECT}, where)
    version = raw.get("sae_lens_version") or metadata.get("sae_lens_version")
    if not version:
        return not {"hook_name", "model_name"} & set(metadata)
    try:
        if not isinstance(version, str) or len(version) > 60:
            raise InvalidVersion
        return Version(version) < Version("6.0.0-rc.0") and not {"hook_name", "model_name"} & set(metadata)
    except InvalidVersion:
        raise BadSAE(f"{where}: sae_lens_version is {short(version)}; a version like '6.0.0' is needed") from None


def understand(raw: Mapping[str, Any], where: str) -> Config:
    """Check a configuration and read it as SAELens does.

    Args:
        raw: content of cfg.json, or `cfg.to_dict()` of an SAE.
        where: name of the file or object, for errors.

    Raises:
        BadSAE: a value that decides how the SAE is loaded or run is missing, of the wrong type or absurd.
    """
    old = is_old(raw, where)
    if old:
        raw = {OLD_NAMES.get(name, name): value for name, value in raw.items()}
        _check(raw, _OLD, where)
    _check_architecture(raw, old, where)
    effective = handle_config_defaulting(copy.deepcopy(dict(raw))) if old else copy.deepcopy(dict(raw))
    effective.setdefault("metadata", {})
    config = Config(raw, effective, old)
    _check_effective(config, where)
    _check_metadata(config, where)
    return config


def _check_architecture(raw: Mapping[str, Any], old: bool, where: str) -> None:
    architecture = raw.get("architecture", "standard" if old else None)
    if isinstance(architecture, str) and "crosscoder" in architecture.lower():
        raise Unsupported(f"{where}: crosscoders are not supported: a latent reads and writes several sites")
    if not isinstance(architecture, str) or architecture not in SAE_CLASS_REGISTRY:
        raise BadSAE(f"{where}: {_unknown_architecture(architecture)}")
    if (
        old
        and "topk" in (architecture, raw.get("activation_fn"))
        and "k" not in (raw.get("activation_fn_kwargs") or {})
    ):
        raise BadSAE(f"{where}: activation_fn_kwargs has no k; a topk SAE needs one")


def _unknown_architecture(name: object) -> str:
    if isinstance(name, str) and name in SAE_TRAINING_CLASS_REGISTRY:
        return f"architecture is {name!r}, a training checkpoint; save it with SAELens' save_inference_model"
    known = ", ".join(sorted(SAE_CLASS_REGISTRY))
    hint = did_you_mean(name, SAE_CLASS_REGISTRY) if isinstance(name, str) else ""
    return f"architecture is {short(name)}{hint}; one of {known} is needed"


def _check_effective(config: Config, where: str) -> None:
    values = config.effective
    needed = ("d_in", "d_sae", "k") if config.architecture in ("topk", "abstopk") else ("d_in", "d_sae")
    for name in needed:
        if name not in values:
            raise BadSAE(f"{where}: no {name}; a {config.architecture} SAE needs it")
    _check(values, _EFFECTIVE, where)
    if "k" in needed and values["k"] > values["d_sae"]:
        raise BadSAE(f"{where}: k is {values['k']}; at most d_sae {values['d_sae']} is possible")
    # SAELens stops after d_in steps of its own; without a bound a file could keep every batch busy for days.
    if config.architecture == "matching_pursuit" and (values.get("max_iterations") or 0) > 10 * values["d_in"]:
        raise BadSAE(
            f"{where}: max_iterations is {values['max_iterations']}; at most 10 x d_in {values['d_in']} is allowed"
        )


def _check_metadata(config: Config, where: str) -> None:
    _check(config.metadata, _METADATA, where, "metadata." if not config.old else "")
    for name in config.metadata:
        # SAELens makes attributes of them: a name of its own would replace a method.
        if name == "self" or name.startswith("_") or hasattr(SAEMetadata, name):
            raise BadSAE(f"{where}: metadata has a key {short(name)}, which would replace a part of SAELens")
    hook_name = config.metadata.get("hook_name")
    if config.effective.get("reshape_activations") == "hook_z" and not (hook_name or "").endswith("_z"):
        raise BadSAE(
            f"{where}: reshape_activations is 'hook_z' and hook_name {short(hook_name)}; one that ends in _z is needed"
        )
