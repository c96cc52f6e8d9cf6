"""A world in which the right edit is known: entities with two attributes, each read off latents of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from sae_sanity.suites.causal_editing.mdbm import Wanted

VALUES, NOISE, DEAD = 4, 3, 2
D_SAE = 2 * VALUES + NOISE + DEAD
D_IN = D_SAE + 2


@dataclass(frozen=True)
class LinearRuns:
    """A language model whose logits are rows @ W, with one W for prompts of each attribute."""

    readers: torch.Tensor  # [attributes, d_in, vocab]
    asked: torch.Tensor  # [n_prompts]

    def logits(self, which, rows):
        return torch.einsum("md,mdv->mv", rows, self.readers[self.asked[list(which)]])

    def generate(self, which, rows, n_tokens):
        return self.logits(which, rows).argmax(1, keepdim=True).expand(-1, n_tokens)


@dataclass(frozen=True)
class FakeRuns:
    """A language model that is one function."""

    logits: Callable[[Sequence[int], torch.Tensor], torch.Tensor]

    def generate(self, which, rows, n_tokens):
        raise NotImplementedError


@dataclass(frozen=True)
class LinearWorld:
    runs: LinearRuns
    codes: torch.Tensor
    directions: torch.Tensor
    values: torch.Tensor  # [n_entities, 2]
    wanted: Wanted
    """Cause pairs of attribute 0, isolation pairs of attribute 1."""

    def decode(self, codes):
        return codes @ self.directions

    @property
    def clean(self):
        return self.decode(self.codes)

    def right(self, rows) -> float:
        """Share of pairs whose wanted token comes out."""
        token = torch.tensor(self.wanted.token)
        return float((self.runs.logits(self.wanted.base, rows).argmax(1) == token).float().mean())

    def double(self) -> LinearWorld:
        runs = replace(self.runs, readers=self.runs.readers.double())
        return replace(self, runs=runs, codes=self.codes.double(), directions=self.directions.double())


def linear_world(n_entities: int = 30, seed: int = 0, *, rotated: bool = False) -> LinearWorld:
    """Latents 0-3 are the values of attribute 0, 4-7 those of attribute 1, 8-10 nothing, 11-12 never fire.

    Rotated, directions of latents are orthogonal but for rounding errors, and so are gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, VALUES, (n_entities, 2), generator=generator)
    codes = torch.zeros(n_entities, D_SAE)
    codes[torch.arange(n_entities), values[:, 0]] = 1
    codes[torch.arange(n_entities), VALUES + values[:, 1]] = 1
    codes[:, 2 * VALUES : 2 * VALUES + NOISE] = torch.rand(n_entities, NOISE, generator=generator)
    random = torch.linalg.qr(torch.randn(D_IN, D_SAE, generator=generator)).Q.T
    directions = random if rotated else torch.eye(D_SAE, D_IN)
    readers = torch.stack([3 * directions[a * VALUES : (a + 1) * VALUES].T for a in range(2)])
    # Prompt e asks for attribute 0 of entity e, prompt n_entities + e for its attribute 1.
    asked = torch.arange(2).repeat_interleave(n_entities)
    pairs = [(b, s) for b in range(n_entities) for s in range(n_entities)]
    cause = [(b, s, int(values[s, 0])) for b, s in pairs if values[b, 0] != values[s, 0]]
    keep = [(b + n_entities, s + n_entities, int(values[b, 1])) for b, s in pairs if values[b, 1] != values[s, 1]]
    wanted = Wanted(*zip(*cause, *keep, strict=True))
    return LinearWorld(LinearRuns(readers, asked), codes.repeat(2, 1), directions, values, wanted)
