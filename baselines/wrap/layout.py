"""Which tensors an SAE of each architecture is saved with, as SAELens' inference classes name and shape them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .errors import BadSAE, short
from .safetensors_header import TensorInfo

_COMMON = {"W_dec": ("d_sae", "d_in"), "b_dec": ("d_in",)}
_ENCODER = {**_COMMON, "W_enc": ("d_in", "d_sae")}
_BIASED = {**_ENCODER, "b_enc": ("d_sae",)}

LAYOUTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "standard": _BIASED,
    "topk": _BIASED,
    "abstopk": _BIASED,
    "jumprelu": {**_BIASED, "threshold": ("d_sae",)},
    "gated": {**_ENCODER, "b_gate": ("d_sae",), "r_mag": ("d_sae",), "b_mag": ("d_sae",)},
    "matching_pursuit": _COMMON,
}
"""Tensors by the architecture that cfg.json names; each axis is `d_in` or `d_sae`."""

SCALING_FACTOR = "scaling_factor"
"""A tensor that SAELens wrote for a time, all ones where it means nothing; SAELens 6 drops it then."""


def check_tensors(
    tensors: Mapping[str, TensorInfo], architecture: str, sizes: Mapping[str, int], path: Path | str
) -> None:
    """Check names and shapes of the tensors of a file.

    Args:
        tensors: from `read_header`.
        architecture: a key of `LAYOUTS`.
        sizes: `d_in` and `d_sae` of cfg.json.
        path: of the file, or a name, for errors.

    Raises:
        BadSAE: a tensor is missing, unexpected or of another shape.
    """
    layout = LAYOUTS[architecture]
    for name in (*layout, *tensors):
        if name not in tensors:
            raise BadSAE(f"{path}: no tensor {name!r}; a {architecture} SAE has {', '.join(sorted(layout))}")
        if name not in layout and name != SCALING_FACTOR:
            raise BadSAE(
                f"{path}: unexpected tensor {short(name)}; a {architecture} SAE has {', '.join(sorted(layout))}"
            )
        wanted = tuple(sizes[axis] for axis in layout.get(name, ("d_sae",)))
        if tensors[name].shape != wanted:
            axes = ", ".join(f"{axis} {sizes[axis]}" for axis in dict.fromkeys(layout.get(name, ("d_sae",))))
            got = list(tensors[name].shape)
            raise BadSAE(f"{path}: tensor {name!r} has shape {got}; cfg.json's {axes} need {list(wanted)}")
