from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import precision_score, roc_auc_score

from sae_sanity.suites.hard_probing.problems import labelled
from sae_sanity.suites.hard_probing.quality import (
    CUED,
    Search,
    against_cue,
    dense_probe,
    plant,
    precision_at_n,
    precision_within_classes,
    suspicion,
    top_latent,
)
from sae_sanity.suites.hard_probing.sae_arrow import ranked
from sae_sanity.suites.probe_data import WITH_BAD_EXAMPLES, Sampling, families, quietly_import


def examples(n=200, width=12, seed=0, *, signal=3.0):
    """Features of which the first tells the classes apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    features = rng.normal(size=(n, width)).astype(np.float32)
    features[:, 0] += signal * labels
    return features, labels


# precision at n


def test_precision_is_that_of_sklearn_where_no_scores_are_equal():
    rng = np.random.default_rng(0)
    for _ in range(50):
        wrong, scores = rng.random(80) < 0.2, rng.random(80)
        named = np.zeros(80, dtype=bool)
        named[np.argsort(-scores)[: wrong.sum()]] = True
        assert precision_at_n(scores, wrong) == pytest.approx(precision_score(wrong, named))


def test_random_scores_have_the_mean_and_spread_of_the_hypergeometric_distribution():
    rng = np.random.default_rng(1)
    wrong = np.arange(120) < 18
    found = np.array([precision_at_n(rng.random(120), wrong) for _ in range(4000)])
    expected = stats.hypergeom(120, 18, 18)
    assert found.mean() == pytest.approx(expected.mean() / 18, abs=4 * expected.std() / 18 / np.sqrt(4000))
    assert found.std() == pytest.approx(expected.std() / 18, rel=0.05)


def test_equal_scores_count_as_the_mean_over_their_orders():
    wrong = np.array([True, False, True, False, False])
    scores = np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    by_hand = []
    for order in itertools.permutations([1, 2, 3]):
        broken = scores.copy()
        broken[list(order)] += [0.3, 0.2, 0.1]
        by_hand.append(precision_at_n(broken, wrong))
    assert precision_at_n(scores, wrong) == pytest.approx(np.mean(by_hand))


def test_scores_without_information_have_exactly_the_planted_rate():
    wrong = np.arange(50) % 10 == 3
    assert precision_at_n(np.zeros(50), wrong) == pytest.approx(0.1)


def test_the_best_and_the_worst_order():
    wrong = np.arange(30) < 7
    assert precision_at_n(wrong.astype(float), wrong) == 1.0
    assert precision_at_n(-wrong.astype(float), wrong) == 0.0


def test_without_an_error_there_is_nothing_to_find():
    with pytest.raises(ValueError, match="no label is wrong"):
        precision_at_n(np.zeros(4), np.zeros(4, dtype=bool))


# planted errors


@pytest.mark.parametrize("rate", [0.1, 0.25])
def test_errors_are_those_of_sae_probes_and_known(rate):
    _, labels = examples()
    planted = plant(labels, 7, rate)
    library = quietly_import("sae_probes.utils_data")
    assert np.array_equal(planted.labels, library.corrupt_ytrain(labels, rate, seed=7))
    assert planted.wrong.sum() == int(200 * rate)
    assert np.array_equal(np.where(planted.wrong, 1 - planted.labels, planted.labels), labels)


def test_other_seeds_plant_other_errors():
    _, labels = examples()
    assert not np.array_equal(plant(labels, 0).wrong, plant(labels, 1).wrong)


def test_the_tables_of_the_paper_are_in_the_wheel():
    assert all(families()[name].use == "yes" for name in WITH_BAD_EXAMPLES)


# who finds them


def test_parts_on_unequal_scales_are_of_equal_weight():
    """A classifier with a large C has large log-odds: its part must not fill the list of suspects."""
    _, labels = examples()
    planted = plant(labels, 0)
    truth = np.where(planted.wrong, 1 - planted.labels, planted.labels) + np.random.default_rng(0).normal(0, 0.3, 200)
    features = truth[:, None]
    scales = itertools.cycle([1e-3, 1.0, 1e3, 1.0, 1e-3])

    def alike(x, y, x_new, y_new, seed):
        return x_new[:, 0] - 0.5

    def unlike(x, y, x_new, y_new, seed):
        scale = next(scales)
        return scale * (x_new[:, 0] - 0.5) + 7 * scale

    assert np.array_equal(*(suspicion(features, planted.labels, 0, fit) for fit in (alike, unlike)))
    assert precision_at_n(suspicion(features, planted.labels, 0, unlike), planted.wrong) > 0.6


@pytest.mark.parametrize("fit", [dense_probe, top_latent])
def test_classes_one_after_the_other_are_as_good_as_any_order(fit):
    """sae-probes validates on the last rows, which would be of one class: C could not be chosen."""
    features, labels = examples(signal=2.0)
    features[:, 1:] *= 30
    order = np.argsort(labels, kind="stable")
    scores = fit(features[order], labels[order], features, labels, 0)
    assert np.isfinite(scores).all()
    assert roc_auc_score(labels, scores) > 0.85


@pytest.mark.parametrize("fit", [dense_probe, top_latent])
def test_a_method_that_knows_finds_errors_and_one_that_does_not_is_at_the_rate(fit):
    found = {}
    for signal in (4.0, 0.0):
        scores = []
        for seed in range(2):
            features, labels = examples(seed=seed, signal=signal)
            planted = plant(labels, seed)
            scores.append(precision_at_n(suspicion(features, planted.labels, seed, fit), planted.wrong))
        found[signal] = np.mean(scores)
    assert found[4.0] > 0.6
    assert found[0.0] < 0.25


def test_the_own_label_of_an_example_is_not_seen():
    """A method that memorises its training examples would never suspect one of them."""
    features, labels = examples(signal=0.0)
    seen = []

    def fit(x, y, x_new, y_new, seed):
        seen.append((x, x_new))
        return np.zeros(len(x_new))

    suspicion(features, labels, 0, fit)
    for x, x_new in seen:
        assert not {row.tobytes() for row in x} & {row.tobytes() for row in x_new}
    assert sum(len(x_new) for _, x_new in seen) == len(labels)


def test_the_labels_of_the_part_that_is_scored_do_not_matter():
    features, labels = examples()
    parts = (features[:150], labels[:150], features[150:])
    for fit in (dense_probe, top_latent):
        first = fit(*parts, labels[150:], 0)
        assert np.array_equal(fit(*parts, 1 - labels[150:], 0), first)


def test_the_top_latent_is_one_latent():
    features, labels = examples()
    changed = features.copy()
    changed[:, 1:] = np.random.default_rng(9).permutation(changed[:, 1:])
    assert np.array_equal(suspicion(features, labels, 0, top_latent), suspicion(changed, labels, 0, top_latent))


@pytest.mark.parametrize("sparse", [False, True])
def test_the_top_latent_puts_examples_in_the_order_of_sae_probes_logistic_regression_on_it(sparse):
    """Whichever C that chooses: on one feature the order is the same, ties among latents that are 0 included."""
    for seed in range(6):
        features, labels = examples(n=120, width=5, seed=seed, signal=1.5 * (-1) ** seed)
        if sparse:
            features = np.maximum(features, 0)
        x, x_new, y, y_new = features[:80], features[80:], labels[:80], labels[80:]
        best = ranked(x, y)[:1]
        theirs = dense_probe(x[:, best], y, x_new[:, best], y_new, seed)
        assert len(np.unique(theirs)) > 5
        assert np.array_equal(stats.rankdata(top_latent(x, y, x_new, y_new, seed)), stats.rankdata(theirs))


def test_undefined_latents_suspect_nobody():
    features, labels = examples()
    planted = plant(labels, 0)
    features[3, 5] = np.nan
    assert precision_at_n(suspicion(features, planted.labels, 0, top_latent), planted.wrong) == pytest.approx(0.1)


def test_dead_latents_are_at_the_rate():
    """They have one log-odds for each part, and so one rank."""
    _, labels = examples()
    planted = plant(labels, 0)
    found = suspicion(np.zeros((200, 4)), planted.labels, 0, top_latent)
    assert precision_at_n(found, planted.wrong) == pytest.approx(0.1)


# a spurious cue


def test_who_speaks_against_the_cue():
    texts, labels = ["a.", "b!", "c? ", "d", "e.", "f"], np.array([1, 1, 1, 1, 0, 0])
    assert against_cue(texts, labels).tolist() == [False, False, False, True, True, False]
    assert against_cue(texts, 1 - labels).tolist() == [False, False, False, True, True, False]


def test_the_cue_is_in_the_table():
    """The paper's finding: most machine texts end with a full stop, and many human ones do not."""
    table = labelled(CUED, Sampling(500, train_share=0.5))
    against = against_cue(table.texts.documents, table.labels)
    assert against[table.labels == 1].mean() < 0.1
    assert 0.5 < against[table.labels == 0].mean() < 0.7
    assert CUED in WITH_BAD_EXAMPLES


