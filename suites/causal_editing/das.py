"""Distributed alignment search: the subspace that carries an attribute, learned with supervision; a ceiling for SAEs.

Geiger et al. 2023 (arXiv 2303.02536), with a rotation of low rank. SAEBench's MDAS learns a full rotation and a mask
over its axes; here the number of axes is fixed before, so that no mask (and no temperature) is needed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float

from .mdbm import Runs, Wanted, descend, gradients, in_batches


def default_rank(d_in: int) -> int:
    """Dimensions of a subspace where nobody says how many: an eighth of the activation, at least one.

    The means of V values span at most V - 1 dimensions, and RAVEL's attributes have tens of values: an eighth of the
    usual widths (576 to 2304) is 72 to 288. All dimensions would be a full patch, whose isolation is a floor.
    """
    return max(1, d_in // 8)


def swapped(
    base: Float[torch.Tensor, "m d_in"],
    source: Float[torch.Tensor, "m d_in"],
    subspace: Float[torch.Tensor, "d_in rank"],
) -> Float[torch.Tensor, "m d_in"]:
    """Return base + (source - base) R R^T: the part of an activation that lies in the subspace is the source's.

    Args:
        base: Activations that are edited.
        source: Activations that the part is taken from.
        subspace: R, with orthonormal columns.
    """
    return base + (source - base) @ subspace @ subspace.T


def train_subspace(
    runs: Runs,
    wanted: Wanted,
    clean: Float[torch.Tensor, "n_prompts d_in"],
    *,
    rank: int | None = None,
    epochs: int,
    lr: float,
    batch_size: int,
    generator: torch.Generator,
) -> Float[torch.Tensor, "d_in rank"]:
    """Learn orthonormal columns R such that `swapped` gives the wanted tokens.

    Adam on the cross entropy from a random start, made orthonormal again after every step. Pairs and their order are
    those of `mdbm.mask_values`.

    Args:
        runs: The language model.
        wanted: Pairs, as indices into `clean`; one token each.
        clean: Activation of every prompt at the place of the edit.
        rank: Columns; None for `default_rank`.
        epochs: Passes through the pairs.
        lr: Step size of Adam.
        batch_size: Pairs per step.
        generator: On the CPU; decides the start and the order of the pairs.

    Raises:
        ValueError: when `rank` is not between 1 and `d_in`, or `epochs` or `batch_size` is not positive.
    """
    d_in = clean.shape[1]
    rank = default_rank(d_in) if rank is None else rank
    if not 1 <= rank <= d_in:
        raise ValueError(f"rank {rank} must be between 1 and the width of the activations, {d_in}")
    with gradients():
        # Drawn on the CPU: the same start on every device.
        start = orthonormal(torch.randn(d_in, rank, generator=generator)).to(clean)
        subspace = start.clone().requires_grad_()
        adam = torch.optim.Adam([subspace], lr=lr)
        for batch in in_batches(wanted, epochs, batch_size, generator):
            rows = swapped(clean[list(batch.base)], clean[list(batch.source)], subspace)
            descend(adam, subspace, batch.loss(runs, rows))
            subspace.data = orthonormal(subspace.detach())
    return subspace.detach()


def orthonormal(matrix: Float[torch.Tensor, "d_in rank"]) -> Float[torch.Tensor, "d_in rank"]:
    """Orthonormal columns with the span of the matrix's own, each on the side of the column it came from."""
    q, r = torch.linalg.qr(matrix)
    # QR is free to flip a column, and then Adam's memory of it would point the wrong way (SAEBench's MDAS lets it).
    return q * torch.where(r.diagonal() < 0, -1, 1)
