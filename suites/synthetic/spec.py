"""A synthetic world described by a few numbers, and what is wrong with such a description."""

from __future__ import annotations

import math
from dataclasses import dataclass

KINDS = ("constant", "variable", "correlated", "hierarchical", "synthsaebench")
"""What the worlds differ in: how often features fire, and whether they do so independently."""

TOLERANCE = 0.05
"""An `l0` this close to what a recipe gives anyway is its rounded value and changes nothing: the paper's 20 is 20.4."""


@dataclass(frozen=True)
class WorldSpec:
    """Numbers that a world is drawn from; `make_world` checks them."""

    kind: str
    """One of `KINDS`."""
    n_features: int
    """True features."""
    d_in: int
    """Dimensions that they live in."""
    l0: float
    """Expected number of active features per sample; rates are scaled to it unless they are within 5 % of it anyway."""
    magnitude_sigma: float = 0.25
    """Standard deviation of the log magnitude (the paper's LogNormal(0, .25) read as sigma); not in synthsaebench."""
    low: float = -5.5
    """Least log10 of a firing rate, before scaling (variable, correlated, hierarchical)."""
    high: float = -1.2
    """Largest log10 of a firing rate, before scaling."""
    rank: int = 25
    """Rank of the correlations of what fires together (correlated, synthsaebench)."""
    correlation: float = 0.1
    """Scale of the correlations' factors; two features' correlation has standard deviation scale^2 sqrt(rank)."""
    branching: int = 4
    """Children of every feature that has any (hierarchical, synthsaebench)."""
    depth: int = 3
    """Generations below a root: a child fires only where its parent does."""
    exclusive: float = 0.0
    """Share of parents of whose children at most one fires at a time (hierarchical; in synthsaebench all)."""
    orthogonal_steps: int = 100
    """Gradient steps that push the features apart (synthsaebench; time grows with n_features^2 d_in)."""
    source: str = ""
    """What the world was read from, with its hash; empty if it was drawn."""

    @property
    def n_roots(self) -> int:
        """Trees of a hierarchy, in SynthSAEBench's proportion: 128 for 16,384 features."""
        return max(1, round(self.n_features / 128))


PAPER = {kind: WorldSpec(kind, 3200, 100, 20.0) for kind in ("constant", "variable")}
"""The worlds of Korznikov et al. 2026 (arXiv 2602.14111, section 3)."""

SYNTHSAEBENCH = WorldSpec("synthsaebench", 16_384, 768, 34.0)
"""SynthSAEBench-16k (arXiv 2602.14687): Zipf rates, 128 trees of mutually exclusive children, rank-25 correlations."""


def mean_rate(spec: WorldSpec) -> float:
    """Expected firing rate where log10 of it is uniform on [low, high]: the mean of that distribution."""
    if spec.high == spec.low:
        return 10.0**spec.high
    return (10.0**spec.high - 10.0**spec.low) / ((spec.high - spec.low) * math.log(10))


def check_spec(spec: WorldSpec) -> None:
    """Check that a world can be drawn from a description.

    Raises:
        ValueError: it cannot; one line naming the number, its value and what would be right.
    """
    if spec.kind not in KINDS:
        raise ValueError(f"world is {spec.kind!r}; it must be one of {', '.join(KINDS)}")
    for name in ("n_features", "d_in", "rank", "depth"):
        _demand(name, getattr(spec, name), getattr(spec, name) >= 1, "at least 1")
    _demand("branching", spec.branching, spec.branching >= 2, "at least 2")
    _demand("orthogonal_steps", spec.orthogonal_steps, spec.orthogonal_steps >= 0, "0 or more")
    _demand("magnitude_sigma", spec.magnitude_sigma, 0 <= spec.magnitude_sigma < 10, "in [0, 10)")
    _demand("exclusive", spec.exclusive, 0 <= spec.exclusive <= 1, "in [0, 1]")
    _demand("low", spec.low, -12 <= spec.low <= spec.high, f"in [-12, high], high being {spec.high}")
    _demand("high", spec.high, spec.high <= 0, "0 or less: it is log10 of a probability")
    below_one = spec.rank * spec.correlation**2 < 1 and spec.correlation >= 0
    _demand("correlation", spec.correlation, below_one, f"in [0, {spec.rank**-0.5:.3g}) at rank {spec.rank}")
    _check_l0(spec)


def _check_l0(spec: WorldSpec) -> None:
    most = float(spec.n_features)
    if spec.kind in {"variable", "correlated", "hierarchical"}:
        # The most frequent feature cannot fire more often than always.
        most *= mean_rate(spec) / 10.0**spec.high
    _demand("l0", spec.l0, 0 < spec.l0 <= most, f"above 0 and at most {most:.6g} with {spec.n_features} features")


def _demand(name: str, value: object, right: bool, what: str) -> None:
    if not right:
        raise ValueError(f"{name} is {value}; it must be {what}")
