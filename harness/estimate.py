"""What a plan will cost and could see, before anything is started: rules of thumb, each with where it was measured."""

from __future__ import annotations

from dataclasses import dataclass

from ..results.stats import mde
from .plan import Plan

TOKENS_PER_SECOND = 7_000
"""Activations at layer 12 of SmolLM2-135M, bf16, two CPU cores (STACK.md; `benchmarks/activations.py`)."""
SECONDS_PER_MAC = 4.0e-11
"""Per token x d_in x d_sae of one SAE's optimiser step, two CPU cores (`benchmarks/training.py`)."""
SETUP_SECONDS = 60
"""Imports, converting the language model, cleaning the texts."""
D_IN = 576
"""Width of the demo's language model."""
TOKENS_PER_PROMPT = 45
"""Mean length of a probing prompt at the demo's context size."""
SECONDS_PER_CELL = {"reconstruction": 3.0, "sparse_probing": 6.0}
"""One SAE in one suite at the demo profile, two CPU cores."""

CLUSTER_SD = {"reconstruction": 0.03, "sparse_probing": 0.025}
"""SD over clusters of a paired difference (METHOD section 6 has .018-.027 for probing)."""
SEED_SD = 0.005
"""SD over seeds of an arm's mean (METHOD section 5 simulates .005 and .01)."""


@dataclass(frozen=True)
class Estimate:
    """What one plan is expected to take."""

    tokens: int
    """Tokens that the language model reads for activations."""
    cells: int
    """Suite x SAE, references left out."""
    seconds: float
    """Wall time on two CPU cores with nothing cached."""
    detectable: dict[str, float]
    """Per suite: the smallest difference found with 80 % power, if SDs are the assumed ones."""


def estimate(plan: Plan, clusters: dict[str, int]) -> Estimate:
    """Estimate a plan.

    Args:
        plan: what will run.
        clusters: number of clusters of each suite.
    """
    s = plan.settings
    probing = clusters.get("sparse_probing", 0) * s.probe_prompts * TOKENS_PER_PROMPT
    tokens = s.tokens + s.calibration_tokens + s.held_out_documents * s.context_size + probing
    training = plan.steps * s.batch_size * D_IN * s.d_sae * SECONDS_PER_MAC * len(plan.trained) * s.seeds
    saes = len(plan.saes())
    measuring = saes * sum(SECONDS_PER_CELL.get(name, 5.0) for name in s.suites)
    seconds = SETUP_SECONDS + tokens / TOKENS_PER_SECOND + training + measuring
    detectable = {name: detectable_difference(plan, name, clusters[name]) for name in s.suites if name in clusters}
    return Estimate(tokens, saes * len(s.suites), seconds, detectable)


def detectable_difference(plan: Plan, suite: str, clusters: int) -> float:
    """MDE of trained against a trained baseline, from the assumed SDs; seeds of both arms count."""
    seeds = plan.settings.seeds
    between = CLUSTER_SD.get(suite, 0.03) ** 2 / clusters
    over_seeds = 2 * SEED_SD**2 / seeds
    df_parts = between**2 / max(clusters - 1, 1) + over_seeds**2 / max(2 * (seeds - 1), 1)
    return mde((between + over_seeds) ** 0.5, (between + over_seeds) ** 2 / df_parts)
