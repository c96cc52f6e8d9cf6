"""Subspaces against a world in which the right one is known."""

from __future__ import annotations

import pytest
import torch
from linear_runs import VALUES, FakeRuns, linear_world

from sae_sanity.suites.causal_editing.das import default_rank, orthonormal, swapped, train_subspace

OPTIONS = {"epochs": 6, "lr": 0.02, "batch_size": 32}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def world():
    return linear_world(rotated=True)


def train(world, **options):
    options = {"rank": VALUES, "generator": generator(), **OPTIONS, **options}
    return train_subspace(world.runs, world.wanted, world.clean, **options)


def right(world, subspace):
    clean = world.clean
    return world.right(swapped(clean[list(world.wanted.base)], clean[list(world.wanted.source)], subspace))


@pytest.mark.parametrize("seed", range(3))
def test_the_subspace_of_the_attribute_is_found(world, seed):
    subspace = train(world, generator=generator(seed))
    assert right(world, subspace) == 1
    # Values are one-hot: their differences span one dimension less than there are values.
    values = world.directions[:VALUES]
    differences = torch.linalg.qr((values[1:] - values[0]).T).Q
    cosines = torch.linalg.svdvals(differences.T @ subspace)
    assert cosines.min() > 0.9
    other = world.directions[VALUES : 2 * VALUES]
    unread = torch.linalg.qr((other[1:] - other[0]).T).Q
    assert torch.linalg.svdvals(unread.T @ subspace).max() < 0.35


def test_a_random_subspace_and_a_full_patch_are_worse(world):
    drawn = orthonormal(torch.randn(world.clean.shape[1], VALUES, generator=generator()))
    assert right(world, drawn) < 0.9
    cause = sum(base < 30 for base in world.wanted.base) / len(world.wanted)
    assert right(world, torch.eye(world.clean.shape[1])) == pytest.approx(cause)


@pytest.mark.parametrize("rank", [1, 5, None])
def test_columns_are_orthonormal(world, rank):
    subspace = train(world, rank=rank)
    assert subspace.shape == (world.clean.shape[1], rank or default_rank(world.clean.shape[1]))
    torch.testing.assert_close(subspace.T @ subspace, torch.eye(subspace.shape[1]))
    assert not subspace.requires_grad


def test_swapped_against_projections_by_hand(world):
    subspace = orthonormal(torch.randn(world.clean.shape[1], 3, generator=generator()))
    base, source = world.clean[:4], world.clean[4:8]
    rows = swapped(base, source, subspace)
    torch.testing.assert_close(rows @ subspace, source @ subspace)
    outside = torch.eye(len(subspace)) - subspace @ subspace.T
    torch.testing.assert_close(rows @ outside, base @ outside)
    torch.testing.assert_close(swapped(base, source, torch.eye(len(subspace))), source)


def test_the_gradient_against_finite_differences():
    world = linear_world(8, rotated=True).double()
    some = world.wanted.at(range(0, len(world.wanted), 5))
    base, source = world.clean[list(some.base)], world.clean[list(some.source)]
    start = torch.randn(base.shape[1], 2, dtype=torch.float64, generator=generator())
    subspace = orthonormal(start).requires_grad_()
    assert torch.autograd.gradcheck(lambda matrix: some.loss(world.runs, swapped(base, source, matrix)), subspace)


def test_orthonormal_flips_no_column():
    """LAPACK's QR turns neighbours of the identity into neighbours of minus the identity."""
    near = torch.eye(9, 4) + 0.01 * torch.randn(9, 4, generator=generator())
    assert (torch.linalg.qr(near).Q.diagonal() < 0).any()
    assert (orthonormal(near) - near).abs().max() < 0.1
    torch.testing.assert_close(orthonormal(orthonormal(near)), orthonormal(near))
    torch.testing.assert_close(orthonormal(-3 * near), -orthonormal(near))


def test_the_same_generator_gives_the_same_numbers_and_another_does_not(world):
    assert torch.equal(train(world), train(world))
    assert not torch.equal(train(world), train(world, generator=generator(1)))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_switched_on_where_the_caller_has_none(world, mode):
    expected = train(world)
    with mode():
        assert torch.equal(train(world), expected)


def test_no_weight_gets_a_gradient(world):
    reader = world.runs.readers.clone().requires_grad_()
    runs = FakeRuns(lambda which, rows: rows @ reader[0])
    train_subspace(runs, world.wanted, world.clean, generator=generator(), **OPTIONS)
    assert reader.grad is None


@pytest.mark.parametrize("rank", [0, -1, 100])
def test_a_rank_that_cannot_be_is_refused(world, rank):
    with pytest.raises(ValueError, match="between 1 and the width of the activations, 15"):
        train(world, rank=rank)


def test_default_rank():
    assert [default_rank(d_in) for d_in in (4, 576, 2304)] == [1, 72, 288]
