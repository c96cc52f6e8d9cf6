"""What an SAE makes of every prompt's activation, and the way back for SAEs that normalise at run time.

SAELens' `decode` undoes a run-time normalisation with what its last `encode` left, and then forgets it. Codes that are
computed once and decoded many times cannot lean on that: here the factor and the mean of every prompt are kept, edits
happen in the space that the SAE's weights live in, and only the rows that are put into the model are taken back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from sae_lens.saes.sae import SAE

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


def code(sae: SAE[Any], clean: Float[torch.Tensor, "n d_in"]) -> Coded:
    """Encode all prompts once.

    Args:
        sae: Any SAELens SAE; it is left as it was.
        clean: Activation of every prompt at the place of the edit, raw, on the SAE's device.
    """
    plain = _without_normalisation(sae)
    n, d_in = clean.shape
    codes, error = clean.new_empty(n, sae.cfg.d_sae), clean.new_empty(n, d_in)
    scale, shift = clean.new_empty(n, 1), clean.new_empty(n, 1)
    with torch.no_grad():
        for start in range(0, n, ROWS):
            part = slice(start, start + ROWS)
            codes[part] = sae.encode(clean[part])
            scale[part], shift[part] = _way_back(sae, len(clean[part]))
            error[part] = (clean[part] - shift[part]) / scale[part] - plain.decode(codes[part])
    return Coded(codes, error, plain.decode, scale, shift)


def _without_normalisation(sae: SAE[Any]) -> SAE[Any]:
    plain = copy.copy(sae)  # shares every weight
    plain.run_time_activation_norm_fn_in = plain.run_time_activation_norm_fn_out = lambda x: x
    return plain


def _way_back(sae: SAE[Any], n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factor and mean that `decode` would put back on the `n` rows encoded last; it uses them up."""
    # Asked of the SAE itself, by sending a zero and a one the way that reconstructions go.
    back = sae.run_time_activation_norm_fn_out(torch.tensor([[0.0, 1.0]], device=sae.device).expand(n, 2))
    return back[:, 1:] - back[:, :1], back[:, :1]
