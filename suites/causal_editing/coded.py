"""What an SAE makes of every prompt's activation, and the way back for SAEs that normalise at run time.

SAELens' `decode` undoes a run-time normalisation with what its last `encode` left, and then forgets it. Codes that are
computed once and decoded many times cannot lean on that: here the factor and the mean of every prompt are kept, edits
happen in the space that the SAE's weights live in, and only the rows that are put into the model are taken back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sae_lens.saes.sae import SAE
from torch import nn

from ...baselines.interface import AnySAE, clone
from .mdbm import Decode, Runs

ROWS = 256
"""Prompts encoded at once: beside the codes of all prompts an SAE's temporaries are small."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes of all prompts, and how rows made of them get back into the model."""

    codes: Float[torch.Tensor, "n d_sae"]
    """What the SAE makes of the activations; float32."""
    error: Float[torch.Tensor, "n d_in"]
    """Activation minus reconstruction, in the space that `decode` leads to."""
    decode: Decode
    """The SAE's `decode` without its run-time normalisation: it may be called as often as one likes."""
    scale: Float[torch.Tensor, "n 1"]
    """What rows are multiplied by to become activations of their prompt: 1 where nothing is normalised."""
    shift: Float[torch.Tensor, "n 1"]
    """What is added to them then: 0 where nothing is centred."""

    @cached_property
    def live(self) -> Bool[torch.Tensor, " d_sae"]:
        """Latents that fire on some prompt."""
        return (self.codes != 0).any(0)

    def activations(self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"]) -> Float[torch.Tensor, "m d_in"]:
        """Turn rows that were decoded for some prompts into activations of the model.

        Args:
            which: The base prompt of each row: its factor and mean are the ones undone, as in SAEBench.
            rows: What `decode` gave, with or without `error`.
        """
        return rows * self.scale[list(which)] + self.shift[list(which)]

    def runs(self, runs: Runs) -> Runs:
        """Return runs of the same model that take rows as `decode` gives them."""
        return _Rescaled(self, runs)


@dataclass(frozen=True, eq=False)
class _Rescaled:
    coded: Coded
    of: Runs

    def logits(self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"]) -> Float[torch.Tensor, "m vocab"]:
        return self.of.logits(which, self.coded.activations(which, rows))

    def generate(
        self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"] | None, n_tokens: int
    ) -> Int[torch.Tensor, "m n_tokens"]:
        return self.of.generate(which, None if rows is None else self.coded.activations(which, rows), n_tokens)


def code(sae: AnySAE, clean: Float[torch.Tensor, "n d_in"]) -> Coded:
    """Encode all prompts once, in float32 on the device of their activations.

    Args:
        sae: Any SAE, of any dtype and on any device; it is left as it was. One that is not float32 on that device is
            copied for as long as its codes are used.
        clean: Activation of every prompt at the place of the edit, raw.
    """
    # Out of inference mode, in whose tensors no gradient of a mask could be taken.
    with torch.inference_mode(False), torch.no_grad():
        clean = clean.float()
        sae = _in_float32(sae, clean.device)
        decode = _without_normalisation(sae)
        n, d_in = clean.shape
        codes, error = clean.new_empty(n, sae.cfg.d_sae), clean.new_empty(n, d_in)
        scale, shift = clean.new_empty(n, 1), clean.new_empty(n, 1)
        for start in range(0, n, ROWS):
            part = slice(start, start + ROWS)
            codes[part] = sae.encode(clean[part])
            scale[part], shift[part] = _way_back(sae, clean[part])
            error[part] = (clean[part] - shift[part]) / scale[part] - decode(codes[part])
    return Coded(codes, error, decode, scale, shift)


def _in_float32(sae: AnySAE, device: torch.device) -> AnySAE:
    """The SAE itself where all of it is float32 on the device, else a copy that is; a foreign one casts for itself."""
    if all(_is_float32(part, device) for part in _saes(sae)):
        return sae
    twin = clone(sae)
    for part in _saes(twin):
        # One by one: SAELens' `to` tells an SAE its own dtype, a module's `to` does not tell those within it.
        part.to(device=device, dtype=torch.float32)
    return twin


def _is_float32(sae: SAE[Any], device: torch.device) -> bool:
    weights = [(weight.device, weight.dtype) for weight in sae.parameters()]
    return sae.dtype == torch.float32 and all(each == (device, torch.float32) for each in weights)


def _saes(sae: AnySAE) -> list[SAE[Any]]:
    """What of an SAE is SAELens': itself, or the two that a shuffled decoder may be made of."""
    return [part for part in sae.modules() if isinstance(part, SAE)] if isinstance(sae, nn.Module) else []


def _writer(sae: AnySAE) -> AnySAE:
    """What decodes: the SAE itself, unless it reads with one and writes with another."""
    return getattr(sae, "writer", sae)


def _without_normalisation(sae: AnySAE) -> Decode:
    writer = _writer(sae)
    if not isinstance(writer, SAE):
        return writer.decode  # a foreign SAE reads raw activations
    plain = copy.copy(writer)  # shares every weight
    plain.run_time_activation_norm_fn_in = plain.run_time_activation_norm_fn_out = lambda x: x
    return plain.decode


def _way_back(sae: AnySAE, encoded: Float[torch.Tensor, "m d_in"]) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and mean that `decode` would put back on the rows encoded last; it uses them up."""
    # Asked of the SAE itself, by sending a zero and a one the way that reconstructions go.
    back = encoded.new_tensor([[0.0, 1.0]]).expand(len(encoded), 2)
    if isinstance(writer := _writer(sae), SAE):
        back = writer.run_time_activation_norm_fn_out(back)
    return back[:, 1:] - back[:, :1], back[:, :1]
