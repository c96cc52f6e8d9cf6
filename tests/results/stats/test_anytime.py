from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from betting import BettingTest
from scipy import stats

from sae_sanity.results.stats import anytime
from sae_sanity.results.stats.anytime import seed_error
from sae_sanity.results.stats.e_process import FRACTIONS, GRID, Evidence
from sae_sanity.results.verdict import verdict_of


def two_arms(effect=0.0, *, steps=120, seeds=(3, 4), seed_sd=0.02, rng=0):
    generator = np.random.default_rng(rng)
    shape = generator.normal(0, 0.05, (steps, 1))
    arms = zip((effect, 0.0), seeds, strict=True)
    ours, theirs = (
        (0.65 + up + shape + generator.normal(0, seed_sd, k) + generator.normal(0, 0.15, (steps, k))).clip(0, 1)
        for up, k in arms
    )
    return ours, theirs


def ends_by_products(differences, alpha):
    """The confidence sequence by plain products, mean by mean and look by look; slow, and for few steps."""
    lost, gone = [-1.0], [1.0]
    for mean in GRID[1:-1]:
        for sign, given_up in ((1, lost), (-1, gone)):
            stakes = FRACTIONS / (1 + sign * mean)
            wealth = np.cumprod([1 + stakes * sign * (d - mean) for d in differences], axis=0).mean(axis=1)
            if wealth.max() >= 1 / alpha:
                given_up.append(mean)
    return max(lost), min(gone)


def by_hand(ours, theirs, alpha, *, recipe):
    """The interval of the docs: a sequence at alpha / 2, and the t of the SAE means at alpha / 2."""
    lo, hi = ends_by_products(ours.mean(axis=1) - theirs.mean(axis=1), alpha / 2)
    parts = [np.var(theirs.mean(axis=0), ddof=1) / theirs.shape[1]]
    dfs = [theirs.shape[1] - 1]
    if recipe:
        parts.append(np.var(ours.mean(axis=0), ddof=1) / ours.shape[1])
        dfs.append(ours.shape[1] - 1)
    df = sum(parts) ** 2 / sum(v**2 / n for v, n in zip(parts, dfs, strict=True))
    half = stats.t.isf(alpha / 2, df) * np.sqrt(sum(parts))
    return lo - half, hi + half


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("claim", ["artefact", "recipe"])
def test_the_interval_is_the_sequence_and_the_t_of_the_sae_means(claim, alpha):
    ours, theirs = two_arms(0.08)
    found = anytime(ours, theirs, claim=claim)
    assert found.interval(alpha) == pytest.approx(by_hand(ours, theirs, alpha, recipe=claim == "recipe"))
    assert found.estimate == pytest.approx(ours.mean() - theirs.mean())


def test_the_recipes_df_are_welchs():
    ours, theirs = two_arms(0.1)
    error, df = seed_error(ours, theirs, claim="recipe")
    oracle = stats.ttest_ind(ours.mean(axis=0), theirs.mean(axis=0), equal_var=False)
    assert df == pytest.approx(oracle.df)
    assert (ours.mean() - theirs.mean()) / error == pytest.approx(oracle.statistic)


def test_evidence_in_parts_is_evidence_at_once():
    d = np.random.default_rng(1).normal(0.05, 0.3, 137).clip(-1, 1)
    whole, parts = Evidence(), Evidence()
    whole.update(d)
    for part in np.split(d, [1, 2, 40, 41, 100]):
        parts.update(part)
    assert (whole.n, whole.mean) == (parts.n, pytest.approx(parts.mean)) == (137, pytest.approx(d.mean()))
    for alpha in (0.3, 0.05, 1e-4):
        assert whole.ends(alpha) == parts.ends(alpha)
    one_by_one = BettingTest()
    for value in d:
        one_by_one.update(float(value))
    assert whole.ends(0.05) == one_by_one.interval


def test_nothing_is_sure_before_the_first_step():
    assert Evidence().ends(0.05) == (-1, 1)
    assert np.isnan(Evidence().mean)


