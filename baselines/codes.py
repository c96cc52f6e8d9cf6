"""Which latents of a batch are active, as a list of entries: what TopK, BatchTopK and JumpReLU let through."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.nn.functional import embedding_bag

from .batch_topk import kth_largest

_GUESS = 0.9
"""How far under the last threshold of BatchTopK the next one is looked for; only speed depends on it."""


class Codes(NamedTuple):
    """Entries of a sparse matrix [batch, d_sae], in the order of their rows."""

    rows: Int64[torch.Tensor, " nnz"]
    """Sample of each entry, rising."""
    columns: Int64[torch.Tensor, " nnz"]
    """Latent of each entry."""

    def offsets(self, n_rows: int) -> Int64[torch.Tensor, " batch"]:
        """Where the entries of every row begin."""
        return torch.searchsorted(self.rows, torch.arange(n_rows, device=self.rows.device))

    def only(self, keep: torch.Tensor) -> Codes:
        """Entries that a mask keeps."""
        return Codes(self.rows[keep], self.columns[keep])


def above(hidden: Float[torch.Tensor, "batch d_sae"], least: float | Float[torch.Tensor, " d_sae"]) -> Codes:
    """Entries that are greater than `least`, one for all latents or one for each."""
    mask = hidden > least
    if mask.device.type != "cpu":
        return Codes(*mask.nonzero(as_tuple=True))
    # numpy scans a mask several times faster than torch.nonzero
    flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
    return Codes(flat // hidden.shape[1], flat % hidden.shape[1])


def largest_of_rows(hidden: Float[torch.Tensor, "batch d_sae"], k: int) -> Codes:
    """The k largest entries of every row (TopK), positive or not."""
    columns = torch.topk(hidden, k, dim=-1, sorted=False).indices
    rows = torch.arange(len(hidden), device=hidden.device).repeat_interleave(k)
    return Codes(rows, columns.flatten())


def largest_of_batch(hidden: Float[torch.Tensor, "batch d_sae"], k: float, last: float) -> tuple[Codes, float]:
    """The `k * batch` largest positive entries (BatchTopK), and the threshold that they reach.

    Only what is above a guess from the last batch's threshold is ranked; where the guess was too high, everything is.

    Args:
        hidden: pre-activations.
        k: mean number of active latents.
        last: threshold of the last batch, 0 where there is none.
    """
    keep = int(k * len(hidden))
    codes = above(hidden, max(0.0, _GUESS * last))
    if len(codes.rows) < keep and last > 0:
        codes = above(hidden, 0.0)
    if len(codes.rows) <= keep:
        return codes, 0.0
    values = hidden[codes.rows, codes.columns]
    threshold = kth_largest(values, keep)
    return codes.only(values >= threshold), threshold


def weighted_sum(
    codes: Codes, values: Float[torch.Tensor, " nnz"], rows: Float[torch.Tensor, "d_sae d_in"], n_rows: int
) -> Float[torch.Tensor, "batch d_in"]:
    """The sparse matrix times `rows`; differentiable in `values`."""
    return embedding_bag(codes.columns, rows, codes.offsets(n_rows), per_sample_weights=values, mode="sum")


def transposed_sum(
    codes: Codes, values: Float[torch.Tensor, " nnz"], rows: Float[torch.Tensor, "batch d_in"], n_columns: int
) -> Float[torch.Tensor, "d_sae d_in"]:
    """The transposed sparse matrix times `rows`."""
    size = (n_columns, len(rows))
    matrix = torch.sparse_coo_tensor(torch.stack([codes.columns, codes.rows]), values, size, check_invariants=False)
    return matrix @ rows
