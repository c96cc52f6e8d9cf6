"""Exact independent Bernoulli supports whose cost grows with what fires, not with all that could."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64

from .draws import Draws

SLACK = 6.0
"""Standard deviations by which more gaps are drawn than are expected to be needed; one bucket in 1e9 is short."""


@dataclass(frozen=True, eq=False)
class Buckets:
    """Features sorted by falling rate and cut where it halves: within a bucket one rate bounds all, by at most 2."""

    n_features: int
    """All features, those that never fire too."""
    order: Int64[torch.Tensor, " n_firing"]
    """Features of positive rate, most frequent first."""
    start: Int64[torch.Tensor, " n_buckets"]
    """Where in `order` each bucket begins."""
    width: Int64[torch.Tensor, " n_buckets"]
    """Features in each bucket."""
    top: Float[torch.Tensor, " n_buckets"]
    """Largest rate of each bucket, float64."""
    keep: Float[torch.Tensor, " n_firing"]
    """Rate over its bucket's largest, in the order of `order`."""
    tops: tuple[float, ...]
    """`top` as numbers, so that a device is not waited for."""
    thinned: bool
    """Whether some feature is rarer than its bucket's largest rate."""


def make_buckets(rates: Float[torch.Tensor, " n_features"]) -> Buckets:
    """Sort features by rate and cut them into buckets.

    Args:
        rates: probabilities in [0, 1], float64.
    """
    rates = rates.double()
    order = rates.sort(descending=True, stable=True).indices[: int((rates > 0).sum())]
    firing = rates[order]
    octave = torch.floor(-torch.log2(firing / firing[:1])).long()
    width = torch.unique_consecutive(octave, return_counts=True)[1]
    start = width.cumsum(0) - width
    top = firing[start]
    keep = firing / top.repeat_interleave(width)
    return Buckets(len(rates), order, start, width, top, keep, tuple(top.tolist()), bool((keep < 1).any()))


def draw_support(buckets: Buckets, n: int, draws: Draws, *, slack: float = SLACK) -> Int64[torch.Tensor, " nnz"]:
    """Draw which features are active in each of `n` samples, each with its own probability, all independent.

    A bucket's n x width coins are laid in a row. At the bucket's largest rate p the gaps between heads are geometric,
    1 + floor(log(1 - u) / log(1 - p)) (Devroye 1986, X.2.1), so heads are drawn and coins are not; each head of a
    feature with rate r is then kept with probability r / p. In expectation at most 2 gaps are drawn per firing.

    Returns:
        `sample * n_features + feature` of every firing, ascending.
    """
    bucket, position = _heads(buckets, n, draws, slack)
    width = buckets.width[bucket]
    sample = torch.div(position, width, rounding_mode="floor")
    place = buckets.start[bucket] + position - sample * width
    keys = sample * buckets.n_features + buckets.order[place]
    if buckets.thinned:
        keys = keys[draws.uniform(len(keys)) < buckets.keep[place]]
    return _ascending(keys)


def _heads(
    buckets: Buckets, n: int, draws: Draws, slack: float
) -> tuple[Int64[torch.Tensor, " heads"], Int64[torch.Tensor, " heads"]]:
    """Bucket of every head, and which of the bucket's n x width coins it is."""
    device = buckets.order.device
    coins = buckets.width * n
    # log1p(-1) is -inf: every gap is 1 where the rate is.
    log_tails = torch.log1p(-buckets.top)
    last = torch.full_like(coins, -1)
    left = coins.tolist()
    found = [(torch.zeros(0, dtype=torch.int64, device=device),) * 2]
    while short := [b for b, coins_left in enumerate(left) if coins_left > 0]:
        which = torch.tensor(short, device=device)
        counts = torch.tensor([_enough(left[b] * buckets.tops[b], slack) for b in short], device=device)
        bucket = which.repeat_interleave(counts)
        gaps = torch.log1p(-draws.uniform(len(bucket))).div_(log_tails[bucket]).floor_()
        # A gap longer than the row ends it, however long: the bound keeps the sum within 64 bits.
        steps = torch.minimum(gaps, coins[bucket].double()).long() + 1
        position = _on_from(last[which], steps, counts)
        last[which] = position[counts.cumsum(0) - 1]
        inside = position < coins[bucket]
        found.append((bucket[inside], position[inside]))
        left = (coins - 1 - last).tolist()
    buckets_of, positions = zip(*found, strict=True)
    return torch.cat(buckets_of), torch.cat(positions)


def _enough(mean: float, slack: float) -> int:
    """Gaps that very likely pass the end of a row with `mean` heads to come."""
    return max(1, int(mean + slack * (mean + 1) ** 0.5 + slack))


def _on_from(
    last: Int64[torch.Tensor, " b"], steps: Int64[torch.Tensor, " heads"], counts: Int64[torch.Tensor, " b"]
) -> Int64[torch.Tensor, " heads"]:
    """Positions after each step, every bucket on from where it stopped."""
    total = steps.cumsum(0)
    before = total[counts.cumsum(0) - 1].roll(1)
    before[0] = 0
    return total + (last - before).repeat_interleave(counts)


def _ascending(keys: Int64[torch.Tensor, " nnz"]) -> Int64[torch.Tensor, " nnz"]:
    if keys.device.type != "cpu":
        return keys.sort().values
    # numpy sorts integers with vector instructions, ten times faster than torch.
    return torch.from_numpy(np.sort(keys.numpy()))
