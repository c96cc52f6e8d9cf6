from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.random import default_rng

from sae_sanity.suites.autointerp.planted import N_NOTHING, N_SHUFFLED, NOTHING, planted

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


def enough(n, buffer=10):
    """Asks for n windows in which it fires, without a token in common, and as many in which it does not."""

    def shortage(activations):
        fires = sum(windows(np.flatnonzero(acts), 2 * buffer) for acts in activations)
        gaps = [np.diff([-1, *np.flatnonzero(acts), len(acts)]) - 1 for acts in activations]
        silent = sum(int((gap // (2 * buffer + 1)).sum()) for gap in gaps)
        return f"{fires} fire and {silent} do not, {n} are needed" if min(fires, silent) < n else ""

    return lambda some: list(map(shortage, some))


def windows(positions, distance):
    last, n = -distance - 1, 0
    for position in positions:
        if position - last > distance:
            last, n = position, n + 1
    return n


def tokens_of(activations, tokens):
    """Tokens on which something fires, counted."""
    return Counter(
        t for acts, document in zip(activations, tokens, strict=True) for a, t in zip(acts, document, strict=True) if a
    )


def named(planting):
    return {latent.name: latent for latent in planting.latents}


@pytest.fixture(scope="module")
def texts():
    return documents()


@pytest.fixture(scope="module")
def found(texts):
    return named(planted(texts, default_rng(0), enough(40)))


def test_each_fires_on_what_it_says(texts, found):
    assert set(tokens_of(found["digits"].activations, texts)) == {"1", "9"}
    assert set(tokens_of(found["word: river"].activations, texts)) == {" river"}
    assert set(tokens_of(found["question marks"].activations, texts)) == {"?"}
    counts = Counter(t for document in texts for t in document)
    for name in ("digits", "word: river", "question marks"):
        assert all(n == counts[t] for t, n in tokens_of(found[name].activations, texts).items())


def test_true_explanations_and_what_is_known(found):
    assert found["word: river"].explanation == "the word 'river'"
    blank = [name for name, latent in found.items() if not latent.known]
    assert blank == [f"{NOTHING} {i}" for i in range(1, N_NOTHING + 1)]
    assert N_NOTHING > 1
    # the rest of SAEBench's sentence comes before and behind it
    assert not any(latent.explanation.endswith(".") for latent in found.values())


def test_what_is_random_fires_at_the_median_rate_and_on_anything(texts):
    planting = planted(texts, default_rng(0), enough(40))
    known = [latent.activations for latent in planting.latents if latent.known]
    blank = [latent.activations for latent in planting.latents if not latent.known] + [*planting.unrelated]
    assert len(planting.unrelated) == N_SHUFFLED
    n, middle = sum(map(len, texts)), np.median([rate_of(each) for each in known])
    for activations in blank:
        assert abs(rate_of(activations) - middle) < 4 * (middle / n) ** 0.5
        counts = tokens_of(activations, texts)
        assert "<|endoftext|>" not in counts
        assert len(counts) > 0.5 * sum(counts.values())
    fires = np.array([np.concatenate(activations) > 0 for activations in blank])
    assert np.abs(np.corrcoef(fires) - np.eye(len(fires))).max() < 0.03


def test_random_firings_do_not_lack_windows_because_words_are_rare(texts):
    planting = planted(texts, default_rng(0), enough(40), least_windows=1000)
    assert rate_of(planting.unrelated[0]) * sum(map(len, texts)) == pytest.approx(3000, rel=0.1)


def rate_of(activations):
    return float(np.mean(np.concatenate(activations) > 0))


def test_strengths_differ_and_tell_nothing(found):
    strengths = np.concatenate(found["digits"].activations)
    strengths = strengths[strengths > 0]
    assert len(np.unique(strengths)) > 0.99 * len(strengths)
    assert 0.5 <= strengths.min() < strengths.max() <= 1
    assert strengths.dtype == np.float32


def test_same_seed_same_activations(texts, found):
    again = named(planted(texts, default_rng(0), enough(40)))
    other = named(planted(texts, default_rng(1), enough(40)))
    for name in found:
        assert all(map(np.array_equal, found[name].activations, again[name].activations))
    one = f"{NOTHING} 1"
    assert not all(map(np.array_equal, found[one].activations, other[one].activations))


# words, languages


def test_a_word_is_a_whole_word_in_any_case():
    texts = documents(extra=(" river",))
    texts[0] = [" River", " river", "side", " up", "river", " river", ".", " river", "'s", " river"]
    latent = named(planted(texts, default_rng(0), enough(40)))["word: river"]
    assert (latent.activations[0] > 0).tolist() == [True, False, False, False, False, True, False, False, False, True]


def test_stop_words_are_no_words(found):
    assert "word: the" not in found


def test_several_words_the_most_common_that_are_often_enough():
    texts = documents(n=600, extra=(" river", " river", " stone", " house", " field", " cloud"))
    texts += [[" huge"] * 800]  # the most common, in one place
    found = planted(texts, default_rng(0), enough(40))
    counts = Counter(t.strip() for document in texts for t in document)
    common = sorted(("river", "stone", "house", "field", "cloud"), key=lambda word: -counts[word])
    assert counts["huge"] > min(counts[word] for word in common) > 40
    assert [latent.name for latent in found.latents][1:4] == [f"word: {word}" for word in common[:3]]
    assert "word: huge" not in dict(found.left_out)


def test_a_second_language_is_preferred(texts):
    accents = named(planted(documents(extra=(" été", " naïve")), default_rng(0), enough(40)))
    assert set(tokens_of(accents["language: not English"].activations, documents(extra=(" été", " naïve")))) == {
        " été",
        " naïve",
    }
    assert not any(name.startswith("language") for name in named(planted(texts, default_rng(0), enough(40))))


def test_code_by_lines():
    texts = documents(n=120, extra=("\n", "\n", "\n"), length=60)
    for document in texts:
        document += ["\n", "import", " numpy", "\n", " plain", " words"]
    latent = named(planted(texts, default_rng(0), enough(20, 3)))["language: code or markup"]
    assert set(tokens_of(latent.activations, texts)) == {"import", " numpy"}


def quoted(*document):
    """Where the quotation latent fires in a document, among many that have quotations."""
    others = [[*(f" {word}" for word in FILLER), ' "', " spoken", " words", '"', *(f" {word}" for word in FILLER)]] * 60
    latent = named(planted([list(document), *others], default_rng(0), enough(20, 3)))["quotations"]
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
    planting = planted(texts[:20], default_rng(0), enough(40))
    reasons = dict(planting.left_out)
    assert "question marks" in reasons
    assert "40 are needed" in reasons["question marks"]
    assert not {latent.name for latent in planting.latents} & set(reasons)


def test_firing_everywhere_is_a_reason():
    digits = [["1", "2", "3"] * 20 for _ in range(100)]
    planting = planted(digits, default_rng(0), enough(40))
    assert "0 do not" in dict(planting.left_out)["digits"]
    assert planting.latents == ()
    assert planting.unrelated == ()


@pytest.mark.parametrize("texts", [[], [[]], [["<|endoftext|>"]], [[], ["a"]], [["", " ", "\ufffd"]]])
def test_odd_texts(texts):
    planting = planted(texts, default_rng(0), enough(40))
    assert planting.latents == ()
    assert planting.left_out
