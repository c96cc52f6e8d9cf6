"""An SAE made ready to be measured."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens.saes.sae import SAE

from .foreign import ForeignSAE
from .recipe import Recipe


@dataclass(frozen=True)
class Artefact:
    """A trained SAE, where it came from put aside; it reads and writes raw activations after `in_raw_space`."""

    name: str
    """What reports call it."""
    sae: SAE[Any] | ForeignSAE
    """The SAE, float32 where it is SAELens'."""
    recipe: Recipe
    """What is known about how it was made."""
    sha256: str
    """Hash of its weights and of what decides how they are used."""


@torch.no_grad()
def copy_sae(sae: SAE[Any], *, device: torch.device | str | None = None) -> SAE[Any]:
    """Return an independent float32 copy of an inference SAE, on its device unless another one is named.

    Not by `copy.deepcopy`: SAELens' run-time normalisation is a closure over the SAE, and would stay the original's.
    """
    cfg, device = copy.deepcopy(sae.cfg), device or sae.device
    # On the meta device first, as SAELens loads: no weights are drawn and no generator moves.
    cfg.device, cfg.dtype = "meta", "float32"
    with warnings.catch_warnings():
        # SAELens warns of model_from_pretrained_kwargs, which the recipe holds.
        warnings.simplefilter("ignore")
        made = type(sae)(cfg)
    tensors = {n: t.detach().to(device, torch.float32, copy=True).contiguous() for n, t in sae.state_dict().items()}
    made.load_state_dict(tensors, assign=True)
    return made.to(device=device, dtype=torch.float32)
