"""In which floating-point type a language model computes."""

from __future__ import annotations

from typing import Literal

import torch
from transformers import PreTrainedModel

from ..baselines.cpu import has_bfloat16_units

Arithmetic = Literal["auto", "bfloat16", "float16", "float32"]
"""A type by torch's name; `auto` for the one that the model's files name, and float32 instead of bfloat16 on a CPU that
would have to emulate it."""


def computing_in(model: PreTrainedModel, arithmetic: Arithmetic, device: str) -> PreTrainedModel:
    """The model, its weights in another type where that is asked for.

    Args:
        model: As it was loaded.
        arithmetic: What is wanted.
        device: Where it will run.
    """
    if arithmetic != "auto":
        return model.to(getattr(torch, arithmetic))
    emulated = torch.device(device).type == "cpu" and not has_bfloat16_units()
    # Exact: every bfloat16 is a float32.
    return model.float() if emulated and model.dtype == torch.bfloat16 else model
