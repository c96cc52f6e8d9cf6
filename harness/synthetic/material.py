"""What arms of a synthetic world are made from: samples drawn when they are needed, none of them kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float

from ...results.store import content_key
from ...suites.synthetic import stream
from ..arms import Material

if TYPE_CHECKING:
    from ...suites.synthetic import World
    from .config import SyntheticSettings

TRAIN, CALIBRATION, HELD_OUT, EVALUATION = range(4)
"""Seeds of the draws within a world: no two purposes see the same samples."""

WORLD_VERSION = 2
"""Raised when a change alters what a world draws."""

_CHUNK = 2048


@dataclass(frozen=True, eq=False)
class WorldRows:
    """Samples of one world for one purpose, as `ArmMaker` reads activations."""

    world: World
    """Where they come from."""
    n_tokens: int
    """How many there are."""
    seed: int
    """Which of the world's draws."""

    @property
    def d_in(self) -> int:
        """Dimensions of a sample."""
        return self.world.spec.d_in

    @property
    def key(self) -> str:
        """Content key: the world's numbers, its seed and the draw."""
        ingredients = {
            "world": asdict(self.world.spec),
            "world_seed": self.world.seed,
            "n": self.n_tokens,
            "draw": self.seed,
            "version": WORLD_VERSION,
        }
        device = self.world.features.device.type  # generators of different devices draw different samples
        return content_key(ingredients | ({} if device == "cpu" else {"device": device}))

    def batches(self, batch_size: int, *, seed: int, n_batches: int) -> Iterator[Float[torch.Tensor, "batch d_in"]]:
        """Fresh samples, batch by batch; `seed` (the order of texts elsewhere) has nothing to order here."""
        return stream(self.world, batch_size, seed=self.seed, n_batches=n_batches)(0)

    def chunks(self) -> Iterator[tuple[Float[torch.Tensor, "chunk d_in"], None]]:
        """All samples once, the same ones every time."""
        sizes = [_CHUNK] * (self.n_tokens // _CHUNK) + [self.n_tokens % _CHUNK]
        for index, size in enumerate(size for size in sizes if size):
            drawn = self.world.sample(size, seed=_seed_of_chunk(self.seed, index))
            yield drawn.activations.cpu(), None


def _seed_of_chunk(draw: int, index: int) -> int:
    return draw * 10**9 + index


def material_of(world: World, settings: SyntheticSettings) -> Material:
    """What the arms of one world are made from."""
    return Material(
        WorldRows(world, settings.samples, TRAIN),
        WorldRows(world, settings.calibration_samples, CALIBRATION),
        WorldRows(world, settings.evaluation_samples, HELD_OUT),
        f"synthetic-{settings.world}-{settings.n_features}x{settings.d_in}-seed-{world.seed}",
        draw=world.seed,
        device=settings.device,
        sparse_step=True,
    )
