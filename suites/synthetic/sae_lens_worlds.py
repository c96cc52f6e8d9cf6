"""Worlds whose features depend on one another, drawn by `sae_lens.synthetic`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from sae_lens.synthetic import (
    ActivationGenerator,
    FeatureDictionary,
    FoldedNormalMagnitudeConfig,
    HierarchyConfig,
    HierarchyNode,
    LinearMagnitudeConfig,
    LowRankCorrelationConfig,
    LowRankCorrelationMatrix,
    OrthogonalizationConfig,
    SyntheticModel,
    SyntheticModelConfig,
    ZipfianFiringProbabilityConfig,
    generate_hierarchy,
    generate_random_low_rank_correlation_matrix,
    orthogonalize_embeddings,
    zipfian_firing_probabilities,
)

from .copula_rates import rates_of
from .draws import draws_of, isolated, seed_of
from .memory import rows_at_once
from .primitives import log_uniform_rates, unit_features
from .sample import Sample, log_normal, mixed
from .spec import TOLERANCE, WorldSpec
from .tree_rates import firing_rates, scale_to

MAX_RATE, MIN_RATE, EXPONENT = 0.4, 5e-4, 0.5
"""SynthSAEBench's Zipf law."""

PUBLISHED_SEED = 42
"""Seed of the published SynthSAEBench-16k, which is world 0."""


