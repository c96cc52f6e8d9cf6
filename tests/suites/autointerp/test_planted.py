from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from numpy.random import default_rng

from sae_sanity.suites.autointerp.latent import Example, Latent
from sae_sanity.suites.autointerp.planted import (
    NOTHING,
    firing_windows,
    planted,
    silent_windows,
    with_shuffled_labels,
)

FILLER = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "kappa", "sigma", "omega", "lambda", "upsilon"]


def documents(n=300, seed=0, extra=(" river",), length=80):
    """Filler with numbers, questions, and one of `extra` more often than any other word."""
    rng = default_rng(seed)
    makers = [lambda: [" ", "1", "9"], lambda: ["?"], lambda: [" the"], *([lambda e=e: [e] for e in extra] * 2)]
    out = []
    for _ in range(n):
        tokens = ["<|endoftext|>"]
        while len(tokens) < length:
            common = rng.random() < 0.06
            word = f" {rng.choice(FILLER)}{rng.choice(FILLER)}{rng.choice(FILLER)}"
            tokens += makers[rng.integers(len(makers))]() if common else [word]
        out.append(tokens)
    return out


def tokens_of(latent, tokens):
    """Tokens on which a latent fires, counted."""
    return Counter(
        t
        for acts, document in zip(latent.activations, tokens, strict=True)
        for a, t in zip(acts, document, strict=True)
        if a
    )


def named(planting):
    return {latent.name: latent for latent in planting.latents}


@pytest.fixture(scope="module")
def texts():
    return documents()


@pytest.fixture(scope="module")
def found(texts):
    return named(planted(texts, default_rng(0), n_windows=40))


def test_each_fires_on_what_it_says(texts, found):
    assert set(tokens_of(found["digits"], texts)) == {"1", "9"}
    assert set(tokens_of(found["word: river"], texts)) == {" river"}
    assert set(tokens_of(found["question marks"], texts)) == {"?"}
    counts = Counter(t for document in texts for t in document)
    for name in ("digits", "word: river", "question marks"):
        assert all(n == counts[t] for t, n in tokens_of(found[name], texts).items())


def test_true_explanations_and_what_is_known(found):
    assert found["word: river"].explanation == "the word 'river'"
    assert {name for name, latent in found.items() if not latent.known} == {NOTHING}
    # the rest of SAEBench's sentence comes before and behind it
    assert not any(latent.explanation.endswith(".") for latent in found.values())


def test_nothing_in_particular_fires_at_the_median_rate_and_on_anything(texts, found):
    rates = [np.concatenate(latent.activations).astype(bool).mean() for latent in found.values() if latent.known]
    n = sum(map(len, texts))
    rate = np.concatenate(found[NOTHING].activations).astype(bool).mean()
    middle = np.median(rates)
    assert abs(rate - middle) < 4 * (middle / n) ** 0.5
    counts = tokens_of(found[NOTHING], texts)
    assert "<|endoftext|>" not in counts
    assert len(counts) > 0.5 * sum(counts.values())


def test_strengths_differ_and_tell_nothing(found):
    strengths = np.concatenate(found["digits"].activations)
    strengths = strengths[strengths > 0]
    assert len(np.unique(strengths)) > 0.99 * len(strengths)
    assert 0.5 <= strengths.min() < strengths.max() <= 1
    assert strengths.dtype == np.float32


def test_same_seed_same_activations(texts, found):
    again = named(planted(texts, default_rng(0), n_windows=40))
    other = named(planted(texts, default_rng(1), n_windows=40))
    for name in found:
        assert all(map(np.array_equal, found[name].activations, again[name].activations))
    assert not all(map(np.array_equal, found[NOTHING].activations, other[NOTHING].activations))


def test_dense_is_aligned_with_padded_tokens(texts):
    planting = planted(texts, default_rng(0), n_windows=40)
    dense = planting.dense(96)
    assert dense.shape == (len(texts), 96, len(planting.latents))
    for i, latent in enumerate(planting.latents):
        for row, acts in zip(dense[..., i], latent.activations, strict=True):
            assert np.array_equal(row[: len(acts)], acts)
            assert not row[len(acts) :].any()
    with pytest.raises(ValueError):
        planting.dense(10)


def test_every_planted_latent_has_the_windows_that_saebench_wants(texts, found):
    """SAEBench's own selection finds as many windows as we counted, none of them twice."""
    indexing = pytest.importorskip("sae_bench.sae_bench_utils.indexing_utils")
    n = min(map(len, texts))
    for latent in found.values():
        acts = torch.tensor(np.stack([a[:n] for a in latent.activations]))
        count = firing_windows([row.numpy() > 0 for row in acts])
        assert count >= 40
        best = indexing.get_k_largest_indices(acts, k=40, buffer=10, no_overlap=True)
        assert (acts[best[:, 0], best[:, 1]] > 0).all()


# words, languages


