"""How often features of a hierarchy are active after `sae_lens` has silenced some: exactly, without sampling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from sae_lens.synthetic import HierarchyNode
from scipy.optimize import root_scalar


def firing_rates(
    roots: Sequence[HierarchyNode], proposals: Float[torch.Tensor, "*batch n_features"]
) -> Float[torch.Tensor, "*batch n_features"]:
    """Probability that each feature is active, given independent proposals.

    A proposed feature is active if its parent is, and, among siblings that exclude one another, if it is the one
    picked uniformly from those proposed: with K others proposed, of probability q_j each, that has probability
    E[1 / (1 + K)] = integral over t in [0, 1] of prod_j (1 - q_j + q_j t), a polynomial, integrated exactly.

    Args:
        roots: trees as `sae_lens.synthetic.hierarchy_modifier` takes them; features outside them are left alone.
        proposals: probabilities before the hierarchy, float64.
    """
    rates = proposals.clone()
    levels, groups = _flattened(roots)
    for siblings in groups:
        rates[..., siblings] *= _picked(proposals[..., siblings])
    for features, parents in levels:
        rates[..., features] *= rates[..., parents]
    return rates


def scale_to(l0_at: Callable[[float], float], l0: float, largest: float) -> float:
    """Scale at which a world has `l0` active features; `l0_at` grows with the scale.

    Raises:
        ValueError: even the largest scale gives fewer.
    """
    if (most := l0_at(largest)) < l0:
        raise ValueError(f"l0 is {l0}; it must be at most {most:.3g}, more this hierarchy does not let fire")
    return float(root_scalar(lambda scale: l0_at(scale) - l0, bracket=(0.0, largest), xtol=1e-7).root)


def _picked(q: Float[torch.Tensor, "*batch groups siblings"]) -> Float[torch.Tensor, "*batch groups siblings"]:
    """Probability of being picked, if proposed."""
    # n nodes integrate degree 2n - 1 exactly, and none of them is 0: the division below is safe.
    nodes, weights = np.polynomial.legendre.leggauss(q.shape[-1] // 2 + 1)
    picked = torch.zeros_like(q)
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        factors = 1 - q * float(1 - t)
        picked += float(weight) * factors.prod(-1, keepdim=True) / factors
    return picked


def _flattened(
    roots: Sequence[HierarchyNode],
) -> tuple[
    list[tuple[Int64[torch.Tensor, " k"], Int64[torch.Tensor, " k"]]], list[Int64[torch.Tensor, "groups siblings"]]
]:
    """Features with their parents, level by level from the top; and groups of exclusive siblings, by size."""
    levels: list[list[tuple[int, int]]] = []
    groups: dict[int, list[list[int]]] = defaultdict(list)
    nodes = [(root, -1) for root in roots]
    while nodes:
        levels.append([(n.feature_index, up) for n, up in nodes if n.feature_index is not None and up >= 0])
        for node, _ in nodes:
            siblings = [child.feature_index for child in node.children if child.feature_index is not None]
            if node.mutually_exclusive_children and len(siblings) >= 2:
                groups[len(siblings)].append(siblings)
        # A node without a feature only groups its children: what they depend on is above it.
        nodes = [
            (child, up if node.feature_index is None else node.feature_index)
            for node, up in nodes
            for child in node.children
        ]
    pairs = [torch.tensor(level).T for level in levels if level]
    return [(features, parents) for features, parents in pairs], [torch.tensor(g) for g in groups.values()]
