from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens.synthetic.evals import feature_uniqueness, mean_correlation_coefficient
from sae_lens.util import cosine_similarities
from scipy.optimize import linear_sum_assignment
from synthetic_truth import directions
from torch.nn.functional import normalize

from sae_sanity.suites.synthetic import matching
from sae_sanity.suites.synthetic.matching import best_cosines, match_one_to_one


def scaled(n, d, seed):
    """Directions of unequal lengths: a decoder need not be of unit norm."""
    return directions(n, d, seed) * torch.linspace(0.1, 3.0, n)[:, None]


def crowded(n, d, *, on, seed):
    """Latents that all point near a few features."""
    return normalize(directions(n, d, 0)[torch.arange(n) % on] + 0.1 * directions(n, d, seed), dim=1)


def exact(features, decoder, *, signed=True):
    """Largest mean cosine of all matchings, by scipy on the whole matrix."""
    cosines = cosine_similarities(features, decoder).double()
    cosines = (cosines if signed else cosines.abs()).numpy()
    rows, columns = linear_sum_assignment(cosines, maximize=True)
    return cosines[rows, columns].sum() / len(features)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("block", [1, 50, 2**24])
def test_best_against_the_whole_matrix(signed, block, monkeypatch):
    monkeypatch.setattr(matching, "BLOCK", block)
    features, decoder = directions(30, 8, 0), scaled(50, 8, 1)
    cosines = cosine_similarities(features, decoder)
    expected = (cosines if signed else cosines.abs()).max(1)
    found = best_cosines(features, decoder, signed=signed)
    torch.testing.assert_close(found.cosine, expected.values)
    assert torch.equal(found.latent, expected.indices)


def test_no_more_cosines_are_held_than_the_block(monkeypatch):
    sizes = []

    def counted(a, b):
        sizes.append(len(a) * len(b))
        return cosine_similarities(a, b)

    monkeypatch.setattr(matching, "BLOCK", 400)
    monkeypatch.setattr(matching, "cosine_similarities", counted)
    best_cosines(directions(30, 8, 0), directions(50, 8, 1))
    match_one_to_one(directions(30, 8, 0), directions(50, 8, 1), exact_up_to=20, candidates=2)
    assert max(sizes) <= 400


def test_best_latents_swapped_give_saelens_uniqueness():
    features, decoder = directions(40, 6, 0), scaled(60, 6, 1)
    closest = best_cosines(decoder, features, signed=False).latent
    assert len(closest.unique()) / 60 == feature_uniqueness(decoder, features)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6), st.booleans())
@settings(max_examples=60)
def test_matching_against_all_permutations(n, m, seed, signed):
    features, decoder = directions(n, 3, seed), scaled(m, 3, seed + 1)
    cosines = cosine_similarities(features, decoder)
    cosines = cosines if signed else cosines.abs()
    if n <= m:
        best = max(sum(cosines[i, j].item() for i, j in enumerate(p)) for p in permutations(range(m), n))
    else:
        best = max(sum(cosines[i, j].item() for j, i in enumerate(p)) for p in permutations(range(n), m))
    found = match_one_to_one(features, decoder, signed=signed)
    assert found.cosine.sum().item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("n", "m"), [(300, 300), (100, 400), (400, 100)])
@pytest.mark.parametrize("candidates", [1, 4, 64])
def test_exact_against_scipy_on_the_whole_matrix(n, m, signed, candidates):
    features, decoder = directions(n, 20, 0), scaled(m, 20, 1)
    found = match_one_to_one(features, decoder, signed=signed, candidates=candidates)
    assert found.cosine.double().mean().item() == pytest.approx(exact(features, decoder, signed=signed), abs=1e-6)


def test_a_matching_within_the_candidates_is_not_taken_for_the_best():
    # Among two candidates each, the best full matching is worth 1.8 halves; with the third column of row 0 it is 2.49.
    cosines = torch.tensor([[0.9, 0.8, 0.79], [0.9, 0.1, 0.0], [0.0, 0.8, 0.1]]) / 2
    features = torch.cat([cosines, torch.diag((1 - cosines.square().sum(1)).sqrt())], dim=1)
    found = match_one_to_one(features, torch.eye(3, 6), candidates=2)
    assert found.latent.tolist() == [2, 0, 1]


