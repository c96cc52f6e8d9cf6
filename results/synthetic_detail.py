"""What the synthetic suite shows beside its verdict, as data: recovery by firing rate, cosines, scores of every arm."""

from __future__ import annotations

from .frozen import Frozen


class RateBin(Frozen):
    """True features of similar firing rate, in one arm."""

    low: float
    """Lowest firing rate of the bin: the share of samples in which a feature is active."""
    high: float
    """Highest firing rate of the bin; equal to `low` where all features fire equally often."""
    n_features: int
    """Features in the bin, mean over the worlds that have any."""
    value: float
    """Share of them that is recovered, mean over worlds; starts of one world are averaged first."""
    lo: float | None
    """Lower end of the 90 % t interval over worlds; null with fewer than two. Not cut off at 0."""
    hi: float | None
    """Upper end of the interval. Not cut off at 1."""


class Curve(Frozen):
    """Recovery as a function of firing rate, in one arm."""

    arm: str
    """Name of the arm."""
    bins: tuple[RateBin, ...]
    """From rare to frequent features; the same bins in every arm."""


class Histogram(Frozen):
    """How close the dictionary of one arm comes to the true features."""

    arm: str
    """Name of the arm."""
    edges: tuple[float, ...]
    """Edges of the bins of the cosine, ascending; the same in every arm."""
    shares: tuple[float, ...]
    """Share of true features in each bin, mean over starts and worlds; they add up to 1."""


class WorldScore(Frozen):
    """One arm in numbers: means over worlds, starts of one world averaged first; null where not measured."""

    arm: str
    """Name of the arm."""
    n_worlds: int
    """Worlds measured."""
    explained_variance: float | None
    """Explained variance of the SAE's reconstruction."""
    lo: float | None
    """Lower end of the 90 % t interval of the explained variance over worlds; null with fewer than two."""
    hi: float | None
    """Upper end of the interval."""
    normalised: float | None
    """(EV − EV of chance) / (EV of oracle − EV of chance): random and true dictionary in the same encoder class."""
    explained_variance_ls: float | None
    """Of the dictionary, with the largest projections as support and least-squares magnitudes."""
    explained_variance_omp: float | None
    """Of the dictionary, coded by orthogonal matching pursuit."""
    recovered_08: float | None
    """Share of true features with a latent at a cosine above .8, a latent counted for as many as it serves."""
    recovered_09: float | None
    """The same above .9."""
    matched_08: float | None
    """Share of true features whose own latent (one-to-one matching) has a cosine above .8."""
    matched_09: float | None
    """The same above .9."""
    weighted_recovery: float | None
    """`recovered_08` weighted by firing rate."""
    mean_best_cosine: float | None
    """Mean over true features of the largest cosine with any latent."""
    mean_matched_cosine: float | None
    """Mean over true features of the cosine with their own latent (one-to-one matching)."""
    firing_precision: float | None
    """Of a feature's own latent: how often the feature is active where the latent fires."""
    firing_recall: float | None
    """Of a feature's own latent: how often the latent fires where the feature is active."""
    firing_f1: float | None
    """Harmonic mean of the two, per feature."""
    mcc: float | None
    """Mean absolute cosine of the best one-to-one matching."""
    uniqueness: float | None
    """Distinct true features that are the closest one of some latent, as a share of the latents (sae_lens)."""
    l0: float | None
    """Active latents per sample."""
    dead_share: float | None
    """Share of latents that never fire."""


class SyntheticDetail(Frozen):
    """Everything about the worlds of one run and the arms trained on them."""

    world: str
    """Kind of world: `constant`, `variable`, ..."""
    n_worlds: int
    """Worlds of that kind, each with its own seed: the replicates."""
    n_features: int
    """True features of a world."""
    d_in: int
    """Dimensions of the activations."""
    true_l0: float
    """Expected number of active true features per sample."""
    chance_mean_cosine: float | None
    """Mean over true features of the largest cosine with a random dictionary; null where not known."""
    curves: tuple[Curve, ...]
    """Share recovered at a cosine above .8, many-to-one, by firing rate."""
    matched_curves: tuple[Curve, ...]
    """The same one-to-one."""
    histograms: tuple[Histogram, ...]
    """Largest cosine of every true feature with any latent, of each arm that has a dictionary of its own."""
    scores: tuple[WorldScore, ...]
    """Every arm in numbers, in the order of the tables."""
