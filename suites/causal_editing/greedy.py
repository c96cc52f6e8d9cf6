"""Greedy continuation, as `model.generate` gives it without sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from transformers import PreTrainedModel

Step = Callable[[Int[torch.Tensor, "batch pos"]], Float[torch.Tensor, "batch vocab"]]
"""Maps the tokens generated so far to the logits behind the last of them."""


def greedy(
    model: PreTrainedModel, first: Float[torch.Tensor, "batch vocab"], step: Step, n_tokens: int
) -> Int[torch.Tensor, "batch n_tokens"]:
    """Take the likeliest token `n_tokens` times.

    Args:
        model: Whose generation configuration says what ends a text and what pads it from there.
        first: Logits behind the prompts.
        step: The model.
        n_tokens: Length of a continuation, at least 1.
    """
    stops, padding = _stops(model)
    tokens = first.argmax(dim=-1, keepdim=True)
    for _ in range(n_tokens - 1):
        ended = torch.isin(tokens, stops).any(dim=1)
        following = torch.full_like(ended, padding, dtype=torch.long) if bool(ended.all()) else step(tokens).argmax(-1)
        tokens = torch.cat([tokens, torch.where(ended, padding, following)[:, None]], dim=1)
    return tokens


def _stops(model: PreTrainedModel) -> tuple[Int[torch.Tensor, " stops"], int]:
    """Tokens that end a text, and the one that follows them."""
    config = model.generation_config
    found = None if config is None else config.eos_token_id
    stops = [] if found is None else [found] if isinstance(found, int) else list(found)
    padding = None if config is None else config.pad_token_id
    # Without a padding token `generate` pads with what ends a text; with neither, nothing is padded.
    fallback = stops[0] if stops else 0
    tokens = torch.tensor(stops, dtype=torch.long, device=model.device)
    return tokens, fallback if padding is None else int(padding)
