"""Masks against a world in which the right mask is known, and against finite differences."""

from __future__ import annotations

import pytest
import torch
from linear_runs import DEAD, NOISE, VALUES, FakeRuns, linear_world

from sae_sanity.suites.causal_editing.mdbm import Wanted, edited, in_batches, mask_values, temperatures, train_mask

OPTIONS = {"epochs": 2, "lr": 0.02, "batch_size": 32}
TRUTH = torch.tensor([True] * VALUES + [False] * (VALUES + NOISE + DEAD))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def world():
    return linear_world()


def train(world, **options):
    options = {"generator": generator(), **OPTIONS, **options}
    return train_mask(world.runs, world.wanted, world.codes, world.decode, **options)


@pytest.mark.parametrize("seed", range(3))
def test_the_true_mask_is_found(world, seed):
    assert torch.equal(train(world, generator=generator(seed)), TRUTH)


def test_the_true_mask_does_what_is_wanted_and_no_mask_does_not(world):
    base, source = world.codes[list(world.wanted.base)], world.codes[list(world.wanted.source)]
    assert world.right(edited(base, source, TRUTH, world.decode)) == 1
    isolation = sum(base >= 30 for base in world.wanted.base) / len(world.wanted)
    assert world.right(edited(base, source, torch.zeros_like(TRUTH), world.decode)) == pytest.approx(isolation)


def test_where_only_cause_is_wanted_the_other_attribute_is_left_alone(world):
    """Nothing asks for attribute 1: its latents have no gradient, and stay out of the mask."""
    cause = world.wanted.at([i for i, base in enumerate(world.wanted.base) if base < 30])
    values = mask_values(world.runs, cause, world.codes, world.decode, generator=generator(), **OPTIONS)
    assert (values[:VALUES] > 0).all()
    assert torch.equal(values[VALUES:], torch.zeros(VALUES + NOISE + DEAD))


def test_rounding_errors_decide_on_latents_that_move_nothing():
    """Why masks are upper bounds: directions are orthogonal but for the last bit, and the true latents still right."""
    world = linear_world(rotated=True)
    values = mask_values(world.runs, world.wanted, world.codes, world.decode, generator=generator(), **OPTIONS)
    assert torch.equal((values > 0)[: 2 * VALUES], TRUTH[: 2 * VALUES])
    assert torch.equal(values[-DEAD:], torch.zeros(DEAD))
    assert values[2 * VALUES : -DEAD].abs().max() < values[:VALUES].min() / 3


def test_the_same_generator_gives_the_same_numbers_and_another_does_not(world):
    def values(seed):
        return mask_values(world.runs, world.wanted, world.codes, world.decode, generator=generator(seed), **OPTIONS)

    assert torch.equal(values(1), values(1))
    assert not torch.equal(values(1), values(2))


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_gradient_of_the_mask_against_finite_differences(temperature):
    world = linear_world(8).double()
    some = world.wanted.at(range(0, len(world.wanted), 5))
    base, source = world.codes[list(some.base)], world.codes[list(some.source)]

    def loss(values):
        return some.loss(world.runs, edited(base, source, torch.sigmoid(values / temperature), world.decode))

    values = torch.randn(world.codes.shape[1], dtype=torch.float64, generator=generator()).requires_grad_()
    assert torch.autograd.gradcheck(loss, values)


def test_the_first_step_goes_down_the_gradient_by_the_step_size(world):
    """Adam's first step moves every number by lr against the sign of its gradient, found here by differences."""
    double = world.double()
    batch = next(in_batches(world.wanted, 1, 64, generator()))
    base, source = double.codes[list(batch.base)], double.codes[list(batch.source)]

    def loss(values):
        return float(batch.loss(double.runs, edited(base, source, torch.sigmoid(values), double.decode)))

    steps = 1e-6 * torch.eye(len(TRUTH), dtype=torch.float64)
    slope = torch.tensor([(loss(step) - loss(-step)) / 2e-6 for step in steps])
    first = Wanted(batch.base, batch.source, batch.token)
    values = mask_values(
        world.runs, first, world.codes, world.decode, epochs=1, lr=0.01, batch_size=64, generator=generator()
    )
    real = slope.abs() > 1e-5
    assert real.sum() >= 2 * VALUES
    torch.testing.assert_close(values[real], -0.01 * slope[real].sign().float(), rtol=1e-3, atol=0)


