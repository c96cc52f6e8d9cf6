"""One hash for one SAE, wherever it is from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from sae_lens.saes.sae import SAE, SAEConfig


def hash_tensors(tensors: Mapping[str, torch.Tensor], behaviour: Mapping[str, Any]) -> str:
    """Return the sha256 of named tensors (name, dtype, shape, bytes, in order of name) and of JSON-able settings."""
    digest = hashlib.sha256(json.dumps(behaviour, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(json.dumps([name, str(data.dtype), list(data.shape)]).encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def behaviour_of(sae: SAE[Any]) -> dict[str, Any]:
    """What an SAE does beside its weights: architecture, k, normalisation; no sizes, device, dtype or metadata."""
    # Two TopK SAEs of the same weights and another k are two SAEs.
    common = {"d_in", "d_sae", "dtype", "device", "metadata", "reshape_activations"}
    names = {f.name for f in dataclasses.fields(SAEConfig)} | {f.name for f in dataclasses.fields(sae.cfg)}
    settings = {name: getattr(sae.cfg, name) for name in names - common}
    return {"architecture": sae.cfg.architecture(), **settings}


def hash_sae(sae: SAE[Any]) -> str:
    """Return the sha256 of an inference SAE: its tensors as they would be saved, and how they are used."""
    return hash_tensors(sae.state_dict(), behaviour_of(sae))
