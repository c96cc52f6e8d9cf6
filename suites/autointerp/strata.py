"""Which latents a judge is asked about: as many rare ones and as many frequent ones of every SAE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .survey import DEAD_BELOW, Survey

_STEPS = 2**32 - 1
"""Stands where the number of a stratum stands in other seeds."""


@dataclass(frozen=True)
class Choice:
    """The latents of one SAE that are asked about, and those that stand behind them."""

    latents: tuple[int, ...]
    """Indices in the SAE in the order of asking: stratum by stratum, or step by step; random inside each stratum."""
    strata: tuple[int, ...]
    """Stratum of each, from 0 for the rarest."""
    mix: tuple[int, ...]
    """Askable latents of the SAE in each stratum: the weights of its own mean."""
    outside: int
    """Askable latents that fire less or more often than those of some other SAE do; none is chosen."""
    ineligible: int
    """Alive latents of which the texts do not have the windows to show; none is chosen."""
    dead: int
    """Latents that hardly fire."""


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

    Only latents that can be asked about are eligible, in every SAE by the same rule, before anything else is decided:
    who drops out later would drop out of some arms more than of others. Strata are bins of equal width of log10 firing
    rate over the overlap of the SAEs, merged until each SAE has enough latents in each. The common allocation follows
    the mean of the SAEs' own mixes, with two latents per stratum where there are as many; what a stratum of an SAE
    cannot give comes from its others. Latents of different SAEs are never matched, and SAEs with equal surveys get
    equal latents.

    Args:
        surveys: one for each SAE, of the same texts.
        n_latents: how many to draw from each (fewer, if it has no more in the overlap).
        seed: decides the draw.
        n_strata: bins before any are merged.
        at_least: eligible latents that each SAE must have in a stratum, unless it is the only one.
        dead_below: firings below which a latent is dead. An SAE without eligible latents does not shrink the overlap.

    Raises:
        ValueError: `n_latents` or `n_strata` is not positive.
    """
    if n_latents < 1 or n_strata < 1:
        raise ValueError(f"n_latents is {n_latents} and n_strata {n_strata}; both must be at least 1")
    pool = _Pool.of(surveys, n_strata=n_strata, at_least=at_least, dead_below=dead_below)
    shares = [allocate(pool.weights, mix, n_latents) for mix in pool.mixes]
    drawn = [np.repeat(np.arange(len(share)), share) for share in shares]
    return pool.sampling(drawn, seed)


