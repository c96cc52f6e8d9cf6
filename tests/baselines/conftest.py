from __future__ import annotations

import pytest
from sparse_world import D_IN, D_SAE, L0, sparse_world

from sae_sanity.baselines import Moments, Shape, measure_moments


@pytest.fixture(scope="session")
def moments() -> Moments:
    return measure_moments([sparse_world(4096, 100 + i) for i in range(4)])


@pytest.fixture(params=["topk", "batchtopk", "jumprelu", "standard"])
def shape(request) -> Shape:
    return Shape(request.param, D_IN, D_SAE, L0, "blocks.1.hook_resid_post", "tiny")


@pytest.fixture
def stream():
    """Batches of 256 rows that depend on the step alone."""
    return lambda start: (sparse_world(256, step) for step in range(start, 10**6))
