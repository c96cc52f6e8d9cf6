"""The texts that a judge is shown: windows around tokens on which a latent fires, and around tokens at random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from ..randomness import own_randomness
from .latent import Example, Kind, Latent
from .prompts import Decode, library
from .survey import Corpus

if TYPE_CHECKING:
    from .strata import Choice
    from .survey import Firings, Survey

_CANDIDATES = 40
"""Tokens among which each window of any strength is looked for: more make a frequent latent slow and change nothing."""


@dataclass(frozen=True)
class Layout:
    """How many windows of which kind are shown; what SAEBench has too has SAEBench's default."""

    buffer: int = 10
    """Tokens on either side of the centre of a window."""
    n_top_generation: int = 10
    """Windows with the largest activations, for the explanation."""
    n_weighted_generation: int = 5
    """Windows drawn in proportion to the squared activation, for the explanation."""
    n_top_scoring: int = 2
    """Windows with the largest activations, for detection."""
    n_weighted_scoring: int = 2
    """Windows drawn in proportion to the squared activation, for detection."""
    n_random: int = 10
    """Random windows, for detection."""
    threshold: float = 0.01
    """A token is active above this share of the largest activation in the top windows."""
    n_balanced: int = 100
    """Windows of the balanced layout: half of them activating, half not."""
    hard: bool = False
    """Whether the silent half are neighbours: of texts in which the latent fires, or around its top token."""

    def __post_init__(self) -> None:
        if self.buffer < 1 or self.n_balanced < 2 or self.n_balanced % 2 or min(self.n_top, self.n_weighted) < 1:
            raise ValueError(f"{self}: buffer and the windows shown must be positive, and n_balanced even")
        if not 0 < self.threshold < 1:
            raise ValueError(f"{self}: threshold must be above 0 and below 1")

    @property
    def n_top(self) -> int:
        """Windows with the largest activations in all."""
        return self.n_top_generation + self.n_top_scoring

    @property
    def n_weighted(self) -> int:
        """Windows drawn in proportion to the squared activation in all."""
        return self.n_weighted_generation + self.n_weighted_scoring

    @property
    def n_explained(self) -> int:
        """Windows shown for the explanation."""
        return self.n_top_generation + self.n_weighted_generation

    @property
    def half(self) -> int:
        """Windows of either kind in the balanced layout."""
        return self.n_balanced // 2


@dataclass(frozen=True)
class Missing:
    """A latent that cannot be asked about, in one layout or at all."""

    number: int
    """Index in the SAE."""
    stratum: int
    """Stratum that it was drawn from."""
    firing_rate: float
    """Share of the tokens on which it fires."""
    layout: Literal["all", "balanced"]
    """What is not asked: everything, or the balanced layout alone."""
    reason: str
    """One line that says why."""


class _Split(NamedTuple):
    """Centres of the windows of one latent, `[k, 2]` each, and the activation above which a token is active."""

    top_generation: torch.Tensor
    weighted_generation: torch.Tensor
    top_scoring: torch.Tensor
    weighted_scoring: torch.Tensor
    threshold: float


def gather(
    firings: Firings,
    corpus: Corpus,
    choice: Choice,
    survey: Survey,
    pool: Int[torch.Tensor, "n 2"],
    *,
    layout: Layout,
    decode: Decode,
    seed: int,
) -> Iterator[Latent | Missing]:
    """The chosen latents of one SAE with what is shown of each, one at a time.

    In SAEBench's layout everything but the random windows is drawn as SAEBench draws it. All windows lie inside their
    text. The i-th latent of every SAE gets its random windows from the same place of the shared pool: the next
    `n_random`, and for the balanced layout the next ones in which it does not fire. The other balanced windows are
    spread evenly over the ranks of the activations, and share no token with each other or with one shown for the
    explanation. `windows.askable` says for which latents all of this is possible.

    Args:
        firings: of the chosen latents.
        corpus: the texts.
        choice: which latents.
        survey: of the SAE.
        pool: `Corpus.random_windows`.
        layout: how many windows of which kind.
        decode: tokens as strings.
        seed: decides what is drawn, together with the latent's number.

    Yields:
        For each latent a `Latent`, followed by a `Missing` where the balanced layout is not possible; or a `Missing`.

    Raises:
        NotInstalledError: SAEBench is not there.
    """
    rates = survey.firing_rate
    for place, (number, stratum) in enumerate(zip(choice.latents, choice.strata, strict=True)):
        windows = _Windows(firings.dense(place), corpus, layout, decode)
        own = pool.roll(-place * layout.n_random, 0)
        rate = float(rates[number])
        yield from _latent(windows, own, number, stratum, rate, np.random.default_rng([seed, number]))