def test_cross_entropy_of_a_case_done_by_hand():
    runs = FakeRuns(lambda which, rows: rows)
    rows = torch.tensor([[0.0, 0.0], [torch.log(torch.tensor(3.0)).item(), 0.0]])
    expected = (torch.log(torch.tensor(2.0)) + torch.log(torch.tensor(4.0))) / 2
    torch.testing.assert_close(Wanted((0, 1), (1, 0), (0, 1)).loss(runs, rows), expected)


def test_a_mask_of_nothing_is_the_reconstruction_and_of_everything_the_source(world):
    base, source = world.codes[:5], world.codes[5:10]
    nothing, everything = torch.zeros_like(TRUTH), torch.ones_like(TRUTH)
    assert torch.equal(edited(base, source, nothing, world.decode), world.decode(base))
    assert torch.equal(edited(base, source, everything, world.decode), world.decode(source))
    half = edited(base, source, torch.full((len(TRUTH),), 0.5), world.decode)
    torch.testing.assert_close(half, world.decode((base + source) / 2))


def test_with_the_error_kept_an_identity_edit_gives_the_activation_back(world):
    clean = world.decode(world.codes[:5]) + torch.randn(5, world.directions.shape[1], generator=generator())
    error = clean - world.decode(world.codes[:5])
    rows = edited(world.codes[:5], world.codes[5:10], torch.zeros_like(TRUTH), world.decode, error)
    torch.testing.assert_close(rows, clean)


def test_the_error_that_training_sees_is_the_base_prompts(world):
    seen = {}

    def logits(which, rows):
        seen.update(zip(which, rows.detach(), strict=True))
        return world.runs.logits(which, rows)

    error = torch.arange(len(world.codes))[:, None].float().expand(-1, world.directions.shape[1])
    runs = FakeRuns(logits)
    silent = torch.zeros_like(world.codes)
    mask_values(runs, world.wanted, silent, world.decode, generator=generator(), error=error, **OPTIONS)
    assert set(seen) == set(world.wanted.base)
    assert all(torch.equal(row, error[prompt]) for prompt, row in seen.items())


def test_only_the_mask_gets_a_gradient(world):
    directions = world.directions.clone().requires_grad_()
    reader = world.runs.readers.clone().requires_grad_()
    runs = FakeRuns(lambda which, rows: rows @ reader[0])
    codes = world.codes.clone().requires_grad_()
    train_mask(runs, world.wanted, codes, lambda c: c @ directions, generator=generator(), **OPTIONS)
    assert directions.grad is None
    assert reader.grad is None
    assert codes.grad is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_switched_on_where_the_caller_has_none(world, mode):
    with mode():
        codes = world.codes.clone()  # an inference tensor in inference mode
        options = {"generator": generator(), **OPTIONS}
        assert torch.equal(train_mask(world.runs, world.wanted, codes, world.decode, **options), TRUTH)


def test_every_pair_is_used_every_epoch_and_in_one_order(world):
    some = world.wanted.at(range(10))
    batches = list(in_batches(some, 3, 4, generator()))
    assert [len(batch) for batch in batches] == [4, 4, 2] * 3
    assert batches[:3] == batches[3:6] == batches[6:]
    pairs = [pair for b in batches[:3] for pair in zip(b.base, b.source, b.token, strict=True)]
    assert sorted(pairs) == sorted(zip(some.base, some.source, some.token, strict=True))
    assert pairs != list(zip(some.base, some.source, some.token, strict=True))


def test_a_batch_larger_than_the_pairs_is_one_step(world):
    assert train(world, batch_size=10**6, epochs=1).shape == TRUTH.shape


def test_temperature_falls_by_equal_factors():
    found = temperatures(5)
    assert found == pytest.approx([1, 1e-1, 1e-2, 1e-3, 1e-4], rel=1e-5)
    assert temperatures(1) == [1]


@pytest.mark.parametrize("fields", [((0,), (1, 2), (3,)), ((), (), ())])
def test_pairs_of_unequal_length_or_none_are_refused(fields):
    with pytest.raises(ValueError, match="at least one pair"):
        Wanted(*fields)


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}])
def test_no_epochs_and_no_batch_are_refused(world, options):
    with pytest.raises(ValueError, match="must be at least 1"):
        train(world, **options)
