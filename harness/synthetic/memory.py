"""Whether a synthetic run fits into this machine's memory, said before it starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from ...suites.synthetic import memory_bytes
from ..errors import UsageError

if TYPE_CHECKING:
    from ...suites.synthetic import WorldSpec
    from ..plan import Plan
    from .config import SyntheticSettings

BASE = 1_200_000_000
"""Bytes of the process before anything is made: torch, transformers and what SAELens imports."""

USABLE = 0.8
"""Share of the free memory that a run may plan with."""

STATES = 4
"""Copies of an SAE's weights while it learns: weights, gradients and Adam's two moments."""


def needed_bytes(settings: SyntheticSettings, plan: Plan, n_features: int | None = None) -> int:
    """Estimate of the peak, in bytes.

    Args:
        settings: of the run.
        plan: its arms.
        n_features: features (and as many latents, where no width was given); those of the settings by default.
    """
    features = n_features or settings.n_features
    width = settings.d_sae or features
    spec = settings.spec if n_features is None else _with_features(settings, features)
    arms = len(plan.trained) * settings.starts
    weights = 2 * width * settings.d_in * 4
    # Learning has a few copies of [batch, d_sae]; matching one to one a cosine matrix in float64 and its cost.
    learning = (STATES + 1) * arms * weights + 4 * settings.batch_size * width * 4
    matching = 3 * min(features, 4096) * min(width, 4096) * 8
    return BASE + memory_bytes(spec, n=max(settings.batch_size, settings.evaluation_samples)) + max(learning, matching)


def _with_features(settings: SyntheticSettings, n_features: int) -> WorldSpec:
    return settings.model_copy(update={"n_features": n_features}).spec


def available_bytes() -> int:
    """Memory of this machine that a run may use, in bytes."""
    return int(USABLE * psutil.virtual_memory().available)


def refuse_what_does_not_fit(settings: SyntheticSettings, plan: Plan, available: int | None = None) -> None:
    """Refuse a run that would not fit.

    Raises:
        UsageError: with the number of features that would fit.
    """
    room = available_bytes() if available is None else available
    needed = needed_bytes(settings, plan)
    if needed <= room:
        return
    low, high = 0, settings.n_features
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if needed_bytes(settings, plan, middle) <= room else (low, middle)
    fits = f"{low} would fit" if low else "not even one would fit"
    raise UsageError(
        f"n_features is {settings.n_features}: this run would need about {needed / 2**30:.1f} GiB of the "
        f"{room / 2**30:.1f} GiB that it may use; {fits}"
    )
