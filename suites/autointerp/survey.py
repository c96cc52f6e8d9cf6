"""How often, how strongly and where latents of many SAEs fire, from one pass over the texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from .windows import WindowCounts, askable

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from ..joined import JoinedSets
    from .examples import Layout

DEAD_BELOW = 15
"""Firings below which a latent counts as dead: SAEBench's `dead_latent_threshold` (which drops 15 itself too)."""
_BYTES = 30_000_000
"""Upper bound of one tensor of latents: glibc maps buffers above 32 MB afresh at every operation."""


class Slice(NamedTuple):
    """Some neighbouring tokens and what the latents of one SAE do on them."""

    sae: int
    """Place of the SAE in the sequence."""
    latents: Float[torch.Tensor, "n d_sae"]
    """Activations of its latents, float32, on the CPU."""
    document: Int[np.ndarray, " n"]
    """Index of each token's document."""
    position: Int[np.ndarray, " n"]
    """Each token's position in it."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What one SAE's latents do on a set of texts."""

    n_tokens: int
    """Tokens that were read."""
    counts: Int[np.ndarray, " d_sae"]
    """On how many of them each latent is above 0."""
    largest: Float[np.ndarray, " d_sae"]
    """Largest activation of each latent, 0 where it never fires."""
    askable: Bool[np.ndarray, " d_sae"]
    """Which latents have the windows that a layout shows."""

    @property
    def firing_rate(self) -> Float[np.ndarray, " d_sae"]:
        """Share of the tokens on which each latent fires."""
        return self.counts / max(1, self.n_tokens)

    def dead(self, dead_below: int = DEAD_BELOW) -> Bool[np.ndarray, " d_sae"]:
        """Which latents fire on fewer tokens than that."""
        return self.counts < dead_below


@dataclass(frozen=True, eq=False)
class Corpus:
    """The tokens of a set of texts, as a rectangle."""

    tokens: Int[torch.Tensor, "docs pos"]
    """Token ids, padded on the right."""
    lengths: Int[torch.Tensor, " docs"]
    """Real tokens of each text."""

    @classmethod
    def of(cls, activations: JoinedSets) -> Corpus:
        """The texts that activations are of, those without a kept token included."""
        batches = list(activations.splice_batches(64))
        width = max(batch.tokens.shape[1] for batch in batches)
        rows = [torch.nn.functional.pad(b.tokens, (0, width - b.tokens.shape[1])) for b in batches]
        return cls(torch.cat(rows), torch.tensor([n for b in batches for n in b.lengths]))

    def centres(self, buffer: int) -> Bool[torch.Tensor, "docs pos"]:
        """Cells around which a window lies inside the text."""
        position = torch.arange(self.tokens.shape[1])
        return (position >= buffer) & (position < (self.lengths - buffer)[:, None])

    def random_windows(self, n: int, buffer: int, seed: int) -> Int[torch.Tensor, "n 2"]:
        """Centres of random windows as (document, position), none twice; fewer, if the texts have no more.

        They are drawn once and shared by all latents of all SAEs.
        """
        cells = self.centres(buffer).nonzero()
        return cells[torch.from_numpy(np.random.default_rng(seed).permutation(len(cells))[:n])]


@dataclass(frozen=True, eq=False)
class Firings:
    """Where the chosen latents of one SAE fire, and how strongly: few cells of many."""

    shape: tuple[int, int]
    """Documents and positions of the texts."""
    cells: tuple[Int[torch.Tensor, " _"], ...]
    """For each latent the cells in which it is above 0, row by row, ascending."""
    values: tuple[Float[torch.Tensor, " _"], ...]
    """Its activations there, float32."""

    def dense(self, latent: int) -> Float[torch.Tensor, "docs pos"]:
        """Activations of the latent at this place of the choice in all cells; 0 at BOS, dropped tokens and padding."""
        acts = torch.zeros(self.shape[0] * self.shape[1])
        acts[self.cells[latent]] = self.values[latent]
        return acts.view(self.shape)


