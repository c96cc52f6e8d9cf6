"""How many windows each latent could be shown with, counted while the texts stream by."""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:
    import torch

    from .examples import Layout
    from .survey import Corpus

_NEVER = -(10**9)
"""Cell of something that has not happened yet: far before all cells, and differences with it fit into 32 bits."""


class Windows(NamedTuple):
    """Windows that the texts have of each latent of one SAE."""

    apart: Int[np.ndarray, " d_sae"]
    """Windows around an active token of which no two share a token: the most that fit."""
    scattered: Int[np.ndarray, " d_sae"]
    """The same with centres more than twice as far apart: another window shares a token with one of them at most."""
    silent: Int[np.ndarray, " d_sae"]
    """Windows of the shared pool in which it does not fire at all."""


class WindowCounts:
    """Counts the windows of all latents of one SAE in one pass, token by token.

    Going from left to right and taking every window that shares no token with the last one taken gives the most that
    fit. A token is active above a share of the latent's largest activation, which is known only at the end: so windows
    are counted at every power of two below the largest so far, and the first power above that share is read in the
    end. That is at most twice the share: never too many are counted.
    """

    counts: Int[np.ndarray, " d_sae"]
    """Tokens on which each latent fires, so far."""
    largest: Float[np.ndarray, " d_sae"]
    """Largest activation of each, so far."""

    def __init__(
        self, d_sae: int, corpus: Corpus, pool: Int[torch.Tensor, "n 2"], *, buffer: int, threshold: float
    ) -> None:
        """Start with nothing.

        Args:
            d_sae: latents.
            corpus: the texts.
            pool: centres of the windows that all latents share, as (document, position).
            buffer: tokens on either side of the centre of a window.
            threshold: share of the largest activation above which a token is active.
        """
        # Room behind each text, so that windows of two texts are never near each other.
        self._width, self._threshold = corpus.tokens.shape[1] + 2 * buffer, threshold
        self._inside = np.pad(corpus.centres(buffer).numpy(), ((0, 0), (0, 2 * buffer))).ravel()
        self._begins = np.sort((pool[:, 0] * self._width + pool[:, 1]).numpy()) - buffer
        self._length = 2 * buffer + 1
        self._next = 0
        self._levels = np.arange(ceil(-log2(threshold)))
        self._distance = np.array([2 * buffer, 4 * buffer])[:, None]
        shape = (d_sae, 2, len(self._levels))
        self._count, self._last = np.zeros(shape, np.int32), np.full(shape, _NEVER, np.int32)
        self.counts, self.largest = np.zeros(d_sae, np.int64), np.zeros(d_sae, np.float32)
        self._top = np.full(d_sae, -(10**6))
        self._fired, self._silent = np.full(d_sae, _NEVER), np.zeros(d_sae, np.int64)

    def add(
        self, latents: Float[torch.Tensor, "n d_sae"], document: Int[np.ndarray, " n"], position: Int[np.ndarray, " n"]
    ) -> None:
        """Read the next tokens, in the order of the texts; tokens that were dropped are never active."""
        flat = latents.numpy().ravel()
        found = np.flatnonzero(flat > 0)
        token, latent = np.divmod(found, latents.shape[1])
        values = flat[found]
        exponents = np.frexp(values)[1] - 1
        self.counts += np.bincount(latent, minlength=len(self.counts))
        np.maximum.at(self.largest, latent, values)
        borders = np.searchsorted(token, np.arange(len(latents) + 1)).tolist()
        for i, cell in enumerate((document.astype(np.int64) * self._width + position).tolist()):
            self._pass_windows(cell)
            some = slice(borders[i], borders[i + 1])
            if borders[i] < borders[i + 1]:
                self._fire(cell, latent[some], exponents[some])

    def finish(self) -> Windows:
        """The counts, once all tokens were read."""
        self._pass_windows(len(self._inside))
        share = self._threshold * np.maximum(self.largest.astype(np.float64), np.finfo(np.float32).tiny)
        level = np.clip(self._top - np.floor(np.log2(share)).astype(np.int64) - 1, 0, len(self._levels) - 1)
        apart, scattered = self._count[np.arange(len(level)), :, level].T
        return Windows(apart, scattered, self._silent)

    def _pass_windows(self, cell: int) -> None:
        """Count who was silent in the windows of the pool that end before this cell."""
        while self._next < len(self._begins) and self._begins[self._next] + self._length <= cell:
            self._silent += self._fired < self._begins[self._next]
            self._next += 1

    def _fire(self, cell: int, latent: np.ndarray, exponents: np.ndarray) -> None:
        self._fired[latent] = cell
        rise = exponents - self._top[latent]
        if (rise > 0).any():
            self._raise(latent[rise > 0], rise[rise > 0])
        if self._inside[cell]:
            last = self._last[latent]
            reached = self._levels >= (self._top[latent] - exponents)[:, None, None]
            taken = reached & (cell - last > self._distance)
            self._last[latent] = np.where(taken, cell, last)
            self._count[latent] += taken

    def _raise(self, latent: np.ndarray, by: np.ndarray) -> None:
        """Let the levels of some latents begin at a higher power of two, at which nothing was active so far."""
        old = np.broadcast_to((self._levels - by[:, None])[:, None], self._count[latent].shape)
        for array, nothing in ((self._count, 0), (self._last, _NEVER)):
            moved = np.take_along_axis(array[latent], np.maximum(old, 0), axis=2)
            array[latent] = np.where(old < 0, nothing, moved)
        self._top[latent] += by


def lacking(layout: Layout, found: Windows, latent: int) -> str:
    """Why a latent cannot be asked about; empty where it can."""
    if askable(layout, found)[latent]:
        return ""
    apart, scattered, silent = (int(each[latent]) for each in found)
    if silent < layout.half:
        return f"the texts have {silent} windows in which it does not fire, {layout.half} are needed"
    half, shown = layout.half, layout.n_explained
    return (
        f"the texts have {apart} windows apart in which it fires and {scattered} far apart, "
        f"{half + 2 * shown} or {half + shown} are needed"
    )


def askable(layout: Layout, found: Windows) -> Bool[np.ndarray, " d_sae"]:
    """Which latents `gather` can surely show in both layouts, whatever it draws (hard negatives left aside).

    What is shown for the explanation is drawn first. Each of those windows shares tokens with two of the windows apart
    at most, and with one of those far apart; half of the balanced layout must be left. The strongest windows of
    SAEBench's selection are as many as wanted, with weaker activations below them, where enough windows are apart.
    """
    half, shown = layout.half, layout.n_explained
    left = (found.apart >= half + 2 * shown) | (found.scattered >= half + shown)
    enough = found.apart >= max(layout.n_top + layout.n_weighted, layout.n_random)
    return left & enough & (found.silent >= half)