def test_a_word_is_a_whole_word_in_any_case():
    texts = documents(extra=(" river",))
    texts[0] = [" River", " river", "side", " up", "river", " river", ".", " river", "'s", " river"]
    latent = named(planted(texts, default_rng(0), n_windows=40))["word: river"]
    assert (latent.activations[0] > 0).tolist() == [True, False, False, False, False, True, False, False, False, True]


def test_stop_words_are_no_words(found):
    assert "word: the" not in found


def test_a_second_language_is_preferred(texts):
    accents = named(planted(documents(extra=(" été", " naïve")), default_rng(0), n_windows=40))
    assert set(tokens_of(accents["language: not English"], documents(extra=(" été", " naïve")))) == {" été", " naïve"}
    assert not any(name.startswith("language") for name in named(planted(texts, default_rng(0), n_windows=40)))


def test_code_by_lines():
    texts = documents(n=120, extra=("\n", "\n", "\n"), length=60)
    for document in texts:
        document += ["\n", "import", " numpy", "\n", " plain", " words"]
    latent = named(planted(texts, default_rng(0), n_windows=20, buffer=3))["language: code or markup"]
    assert set(tokens_of(latent, texts)) == {"import", " numpy"}


def quoted(*document):
    """Where the quotation latent fires in a document, among many that have quotations."""
    others = [[*(f" {word}" for word in FILLER), ' "', " spoken", " words", '"', *(f" {word}" for word in FILLER)]] * 60
    latent = named(planted([list(document), *others], default_rng(0), n_windows=20, buffer=3))["quotations"]
    return [t for t, a in zip(document, latent.activations[0], strict=True) if a]


@pytest.mark.parametrize(
    ("document", "inside"),
    [
        ((" he", " said", ' "', "so", " be", ",", ' it,"', " and"), ["so", " be"]),
        ((" “", "so", "”", " he", " “", "never", " closed"), ["so"]),
        ((" end", '."', " outside", ' "', "inside", '"', " out"), ["inside"]),
        ((' "', "never", " closed"), []),
        ((), []),
    ],
)
def test_quotations(document, inside):
    assert quoted(*document) == inside


# what cannot be planted


def test_too_few_firings_are_a_reason(texts):
    planting = planted(texts[:20], default_rng(0), n_windows=40)
    reasons = dict(planting.left_out)
    assert "question marks" in reasons
    assert "40 are needed" in reasons["question marks"]
    assert not {latent.name for latent in planting.latents} & set(reasons)


def test_firing_everywhere_is_a_reason():
    digits = [["1", "2", "3"] * 20 for _ in range(100)]
    planting = planted(digits, default_rng(0), n_windows=40)
    assert "in which it does not fire" in dict(planting.left_out)["digits"]
    assert planting.latents == ()
    with pytest.raises(ValueError, match="nothing is planted"):
        planting.dense(60)


@pytest.mark.parametrize("texts", [[], [[]], [["<|endoftext|>"]], [[], ["a"]], [["", " ", "\ufffd"]]])
def test_odd_texts(texts):
    planting = planted(texts, default_rng(0))
    assert planting.latents == ()
    assert planting.left_out


def test_windows_are_counted_as_by_hand():
    firing = np.zeros(100, bool)
    firing[[5, 10, 20, 21, 40, 89, 95]] = True  # 5 and 95 too close to the ends; 20 hidden by 10
    assert firing_windows([firing, firing]) == 2 * 4
    assert silent_windows([np.zeros(63, bool), firing[:0]]) == 3
    assert silent_windows([firing]) == 2  # 41 to 88


# shuffled labels


def example(i, active):
    return Example((f"t{i}",), (float(active),), 0.5, "activating" if active else "random", i, 10)


@pytest.fixture
def latent():
    fourteen = tuple(example(i, i < 4) for i in range(14))
    hundred = tuple(example(i, i % 2 == 0) for i in range(100))
    return Latent(3, 0.1, 2, (example(500, True),), fourteen, hundred)


def test_shuffling_moves_labels_and_no_texts(latent):
    shuffled = with_shuffled_labels(latent, default_rng(0))
    assert shuffled.generation == latent.generation
    for before, after in ((latent.saebench, shuffled.saebench), (latent.balanced, shuffled.balanced)):
        assert [e.tokens for e in before] == [e.tokens for e in after]
        assert sum(e.is_active for e in before) == sum(e.is_active for e in after)
        assert all(e.is_active == (e.kind == "activating") for e in after)
        assert before != after


def test_a_perfect_answer_scores_at_chance_on_shuffled_labels(latent):
    truth = [e.is_active for e in latent.balanced]
    scores = [
        np.mean(
            [
                e.is_active == t
                for e, t in zip(with_shuffled_labels(latent, default_rng(s)).balanced, truth, strict=True)
            ]
        )
        for s in range(200)
    ]
    # hypergeometric: standard deviation of one score is .05
    assert np.mean(scores) == pytest.approx(0.5, abs=4 * 0.05 / 200**0.5)
    assert np.std(scores) == pytest.approx(0.05, rel=0.2)
