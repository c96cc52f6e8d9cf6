"""Edits that should not work as well as the learned one: as large, but without what was learned."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float


def random_mask_like(
    mask: Bool[torch.Tensor, " d_sae"], live: Bool[torch.Tensor, " d_sae"], generator: torch.Generator
) -> Bool[torch.Tensor, " d_sae"]:
    """Draw a mask of the same size among the live latents, without replacement.

    Args:
        mask: The learned mask.
        live: Latents that fire on some prompt: others would make the control an edit of fewer latents.
        generator: On the CPU.

    Raises:
        ValueError: when fewer latents are live than the mask has.
    """
    size, candidates = int(mask.sum()), live.nonzero().flatten()
    if size > len(candidates):
        raise ValueError(f"no mask of {size} latents can be drawn: only {len(candidates)} are live")
    chosen = torch.randperm(len(candidates), generator=generator)[:size].to(candidates.device)
    drawn = torch.zeros_like(mask)
    drawn[candidates[chosen]] = True
    return drawn


def equal_norm_edit(
    base_rows: Float[torch.Tensor, "m d_in"], edited_rows: Float[torch.Tensor, "m d_in"], generator: torch.Generator
) -> Float[torch.Tensor, "m d_in"]:
    """Move every base row as far as its edit does, in a direction uniform on the sphere.

    Args:
        base_rows: Activations before the edit.
        edited_rows: Activations after it.
        generator: On the CPU.
    """
    directions = torch.randn(base_rows.shape, generator=generator).to(base_rows)
    directions = directions / directions.norm(dim=1, keepdim=True)
    return base_rows + directions * (edited_rows - base_rows).norm(dim=1, keepdim=True)
