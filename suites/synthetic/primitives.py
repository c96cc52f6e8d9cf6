"""What worlds are made of: directions on the sphere, and rates that are log-uniform."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from .draws import number_of
from .spec import TOLERANCE, WorldSpec, mean_rate


def unit_features(spec: WorldSpec, seed: int) -> Float[torch.Tensor, "n_features d_in"]:
    """Directions uniform on the sphere: Gaussian vectors of length 1 (Muller 1959); float32, on the CPU."""
    generator = np.random.default_rng(number_of(f"features/{seed}"))
    drawn = generator.standard_normal((spec.n_features, spec.d_in), dtype=np.float32)
    return functional.normalize(torch.from_numpy(drawn), dim=1)


def log_uniform_rates(spec: WorldSpec, seed: int) -> Float[torch.Tensor, " n_features"]:
    """Firing rates whose log10 is uniform on [low, high]; float64, on the CPU.

    At the paper's size they are left as drawn: their sum is 20.4 in expectation, with a standard deviation of .7 over
    worlds. Where an l0 is asked for that is further off, they are scaled so that it is their sum in every world.

    Raises:
        ValueError: the most frequent feature would fire more often than always.
    """
    generator = np.random.default_rng(number_of(f"rates/{seed}"))
    exponents = generator.uniform(spec.low, spec.high, spec.n_features)
    rates = torch.from_numpy(10.0**exponents)
    if abs(spec.l0 / (spec.n_features * mean_rate(spec)) - 1) <= TOLERANCE:
        return rates
    rates *= spec.l0 / rates.sum()
    if rates.max() > 1:
        raise ValueError(f"l0 is {spec.l0}; it must be at most {spec.l0 / rates.max():.6g} in the world of seed {seed}")
    return rates
