"""Which latents a judge is asked about: as many rare ones and as many frequent ones of every SAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .survey import DEAD_BELOW, Survey


@dataclass(frozen=True)
class Choice:
    """The latents of one SAE that are asked about, and those that stand behind them."""

    latents: tuple[int, ...]
    """Indices in the SAE, stratum by stratum, in random order inside each."""
    strata: tuple[int, ...]
    """Stratum of each, from 0 for the rarest."""
    mix: tuple[int, ...]
    """Alive latents of the SAE in each stratum: the weights of its own mean."""
    outside: int
    """Alive latents that fire less or more often than the latents of some other SAE do; none is chosen."""
    dead: int
    """Latents that fire too seldom to be asked about."""


@dataclass(frozen=True)
class Sampling:
    """A fair choice of latents from several SAEs."""

    edges: tuple[float, ...]
    """Borders of the strata in log10 of the firing rate, ascending, one more than strata; empty without an overlap."""
    choices: tuple[Choice, ...]
    """One for each SAE, in their order."""


def choose(
    surveys: Sequence[Survey],
    n_latents: int,
    *,
    seed: int,
    n_strata: int = 8,
    at_least: int = 2,
    dead_below: int = DEAD_BELOW,
) -> Sampling:
    """Draw latents of several SAEs so that all have the same mix of firing rates (METHOD section 3).

    Strata are bins of equal width of log10 firing rate over the overlap of the SAEs, merged until each SAE has enough
    latents in each. The common allocation follows the mean of the SAEs' own mixes, with two latents per stratum where
    there are as many; what a stratum of an SAE cannot give comes from its others. Latents of different SAEs are never
    matched, and SAEs with equal surveys get equal latents.

    Args:
        surveys: one for each SAE, of the same texts.
        n_latents: how many to draw from each (fewer, if it has no more in the overlap).
        seed: decides the draw.
        n_strata: bins before any are merged.
        at_least: alive latents that each SAE must have in a stratum, unless it is the only one.
        dead_below: firings below which a latent is dead. An SAE whose latents are all dead does not shrink the overlap.

    Raises:
        ValueError: `n_latents` or `n_strata` is not positive.
    """
    if n_latents < 1 or n_strata < 1:
        raise ValueError(f"n_latents is {n_latents} and n_strata {n_strata}; both must be at least 1")
    rates = [_log_rates(survey, dead_below) for survey in surveys]
    edges = strata_edges([found[~np.isnan(found)] for found in rates], n_strata, at_least)
    strata = [stratum_of(found, edges) for found in rates]
    mixes = np.array([np.bincount(of[of >= 0], minlength=max(0, len(edges) - 1)) for of in strata])
    weights = _mean_mix(mixes) if len(mixes) else np.empty(0)
    choices = [
        _choice(of, mix, allocate(weights, mix, n_latents), found, seed)
        for of, mix, found in zip(strata, mixes, rates, strict=True)
    ]
    return Sampling(tuple(edges.tolist()), tuple(choices))


def strata_edges(rates: Sequence[Float[np.ndarray, " _"]], n_strata: int, at_least: int) -> Float[np.ndarray, " edges"]:
    """Borders of the strata: equal widths over the overlap, merged from the left until every SAE has enough in each.

    Args:
        rates: log10 firing rates of each SAE's alive latents; an SAE without any is left out.
        n_strata: bins before any are merged.
        at_least: latents that each SAE must have in a bin.

    Returns:
        Ascending borders; empty where the ranges of the SAEs do not overlap.
    """
    rates = [found for found in rates if len(found)]
    low, high = max((r.min() for r in rates), default=1.0), min((r.max() for r in rates), default=0.0)
    if low > high:
        return np.empty(0)
    fine = np.linspace(low, high, n_strata + 1) if low < high else np.array([low, high])
    edges = [fine[0]]
    for edge in fine[1:-1]:
        trial = np.array([*edges, edge, fine[-1]])
        # Every bin so far and the rest must do: what is left at the right end joins the last bin.
        if all((np.bincount(_inside(found, trial), minlength=len(trial) - 1) >= at_least).all() for found in rates):
            edges.append(edge)
    return np.array([*edges, fine[-1]])


def stratum_of(rates: Float[np.ndarray, " n"], edges: Float[np.ndarray, " edges"]) -> Int[np.ndarray, " n"]:
    """Stratum of each log10 firing rate; -1 outside all of them and for dead latents (NaN)."""
    if not len(edges):
        return np.full(len(rates), -1)
    with np.errstate(invalid="ignore"):
        outside = ~((rates >= edges[0]) & (rates <= edges[-1]))
    return np.where(outside, -1, _bins(rates, edges))


def allocate(
    weights: Float[np.ndarray, " strata"], room: Int[np.ndarray, " strata"], total: int, least: int = 2
) -> Int[np.ndarray, " strata"]:
    """Share out latents over strata, in proportion to weights, as far as there are any.

    Args:
        weights: of the strata, with sum 1.
        room: latents that each stratum has.
        total: latents to share out; fewer are, if there is not room for all.
        least: what each stratum gets first, where it has room and the total allows.
    """
    share = np.zeros(len(room), dtype=np.int64)
    for _ in range(min(total, int(room.sum()))):
        needy = share < np.minimum(least, room)
        # The largest remainder takes the next one.
        wanted = np.where(needy, weights + least - share, -np.inf) if needy.any() else weights * total - share
        share[np.argmax(np.where(share < room, wanted, -np.inf))] += 1
    return share


def _choice(strata: np.ndarray, mix: np.ndarray, share: np.ndarray, rates: np.ndarray, seed: int) -> Choice:
    # A generator of its own for every stratum, the same for every SAE: what is drawn depends on the survey alone.
    drawn = [
        np.random.default_rng([seed, stratum]).permutation(np.flatnonzero(strata == stratum))[:n]
        for stratum, n in enumerate(share)
    ]
    alive = int((~np.isnan(rates)).sum())
    return Choice(
        latents=tuple(int(latent) for part in drawn for latent in part),
        strata=tuple(stratum for stratum, part in enumerate(drawn) for _ in part),
        mix=tuple(int(n) for n in mix),
        outside=alive - int(mix.sum()),
        dead=len(rates) - alive,
    )


def _log_rates(survey: Survey, dead_below: int) -> np.ndarray:
    """log10 of the firing rate of every latent, NaN where it is dead."""
    alive = ~survey.dead(max(1, dead_below))
    return np.log10(np.where(alive, survey.firing_rate, np.nan))


def _mean_mix(mixes: np.ndarray) -> np.ndarray:
    """Mean over SAEs of the share of each stratum; an SAE without latents there says nothing."""
    mixes = mixes[mixes.sum(1) > 0]
    return (mixes / mixes.sum(1, keepdims=True)).mean(0) if len(mixes) else np.zeros(mixes.shape[1])


def _bins(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each rate between the borders; the last border belongs to the last bin."""
    return np.clip(np.searchsorted(edges, rates, side="right") - 1, 0, len(edges) - 2)


def _inside(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return _bins(rates[(rates >= edges[0]) & (rates <= edges[-1])], edges)