@dataclass(frozen=True, eq=False)
class SaeLensWorld:
    """A world that a generator of `sae_lens` draws from."""

    spec: WorldSpec
    """What it was drawn from."""
    seed: int
    """Which world."""
    features: Float[torch.Tensor, "n_features d_in"]
    """True directions, unit rows."""
    bias: Float[torch.Tensor, " d_in"]
    """What is added to every sample."""
    generator: ActivationGenerator
    """What decides which features fire, and how strongly where `log_normal` is not set."""
    roots: tuple[HierarchyNode, ...] = ()
    """Trees of the hierarchy, if any."""
    log_normal: bool = True
    """Whether magnitudes are the paper's, so that only the dependence differs from its worlds."""

    @property
    def rates(self) -> Float[torch.Tensor, " n_features"]:
        """Probability that each feature is active: exact, but for hierarchies with correlations (see `rates_of`)."""
        return self._rates

    @cached_property
    def _rates(self) -> Float[torch.Tensor, " n_features"]:
        # On first use: at SynthSAEBench's size it takes seconds, and a stream has no need of it.
        return rates_of(self.generator, self.roots)

    def sample(self, n: int, *, seed: int) -> Sample:
        """Draw `n` samples; time grows with all features, memory does not grow with `n` beyond the result."""
        key, device = f"sample/{self.seed}/{seed}", self.features.device
        at_once = rows_at_once(self.spec)
        with isolated(key, device):
            blocks = [self._block(start, min(at_once, n - start)) for start in range(0, n, at_once)]
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        rows, features, magnitudes = (
            torch.cat(part) for part in zip((empty, empty, empty.float()), *blocks, strict=True)
        )
        if self.log_normal:
            magnitudes = log_normal(draws_of(key, device).normal(len(rows)), self.spec.magnitude_sigma)
        return mixed(n, rows, features, magnitudes, directions=self.features, bias=self.bias)

    def _block(self, start: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        active = self.generator.sample(n)
        rows, features = active.nonzero(as_tuple=True)
        return rows + start, features, active[rows, features]


def make_correlated(spec: WorldSpec, seed: int, device: torch.device) -> SaeLensWorld:
    """The `variable` world, but what fires together is decided by a Gaussian copula of low rank."""
    correlation = generate_random_low_rank_correlation_matrix(
        spec.n_features, spec.rank, spec.correlation, seed=seed_of(f"correlation/{seed}")
    )
    generator = ActivationGenerator(
        spec.n_features,
        log_uniform_rates(spec, seed).float().to(device),
        correlation_matrix=LowRankCorrelationMatrix(*(part.to(device) for part in correlation)),
        device=device,
    )
    return _of_paper(spec, seed, generator, ())


def make_hierarchical(spec: WorldSpec, seed: int, device: torch.device) -> SaeLensWorld:
    """The `variable` world, but frequent features are parents of rarer ones, which fire only where a parent does.

    Rates are those of the `variable` world: what the hierarchy takes is added before, and, where children exclude one
    another and that cannot be exact, all rates are scaled so that L0 stays.
    """
    config = HierarchyConfig(
        total_root_nodes=spec.n_roots,
        branching_factor=spec.branching,
        max_depth=spec.depth,
        mutually_exclusive_portion=spec.exclusive,
        compensate_probabilities=True,
    )
    hierarchy = generate_hierarchy(spec.n_features, config, seed=seed_of(f"hierarchy/{seed}"))
    wanted = log_uniform_rates(spec, seed).sort(descending=True).values

    def proposals(scale: float) -> Float[torch.Tensor, " n_features"]:
        rates = (wanted * scale).float()
        return (rates * hierarchy.compute_probability_correction_factors(rates)).clamp(max=1)

    scale = 1.0
    if spec.exclusive:
        largest = 1 / float(wanted[0])
        scale = scale_to(
            lambda s: float(firing_rates(hierarchy.roots, proposals(s).double()).sum()), float(wanted.sum()), largest
        )
    generator = ActivationGenerator(
        spec.n_features, proposals(scale).to(device), modify_activations=hierarchy.modifier, device=device
    )
    return _of_paper(spec, seed, generator, tuple(hierarchy.roots))


def _of_paper(
    spec: WorldSpec, seed: int, generator: ActivationGenerator, roots: tuple[HierarchyNode, ...]
) -> SaeLensWorld:
    device = generator.firing_probabilities.device
    features = unit_features(spec, seed).to(device)
    return SaeLensWorld(spec, seed, features, torch.zeros(spec.d_in, device=device), generator, roots)


def make_synthsaebench(spec: WorldSpec, seed: int, device: torch.device) -> SaeLensWorld:
    """SynthSAEBench's recipe at any size; at its own size, world 0 is drawn with the published seed."""
    config = synthsaebench_config(spec, seed)
    directions = FeatureDictionary(
        spec.n_features, spec.d_in, bias=config.bias, initializer=None, seed=config.seed
    )  # SyntheticModel would make the same, with a progress bar, on the CPU
    drawn = directions.feature_vectors.data.to(device)
    directions.feature_vectors.data = orthogonalize_embeddings(drawn, num_steps=spec.orthogonal_steps, lr=3e-4).cpu()
    with quiet():
        return world_of_model(SyntheticModel(config, feature_dict=directions), spec, seed, device)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep SAELens from warning that rates were cut at 1: the recipe does so, and `rates` knows."""
    logger = logging.getLogger(SyntheticModel.__module__)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def synthsaebench_config(spec: WorldSpec, seed: int) -> SyntheticModelConfig:
    """SynthSAEBench-16k's configuration (arXiv 2602.14687, and SAELens' docs/synth_sae_bench.md), scaled.

    The number of trees is in proportion to the features. Rates are scaled where the law itself is more than 5 % off
    the spec's l0 (34.6 at 16,384 features); correlations, which move single rates and hardly their sum, are left out.
    Seeds of worlds are 10 apart: SAELens makes five of one.
    """
    hierarchy = HierarchyConfig(
        total_root_nodes=spec.n_roots,
        branching_factor=spec.branching,
        max_depth=spec.depth,
        mutually_exclusive_portion=1.0,
        compensate_probabilities=True,
        scale_children_by_parent=True,
    )
    scale = _zipf_scale(spec, hierarchy)
    return SyntheticModelConfig(
        num_features=spec.n_features,
        hidden_dim=spec.d_in,
        firing_probability=ZipfianFiringProbabilityConfig(EXPONENT, MAX_RATE * scale, MIN_RATE * scale),
        hierarchy=hierarchy,
        orthogonalization=OrthogonalizationConfig(num_steps=spec.orthogonal_steps, lr=3e-4),
        correlation=LowRankCorrelationConfig(spec.rank, spec.correlation) if spec.correlation else None,
        mean_firing_magnitudes=LinearMagnitudeConfig(5.0, 4.0),
        std_firing_magnitudes=FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        bias=0.5,
        seed=PUBLISHED_SEED + 10 * seed,
    )


def _zipf_scale(spec: WorldSpec, config: HierarchyConfig) -> float:
    hierarchy = generate_hierarchy(spec.n_features, config, seed=0)  # all are excluded: every seed has the same trees

    def l0_at(scale: float) -> float:
        if scale == 0:
            return 0.0
        rates = zipfian_firing_probabilities(spec.n_features, EXPONENT, MAX_RATE * scale, MIN_RATE * scale)
        proposals = (rates * hierarchy.compute_probability_correction_factors(rates)).clamp(max=1)
        return float(firing_rates(hierarchy.roots, proposals.double()).sum())

    natural = l0_at(1.0)
    return 1.0 if abs(spec.l0 / natural - 1) <= TOLERANCE else scale_to(l0_at, spec.l0, 1 / MAX_RATE)


def world_of_model(model: SyntheticModel, spec: WorldSpec, seed: int, device: torch.device) -> SaeLensWorld:
    """The world of a model of `sae_lens` on the CPU.

    Its generator is made anew: SAELens would leave the correlations where they are when a model moves to a device,
    and keep the thresholds of the configuration's rates when a file gives others.
    """
    theirs, correlation = model.activation_generator, model.correlation_matrix
    generator = ActivationGenerator(
        spec.n_features,
        theirs.firing_probabilities,
        theirs.std_firing_magnitudes,
        theirs.mean_firing_magnitudes,
        model.hierarchy.modifier if model.hierarchy else None,
        LowRankCorrelationMatrix(*(part.to(device) for part in correlation)) if correlation else None,
        device=device,
    )
    features, bias = model.feature_dict.feature_vectors.data, model.feature_dict.bias.data
    roots = tuple(model.hierarchy.roots) if model.hierarchy else ()
    return SaeLensWorld(spec, seed, features.to(device), bias.to(device), generator, roots, log_normal=False)