def as_saebench(
    acts: Float[torch.Tensor, "docs pos latents"],
    tokens: Int[torch.Tensor, "docs pos"],
    latents: Sequence[int],
    *,
    layout: Layout,
    decode: Decode,
) -> dict[int, tuple[tuple[Example, ...], tuple[Example, ...]]]:
    """What SAEBench's `AutoInterp.gather_data` chooses, from the same global random numbers (torch's and `random`'s).

    Args:
        acts: activations of the latents, as SAEBench has them: bfloat16, 0 at BOS, padding and EOS.
        tokens: full rows of equal length.
        latents: their numbers.
        layout: how many windows of which kind.
        decode: tokens as strings.

    Returns:
        For each latent that SAEBench keeps, its examples for generation and those for scoring, in the order shown.
        The examples of random windows hold the latent's activations, where SAEBench writes zeros.
    """
    corpus = Corpus(tokens, torch.full((len(tokens),), tokens.shape[1]))
    found = {}
    for place, latent in enumerate(latents):
        sizes = ((0, len(tokens)), (layout.buffer, tokens.shape[1] - layout.buffer))
        centres = torch.stack([torch.randint(*size, (layout.n_random,)) for size in sizes], dim=-1)
        windows = _Windows(acts[..., place], corpus, layout, decode)
        split = windows.split(exactly=True)
        if split is not None:
            found[latent] = windows.generation(split), windows.scoring(split, centres)
    return found


def _latent(
    windows: _Windows, pool: torch.Tensor, number: int, stratum: int, rate: float, rng: np.random.Generator
) -> Iterator[Latent | Missing]:
    layout = windows.layout
    if len(pool) < layout.n_random:
        yield Missing(number, stratum, rate, "all", f"the texts hold {len(pool)} windows of {layout.n_random}")
        return
    _indexing()  # SAEBench draws random numbers when it is imported: the first latent would have other texts
    with own_randomness(int(rng.integers(2**31))):
        split = windows.split()
        if split is None:
            wanted = f"{layout.n_top} windows apart and {layout.n_weighted} weaker activations"
            yield Missing(number, stratum, rate, "all", f"it fires in too few places: fewer than {wanted}")
            return
        generation, saebench = windows.generation(split), windows.scoring(split, pool[: layout.n_random])
    balanced = windows.balanced(split, pool, rng)
    shown = () if isinstance(balanced, str) else balanced
    yield Latent(number, rate, stratum, generation, saebench, shown)
    if isinstance(balanced, str):
        yield Missing(number, stratum, rate, "balanced", balanced)


