from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats
from sklearn.metrics import roc_auc_score

from sae_sanity.suites.hard_probing.arrows import Shot
from sae_sanity.suites.hard_probing.quiver import Worth, choose, of_one, worth

BASELINES, SAE = ("logreg", "pca", "knn", "xgboost", "mlp"), ("sae_k16", "sae_k128")
REPLICATES = 4000
N_VALIDATION, N_TEST = 40, 100


def quiver(names, validation, test):
    return {name: Shot(float(v), float(t)) for name, v, t in zip(names, validation, test, strict=True)}


def noise_aucs(rng, n, arrows):
    """AUCs of scores that know nothing of the labels, by the rank sum: `[REPLICATES, arrows]`."""
    positive = n // 2
    ranks = rng.random((REPLICATES, arrows, n)).argsort(-1).argsort(-1) + 1
    return (ranks[..., :positive].sum(-1) - positive * (positive + 1) / 2) / (positive * (n - positive))


def noise_sd(n):
    """Standard deviation of the AUC of such scores: that of Mann and Whitney's U (scipy has no function for it)."""
    return math.sqrt((n + 1) / (12 * (n // 2) * (n - n // 2)))


def expected_maximum(m):
    """Mean of the largest of m standard normals, by quadrature over scipy's densities."""
    density = lambda x: x * m * stats.norm.pdf(x) * stats.norm.cdf(x) ** (m - 1)  # noqa: E731
    return integrate.quad(density, -10, 10)[0]


@pytest.fixture(scope="module")
def noise():
    """Worth, and what the best test AUC would say, of two noise arrows beside five; shape (REPLICATES, 2)."""
    rng = np.random.default_rng(0)
    validation, test = noise_aucs(rng, N_VALIDATION, 7), noise_aucs(rng, N_TEST, 7)
    found = []
    for v, t in zip(validation, test, strict=True):
        right = worth(quiver(BASELINES, v[:5], t[:5]), quiver(SAE, v[5:], t[5:])).gain
        found.append((right, t.max() - t[:5].max()))
    return np.array(found)


# pure noise


def test_the_auc_of_noise_is_that_of_sklearn_and_spreads_as_it_should():
    rng = np.random.default_rng(3)
    scores = rng.random(20)
    ranks = scores.argsort().argsort() + 1
    ours = (ranks[:10].sum() - 55) / 100
    assert ours == pytest.approx(roc_auc_score([1] * 10 + [0] * 10, scores))
    assert noise_aucs(rng, N_TEST, 1).std() == pytest.approx(noise_sd(N_TEST), rel=0.05)


def test_noise_arrows_are_worth_nothing(noise):
    gains = noise[:, 0]
    assert (gains != 0).mean() == pytest.approx(2 / 7, abs=0.03)  # chosen as often as any other noise
    assert abs(gains.mean()) < 4 * gains.std() / math.sqrt(REPLICATES)


def test_the_maximum_over_test_aucs_finds_a_win_in_the_same_noise(noise):
    wins = noise[:, 1]
    predicted = (expected_maximum(7) - expected_maximum(5)) * noise_sd(N_TEST)
    error = wins.std() / math.sqrt(REPLICATES)
    assert wins.min() >= 0
    assert wins.mean() > 10 * error  # a win that is none, and sure of itself
    assert wins.mean() == pytest.approx(predicted, abs=4 * error + 2e-4)
    assert predicted == pytest.approx(0.011, abs=0.0005)  # more than the margin of the suite


def test_an_arrow_as_good_as_the_others_is_worth_nothing_either():
    """Not noise: all arrows have AUC .8, with independent errors of validation and test."""
    rng = np.random.default_rng(1)
    validation, test = (np.clip(rng.normal(0.8, 0.04, (REPLICATES, 7)), 0, 1) for _ in range(2))
    rows = zip(validation, test, strict=True)
    gains = np.array([worth(quiver(BASELINES, v[:5], t[:5]), quiver(SAE, v[5:], t[5:])).gain for v, t in rows])
    assert abs(gains.mean()) < 4 * gains.std() / math.sqrt(REPLICATES)
    assert (test.max(1) - test[:, :5].max(1)).mean() == pytest.approx(0.0076, abs=0.001)


def test_noise_beside_baselines_that_know_something_can_only_cost():
    rng = np.random.default_rng(2)
    gains = []
    for _ in range(500):
        known = quiver(BASELINES, rng.normal(0.7, 0.05, 5), [0.7] * 5)
        gains.append(worth(known, quiver(SAE, rng.normal(0.5, 0.1, 2), [0.5, 0.5])).gain)
    assert -0.05 < np.mean(gains) <= 0


# validation alone chooses


def test_the_choice_does_not_see_test_aucs():
    rng = np.random.default_rng(4)
    validation = rng.random(7)
    first = choose(quiver(BASELINES + SAE, validation, rng.random(7)))
    for _ in range(50):
        assert choose(quiver(BASELINES + SAE, validation, rng.random(7))) == first


def test_of_equal_validation_aucs_the_first_is_chosen():
    shots = quiver(BASELINES, [0.5, 0.9, 0.9, 0.1, 0.9], [0.1] * 5)
    assert choose(shots) == "pca"
    assert choose(dict(reversed(shots.items()))) == "mlp"


def test_a_newcomer_has_to_be_better_not_as_good():
    baselines = quiver(BASELINES, [1.0] * 5, [0.6] * 5)  # two training points: every arrow fits them
    assert worth(baselines, quiver(SAE, [1.0, 1.0], [0.9, 0.9])) == Worth("logreg", "logreg", 0.0)


def test_a_planted_arrow_gains():
    baselines = quiver(BASELINES, [0.6, 0.7, 0.5, 0.6, 0.6], [0.55, 0.65, 0.99, 0.6, 0.6])
    found = worth(baselines, quiver(SAE, [0.8, 0.9], [0.7, 0.85]))
    assert (found.before, found.after, found.taken) == ("pca", "sae_k128", True)
    assert found.gain == pytest.approx(0.2)


def test_an_arrow_that_validation_overrates_costs():
    baselines = quiver(BASELINES, [0.7] * 5, [0.7] * 5)
    assert worth(baselines, quiver(SAE, [0.9, 0.1], [0.5, 0.9])).gain == pytest.approx(-0.2)


def test_no_arrow_added_is_worth_exactly_nothing():
    found = worth(quiver(BASELINES, np.linspace(0.5, 0.6, 5), [0.3] * 5), {})
    assert (found.gain, found.taken) == (0.0, False)


def test_a_bound_is_taken_whatever_validation_says():
    baselines = quiver(BASELINES, [0.7, 0.6, 0.6, 0.6, 0.6], [0.7] * 5)
    assert of_one(baselines, Shot(0.0, 0.9)) == pytest.approx(0.2)


# bad input


def test_an_empty_quiver_is_refused():
    with pytest.raises(ValueError, match="nothing to choose by"):
        worth({}, quiver(SAE, [0.5, 0.5], [0.5, 0.5]))


def test_a_validation_auc_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"nothing to choose by: .*'pca': nan"):
        choose(quiver(("logreg", "pca"), [0.5, math.nan], [0.5, 0.5]))


def test_one_name_for_two_arrows_is_refused():
    shots = quiver(BASELINES, [0.5] * 5, [0.5] * 5)
    with pytest.raises(ValueError, match="in the quiver already: pca"):
        worth(shots, {"pca": Shot(0.9, 0.9)})
