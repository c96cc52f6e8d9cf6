"""Which latents of a batch are active, as a list of entries: what TopK, BatchTopK and JumpReLU let through."""

from __future__ import annotations

import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch.nn.functional import embedding_bag

from .batch_topk import kth_largest

_GUESS = 0.9
"""How far under the last threshold of BatchTopK the next one is looked for; only speed depends on it."""

_GROUP = 32
"""Latents of which one maximum is taken where the largest of a row are looked for: as many as torch reduces at once."""

_WIDE, _MANY = 1536, 64
"""Least latents and rows for which that is worth it; only speed depends on them."""


class Codes(NamedTuple):
    """Entries of a sparse matrix [batch, d_sae], in the order of their rows."""

    rows: Int64[torch.Tensor, " nnz"]
    """Sample of each entry, rising."""
    columns: Int64[torch.Tensor, " nnz"]
    """Latent of each entry."""

    def offsets(self, n_rows: int) -> Int64[torch.Tensor, " batch"]:
        """Where the entries of every row begin."""
        return torch.searchsorted(self.rows, torch.arange(n_rows, device=self.rows.device))

    def turned(self) -> Turned:
        """The transposed matrix; where it is needed twice it is worth keeping."""
        if self.columns.device.type != "cpu":
            order = torch.argsort(self.columns, stable=True)
        else:
            columns = self.columns.numpy()
            # NumPy sorts 16-bit numbers by radix, ten times faster than wider ones.
            narrow = columns.astype(np.uint16) if not len(columns) or columns.max() < 2**16 else columns
            order = torch.from_numpy(np.argsort(narrow, kind="stable"))
        return Turned(order, Codes(self.columns[order], self.rows[order]))

    def only(self, keep: torch.Tensor) -> Codes:
        """Entries that a mask keeps."""
        return Codes(self.rows[keep], self.columns[keep])


class Turned(NamedTuple):
    """A transposed sparse matrix."""

    order: Int64[torch.Tensor, " nnz"]
    """Which entry of the matrix each of its entries is: by latent, among equals by sample."""
    codes: Codes
    """Its entries: `rows` are latents, `columns` samples."""


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
    columns = _preselected(hidden, k) if _worth_preselecting(hidden, k) else _topk(hidden, k)
    rows = torch.arange(len(hidden), device=hidden.device).repeat_interleave(k)
    return Codes(rows, columns.flatten())


def _topk(values: torch.Tensor, k: int) -> Int64[torch.Tensor, "batch k"]:
    return torch.topk(values, k, dim=-1, sorted=False).indices


def _worth_preselecting(hidden: torch.Tensor, k: int) -> bool:
    n_rows, width = hidden.shape
    wide = width >= max(_WIDE, 2 * k * _GROUP) and width % _GROUP == 0
    return wide and n_rows >= _MANY and hidden.device.type == "cpu" and hidden.dtype == torch.float32


def _preselected(hidden: Float[torch.Tensor, "batch d_sae"], k: int) -> Int64[torch.Tensor, "batch k"]:
    """What `_topk` returns (ties and order aside), in half its time on a CPU.

    The k groups of latents with the greatest maxima hold a row's k largest, and none of these is less than the least
    of those maxima. Some k entries of a row are left then, for `_topk` to choose from.
    """
    n_rows, width = hidden.shape
    groups = hidden.detach().reshape(n_rows, width // _GROUP, _GROUP)
    best = torch.topk(groups.amax(-1), k, sorted=False)
    rows = torch.arange(n_rows)
    # One number for a group of all rows, for index_select: it copies whole groups, gather single values.
    held = (best.indices + rows[:, None] * groups.shape[1]).flatten()
    near = groups.flatten(0, 1).index_select(0, held).view(n_rows, k * _GROUP)
    # "Not less", so that a NaN stays; `torch.topk` ranks it first.
    flat = torch.from_numpy(np.flatnonzero(~(near.numpy() < best.values.amin(1, keepdim=True).numpy())))
    row = flat // near.shape[1]
    begins = torch.searchsorted(row, torch.arange(n_rows + 1))
    padded = torch.full((n_rows, int(begins.diff().max())), -torch.inf)
    padded[row, torch.arange(len(flat)) - begins[row]] = near.flatten()[flat]
    chosen = flat[begins[:-1, None] + _topk(padded, k)]
    return held[chosen // _GROUP] % groups.shape[1] * _GROUP + chosen % _GROUP


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
    turned: Turned, values: Float[torch.Tensor, " nnz"], rows: Float[torch.Tensor, "batch d_in"], n_columns: int
) -> Float[torch.Tensor, "d_sae d_in"]:
    """The transposed sparse matrix times `rows`; `values` in the order of the entries before they were turned."""
    return weighted_sum(turned.codes, values[turned.order], rows, n_columns)


def products(
    codes: Codes, left: Float[torch.Tensor, "batch d_in"], right: Float[torch.Tensor, "d_sae d_in"]
) -> Float[torch.Tensor, " nnz"]:
    """For every entry, its sample's row of `left` times its latent's row of `right`."""
    if left.device.type != "cpu":
        return _products_by_autograd(codes, left, right)
    _accept_csr()
    begins = torch.searchsorted(codes.rows, torch.arange(len(left) + 1))
    zeros = torch.zeros(len(codes.rows), dtype=left.dtype)
    size = (len(left), len(right))
    mask = torch.sparse_csr_tensor(begins, codes.columns, zeros, size, check_invariants=False)
    # A third of the time of the gradient below, which takes one entry after another.
    return torch.sparse.sampled_addmm(mask, left, right.T, beta=0.0).values()


def _products_by_autograd(codes: Codes, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        # The gradient of a weighted sum in its weights: one fused loop, and the public way to it.
        weights = torch.zeros(len(codes.rows)).to(left).requires_grad_()
        out = weighted_sum(codes, weights, right.detach(), len(left))
    return torch.autograd.grad(out, weights, left)[0]


@cache
def _accept_csr() -> None:
    """Take torch's note that its CSR tensors are in beta, which it gives once in a process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        none = torch.zeros(0)
        torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), none.long(), none, (1, 1), check_invariants=False)
