"""Scores of one SAE in one world: a row per true feature and metric, and a few rows for the SAE as a whole."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64

from ...baselines.interface import AnySAE
from ...results.scores import Row
from .firing import Detection, FiringCounts, Run, detection, run
from .matching import Match, best_cosines, match_one_to_one
from .truth import Truth, item_name, world_name

FEATURE_METRICS = (
    "matched_cosine",
    "best_cosine",
    "recovered_0.8",
    "recovered_0.9",
    "matched_0.8",
    "matched_0.9",
    "firing_precision",
    "firing_recall",
    "firing_f1",
)
"""Metrics with a row per true feature, the primary one first."""

WORLD_METRICS = (
    "explained_variance",
    "l0",
    "dead_share",
    "uniqueness",
    "weighted_recovery_0.8",
    "weighted_cosine",
    "mcc",
)
"""Metrics with one row per SAE."""

BATCH = 2048
"""Rows encoded at once: with 3,200 latents they take 25 MiB, below which glibc does not map fresh pages each time."""


def world_rows(sae: AnySAE, world: Truth, *, n_samples: int, seed: int, batch_size: int = BATCH) -> list[Row]:
    """Score an SAE against a world's true features.

    Per feature: `best_cosine` (many-to-one, signed: Korznikov et al. 2026) and `matched_cosine` (one-to-one with the
    largest sum, signed), whether each is above .8 and .9, and precision, recall and F1 of the one-to-one latent's
    firing. A feature that never fires in the sample has no firing rows, the same ones for every SAE. Dead latents
    are matched too: what they write is what counts.

    Per SAE: explained variance (centred), L0, share of latents that never fire in the sample, `uniqueness` and `mcc`
    (absolute cosines, as SAELens defines both), and the shares of all expected firing whose features are recovered
    (`weighted_recovery_0.8`, many-to-one) or the mean one-to-one cosine with those weights (`weighted_cosine`).

    Args:
        sae: an SAE in its inference form.
        world: the truth.
        n_samples: how many samples are drawn for firing and explained variance.
        seed: of that sample; SAEs that are compared must get the same one.
        batch_size: rows encoded at once.

    Raises:
        ValueError: The SAE is for another `d_in`, its decoder is not finite, or `n_samples` is below 2.
    """
    decoder = _decoder(sae, world, n_samples)
    truth = world.features.to(decoder.device)
    matched = match_one_to_one(truth, decoder)
    counts = FiringCounts(_feature_of(matched.latent, len(decoder)).to(decoder.device), len(truth))
    done = run(sae, world.sample(n_samples, seed=seed), counts, batch_size=batch_size)
    best = best_cosines(truth, decoder)
    whole = _fit(done) | _directions(truth, decoder) | _weighted(world.rates.cpu(), best, matched)
    name = world_name(world.seed)
    return [
        *_feature_rows(world.seed, matched, best),
        *_firing_rows(world.seed, matched.latent, counts),
        *(Row(metric, name, name, whole[metric]) for metric in WORLD_METRICS),
    ]


def rate_rows(world: Truth) -> list[Row]:
    """Return the probability that each feature is active, metric `firing_rate`, in the same items as the scores."""
    return list(_rows("firing_rate", world.seed, world.rates))


def matched_detection(latent: Int64[torch.Tensor, " n_features"], counts: FiringCounts) -> Detection:
    """Precision, recall and F1 of every feature's one-to-one latent; 0 for a feature without one."""
    given = latent.clamp(min=0).to(counts.both.device)
    has = (latent >= 0).to(given.device)
    return detection(counts.both[given] * has, counts.latent_fires[given], counts.feature_fires)


def _decoder(sae: AnySAE, world: Truth, n_samples: int) -> Float[torch.Tensor, "d_sae d_in"]:
    decoder, d_in = sae.W_dec.detach().float(), world.features.shape[1]
    if decoder.shape[1] != d_in:
        msg = f"the SAE's d_in is {decoder.shape[1]}, the world's is {d_in}"
        raise ValueError(msg)
    if n_samples < 2:  # one sample has no variance to explain
        msg = f"n_samples is {n_samples}; at least 2 are needed"
        raise ValueError(msg)
    return decoder


def _feature_of(latent: Int64[torch.Tensor, " n_features"], d_sae: int) -> Int64[torch.Tensor, " d_sae"]:
    """Turn the latent of every feature into the feature of every latent, -1 for none."""
    has = latent >= 0
    feature = torch.full((d_sae,), -1)
    feature[latent[has]] = has.nonzero().squeeze(1)
    return feature


def _feature_rows(seed: int, matched: Match, best: Match) -> Iterator[Row]:
    yield from _rows("matched_cosine", seed, matched.cosine)
    yield from _rows("best_cosine", seed, best.cosine)
    for bar in (0.8, 0.9):
        yield from _rows(f"recovered_{bar}", seed, best.cosine > bar)
        yield from _rows(f"matched_{bar}", seed, matched.cosine > bar)


def _firing_rows(seed: int, latent: torch.Tensor, counts: FiringCounts) -> Iterator[Row]:
    fired = counts.feature_fires.nonzero().squeeze(1)
    for metric, values in matched_detection(latent, counts)._asdict().items():
        yield from _rows(f"firing_{metric}", seed, values[fired], fired.tolist())


def _rows(metric: str, seed: int, values: torch.Tensor, features: list[int] | None = None) -> Iterator[Row]:
    cluster, numbers = world_name(seed), values.double().tolist()
    for feature, value in zip(features or range(len(numbers)), numbers, strict=True):
        yield Row(metric, item_name(seed, feature), cluster, value)


def _fit(done: Run) -> dict[str, float]:
    fires = done.counts.latent_fires
    return {
        "explained_variance": done.explained_variance,
        "l0": float(fires.sum()) / done.n,
        "dead_share": float((fires == 0).double().mean()),
    }


def _directions(truth: torch.Tensor, decoder: torch.Tensor) -> dict[str, float]:
    """Return `uniqueness` and `mcc` of `sae_lens.synthetic.evals`, in bounded memory."""
    pairs = min(len(truth), len(decoder))
    return {
        "uniqueness": len(best_cosines(decoder, truth, signed=False).latent.unique()) / len(decoder),
        # Features without a latent have cosine 0; SAELens' mean is over those with one.
        "mcc": float(match_one_to_one(truth, decoder, signed=False).cosine.double().sum()) / pairs,
    }


def _weighted(rates: torch.Tensor, best: Match, matched: Match) -> dict[str, float]:
    rates, recovered = rates.double(), best.cosine > 0.8
    return {
        "weighted_recovery_0.8": float((rates * recovered).sum() / rates.sum()),
        "weighted_cosine": float((rates * matched.cosine).sum() / rates.sum()),
    }