def in_steps(
    surveys: Sequence[Survey],
    n_latents: int,
    *,
    seed: int,
    n_strata: int = 8,
    dead_below: int = DEAD_BELOW,
) -> Sampling:
    """Draw latents of several SAEs in an order in which one may stop after any of them.

    The strata of the steps are drawn independently from the mean of the SAEs' own mixes, and step k takes one latent
    of the k-th stratum from every SAE, none twice. So a difference of SAEs at step k is one draw of their difference
    standardised to that mix, whatever was seen before. The sequence ends where a stratum of some SAE is used up: that
    depends on no score. So that it is not soon, bins are merged until every SAE has in each its part of the latents
    that are wanted. Everything else is as for `choose`.

    Args:
        surveys: one for each SAE, of the same texts.
        n_latents: steps, at most.
        seed: decides the draw.
        n_strata: bins before any are merged.
        dead_below: firings below which a latent is dead. An SAE without eligible latents takes no step.

    Returns:
        The latents of each SAE in the order of the steps.

    Raises:
        ValueError: `n_latents` or `n_strata` is not positive.
    """
    if n_latents < 1 or n_strata < 1:
        raise ValueError(f"n_latents is {n_latents} and n_strata {n_strata}; both must be at least 1")
    pool = _Pool.of(surveys, n_strata=n_strata, at_least=max(2, n_latents // n_strata), dead_below=dead_below)
    weights, some = pool.weights, [mix for mix in pool.mixes if mix.sum()]
    # A seed of its own: the strata of the steps have nothing to do with which latents stand in which order.
    rng = np.random.default_rng([seed, _STEPS])
    order = rng.choice(len(weights), n_latents, p=weights) if some else np.empty(0, dtype=np.int64)
    taken = (order[:, None] == np.arange(len(weights))).cumsum(axis=0)
    lacking = [(taken > mix).any(axis=1) for mix in some]
    end = int(np.argmax(np.any(lacking, axis=0))) if np.any(lacking) else len(order)
    return pool.sampling([order[: end if mix.sum() else 0] for mix in pool.mixes], seed)


def strata_edges(rates: Sequence[Float[np.ndarray, " _"]], n_strata: int, at_least: int) -> Float[np.ndarray, " edges"]:
    """Borders of the strata: equal widths over the overlap, merged from the left until every SAE has enough in each.

    Args:
        rates: log10 firing rates of each SAE's eligible latents; an SAE without any is left out.
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
    """Stratum of each log10 firing rate; -1 outside all of them and for latents that are not eligible (NaN)."""
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


@dataclass(frozen=True, eq=False)
class _Pool:
    """The eligible latents of several SAEs by their stratum."""

    edges: Float[np.ndarray, " edges"]
    rates: tuple[np.ndarray, ...]
    strata: tuple[np.ndarray, ...]
    mixes: Int[np.ndarray, "saes strata"]
    dead: tuple[int, ...]

    @classmethod
    def of(cls, surveys: Sequence[Survey], *, n_strata: int, at_least: int, dead_below: int) -> _Pool:
        rates = tuple(_log_rates(survey, dead_below) for survey in surveys)
        edges = strata_edges([found[~np.isnan(found)] for found in rates], n_strata, at_least)
        strata = tuple(stratum_of(found, edges) for found in rates)
        bins = max(0, len(edges) - 1)
        mixes = [np.bincount(of[of >= 0], minlength=bins) for of in strata]
        dead = tuple(int(survey.dead(max(1, dead_below)).sum()) for survey in surveys)
        return cls(edges, rates, strata, np.array(mixes, dtype=np.int64).reshape(len(rates), bins), dead)

    @property
    def weights(self) -> Float[np.ndarray, " strata"]:
        return _mean_mix(self.mixes)

    def sampling(self, drawn: Sequence[Int[np.ndarray, " _"]], seed: int) -> Sampling:
        """Take latents from these strata of each SAE."""
        parts = zip(self.strata, self.mixes, drawn, self.rates, self.dead, strict=True)
        return Sampling(tuple(self.edges.tolist()), tuple(_choice(*part, seed) for part in parts))


def _choice(strata: np.ndarray, mix: np.ndarray, drawn: np.ndarray, rates: np.ndarray, dead: int, seed: int) -> Choice:
    # A generator of its own for every stratum, the same for every SAE: what is drawn depends on the survey alone.
    order = [iter(np.random.default_rng([seed, h]).permutation(np.flatnonzero(strata == h))) for h in range(len(mix))]
    eligible = int((~np.isnan(rates)).sum())
    return Choice(
        latents=tuple(int(next(order[h])) for h in drawn),
        strata=tuple(int(h) for h in drawn),
        mix=tuple(int(n) for n in mix),
        outside=eligible - int(mix.sum()),
        ineligible=len(rates) - dead - eligible,
        dead=dead,
    )


def _log_rates(survey: Survey, dead_below: int) -> np.ndarray:
    """log10 of the firing rate of every latent, NaN where it is not eligible: dead, or not to be asked about."""
    eligible = survey.askable & ~survey.dead(max(1, dead_below))
    return np.log10(np.where(eligible, survey.firing_rate, np.nan))


def _mean_mix(mixes: np.ndarray) -> np.ndarray:
    """Mean over SAEs of the share of each stratum; an SAE without latents there says nothing."""
    mixes = mixes[mixes.sum(1) > 0]
    return (mixes / mixes.sum(1, keepdims=True)).mean(0) if len(mixes) else np.zeros(mixes.shape[1])


def _bins(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each rate between the borders; the last border belongs to the last bin."""
    return np.clip(np.searchsorted(edges, rates, side="right") - 1, 0, len(edges) - 2)


def _inside(rates: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return _bins(rates[(rates >= edges[0]) & (rates <= edges[-1])], edges)