def survey(
    activations: JoinedSets,
    saes: Sequence[SAE[Any]],
    corpus: Corpus,
    pool: Int[torch.Tensor, "n 2"],
    layout: Layout,
) -> tuple[Survey, ...]:
    """Count firings and windows of every latent of every SAE; the activations are read once.

    Args:
        activations: kept tokens of the texts.
        saes: any number of them, of any widths.
        corpus: the texts.
        pool: `Corpus.random_windows`, shared by all latents.
        layout: what is to be shown of a latent.

    Returns:
        One survey for each SAE, in their order.
    """
    of = {"buffer": layout.buffer, "threshold": layout.threshold}
    found = [WindowCounts(sae.cfg.d_sae, corpus, pool, **of) for sae in saes]
    for part in slices(activations, saes):
        found[part.sae].add(part.latents, part.document, part.position)
    n = activations.n_tokens
    return tuple(Survey(n, each.counts, each.largest, askable(layout, each.finish())) for each in found)


def collect_firings(
    activations: JoinedSets, saes: Sequence[SAE[Any]], chosen: Sequence[Sequence[int]], corpus: Corpus
) -> tuple[Firings, ...]:
    """Where chosen latents of many SAEs fire; the activations are read once.

    Args:
        activations: kept tokens of the texts.
        saes: the SAEs.
        chosen: latents of each.
        corpus: the texts.

    Returns:
        One for each SAE, its latents in the order of the choice.
    """
    width = corpus.tokens.shape[1]
    found: list[list[tuple[torch.Tensor, ...]]] = [[] for _ in saes]
    for part in slices(activations, saes):
        acts = part.latents[:, list(chosen[part.sae])]
        latent, row = (acts > 0).T.nonzero(as_tuple=True)
        cell = torch.from_numpy(part.document.astype(np.int64) * width + part.position)
        found[part.sae].append((latent.int(), cell[row].int(), acts[row, latent]))
    shape = (len(corpus.tokens), width)
    return tuple(_by_latent(shape, parts, len(c)) for parts, c in zip(found, chosen, strict=True))


def slices(activations: JoinedSets, saes: Sequence[SAE[Any]]) -> Iterator[Slice]:
    """Encode all tokens with all SAEs, some tokens at a time; an SAE meets the tokens in the order of the texts."""
    encoders = [encoder(sae) for sae in saes]
    rows = [max(1, _BYTES // (4 * sae.cfg.d_sae)) for sae in saes]
    for acts, document, position in activations.chunks():
        for number, (encode, size) in enumerate(zip(encoders, rows, strict=True)):
            for start in range(0, len(acts), size):
                part = slice(start, start + size)
                with torch.inference_mode():
                    latents = encode(acts[part])
                yield Slice(number, latents, document[part], position[part])


def encoder(sae: SAE[Any]) -> Callable[[Float[torch.Tensor, "n d_in"]], Float[torch.Tensor, "n d_sae"]]:
    """`encode` of an SAE of any dtype, device and layout, from and to dense float32 on the CPU."""

    def encode(acts: torch.Tensor) -> torch.Tensor:
        latents = sae.encode(acts.to(sae.device, sae.dtype))
        return (latents.to_dense() if latents.is_sparse else latents).float().cpu()

    return encode


def _by_latent(shape: tuple[int, int], parts: list[tuple[torch.Tensor, ...]], n: int) -> Firings:
    if not parts:
        return Firings(shape, (torch.empty(0, dtype=torch.long),) * n, (torch.empty(0),) * n)
    latent, cells, values = (torch.cat(each) for each in zip(*parts, strict=True))
    order = latent.argsort(stable=True)
    counts = torch.bincount(latent, minlength=n).tolist()
    return Firings(shape, cells[order].long().split(counts), values[order].split(counts))
