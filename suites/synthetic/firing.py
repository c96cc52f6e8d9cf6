"""When latents fire beside when their features do, counted from what is active, never from dense products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from sae_lens.evals import ExplainedVarianceCalculator

from ...baselines.interface import AnySAE
from .truth import Drawn


class Detection(NamedTuple):
    """Precision, recall and F1 of each latent as a detector of its feature, 0 where they are undefined."""

    precision: Float[torch.Tensor, " pairs"]
    recall: Float[torch.Tensor, " pairs"]
    f1: Float[torch.Tensor, " pairs"]


def detection(
    both: Int64[torch.Tensor, " pairs"],
    latent_fires: Int64[torch.Tensor, " pairs"],
    feature_fires: Int64[torch.Tensor, " pairs"],
) -> Detection:
    """Return precision = both / latent, recall = both / feature, and their harmonic mean, as in SAELens.

    A latent that never fires has precision 0, a feature that never fires recall 0: the convention of
    `sae_lens.synthetic.evals.ClassificationMetricsCalculator`.
    """
    hits = both.double()
    return Detection(
        precision=hits / latent_fires.clamp(min=1),
        recall=hits / feature_fires.clamp(min=1),
        f1=2 * hits / (latent_fires + feature_fires).clamp(min=1),
    )


class FiringCounts:
    """How often each latent fires, each feature fires, and each latent together with the feature it stands for.

    A latent fires where it is not 0 (SAELens' rule, for latents that may be negative); a feature where it is in the
    sample's support.
    """

    def __init__(self, feature_of: Int64[torch.Tensor, " d_sae"], n_features: int) -> None:
        """Start at 0.

        Args:
            feature_of: the feature that each latent stands for, -1 for none; several latents may share one.
            n_features: number of true features.
        """
        self.feature_of = feature_of
        self.both = torch.zeros_like(feature_of)
        self.latent_fires = torch.zeros_like(feature_of)
        self.feature_fires = feature_of.new_zeros(n_features)

    def add(
        self,
        latents: Float[torch.Tensor, "batch d_sae"],
        rows: Int64[torch.Tensor, " nnz"],
        features: Int64[torch.Tensor, " nnz"],
    ) -> None:
        """Count one batch.

        Args:
            latents: what the SAE makes of the batch.
            rows: sample within the batch of each true firing.
            features: feature of each true firing.
        """
        sample, latent = latents.nonzero(as_tuple=True)
        n_features = len(self.feature_fires)
        claimed = self.feature_of[latent]
        hit = (claimed >= 0) & torch.isin(sample * n_features + claimed, rows * n_features + features)
        self.both += torch.bincount(latent[hit], minlength=len(self.both))
        self.latent_fires += torch.bincount(latent, minlength=len(self.both))
        self.feature_fires += torch.bincount(features, minlength=n_features)


@dataclass(frozen=True, eq=False)
class Run:
    """What one pass of a sample through an SAE showed."""

    counts: FiringCounts
    """Firing of latents and features."""
    explained_variance: float
    """1 - squared error / centred variance over the whole sample (SAELens' `ExplainedVarianceCalculator`)."""
    n: int
    """Number of samples."""


def run(sae: AnySAE, sample: Drawn, counts: FiringCounts, *, batch_size: int) -> Run:
    """Pass a sample through an SAE, counting on the SAE's device.

    Args:
        sae: an SAE in its inference form: one row's latents must not depend on the other rows.
        sample: activations and their support.
        counts: where firing is counted; on the SAE's device.
        batch_size: rows encoded at once.
    """
    variance = ExplainedVarianceCalculator()
    with torch.inference_mode():
        for acts, rows, features in _batches(sample, batch_size, counts.feature_of.device):
            latents = sae.encode(acts)
            variance.add_batch(sae.decode(latents), acts)
            counts.add(latents.to_dense(), rows, features)
    return Run(counts, variance.compute(), len(sample.activations))


def _batches(
    sample: Drawn, batch_size: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Activations, and row within the batch and feature of each firing in it."""
    starts = range(0, len(sample.activations), batch_size)
    ends = torch.tensor([*starts, len(sample.activations)], device=sample.rows.device)
    bounds = torch.searchsorted(sample.rows, ends).tolist()
    for i, start in enumerate(starts):
        own = slice(bounds[i], bounds[i + 1])
        acts = sample.activations[start : start + batch_size]
        yield acts.to(device), sample.rows[own].to(device) - start, sample.features[own].to(device)
