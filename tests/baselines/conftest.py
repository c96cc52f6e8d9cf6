from __future__ import annotations

import pytest
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import ARCHITECTURES, Moments, Shape, measure_moments, parse_arm


@pytest.fixture(scope="session")
def moments() -> Moments:
    return measure_moments([sparse_world(4096, 100 + i) for i in range(4)])


@pytest.fixture(params=ARCHITECTURES)
def shape(request) -> Shape:
    return Shape(request.param, D_IN, D_SAE, L0, "blocks.1.hook_resid_post", "tiny")


@pytest.fixture
def exists(shape):
    """Leave a test out, with the reason, where an arm does not exist for the architecture."""

    def check(arm):
        if reason := parse_arm(arm).applies_to(shape.architecture):
            pytest.skip(reason)

    return check


@pytest.fixture
def stream():
    """Batches of 256 rows that depend on the step alone."""
    return lambda start: (sparse_world(256, step) for step in range(start, 10**6))


@pytest.fixture
def settle():
    """Set BatchTopK's inference threshold to the batch's own: SAELens' moving average lags behind it."""

    def go(sae, seen):
        if hasattr(sae, "topk_threshold"):
            acts = sae.encode(seen).detach()
            sae.topk_threshold.fill_(float(acts[acts > 0].min()) * (1 - 1e-5))

    return go