class _Windows:
    """Windows of one latent."""

    def __init__(self, acts: torch.Tensor, corpus: Corpus, layout: Layout, decode: Decode) -> None:
        self.acts, self.corpus, self.layout, self.decode = acts, corpus, layout, decode

    @cached_property
    def inside(self) -> torch.Tensor:
        """Activations, 0 in cells that cannot be the centre of a window."""
        return self.acts * self.corpus.centres(self.layout.buffer)

    def split(self, *, exactly: bool = False) -> _Split | None:
        """Draw and divide top and weighted windows as SAEBench does; None where it fires in too few places.

        Args:
            exactly: use up random numbers as SAEBench does, and let one weaker activation do, as it does: what is
                missing then is silent, and may lie anywhere.
        """
        layout = self.layout
        top = self._largest(self.inside) if exactly else self._largest_of_few()
        if len(top) < layout.n_top:
            return None
        values = _indexing().index_with_buffer(self.acts, top, buffer=layout.buffer)
        weakest = values[:, layout.buffer].min().item()
        weaker = torch.where(self.inside >= weakest, 0.0, self.inside)
        if weakest <= 0 or (weaker >= 1e-6).sum() < (1 if exactly else layout.n_weighted):
            return None
        weighted = self._weighted(weaker) if exactly else self._weighted_of_few(weaker)
        top, weighted = top[torch.randperm(layout.n_top)], weighted[torch.randperm(layout.n_weighted)]
        n_top, n_weighted = layout.n_top_generation, layout.n_weighted_generation
        threshold = layout.threshold * values.max().item()
        return _Split(top[:n_top], weighted[:n_weighted], top[n_top:], weighted[n_weighted:], threshold)

    def generation(self, split: _Split) -> tuple[Example, ...]:
        """Windows for the explanation, strongest first."""
        found = self.examples(split.top_generation, "top", split) + self.examples(
            split.weighted_generation, "weighted", split
        )
        return tuple(sorted(found, key=lambda each: max(each.activations), reverse=True))

    def scoring(self, split: _Split, centres: torch.Tensor) -> tuple[Example, ...]:
        """Windows for detection in SAEBench's layout, shuffled by the global random numbers."""
        found = self.examples(split.top_scoring, "top", split)
        found += self.examples(split.weighted_scoring, "weighted", split) + self.examples(centres, "random", split)
        random.shuffle(found)
        return tuple(found)

    def balanced(self, split: _Split, pool: torch.Tensor, rng: np.random.Generator) -> tuple[Example, ...] | str:
        """Windows for the balanced layout, shuffled; or why there are too few."""
        half = self.layout.half
        active = self._active(split, half, rng)
        if len(active) < half:
            return f"{len(active)} windows of {half} in which it fires are left apart from those explained"
        silent = self._neighbours(split, rng) if self.layout.hard else pool
        silent = silent[~self._fires_around(silent)][:half]
        if len(silent) < half:
            where = "near those in which it fires" if self.layout.hard else f"of {len(pool)} at random"
            return f"{len(silent)} windows of {half} {where} are silent"
        found = self.examples(active, "activating", split)
        found += self.examples(silent, "hard" if self.layout.hard else "random", split)
        return tuple(found[i] for i in rng.permutation(len(found)))

    def examples(self, centres: torch.Tensor, kind: Kind, split: _Split) -> list[Example]:
        """The windows around these cells."""
        cut = _indexing().index_with_buffer
        tokens, acts = (cut(x, centres, buffer=self.layout.buffer).tolist() for x in (self.corpus.tokens, self.acts))
        return [
            Example(self.decode(ids), tuple(values), split.threshold, kind, document, position)
            for ids, values, (document, position) in zip(tokens, acts, centres.tolist(), strict=True)
        ]

    def _largest(self, acts: torch.Tensor) -> torch.Tensor:
        """Cells of the largest activations, apart from each other."""
        find = _indexing().get_k_largest_indices
        return find(acts, k=self.layout.n_top, buffer=self.layout.buffer, no_overlap=True)

    def _largest_of_few(self) -> torch.Tensor:
        """The same, but for the order of equal ones, in a fraction of the time."""
        # Each one that is taken rules out at most a window of others, so that these many cells hold all that are
        # taken, and SAEBench's function need not sort all texts.
        enough = min(self.inside.numel(), self.layout.n_top * (2 * self.layout.buffer + 1))
        least = self.inside.flatten().topk(enough).values[-1]
        rows = ((self.inside >= least) & (self.inside > 0)).any(1).nonzero().squeeze(1)
        if not len(rows):
            return torch.empty(0, 2, dtype=torch.long)
        found = self._largest(self.inside[rows])
        return torch.stack([rows[found[:, 0]], found[:, 1]], dim=1)

    def _weighted(self, weaker: torch.Tensor) -> torch.Tensor:
        """Cells in proportion to their squared activation."""
        return _indexing().get_iw_sample_indices(weaker, k=self.layout.n_weighted, buffer=self.layout.buffer)

    def _weighted_of_few(self, weaker: torch.Tensor) -> torch.Tensor:
        """The same in a fraction of the time: cells that do not fire are left out, the others stand in one row."""
        buffer, cells = self.layout.buffer, (weaker >= 1e-6).nonzero()
        row = torch.nn.functional.pad(weaker[cells[:, 0], cells[:, 1]], (buffer, buffer))
        return cells[self._weighted(row[None])[:, 1] - buffer]

    def _active(self, split: _Split, n: int, rng: np.random.Generator) -> torch.Tensor:
        """Centres of activating windows of all strengths, without a token in common with one explained."""
        every = (self.inside > split.threshold).nonzero()
        order = self.inside[every[:, 0], every[:, 1]].argsort(stable=True)
        cells = every[order[_spread(len(order), min(len(order), n * _CANDIDATES), rng)]]
        taken = torch.cat([split.top_generation, split.weighted_generation]).tolist()
        apart = _apart(cells[rng.permutation(len(cells))].tolist(), taken, 2 * self.layout.buffer)
        if len(apart) < n:
            # In a random order windows waste room; from left to right as many fit as can, which `askable` counts on.
            apart = _apart(every.tolist(), taken, 2 * self.layout.buffer)
        values = self.inside[apart[:, 0], apart[:, 1]]
        return apart[values.argsort(stable=True)[_spread(len(apart), min(len(apart), n), rng)]]

    def _neighbours(self, split: _Split, rng: np.random.Generator) -> torch.Tensor:
        """Centres in texts in which it fires and centres on its most frequent top token, in turn, apart."""
        centres = self.corpus.centres(self.layout.buffer)
        tokens = self.corpus.tokens
        top = split.top_generation
        token = tokens[top[:, 0], top[:, 1]].mode().values
        kinds = [(centres & where).nonzero() for where in ((self.acts > 0).any(1, keepdim=True), tokens == token)]
        kinds = [cells[~self._fires_around(cells)] for cells in kinds]
        few = self.layout.n_balanced * _CANDIDATES
        kinds = [cells[rng.permutation(len(cells))[:few]].tolist() for cells in kinds]
        mixed = [kind[i] for i in range(max(map(len, kinds))) for kind in kinds if i < len(kind)]
        return _apart(mixed, [], self.layout.buffer)

    def _fires_around(self, centres: torch.Tensor) -> torch.Tensor:
        """Whether it fires at all in the windows around these cells."""
        return (self._reach[centres[:, 0], centres[:, 1]]) > 0

    @cached_property
    def _reach(self) -> torch.Tensor:
        """Largest activation in the window around each cell."""
        buffer = self.layout.buffer
        return torch.nn.functional.max_pool1d(self.acts[:, None], 2 * buffer + 1, 1, buffer)[:, 0]


def _indexing() -> Any:  # noqa: ANN401
    library()
    from sae_bench.sae_bench_utils import indexing_utils

    return indexing_utils


def _spread(length: int, n: int, rng: np.random.Generator) -> torch.Tensor:
    """One place at random from each of n equal parts of a sequence."""
    borders = np.linspace(0, length, n + 1).astype(int)
    return torch.from_numpy(rng.integers(borders[:-1], borders[1:])) if n else torch.empty(0, dtype=torch.long)


def _apart(cells: list[list[int]], taken: list[list[int]], distance: int) -> torch.Tensor:
    """Cells, the first ones first, that are further than `distance` from each other and from those taken."""
    blocked = {(doc, pos + step) for doc, pos in taken for step in range(-distance, distance + 1)}
    kept: list[list[int]] = []
    for doc, pos in cells:
        if (doc, pos) not in blocked:
            kept.append([doc, pos])
            blocked.update((doc, pos + step) for step in range(-distance, distance + 1))
    return torch.tensor(kept, dtype=torch.long).reshape(-1, 2)
