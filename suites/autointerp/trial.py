"""The judge on trial: questions about planted latents, and about nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from .examples import Layout, Missing, gather
from .latent import Latent
from .planted import Activations, Planting, planted
from .prompts import Decode
from .strata import Choice
from .survey import Corpus, Firings, Survey
from .windows import WindowCounts, lacking

if TYPE_CHECKING:
    from jaxtyping import Int

Kind = Literal["planted", "shuffled", "nothing"]
"""What is asked: something with an answer, an answer beside texts that have nothing to do with it, or no answer."""


@dataclass(frozen=True)
class Trial:
    """Latents that try the judge; in the queue they are latents like all others."""

    latents: tuple[Latent, ...]
    """Those that can be asked about, in the balanced layout alone."""
    kinds: tuple[Kind, ...]
    """Of each."""
    names: tuple[str, ...]
    """Of each: what it is."""
    left_out: tuple[str, ...]
    """A line for everything that these texts cannot show."""


def make_trial(corpus: Corpus, pool: Int[torch.Tensor, "n 2"], *, layout: Layout, decode: Decode, seed: int) -> Trial:
    """Plant latents in the texts and choose what is shown of them, as for any other latent.

    A copy with shuffled labels shows for the explanation what a planted latent shows; the texts in which it is to be
    found, and their labels, are those of a pattern at random. A judge that works is at chance there. One that is above
    is told the labels by something: marks in the texts, their order, what is sent along.

    Args:
        corpus: the texts.
        pool: `Corpus.random_windows`.
        layout: how many windows of which kind.
        decode: tokens as strings.
        seed: decides strengths, random firings and what is drawn.
    """
    rows = zip(corpus.tokens, corpus.lengths.tolist(), strict=True)
    texts = [decode(row[:n].tolist()) for row, n in rows]
    planting = planted(
        texts,
        np.random.default_rng(seed),
        lambda some: _shortages(some, corpus, pool, layout),
        least_windows=layout.half + 2 * layout.n_explained,
    )
    return _made(planting, corpus, pool, layout, decode, seed)


def _made(planting: Planting, corpus: Corpus, pool: torch.Tensor, layout: Layout, decode: Decode, seed: int) -> Trial:
    left_out = [f"{each.name}, {each.reason}" for each in planting.left_out]
    every = [*(latent.activations for latent in planting.latents), *planting.unrelated]
    copied = [f"shuffled labels {i}" for i in range(1, len(planting.unrelated) + 1)]
    names = [*(latent.name for latent in planting.latents), *copied]
    shown: dict[int, Latent] = {}
    n_known = sum(latent.known for latent in planting.latents)
    # Where nothing can be found, neighbours would be: they are centred on what the explanation is likely to name.
    found = _gathered(every, corpus, pool, replace(layout, hard=False), decode, seed)
    if layout.hard:
        found = [each for each in found if each.number >= n_known]
        found += _gathered(every[:n_known], corpus, pool, layout, decode, seed)
    for each in found:
        if isinstance(each, Missing):
            left_out.append(f"{names[each.number]}, {each.reason}")
        elif each.balanced:
            shown[each.number] = replace(each, saebench=())
    n = len(planting.latents)
    kinds: dict[int, Kind] = {i: "planted" if planting.latents[i].known else "nothing" for i in shown if i < n}
    known = [shown[i] for i, kind in kinds.items() if kind == "planted"]
    for turn, i in enumerate([i for i in shown if i >= n] if known else []):
        source = known[turn % len(known)]
        shown[i] = replace(source, number=i, balanced=shown[i].balanced)
        kinds[i], names[i] = "shuffled", f"{names[i]}, explained as {names[source.number]}"
    order = sorted(kinds)
    return Trial(
        latents=tuple(shown[i] for i in order),
        kinds=tuple(kinds[i] for i in order),
        names=tuple(names[i] for i in order),
        left_out=tuple(f"not planted to try the judge: {line}" for line in left_out),
    )


def _shortages(some: Sequence[Activations], corpus: Corpus, pool: torch.Tensor, layout: Layout) -> list[str]:
    """Why each of these cannot be asked about, by the count of every other latent."""
    if not some:
        return []
    counts = WindowCounts(len(some), corpus, pool, buffer=layout.buffer, threshold=layout.threshold)
    for document in range(len(corpus.tokens)):
        acts = torch.from_numpy(np.stack([latent[document] for latent in some], axis=1))
        counts.add(acts, np.full(len(acts), document), np.arange(len(acts)))
    found = counts.finish()
    return [lacking(layout, found, i) for i in range(len(some))]


def _gathered(
    some: Sequence[Activations], corpus: Corpus, pool: torch.Tensor, layout: Layout, decode: Decode, seed: int
) -> list[Latent | Missing]:
    n, (documents, width) = len(some), corpus.tokens.shape
    firings = Firings((documents, width), *zip(*(_sparse(each, width) for each in some), strict=True)) if n else None
    if firings is None:
        return []
    counts = np.array([len(cells) for cells in firings.cells])
    largest = np.array([values.max() for values in firings.values], np.float32)
    found = Survey(int(corpus.lengths.sum()), counts, largest, np.ones(n, bool))
    choice = Choice(tuple(range(n)), (0,) * n, (n,), 0, 0, 0)
    return list(gather(firings, corpus, choice, found, pool, layout=layout, decode=decode, seed=seed))


def _sparse(activations: Activations, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cells in which it fires, and how strongly."""
    dense = np.zeros((len(activations), width), np.float32)
    for document, acts in enumerate(activations):
        dense[document, : len(acts)] = acts
    flat = torch.from_numpy(dense).flatten()
    cells = flat.nonzero().squeeze(1)
    return cells, flat[cells]
