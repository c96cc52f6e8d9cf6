"""Seeded worlds of which the truth is known: unit features that fire at known rates, and samples of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float

from .bernoulli import Buckets, draw_support, make_buckets
from .draws import draws_of, seed_of
from .memory import check_memory
from .primitives import log_uniform_rates, unit_features
from .sae_lens_worlds import make_correlated, make_hierarchical, make_synthsaebench
from .sample import Sample, log_normal, mixed
from .spec import WorldSpec, check_spec


@runtime_checkable
class World(Protocol):
    """Ground truth, drawn from a spec and a seed."""

    @property
    def spec(self) -> WorldSpec:
        """What it was drawn from."""
        ...

    @property
    def seed(self) -> int:
        """Which of the worlds of that description it is: the top replicate of the statistics."""
        ...

    @property
    def features(self) -> Float[torch.Tensor, "n_features d_in"]:
        """True directions, unit rows, float32."""
        ...

    @property
    def bias(self) -> Float[torch.Tensor, " d_in"]:
        """What is added to every sample; zeros but for SynthSAEBench's."""
        ...

    @property
    def rates(self) -> Float[torch.Tensor, " n_features"]:
        """Probability that each feature is active, float64."""
        ...

    def sample(self, n: int, *, seed: int) -> Sample:
        """Draw `n` samples; the same world, `n` and seed give the same bits on one machine, whatever came before."""
        ...


@dataclass(frozen=True, eq=False)
class IndependentWorld:
    """A world whose features fire independently: those of Korznikov et al. 2026."""

    spec: WorldSpec
    """What it was drawn from."""
    seed: int
    """Which world."""
    features: Float[torch.Tensor, "n_features d_in"]
    """True directions, uniform on the sphere."""
    bias: Float[torch.Tensor, " d_in"]
    """Zeros."""
    rates: Float[torch.Tensor, " n_features"]
    """Probability that each feature is active, exact."""
    buckets: Buckets
    """The rates as the sampler reads them."""

    def sample(self, n: int, *, seed: int) -> Sample:
        """Draw `n` samples; time and memory grow with what fires, not with all features."""
        draws = draws_of(f"sample/{self.seed}/{seed}", self.features.device)
        keys = draw_support(self.buckets, n, draws)
        rows = torch.div(keys, self.spec.n_features, rounding_mode="floor")
        features = keys - rows * self.spec.n_features
        magnitudes = log_normal(draws.normal(len(keys)), self.spec.magnitude_sigma)
        return mixed(n, rows, features, magnitudes, directions=self.features, bias=self.bias)


def make_world(spec: WorldSpec, seed: int, *, device: str | torch.device = "cpu") -> World:
    """Draw a world. Its features and rates are the same on every device; its samples are not.

    Args:
        spec: what to draw from.
        seed: which world, 0 or more.
        device: where samples are drawn.

    Raises:
        ValueError: the spec is wrong, or the world does not fit the machine's memory; one line.
    """
    check_spec(spec)
    if seed < 0:
        raise ValueError(f"seed of a world is {seed}; it must be 0 or more")
    place = torch.device(device)
    check_memory(spec, place)
    if spec.kind in {"constant", "variable"}:
        return _independent(spec, seed, place)
    others = {
        "correlated": make_correlated,
        "hierarchical": make_hierarchical,
        "synthsaebench": make_synthsaebench,
    }
    return others[spec.kind](spec, seed, place)


def _independent(spec: WorldSpec, seed: int, device: torch.device) -> IndependentWorld:
    if spec.kind == "constant":
        rates = torch.full((spec.n_features,), spec.l0 / spec.n_features, dtype=torch.float64)
    else:
        rates = log_uniform_rates(spec, seed)
    rates = rates.to(device)
    features = unit_features(spec, seed).to(device)
    bias = torch.zeros(spec.d_in, device=device)
    return IndependentWorld(spec, seed, features, bias, rates, make_buckets(rates))


def stream(
    world: World, batch_size: int, *, seed: int, n_batches: int
) -> Callable[[int], Iterator[Float[torch.Tensor, "batch d_in"]]]:
    """Batches of fresh activations, as `baselines.training.Stream` asks for them.

    Returns:
        Given a step, the batches from that step on, up to `n_batches` in all; batch t depends on the world, the seed
        and t alone. No batch is one that `world.sample` gives for a small seed.
    """

    def batches(start: int) -> Iterator[Float[torch.Tensor, "batch d_in"]]:
        for step in range(start, n_batches):
            yield world.sample(batch_size, seed=seed_of(f"stream/{seed}/{step}")).activations

    return batches
