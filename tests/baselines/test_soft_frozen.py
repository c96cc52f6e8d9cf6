from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from sae_sanity.baselines import parse_arm
from sae_sanity.baselines.soft_frozen import SoftFrozen, project_to_cap


def _rows(seed: int, n: int = 40, d: int = 12, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    start = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=-1)
    return start + spread * torch.randn(n, d, generator=generator), start


def _cosine(rows: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(rows.double(), start.double())


@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.floats(0.001, 100.0))
@settings(max_examples=150)
def test_no_row_leaves_its_cap(seed, tau, spread):
    rows, start = _rows(seed, spread=spread)
    out = project_to_cap(rows, start, tau)
    assert float(_cosine(out, start).min()) >= tau - 1e-5


@given(st.integers(0, 10_000), st.floats(0.01, 0.999))
@settings(max_examples=100)
def test_norms_are_kept_and_projection_is_idempotent(seed, tau):
    rows, start = _rows(seed)
    once = project_to_cap(rows, start, tau)
    np.testing.assert_allclose(once.norm(dim=-1), rows.norm(dim=-1), rtol=1e-5)
    np.testing.assert_allclose(project_to_cap(once, start, tau), once, atol=2e-5)


def test_rows_inside_are_returned_bit_for_bit():
    rows, start = _rows(0, spread=0.05)
    assert torch.equal(project_to_cap(rows, start, 0.8), rows)


def test_is_the_nearest_point_of_the_cap():
    """Oracle: a numerical optimiser that maximises the cosine to the row under the cap's constraint."""
    rows, start = _rows(3, n=1, d=4)
    rows = -rows
    w, w0, tau = rows[0].double().numpy(), start[0].double().numpy(), 0.8
    found = minimize(
        lambda x: -(x @ w) / np.linalg.norm(x),
        x0=w0,
        constraints=[{"type": "ineq", "fun": lambda x: x @ w0 / np.linalg.norm(x) - tau}],
    )
    best = found.x / np.linalg.norm(found.x)
    ours = torch.nn.functional.normalize(project_to_cap(rows, start, tau), dim=-1)[0]
    np.testing.assert_allclose(ours, best, atol=1e-3)


def test_opposite_row_goes_to_its_start():
    start = torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(project_to_cap(torch.tensor([[0.0, -3.0]]), start, 0.5), torch.tensor([[0.0, 3.0]]))


def test_tau_one_freezes_directions():
    rows, start = _rows(1)
    assert float(_cosine(project_to_cap(rows, start, 1.0), start).min()) > 1 - 1e-6


@pytest.mark.parametrize("tau", [0.0, -0.1, 1.01, float("nan")])
def test_tau_out_of_range(tau):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        SoftFrozen(tau)


def test_arm_name_round_trip():
    assert parse_arm(SoftFrozen(0.95).arm) == SoftFrozen(0.95)
