"""In which floating-point type a language model computes."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import PreTrainedModel

from ..baselines.cpu import has_bfloat16_units

Arithmetic = Literal["auto", "bfloat16", "float16", "float32"]
"""A type by torch's name; `auto` for the one that the model's files name, and float32 instead of bfloat16 on a CPU that
would have to emulate it."""


def loaded_as(arithmetic: Arithmetic) -> torch.dtype | Literal["auto"]:
    """The `dtype` for `from_pretrained`, which keeps in float32 what has to be: rotary frequencies, some norms."""
    return "auto" if arithmetic == "auto" else getattr(torch, arithmetic)


def not_emulated(model: PreTrainedModel, arithmetic: Arithmetic, device: str) -> PreTrainedModel:
    """The model, in float32 where its own bfloat16 would be emulated and nobody asked for that.

    Args:
        model: As it was loaded.
        arithmetic: What was asked for.
        device: Where it will run.
    """
    emulated = torch.device(device).type == "cpu" and not has_bfloat16_units()
    # Exact: every bfloat16 is a float32.
    return model.float() if arithmetic == "auto" and emulated and model.dtype == torch.bfloat16 else model
