"""Controls: as large as the edit that they stand beside, and drawn where they should be."""

from __future__ import annotations

import pytest
import torch

from sae_sanity.suites.causal_editing.controls import equal_norm_edit, random_mask_like


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def live():
    return torch.rand(50, generator=generator(3)) < 0.6


def masks(mask, live, n=2000):
    source = generator()
    return torch.stack([random_mask_like(mask, live, source) for _ in range(n)])


def test_the_size_is_the_masks_and_every_latent_is_live(live):
    mask = torch.zeros(50, dtype=torch.bool)
    mask[:7] = True
    drawn = masks(mask, live, 50)
    assert (drawn.sum(1) == 7).all()
    assert not drawn[:, ~live].any()


def test_every_live_latent_is_as_likely_as_any_other(live):
    mask = torch.zeros(50, dtype=torch.bool)
    mask[:7] = True
    share = masks(mask, live)[:, live].float().mean(0)
    expected = 7 / int(live.sum())
    # Five standard errors of a share of 2,000 draws.
    assert (share - expected).abs().max() < 5 * (expected * (1 - expected) / 2000) ** 0.5


def test_the_smallest_and_the_largest_mask(live):
    empty = torch.zeros(50, dtype=torch.bool)
    assert not random_mask_like(empty, live, generator()).any()
    assert torch.equal(random_mask_like(live, live, generator()), live)


def test_more_than_the_live_latents_cannot_be_drawn(live):
    with pytest.raises(ValueError, match=f"only {int(live.sum())} are live"):
        random_mask_like(torch.ones(50, dtype=torch.bool), live, generator())


def test_edits_have_the_norm_of_the_edit_they_stand_beside():
    base, edited = torch.randn(2, 40, 12, generator=generator())
    rows = equal_norm_edit(base, edited, generator(1))
    torch.testing.assert_close((rows - base).norm(dim=1), (edited - base).norm(dim=1), rtol=1e-5, atol=0)


def test_directions_are_uniform_and_know_nothing_of_the_edit():
    base, edited = torch.zeros(20000, 3), torch.tensor([1.0, 0, 0]).expand(20000, 3)
    rows = equal_norm_edit(base, edited, generator())
    assert rows.mean(0).abs().max() < 5 / (3 * 20000) ** 0.5
    # On a sphere in three dimensions every coordinate is uniform on [-1, 1].
    quantiles = torch.quantile(rows, torch.tensor([0.25, 0.5, 0.75]), dim=0)
    torch.testing.assert_close(quantiles, torch.tensor([[-0.5], [0.0], [0.5]]).expand(3, 3), atol=0.03, rtol=0)


def test_no_edit_stays_no_edit():
    base = torch.randn(5, 12, generator=generator())
    assert torch.equal(equal_norm_edit(base, base, generator()), base)


def test_the_same_generator_gives_the_same_controls(live):
    mask = torch.arange(50) < 5
    assert torch.equal(random_mask_like(mask, live, generator()), random_mask_like(mask, live, generator()))
    rows = torch.zeros(3, 4), torch.ones(3, 4)
    assert torch.equal(equal_norm_edit(*rows, generator()), equal_norm_edit(*rows, generator()))
