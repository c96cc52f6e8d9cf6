"""Agreement of two judges, against scikit-learn on the texts themselves and a jackknife done by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from sae_sanity.suites.autointerp.agreement import agreement
from sae_sanity.suites.autointerp.scoring import Marked


def said(*predicted):
    return Marked(tuple(map(bool, predicted)), (True,) * len(predicted), (True,) * len(predicted))


def lost(n):
    return Marked(None, (True,) * n, (True,) * n)


def by_hand(pairs):
    """Kappa of all texts, and the jackknife by leaving their latents out of the list, one after the other."""
    first, second = ([np.array(each[i].predicted) for each in pairs] for i in (0, 1))
    kappa = cohen_kappa_score(np.concatenate(first), np.concatenate(second))
    rest = [[j for j in range(len(pairs)) if j != i] for i in range(len(pairs))]
    left = [
        cohen_kappa_score(np.concatenate([first[j] for j in js]), np.concatenate([second[j] for j in js]))
        for js in rest
    ]
    pseudo = len(pairs) * kappa - (len(pairs) - 1) * np.array(left)  # Tukey's pseudo-values: another way to the same
    return kappa, pseudo.std(ddof=1) / math.sqrt(len(pairs))


@pytest.mark.parametrize("seed", range(8))
def test_against_scikit_learn_and_pseudo_values(seed):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(rng.integers(2, 12)):
        n = int(rng.integers(4, 30))
        one = rng.random(n) < rng.random()
        pairs.append((said(*one), said(*(one ^ (rng.random(n) < 0.3 * rng.random())))))
    pairs[0] = (said(0, 1, 1, 0), said(0, 1, 0, 0))
    pairs[1] = (said(1, 0, 1, 0), said(1, 0, 1, 1))
    found = agreement(pairs)
    kappa, error = by_hand(pairs)
    assert found.kappa == pytest.approx(kappa, rel=1e-12)
    assert found.error == pytest.approx(error, rel=1e-9)
    flat = [np.concatenate([np.array(pair[i].predicted) for pair in pairs]) for i in (0, 1)]
    assert found.same == (flat[0] == flat[1]).mean()
    assert (found.texts, found.latents) == (len(flat[0]), len(pairs))


def test_the_error_is_that_of_latents_and_not_of_texts():
    """Texts of a latent agree all or not at all: 400 texts of 20 latents tell no more than 20 texts."""
    rng = np.random.default_rng(0)
    errors, kappas = [], []
    for _ in range(300):
        pairs = []
        for _ in range(20):
            one = np.arange(20) % 2
            pairs.append((said(*one), said(*(1 - one if rng.random() < 0.3 else one))))
        found = agreement(pairs)
        errors.append(found.error)
        kappas.append(found.kappa)
    assert np.std(kappas) == pytest.approx(2 * math.sqrt(0.3 * 0.7 / 20), rel=0.1)  # 1 - 2 x a binomial share
    assert np.mean(errors) == pytest.approx(np.std(kappas), rel=0.1)


def test_perfect_agreement():
    found = agreement([(said(1, 0), said(1, 0)), (said(0, 1, 1), said(0, 1, 1)), (said(1, 0), said(1, 0))])
    assert (found.kappa, found.error, found.same, found.texts, found.latents) == (1.0, 0.0, 1.0, 7, 3)


def test_what_one_has_not_answered_is_passed_over():
    pairs = [(said(1, 0), said(1, 1)), (said(0, 1), said(0, 1))]
    assert agreement([*pairs, (lost(2), said(1, 1)), (said(1, 1), lost(2))]) == agreement(pairs)


def test_where_there_is_no_kappa():
    for pairs in ([], [(lost(3), said(1, 0, 1))], [(said(0, 0), said(0, 0))], [(said(1), said(1)), (said(1), said(1))]):
        found = agreement(pairs)
        assert math.isnan(found.kappa)
        assert math.isnan(found.error)
    assert math.isnan(agreement([]).same)
    assert agreement([(said(0, 0), said(0, 0))]).same == 1
    # One latent alone has a kappa but no error.
    found = agreement([(said(1, 0, 1), said(1, 0, 0))])
    assert found.kappa == cohen_kappa_score([1, 0, 1], [1, 0, 0])
    assert math.isnan(found.error)


def test_always_yes_beside_always_no_is_chance():
    assert agreement([(said(1, 1), said(0, 0)), (said(1), said(0))]).kappa == 0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_no_answers_break_it(texts):
    one, other = zip(*texts, strict=True)
    found = agreement([(said(*one), said(*other))] * 2)
    if not math.isnan(found.kappa):
        assert found.kappa == pytest.approx(cohen_kappa_score(one, other))
        assert found.error == pytest.approx(0, abs=1e-12)