def test_absolute_cosines_against_saelens():
    features, decoder = directions(200, 20, 0), scaled(200, 20, 1)
    found = match_one_to_one(features, decoder, signed=False).cosine.mean().item()
    assert found == pytest.approx(mean_correlation_coefficient(decoder, features), abs=1e-6)


@pytest.mark.parametrize("exact_up_to", [10, 4096])
@pytest.mark.parametrize(("n", "m"), [(60, 90), (90, 60), (60, 60)])
def test_no_latent_twice_and_its_own_cosine(n, m, exact_up_to):
    features, decoder = directions(n, 8, 0), scaled(m, 8, 1)
    found = match_one_to_one(features, decoder, exact_up_to=exact_up_to, candidates=3)
    given = found.latent >= 0
    assert given.sum() == min(n, m) == len(found.latent[given].unique())
    cosines = cosine_similarities(features, decoder)
    torch.testing.assert_close(found.cosine[given], cosines[given, found.latent[given]])
    assert (found.cosine[~given] == 0).all()


def test_the_true_dictionary_is_matched_whatever_its_order():
    features, order = directions(100, 8, 0), torch.randperm(100, generator=torch.Generator().manual_seed(2))
    found = match_one_to_one(features, 2 * features[order])
    assert torch.equal(order[found.latent], torch.arange(100))
    torch.testing.assert_close(found.cosine, torch.ones(100))


@pytest.mark.parametrize("n", [37, 1500])
@pytest.mark.parametrize("exact_up_to", [16, 4096])
def test_a_permuted_decoder_gives_the_same_cosines_bit_for_bit(n, exact_up_to):
    features, decoder = directions(n, 20, 0), crowded(n + 3, 20, on=9, seed=1)
    decoder[5] = decoder[2]
    order = torch.randperm(len(decoder), generator=torch.Generator().manual_seed(2))
    first = match_one_to_one(features, decoder, exact_up_to=exact_up_to)
    second = match_one_to_one(features, decoder[order], exact_up_to=exact_up_to)
    assert torch.equal(first.cosine, second.cosine)
    torch.testing.assert_close(decoder[order][second.latent], decoder[first.latent])


def test_a_row_of_zeros_has_cosine_0():
    features, decoder = directions(6, 8, 0), scaled(6, 8, 1)
    decoder[2:] = 0
    found = match_one_to_one(features, decoder)
    assert (found.cosine[found.latent >= 2] == 0).all()
    assert (best_cosines(features, torch.zeros(3, 8)).cosine == 0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("function", [best_cosines, match_one_to_one])
def test_values_that_are_not_finite_are_refused(function, bad):
    decoder = directions(5, 8, 1)
    decoder[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        function(directions(5, 8, 0), decoder)


@pytest.mark.parametrize("function", [best_cosines, match_one_to_one])
def test_no_directions_are_refused(function):
    with pytest.raises(ValueError, match="5 and 0 directions"):
        function(directions(5, 8, 0), torch.zeros(0, 8))


@pytest.mark.parametrize(
    ("decoder", "candidates", "loss"),
    [
        (directions(1600, 50, 1), 64, 1e-6),  # certified: no row stayed open
        (directions(1600, 50, 1), 8, 3e-3),
        (crowded(1600, 50, on=40, seed=1), 64, 8e-3),
        (torch.cat([directions(1600, 50, 0)[:800], crowded(800, 50, on=40, seed=1)]), 64, 4e-3),
        (directions(1, 50, 1).expand(1600, -1), 64, 1e-6),
    ],
    ids=["random", "few candidates", "crowded", "half found", "all equal"],
)
def test_loss_beyond_the_exact_size(decoder, candidates, loss):
    features = directions(1600, 50, 0)
    found = match_one_to_one(features, decoder, exact_up_to=200, candidates=candidates)
    lost = exact(features, decoder) - found.cosine.double().mean().item()
    assert -1e-6 <= lost <= loss
