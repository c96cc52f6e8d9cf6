from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sae_sanity.suites import near_duplicates
from sae_sanity.suites.near_duplicates import RUN, SHARED, WINDOW, fingerprints, normalised

letters = st.text(alphabet="abcdefghij klmno", min_size=0, max_size=400)


def shared_run(one, other, length):
    """Whether two texts have that many normalised bytes in a row in common, by looking at all of them."""
    one, other = normalised(one), normalised(other)
    runs = {one[i : i + length] for i in range(len(one) - length + 1)}
    return any(other[i : i + length] in runs for i in range(len(other) - length + 1))


def alike(one, other):
    return not set(fingerprints(one)).isdisjoint(fingerprints(other))


def words(rng, n):
    return " ".join("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 10))) for _ in range(n))


# normalisation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat,\nsat.", b"the cat sat"),
        ("don't", b"don t"),
        ("A1-b2", b"a1 b2"),
        ("caf\u00e9", b"caf"),
        ("\u2018quoted\u2019", b"quoted"),
        ("", b""),
        (" \t", b""),
    ],
)
def test_normalised(text, expected):
    assert normalised(text) == expected


# against looking at every run


@given(letters, letters, letters, letters, letters)
@settings(max_examples=200)
def test_against_brute_force(before, common, after, head, tail):
    one, other = before + common + after, head + common + tail
    if shared_run(one, other, SHARED):
        assert alike(one, other)
    elif len(normalised(one)) >= SHARED and not shared_run(one, other, RUN):
        assert not alike(one, other)


def test_every_shared_run_of_80_is_found_wherever_it_lies():
    rng = np.random.default_rng(0)
    for _ in range(100):
        common = words(rng, 60)[:SHARED].replace(" ", "x")
        one = words(rng, int(rng.integers(81))) + " Q" + common + "Q " + words(rng, int(rng.integers(81)))
        other = words(rng, int(rng.integers(81))) + " X" + common + "X " + words(rng, int(rng.integers(81)))
        assert shared_run(one, other, SHARED)
        assert alike(one, other)


def test_unrelated_texts_are_not_alike():
    rng = np.random.default_rng(1)
    prints = [set(fingerprints(words(rng, 200))) for _ in range(200)]
    assert sum(map(len, prints)) == len(set().union(*prints))


def test_case_spacing_and_punctuation_do_not_matter():
    text = words(np.random.default_rng(2), 40)
    assert fingerprints(text) == fingerprints(text.upper().replace(" ", " -\n"))


def test_short_texts_are_compared_whole():
    assert alike("Joan, Countess of Flanders", "joan countess of flanders")
    assert not alike("Joan, Countess of Flanders", "Joan, Countess of Toulouse")
    assert not alike("Joan", "Joan " + words(np.random.default_rng(3), 50))


@pytest.mark.parametrize("length", [0, 1, SHARED - 1, SHARED, SHARED + 1, 10_000])
def test_any_length_has_fingerprints(length):
    assert len(fingerprints("x" * length)) == 1
    assert fingerprints("x" * length) == fingerprints("x" * length)


# the parts


def test_rolling_hashes_are_equal_where_the_runs_are():
    raw = b"0123456789" * 30
    hashes = near_duplicates._rolling_hashes(raw)
    assert len(hashes) == len(raw) - RUN + 1
    assert np.array_equal(hashes[:-10], hashes[10:])
    assert len(set(hashes.tolist())) == 10


def test_window_minima_against_numpy():
    hashes = np.random.default_rng(0).integers(0, 2**63, 200).astype(np.uint64)
    expected = [hashes[i : i + WINDOW].min() for i in range(200 - WINDOW + 1)]
    assert near_duplicates._window_minima(hashes).tolist() == expected


def test_about_one_hash_in_nine_is_kept():
    # Winnowing keeps 2 / (window + 1) of random hashes.
    raw = words(np.random.default_rng(4), 3000)
    assert len(fingerprints(raw)) / len(normalised(raw)) == pytest.approx(2 / (WINDOW + 1), rel=0.1)