def test_a_latent_that_reads_the_cue_finds_what_speaks_against_it_and_one_that_does_not_finds_less():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    against = rng.random(400) < np.where(labels == 1, 0.06, 0.4)
    cue = (labels == 1) != against
    for_cue, for_question = (x[:, None] + 0.3 * rng.random((400, 5)) for x in (3.0 * cue, 3.0 * labels))
    found = [Search(x.astype(np.float32), labels, 0, top_latent, against).shoot() for x in (for_cue, for_question)]
    assert found[0] > 0.85
    assert found[1] == pytest.approx(luck(against, labels), abs=0.12)


@pytest.mark.parametrize("fires", [(0.0, 0.2), (0.2, 0.0), (0.9, 0.1)], ids=str)
def test_a_latent_that_knows_the_label_and_not_the_cue_has_luck(fires):
    """However rarely it fires, and on whichever class: pooled over classes such latents had from .06 to .60."""
    found, lucky = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = np.arange(400) % 2
        against = rng.random(400) < np.where(labels == 1, 0.06, 0.6)
        latent = (rng.random(400) < np.where(labels == 1, *fires[::-1])).astype(np.float32)
        found.append(Search(latent[:, None], labels, seed, top_latent, against).shoot())
        lucky.append(luck(against, labels))
    error = np.std(found) / np.sqrt(20)
    assert abs(np.mean(found) - np.mean(lucky)) < 3 * error + 0.002


def luck(against, labels):
    """Expected share where as many are drawn at random of each label as are wanted there."""
    each = [(against[labels == label].sum(), (labels == label).sum()) for label in (0, 1)]
    return sum(n * n / of for n, of in each) / against.sum()


def test_precision_within_classes_is_that_of_each_weighted_by_how_many_are_wanted():
    rng = np.random.default_rng(0)
    scores, wanted, labels = rng.random(90), rng.random(90) < 0.3, np.arange(90) % 2
    one, other = (precision_at_n(scores[labels == label], wanted[labels == label]) for label in (1, 0))
    n = [wanted[labels == label].sum() for label in (1, 0)]
    assert precision_within_classes(scores, wanted, labels) == pytest.approx(np.average([one, other], weights=n))
    only = wanted & (labels == 1)
    assert precision_within_classes(scores, only, labels) == pytest.approx(one)
