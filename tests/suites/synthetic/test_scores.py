from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import pytest
import torch
from sae_lens.synthetic import FeatureDictionary
from sae_lens.synthetic.evals import eval_sae_on_synthetic_data
from synthetic_truth import PAPER, Drawn, PlainTruth, TopKDictionary, constant, directions, variable
from tiny_saes import INFERENCE, make_sae

from sae_sanity.results.scores import Row
from sae_sanity.suites.synthetic.firing import FiringCounts, detection, run
from sae_sanity.suites.synthetic.matching import best_cosines, match_one_to_one
from sae_sanity.suites.synthetic.scores import FEATURE_METRICS, WORLD_METRICS, rate_rows, world_rows
from sae_sanity.suites.synthetic.truth import Truth

N = 500


@pytest.fixture(scope="module")
def world():
    """Thirty features in R^8; the last one never fires."""
    plain = constant(30, 8, l0=3.0, seed=4)
    return PlainTruth(plain.features, plain.rates * (torch.arange(30) < 29), plain.seed)


def by_metric(rows):
    found = defaultdict(dict)
    for row in rows:
        assert row.item not in found[row.metric]
        found[row.metric][row.item] = row.value
    return found


def saelens(sae, world, *, n, seed, batch_size):
    """SAELens' own evaluation on the same samples."""
    dense, start = world.sample(n, seed=seed).dense(len(world.features)), 0

    class Replay:
        def sample(self, size):
            nonlocal start
            start += size
            return dense[start - size : start]

    dictionary = FeatureDictionary(*world.features.shape, initializer=None)
    dictionary.feature_vectors.data = world.features
    return eval_sae_on_synthetic_data(sae, dictionary, Replay(), num_samples=n, batch_size=batch_size)


@pytest.mark.parametrize("architecture", INFERENCE)
@pytest.mark.parametrize("batch_size", [N, 64])
def test_what_saelens_measures_too_is_the_same(architecture, batch_size, world):
    sae = make_sae(architecture)
    expected = saelens(sae, world, n=N, seed=1, batch_size=batch_size)
    rows = by_metric(world_rows(sae, world, n_samples=N, seed=1, batch_size=batch_size))
    found = {metric: rows[metric]["world-4"] for metric in WORLD_METRICS}
    assert found["explained_variance"] == pytest.approx(expected.explained_variance, rel=1e-5)
    assert found["l0"] == pytest.approx(expected.sae_l0)
    assert found["dead_share"] == pytest.approx(expected.dead_latents / 20)
    assert found["uniqueness"] == expected.uniqueness
    assert found["mcc"] == pytest.approx(expected.mcc, abs=1e-6)


@pytest.mark.parametrize("architecture", INFERENCE)
def test_firing_per_latent_against_saelens_classification(architecture, world):
    sae = make_sae(architecture)
    expected = saelens(sae, world, n=N, seed=1, batch_size=N).classification
    feature_of = best_cosines(sae.W_dec.detach(), world.features, signed=False).latent
    counts = FiringCounts(feature_of, 30)
    run(sae, world.sample(N, seed=1), counts, batch_size=64)
    found = detection(counts.both, counts.latent_fires, counts.feature_fires[feature_of])
    means = [values.mean().item() for values in found]
    assert means == pytest.approx([expected.precision, expected.recall, expected.f1_score], abs=1e-6)


@pytest.mark.parametrize("d_sae", [20, 30, 50])
def test_firing_per_feature_against_dense_products(d_sae, world):
    sae, truth = TopKDictionary(directions(d_sae, 8, 3), k=4), world.sample(N, seed=1)
    rows = by_metric(world_rows(sae, world, n_samples=N, seed=1, batch_size=64))
    matched = match_one_to_one(world.features, sae.W_dec).latent
    active, fires = truth.dense(30) > 0, sae.encode(truth.activations) != 0
    expected = defaultdict(dict)
    for feature in active.any(0).nonzero().squeeze(1).tolist():
        on, fired = active[:, feature], fires[:, matched[feature]] & (matched[feature] >= 0)
        both = (on & fired).sum().item()
        expected["firing_precision"][f"4/{feature:05d}"] = both / max(fired.sum().item(), 1)
        expected["firing_recall"][f"4/{feature:05d}"] = both / on.sum().item()
        expected["firing_f1"][f"4/{feature:05d}"] = 2 * both / (fired.sum() + on.sum()).item()
    for metric, values in expected.items():
        assert rows[metric] == pytest.approx(values)
        assert "4/00029" not in rows[metric]


