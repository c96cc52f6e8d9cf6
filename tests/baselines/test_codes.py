"""Entries of a sparse matrix against torch's dense operations, numpy and SAELens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sae_lens.saes.batchtopk_sae import BatchTopK
from sae_lens.saes.topk_sae import TopK

from sae_sanity.baselines import codes as module
from sae_sanity.baselines.codes import (
    Codes,
    above,
    largest_of_batch,
    largest_of_rows,
    transposed_sum,
    weighted_sum,
)


def _normal(*size, seed=0, dtype=torch.float32):
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _dense(codes, values, shape):
    out = torch.zeros(shape, dtype=values.dtype)
    return out.index_put((codes.rows, codes.columns), values, accumulate=True)


def _mask(codes, shape):
    assert (codes.rows.diff() >= 0).all(), "rows must rise"
    return _dense(codes, torch.ones(len(codes.rows)), shape)


@pytest.mark.parametrize("least", [-0.5, 0.0, 1.3, 9.0])
def test_above_against_torch(least):
    x = _normal(40, 30)
    assert torch.equal(torch.stack(above(x, least), 1), (x > least).nonzero())


def test_above_is_strict_and_takes_a_threshold_for_each_latent():
    x = _normal(40, 30)
    least = x[7].clone()
    codes = above(x, least)
    assert torch.equal(torch.stack(codes, 1), (x > least).nonzero())
    assert 7 not in codes.rows


def test_above_of_a_transposed_matrix():
    x = _normal(40, 30).T
    assert torch.equal(torch.stack(above(x, 0.5), 1), (x > 0.5).nonzero())


@pytest.mark.parametrize("shape", [(0, 5), (4, 5)])
def test_nothing_is_above(shape):
    codes = above(torch.zeros(shape), 0.0)
    assert len(codes.rows) == len(codes.columns) == 0
    assert codes.rows.dtype == torch.int64
    assert torch.equal(codes.offsets(shape[0]), torch.zeros(shape[0], dtype=torch.int64))


def test_offsets_count_what_lies_in_earlier_rows():
    rows = torch.tensor([1, 1, 3, 6])
    before = np.concatenate([[0], np.cumsum(np.bincount(rows.numpy(), minlength=8))[:-1]])
    assert Codes(rows, torch.zeros(4, dtype=torch.int64)).offsets(8).tolist() == before.tolist()


def test_only_keeps_the_order():
    codes = above(_normal(9, 9), 0.0)
    keep = codes.columns % 2 == 0
    assert torch.equal(torch.stack(codes.only(keep), 1), torch.stack(codes, 1)[keep])


# The last of these are preselected by group maxima; k = 64 leaves too few groups, 3190 is no multiple of their size.
SIZES = [(7, 50, 3), (1, 4, 4), (64, 3200, 20), (80, 2048, 1), (64, 2048, 32), (70, 3200, 64), (64, 3190, 20)]


@pytest.mark.parametrize(("n", "width", "k"), SIZES)
def test_largest_of_rows_against_torch_and_saelens(n, width, k):
    x = _normal(n, width, seed=k)
    codes = largest_of_rows(x, k)
    expected = torch.zeros_like(x).scatter(1, torch.topk(x, k).indices, 1.0)
    assert torch.equal(_mask(codes, x.shape), expected)
    values = x[codes.rows, codes.columns]
    assert torch.equal(_dense(codes, values.relu(), x.shape), TopK(k)(x))


def _awkward():
    ordered = _normal(64, 2048).sort(dim=1).values
    few = torch.where(_normal(64, 2048, seed=1) > 2.9, _normal(64, 2048), torch.tensor(-torch.inf))
    return {
        "rising": ordered,
        "falling": ordered.flip(1),
        "one group": torch.cat([_normal(64, 16) + 50, ordered[:, :2032]], 1),
        "negative": -ordered.abs() - 1,
        "mostly minus infinity": few,
        "infinite": torch.where(_normal(64, 2048, seed=2) > 2.9, torch.tensor(torch.inf), ordered),
        "not contiguous": _normal(2048, 64).T,
        "tied": _normal(64, 2048).round(decimals=1),
        "all the same": torch.full((64, 2048), -2.0),
        "one row tied": torch.cat([torch.zeros(1, 2048), _normal(63, 2048)]),
    }


@pytest.mark.parametrize("case", list(_awkward()))
def test_preselected_values_are_the_largest_of_each_row(case):
    """Ties may be broken in another way, so values are compared, and no entry is taken twice."""
    x, k = _awkward()[case], 16
    assert module._worth_preselecting(x, k)
    codes = largest_of_rows(x, k)
    assert float(_mask(codes, x.shape).max()) == 1
    got = x[codes.rows, codes.columns].view(64, k).numpy()
    assert np.array_equal(np.sort(got), np.sort(x.numpy())[:, -k:])


def test_a_nan_is_chosen_as_torch_chooses_it():
    x = torch.where(_normal(64, 2048, seed=3) > 3.0, torch.tensor(torch.nan), _normal(64, 2048))
    codes = largest_of_rows(x, 16)
    expected = torch.zeros_like(x).scatter(1, torch.topk(x, 16).indices, 1.0)
    assert x.isnan().any()
    assert torch.equal(_mask(codes, x.shape), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_torch(dtype):
    x = torch.stack([torch.randperm(2048, generator=torch.Generator().manual_seed(i)) for i in range(64)])
    x = (x % 128).to(dtype) if dtype == torch.bfloat16 else x.to(dtype) * (1 + 1e-12)
    codes = largest_of_rows(x, 16)
    values = x[codes.rows, codes.columns].view(64, 16).sort().values
    assert torch.equal(values, torch.topk(x, 16).values.sort().values)


@given(st.integers(0, 2**31), st.integers(1, 24), st.sampled_from([0.0, 0.3, 1.0]))
def test_preselected_against_numpy_whatever_the_matrix(seed, k, step):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, 1536)) * rng.lognormal(sigma=2, size=1536)
    x = torch.from_numpy(x if step == 0 else np.round(x / step) * step).float()
    codes = largest_of_rows(x, k)
    assert float(_mask(codes, x.shape).max()) == 1
    got = x[codes.rows, codes.columns].view(64, k).numpy()
    assert np.array_equal(np.sort(got), np.sort(x.numpy())[:, -k:])


@pytest.mark.parametrize("k", [0.5, 3.0, 7.5, 15.0])
def test_largest_of_batch_against_saelens(k):
    x = _normal(64, 40, seed=int(k * 10))
    codes, threshold = largest_of_batch(x, k, 0.0)
    expected = BatchTopK(k)(x)
    assert torch.equal(_dense(codes, x[codes.rows, codes.columns], x.shape), expected)
    assert threshold == float(expected[expected > 0].min())


def _around(value):
    return [value * f for f in (1e-3, 0.9, 1 - 1e-7, 1.0, 1 + 1e-7, 1 / 0.9, 1.12, 2.0, 1e3)]


@pytest.mark.parametrize("tied", [False, True])
def test_the_guess_changes_nothing(tied):
    x = _normal(64, 40).round(decimals=1) if tied else _normal(64, 40)
    codes, threshold = largest_of_batch(x, 5.0, 0.0)
    for last in _around(threshold):
        again, reached = largest_of_batch(x, 5.0, last)
        assert torch.equal(torch.stack(again), torch.stack(codes)), last
        # A guess that leaves just the wanted entries ranks none of them and says so.
        assert reached in (threshold, 0.0)


@given(st.integers(0, 2**31), st.floats(0.1, 30.0), st.floats(0.0, 10.0))
def test_largest_of_batch_against_a_sort_whatever_the_guess(seed, k, last):
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(16, 32)).astype(np.float32))
    codes, _ = largest_of_batch(x, k, last)
    positive = np.sort(x[x > 0].numpy())[::-1]
    got = np.sort(x[codes.rows, codes.columns].numpy())[::-1]
    assert np.array_equal(got, positive[: int(k * 16)])


def test_ties_at_the_threshold_all_stay():
    """As the arms' own BatchTopK (`PartitionBatchTopK`); SAELens' keeps some of them, which ones torch decides."""
    x = torch.tensor([[3.0, 1.0, 1.0], [1.0, 2.0, -1.0]])
    codes, threshold = largest_of_batch(x, 1.5, 0.0)
    assert threshold == 1.0
    assert torch.equal(torch.stack(codes, 1), (x >= 1).nonzero())


@pytest.mark.parametrize("last", [0.0, 0.5, 100.0])
def test_fewer_positive_than_wanted_keeps_all_positive(last):
    x = torch.tensor([[1.0, -1.0, -2.0], [0.0, -1.0, 2.0]])
    codes, threshold = largest_of_batch(x, 2.0, last)
    assert threshold == 0
    assert torch.equal(_dense(codes, x[codes.rows, codes.columns], x.shape), BatchTopK(2.0)(x))


@pytest.mark.parametrize("last", [0.0, 0.5])
@pytest.mark.parametrize("x", [torch.zeros(0, 5), -torch.ones(3, 5)])
def test_nothing_to_choose_from(x, last):
    codes, threshold = largest_of_batch(x, 2.0, last)
    assert len(codes.rows) == 0
    assert threshold == 0


def _entries(n=30, width=50):
    codes = above(_normal(n, width, seed=5), 0.8)
    codes = codes.only((codes.rows != 0) & (codes.rows != 11) & (codes.rows != n - 1))  # rows with nothing
    return codes, _normal(len(codes.rows), seed=6, dtype=torch.float64)


def test_weighted_sum_and_its_gradient_against_a_dense_product():
    codes, values = _entries()
    rows = _normal(50, 7, seed=7, dtype=torch.float64)
    weight = _normal(30, 7, seed=8, dtype=torch.float64)
    results, gradients = [], []
    for product in (
        lambda v: weighted_sum(codes, v, rows, 30),
        lambda v: _dense(codes, v, (30, 50)) @ rows,
    ):
        leaf = values.clone().requires_grad_()
        results.append(product(leaf))
        gradients.append(torch.autograd.grad((results[-1] * weight).sum(), leaf)[0])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert not results[0][[0, 11, 29]].any()


def test_transposed_sum_against_a_dense_product():
    codes, values = _entries()
    rows = _normal(30, 7, seed=9, dtype=torch.float64)
    expected = _dense(codes, values, (30, 50)).T @ rows
    torch.testing.assert_close(transposed_sum(codes.turned(), values, rows, 50), expected, rtol=1e-12, atol=1e-12)


def test_an_entry_that_is_there_twice_counts_twice():
    codes = Codes(torch.tensor([0, 0, 1]), torch.tensor([2, 2, 0]))
    values, dense = torch.tensor([1.0, 4.0, 3.0]), torch.tensor([[0.0, 0.0, 5.0], [3.0, 0.0, 0.0]])
    rows, samples = _normal(3, 4), _normal(2, 4)
    torch.testing.assert_close(weighted_sum(codes, values, rows, 2), dense @ rows)
    torch.testing.assert_close(transposed_sum(codes.turned(), values, samples, 3), dense.T @ samples)


def test_sums_of_no_entries_are_zero():
    none = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(weighted_sum(Codes(none, none), torch.zeros(0), _normal(5, 3), 4), torch.zeros(4, 3))
    assert torch.equal(transposed_sum(Codes(none, none).turned(), torch.zeros(0), _normal(4, 3), 5), torch.zeros(5, 3))