@pytest.mark.parametrize(("effect", "margin"), [(0.1, 0.02), (0.0, 0.08), (-0.05, 0.02), (0.03, 0.2)])
def test_p_values_are_the_levels_at_which_the_interval_just_decides(effect, margin):
    found = anytime(*two_arms(effect, steps=300, seed_sd=0.005, seeds=(1, 5)))
    for p, holds in (
        (found.pvalue(), lambda lo, hi: lo > 0),
        (found.tost(margin), lambda lo, hi: lo > -margin and hi < margin),
    ):
        assert 0 < p <= 1
        assert p == 1 or holds(*found.interval(p * (1 + 1e-6)))
        assert not holds(*found.interval(p * (1 - 1e-6)))


def test_the_interval_widens_with_the_confidence():
    found = anytime(*two_arms(0.05))
    ends = [found.interval(alpha) for alpha in (0.5, 0.1, 0.05, 0.01, 1e-6)]
    lows, highs = zip(*ends, strict=True)
    assert list(lows) == sorted(lows, reverse=True)
    assert list(highs) == sorted(highs)


def test_what_is_not_known_is_none():
    ours, theirs = two_arms()
    for found in (
        anytime(ours, theirs[:, :1]),
        anytime(ours[:, :2], theirs, claim="recipe"),
        anytime(ours[:1], theirs[:1]),
    ):
        assert (found.interval(), found.pvalue(), found.tost(0.1), found.standard_error) == (None,) * 4
    with pytest.raises(ValueError, match="an arm without SAEs: 3 under test, 0 of the baseline"):
        anytime(ours, theirs[:, :0])


def test_saes_that_agree_to_the_last_bit_are_no_certainty():
    """Their spread is then what drawing latents alone accounts for."""
    ours, theirs = two_arms(seeds=(1, 1))
    shuffled = np.column_stack([theirs, theirs[::-1]])
    error, _ = seed_error(ours, shuffled, claim="artefact")
    assert error == pytest.approx(np.sqrt(theirs.var(ddof=1) / len(theirs) / 2))
    exact = anytime(np.full((300, 1), 0.8), np.full((300, 3), 0.6))
    assert exact.standard_error == 0
    lo, hi = exact.interval()
    assert 0 < lo <= 0.2 <= hi


@pytest.mark.parametrize(("seeds", "seed_sd"), [((3, 3), 0.03), ((1, 2), 0.05)])
def test_false_beats_when_every_block_is_looked_at(seeds, seed_sd):
    """Small; benchmarks/autointerp_stopping.py has the sizes that matter. The t of the SAE means alone, which is what
    the interval would be without the sequence, is wrong far more often under the same looks."""
    beats = peeking = 0
    claim = "recipe" if seeds[0] > 2 else "artefact"
    for run in range(40):
        ours, theirs = two_arms(seeds=seeds, seed_sd=seed_sd, steps=120, rng=run)
        if claim == "artefact":
            ours = two_arms(seeds=(seeds[0], 1), seed_sd=0.0, steps=120, rng=run)[0]
        looks = [anytime(ours[:n], theirs[:n], claim=claim) for n in range(20, 121, 20)]
        beats += any(verdict_of(*look.interval(), margin=0.02) in ("BEATS", "NEGLIGIBLE") for look in looks)
        peeking += any(look.estimate > 1.645 * look.standard_error for look in looks)
    assert beats <= 40 * 0.06 + 2
    assert peeking > 40 * 0.08


def test_all_paths_of_coins_hold_the_mean():
    """Exactly: over all sequences of two outcomes the sequence leaves out the truth with at most alpha on each side."""
    missed = {True: 0, False: 0}
    for path in product((1.0, -1.0), repeat=8):
        evidence = Evidence()
        evidence.update(path)
        lo, hi = evidence.ends(0.2)
        missed[True] += lo > 0
        missed[False] += hi < 0
    assert max(missed.values()) / 2**8 <= 0.2
    assert min(missed.values()) > 0