def test_a_latent_without_a_feature_never_fires_with_one():
    counts = FiringCounts(torch.tensor([-1, 1]), 2)
    counts.add(torch.ones(2, 2), torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert counts.both.tolist() == [0, 1]
    assert counts.latent_fires.tolist() == [2, 2]
    assert counts.feature_fires.tolist() == [1, 1]


def test_rows_have_their_items_and_clusters(world):
    rows = world_rows(make_sae("topk"), world, n_samples=N, seed=1)
    found = by_metric(rows)
    assert set(found) == {*FEATURE_METRICS, *WORLD_METRICS}
    assert {row.cluster for row in rows} == {"world-4"}
    for metric in FEATURE_METRICS[:6]:
        assert sorted(found[metric]) == [f"4/{i:05d}" for i in range(30)]
    assert all(set(found[metric]) == {"world-4"} for metric in WORLD_METRICS)
    assert all(type(row.value) is float and np.isfinite(row.value) for row in rows)


def test_bars_and_weights_against_numpy():
    plain = variable(30, 8, low=-2.0, high=-0.5, seed=4)
    near = directions(30, 8, 0)
    near[:20] = plain.features[:20] + torch.linspace(0, 0.6, 20)[:, None] * near[:20]
    rows = by_metric(world_rows(TopKDictionary(near, k=4), plain, n_samples=N, seed=1))
    values = {metric: np.array(list(rows[metric].values())) for metric in FEATURE_METRICS}
    for bar in (0.8, 0.9):
        assert 0 < (values["best_cosine"] > bar).sum() < 30
        np.testing.assert_array_equal(values[f"recovered_{bar}"], values["best_cosine"] > bar)
        np.testing.assert_array_equal(values[f"matched_{bar}"], values["matched_cosine"] > bar)
    rates = plain.rates.numpy()
    cosine = np.average(values["matched_cosine"], weights=rates)
    assert rows["weighted_cosine"]["world-4"] == pytest.approx(cosine)
    recovered = np.average(values["recovered_0.8"], weights=rates)
    assert rows["weighted_recovery_0.8"]["world-4"] == pytest.approx(recovered)


def test_rates_are_in_the_same_items(world):
    rates = world.rates.tolist()
    assert rate_rows(world) == [Row("firing_rate", f"4/{i:05d}", "world-4", rates[i]) for i in range(30)]


def test_batches_do_not_change_the_rows(world):
    sae = TopKDictionary(directions(20, 8, 3), k=4)
    rows = [world_rows(sae, world, n_samples=N, seed=1, batch_size=b) for b in (7, 64, N)]
    for other in rows[1:]:
        assert [r[:3] for r in other] == [r[:3] for r in rows[0]]
        np.testing.assert_allclose([r.value for r in other], [r.value for r in rows[0]], atol=1e-6)


def test_the_same_arguments_give_the_same_rows(world):
    sae = make_sae("jumprelu")
    assert world_rows(sae, world, n_samples=N, seed=1) == world_rows(sae, world, n_samples=N, seed=1)
    assert world_rows(sae, world, n_samples=N, seed=1) != world_rows(sae, world, n_samples=N, seed=2)


def test_a_permuted_decoder_has_the_same_primary_metric(world):
    decoder = directions(40, 8, 3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    sae, broken = TopKDictionary(decoder, k=4), TopKDictionary(decoder, k=4)
    broken.W_dec = decoder[order]
    rows = [by_metric(world_rows(s, world, n_samples=N, seed=1))["matched_cosine"] for s in (sae, broken)]
    assert rows[0] == rows[1]


def test_a_sample_without_any_firing_has_no_firing_rows(world):
    class Silent(PlainTruth):
        def sample(self, n, *, seed):
            none = torch.zeros(0, dtype=torch.int64)
            return Drawn(torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), none, none, torch.zeros(0))

    silent = Silent(world.features, world.rates, 4)
    found = by_metric(world_rows(make_sae("topk"), silent, n_samples=N, seed=1))
    assert not {metric for metric in found if metric.startswith("firing_")}
    assert len(found["matched_cosine"]) == 30


def test_bad_input_is_refused(world):
    with pytest.raises(ValueError, match="d_in is 9, the world's is 8"):
        world_rows(TopKDictionary(directions(20, 9, 3), k=4), world, n_samples=N, seed=1)
    with pytest.raises(ValueError, match="n_samples is 1;"):
        world_rows(make_sae("topk"), world, n_samples=1, seed=1)
    broken = TopKDictionary(directions(20, 8, 3), k=4)
    broken.W_dec[0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        world_rows(broken, world, n_samples=N, seed=1)


def test_the_plain_world_is_a_truth(world):
    assert isinstance(world, Truth)


@pytest.mark.parametrize(("kind", "ev", "precision"), [(constant, 0.710, 0.34), (variable, 0.703, None)])
def test_known_numbers_of_the_true_dictionary(kind, ev, precision):
    world = kind(**PAPER)
    # .375 is the best scale, found on other samples.
    rows = by_metric(world_rows(TopKDictionary(world.features, 20, 0.375), world, n_samples=8000, seed=1))
    assert rows["explained_variance"]["world-0"] == pytest.approx(ev, abs=0.004)
    assert rows["l0"]["world-0"] == 20
    for metric in ("recovered_0.9", "matched_0.9"):
        assert min(rows[metric].values()) == 1.0
    assert rows["uniqueness"]["world-0"] == rows["weighted_recovery_0.8"]["world-0"] == 1.0
    if precision is not None:  # the known one is of all firings, which in this world are equally many for all
        assert np.mean(list(rows["firing_precision"].values())) == pytest.approx(precision, abs=0.01)


def test_chance_in_the_papers_world_within_seconds():
    world = constant(**PAPER)
    sample = world.sample(20_000, seed=1)

    class Drawn(PlainTruth):  # the plain sampler is slower than what is timed
        def sample(self, n, *, seed):
            return sample

    sae, start = TopKDictionary(directions(3200, 100, 9), 20, 0.4), time.process_time()
    drawn = Drawn(world.features, world.rates)
    rows = by_metric(world_rows(sae, drawn, n_samples=20_000, seed=1))
    assert time.process_time() - start < 10  # 1.5 s on one thread
    cosines = np.array(list(rows["best_cosine"].values()))
    assert cosines.mean() == pytest.approx(0.348, abs=0.0015)
    assert cosines.std() == pytest.approx(0.029, abs=0.002)
    assert np.mean(list(rows["matched_cosine"].values())) < cosines.mean()
    assert sum(rows["recovered_0.8"].values()) == 0
