"""Windows counted in one pass, against slow counts and against what is really taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_sanity.suites.autointerp.examples import Layout, Missing, gather
from sae_sanity.suites.autointerp.strata import Choice
from sae_sanity.suites.autointerp.survey import Corpus, Firings, Survey
from sae_sanity.suites.autointerp.windows import WindowCounts, askable, lacking

DOCS, WIDTH, BUFFER = 60, 64, 5
POOL = 300


@pytest.fixture(scope="module")
def corpus():
    lengths = torch.from_numpy(np.random.default_rng(0).integers(8, WIDTH + 1, DOCS))
    return Corpus(torch.ones(DOCS, WIDTH, dtype=torch.long), lengths)


@pytest.fixture(scope="module")
def pool(corpus):
    return corpus.random_windows(POOL, BUFFER, 3)


def firing(corpus, rate, *, burst=1, tail=False, seed=0):
    """Activations of a latent: at random places, or in bursts of every third token; with a tail of tiny ones."""
    rng = np.random.default_rng(seed)
    shape = corpus.tokens.shape
    starts, on = rng.random(shape) < rate / burst, np.zeros(shape, bool)
    for k in range(burst):
        on[:, 3 * k :] |= starts[:, : shape[1] - 3 * k]
    strength = rng.uniform(0.3, 3, shape)
    strength[rng.random(shape) < (0.6 if tail else 0.0)] *= 0.001
    on &= np.arange(shape[1]) < corpus.lengths.numpy()[:, None]
    on[:, 0] = False
    return torch.from_numpy(on * strength).float()


def mixture(corpus, n=6):
    """Latents that fire rarely and often, alone and in bursts, strongly and weakly."""
    kinds = [(rate, burst, tail) for rate in (0.01, 0.05, 0.2) for burst in (1, 4) for tail in (False, True)]
    return [
        firing(corpus, rate, burst=burst, tail=tail, seed=10 * i + s)
        for i, (rate, burst, tail) in enumerate(kinds)
        for s in range(n)
    ]


def counted(corpus, pool, latents, *, buffer=BUFFER, size=17, dropped=()):
    """What one pass counts, some tokens at a time, without a few dropped ones (of which none fires)."""
    counts = WindowCounts(len(latents), corpus, pool, buffer=buffer, threshold=0.01)
    cells = [(d, p) for d, n in enumerate(corpus.lengths.tolist()) for p in range(n) if (d, p) not in dropped]
    acts = torch.stack(latents, dim=-1)
    for start in range(0, len(cells), size):
        document, position = map(np.array, zip(*cells[start : start + size], strict=True))
        counts.add(acts[document, position], document, position)
    return counts.finish()


def most_apart(positions, distance):
    """The most positions further apart than that, by dynamic programming over all of them."""
    best = [0]
    for i, position in enumerate(positions):
        before = sum(other < position - distance for other in positions[:i])
        best.append(max(best[-1], best[before] + 1))
    return best[-1]


def slowly(corpus, pool, acts, *, share):
    """The three counts, cell by cell."""
    inside = corpus.centres(BUFFER)
    active = [((acts[d] > share * acts.max()) & inside[d]).nonzero().flatten().tolist() for d in range(DOCS)]
    silent = sum(not acts[d, p - BUFFER : p + BUFFER + 1].any() for d, p in pool.tolist())
    return [sum(most_apart(x, distance) for x in active) for distance in (2 * BUFFER, 4 * BUFFER)] + [silent]


def test_counts_are_the_slow_ones(corpus, pool):
    latents = [one for one in mixture(corpus, 2) if not ((one > 0) & (one < 0.1)).any()]
    found = counted(corpus, pool, latents)
    for i, acts in enumerate(latents):
        assert [int(each[i]) for each in found] == slowly(corpus, pool, acts, share=0.01), i


def test_weak_activations_count_for_nothing_and_never_for_too_much(corpus, pool):
    latents = [one for one in mixture(corpus, 2) if ((one > 0) & (one < 0.1)).any()]
    found = counted(corpus, pool, latents)
    for i, acts in enumerate(latents):
        *apart, silent = slowly(corpus, pool, acts, share=0.01)
        fewest = slowly(corpus, pool, acts, share=0.02)[:2]
        assert fewest[0] <= found.apart[i] <= apart[0]
        assert fewest[1] <= found.scattered[i] <= apart[1]
        assert found.silent[i] == silent


def test_how_the_texts_are_cut_changes_nothing(corpus, pool):
    latents = mixture(corpus, 1)
    silent = {(int(d), int(p)) for d, p in (sum(latents) == 0).nonzero()[::7]}
    first = counted(corpus, pool, latents)
    for other in (counted(corpus, pool, latents, size=100_000), counted(corpus, pool, latents, size=1, dropped=silent)):
        assert all(map(np.array_equal, first, other))


def test_rising_strengths_keep_their_count():
    """Each firing is the strongest so far; in the end only the last six powers of two count as active."""
    corpus = Corpus(torch.ones(40, 30, dtype=torch.long), torch.full((40,), 30))
    acts = torch.zeros(40, 30)
    acts[:, 15] = 2.0 ** torch.arange(-20, 20)
    pool = corpus.random_windows(50, BUFFER, 0)
    assert [int(x) for x in counted(corpus, pool, [acts]).apart] == [7]
    acts[:, 15] = 1.5**0.5
    assert [int(x) for x in counted(corpus, pool, [acts]).apart] == [40]


def taken(corpus, pool, latents, layout, seed):
    """What `gather` gives of each latent: '' or why it is missing."""
    cells = tuple(acts.flatten().nonzero().squeeze(1) for acts in latents)
    firings = Firings((DOCS, WIDTH), cells, tuple(a.flatten()[c] for a, c in zip(latents, cells, strict=True)))
    n = len(latents)
    survey = Survey(1, np.array([len(c) for c in cells]), np.ones(n, np.float32), np.ones(n, bool))
    choice = Choice(tuple(range(n)), (0,) * n, (n,), 0, 0, 0)
    decode = lambda ids: tuple(map(str, ids))  # noqa: E731
    found = dict.fromkeys(range(n), "")
    for each in gather(firings, corpus, choice, survey, pool, layout=layout, decode=decode, seed=seed):
        if isinstance(each, Missing):
            found[each.number] = each.reason
    return [found[i] for i in range(n)]


LAYOUTS = [
    Layout(buffer=BUFFER, n_balanced=20),
    Layout(BUFFER, n_top_generation=4, n_weighted_generation=3, n_balanced=40),
    Layout(BUFFER, n_top_generation=2, n_weighted_generation=1, n_balanced=90),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_that_is_askable_is_really_taken(corpus, pool, layout):
    latents = mixture(corpus)
    able = askable(layout, counted(corpus, pool, latents))
    assert 0.1 < able.mean() < 0.95
    asked = [acts for acts, could in zip(latents, able, strict=True) if could]
    for seed in range(6):
        assert set(taken(corpus, pool, asked, layout, seed)) == {""}


def test_a_tight_fit_is_taken_too(corpus, pool):
    """It fires on every token of half of the texts: in a random order a quarter of the room would be wasted."""
    acts = torch.rand(corpus.tokens.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    acts *= torch.arange(DOCS)[:, None] % 2
    acts[torch.arange(WIDTH) >= corpus.lengths[:, None]] = 0
    found = counted(corpus, pool, [acts])
    half = int(found.apart[0]) - 2 * 3
    layout = Layout(BUFFER, n_top_generation=2, n_weighted_generation=1, n_balanced=2 * half)
    assert askable(layout, found).all()
    for seed in range(20):
        assert taken(corpus, pool, [acts], layout, seed) == [""]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_askable_is_mostly_not_to_be_had(corpus, pool, layout):
    """Nothing is called askable that is not; what is left out needs luck, or has no way at all."""
    latents = mixture(corpus)
    found = counted(corpus, pool, latents)
    hopeless = (found.apart < layout.half) | (found.silent < layout.half)
    assert not (hopeless & askable(layout, found)).any()
    never = [acts for acts, lost in zip(latents, hopeless, strict=True) if lost]
    assert never
    assert all(taken(corpus, pool, never, layout, 0))


def test_in_a_tight_place_as_many_are_taken_as_were_counted(corpus, pool):
    """With nothing shown before, the balanced layout takes every window that fits: the count itself."""
    from sae_sanity.suites.autointerp.examples import _apart

    for acts in mixture(corpus, 1):
        share = 0.01 * acts.max()
        cells = ((acts > share) & corpus.centres(BUFFER)).nonzero().tolist()
        count = int(counted(corpus, pool, [acts]).apart[0])
        weak = bool(((acts > share) & (acts <= 2 * share)).any())
        assert len(_apart(cells, [], 2 * BUFFER)) >= count if weak else len(_apart(cells, [], 2 * BUFFER)) == count


def test_reasons(corpus, pool):
    layout = LAYOUTS[0]
    found = counted(corpus, pool, [firing(corpus, 0.004), firing(corpus, 0.9), firing(corpus, 0.05)])
    lines = [lacking(layout, found, i) for i in range(3)]
    assert "windows apart in which it fires" in lines[0]
    assert "40 or 25 are needed" in lines[0]
    assert "in which it does not fire, 10 are needed" in lines[1]
    assert lines[2] == ""
