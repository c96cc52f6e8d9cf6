from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from sae_lens import TopKSAE, TopKSAEConfig
from sklearn.metrics import roc_auc_score

from sae_sanity.suites.hard_probing import sae_arrow
from sae_sanity.suites.hard_probing.arrows import Missed, Shot, shoot
from sae_sanity.suites.hard_probing.conditions import Condition
from sae_sanity.suites.hard_probing.dense import hits
from sae_sanity.suites.hard_probing.problems import problems
from sae_sanity.suites.hard_probing.quiver import choose
from sae_sanity.suites.hard_probing.sae_arrow import SaeAim, auc, live_latents, shoot_best, shoot_sae
from sae_sanity.suites.probe_data import Sampling, quietly_import

DATASET, D_IN, D_SAE = "41_truthqa_tf", 16, 160
SCARCE = Condition("scarcity", 14)
RUNS = [("l2", SCARCE), ("l2", Condition("standard")), ("l2", Condition("imbalance", 0.2)), ("l1", SCARCE)]
"""l1 takes 3 to 10 times as long."""


def topk(k=80):
    torch.manual_seed(0)
    sae = TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=k, apply_b_dec_to_input=False))
    with torch.no_grad():
        sae.W_enc.copy_(torch.randn(D_IN, D_SAE))
    return sae


@pytest.fixture(scope="module")
def activations():
    labels = quietly_import("sae_probes.utils_data").get_yvals(DATASET)
    x = np.random.default_rng(0).normal(size=(len(labels), D_IN)).astype(np.float32)
    x[:, :3] += 0.5 * labels[:, None]
    return x


def noise(n=130, n_test=400, d=500, seed=0):
    """With 128 rows or more sae-probes has one fold: fewer rows take longer."""
    rng = np.random.default_rng(seed)
    x, x_test = (np.maximum(rng.normal(size=(m, d)), 0).astype(np.float32) for m in (n, n_test))
    return x, np.arange(n) % 2, x_test, np.arange(n_test) % 2


# against sae-probes


@pytest.mark.parametrize(("penalty", "condition"), RUNS, ids=lambda x: f"{getattr(x, 'regime', x)}")
def test_exactly_what_a_run_of_sae_probes_gives(tmp_path, activations, condition, penalty):
    sae, ks = topk(), [16, 128] if condition.regime == "standard" else [16]
    (tmp_path / "model_activations_fake").mkdir()
    torch.save(torch.from_numpy(activations), tmp_path / "model_activations_fake" / f"{DATASET}_hook.pt")
    library = quietly_import("sae_probes.run_sae_evals")
    # Its `run_sae_evals` runs every level; this is what it calls for one of them.
    setting = {"standard": "normal"}.get(condition.regime, condition.regime)
    level = {"scarcity": {"num_train": int(condition.level)}, "imbalance": {"frac": condition.level}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.run_sae_eval(
            sae, DATASET, "hook", penalty, setting, "fake", tmp_path, device="cpu", ks=ks,
            results_path=tmp_path / "out", **level.get(condition.regime, {}),
        )  # fmt: skip
    (file,) = (tmp_path / "out").rglob("*.json")
    expected = [Shot(each["val_auc"], each["test_auc"]) for each in json.loads(file.read_text())]
    (problem,) = problems([DATASET], [condition], [42], Sampling(distinct=False))
    with torch.inference_mode():
        latents = sae.encode(torch.from_numpy(activations)).float().numpy()
    parts = (latents[problem.train], problem.y_train, latents[problem.test], problem.y_test)
    assert [shoot_sae(*parts, 42, k, penalty, "published") for k in ks] == expected
    assert shoot_sae(*parts, 42, 16, penalty).test_auc == expected[0].test_auc


# validation that may choose an arrow


def test_published_validation_finds_signal_in_noise_and_reselected_validation_does_not():
    """Latents that are selected on the rows that validate them validate well, whatever they are."""
    rows = [noise(n_test=60, seed=seed) for seed in range(8)]
    published = [shoot_sae(*each, 42, 16, validation="published") for each in rows]
    reselected = [shoot_sae(*each, 42, 16) for each in rows]
    dense = np.mean([shoot("pca", *each, 42).validation_auc for each in rows])
    found = np.mean([shot.validation_auc for shot in published])
    assert found > 0.8  # and so it would be chosen nearly always
    sd = np.sqrt(27 / (12 * 13 * 13) / 8)  # of the mean of 8 Mann-Whitney AUCs with 13 rows of each class
    assert abs(np.mean([shot.validation_auc for shot in reselected]) - 0.5) < 4 * sd
    assert 0.5 - 4 * sd < dense < found - 0.1  # its AUC is the best of ten


@pytest.mark.parametrize("n", [10, 14, 60, 130])
def test_where_all_latents_are_selected_validation_is_that_of_sae_probes(n):
    """Nothing can leak then: the same folds, the same grid, the best of it."""
    x, y, x_test, y_test = noise(n=n, n_test=60, d=20)
    x[:, 7] += y
    published, reselected = (
        shoot_sae(x, y, x_test, y_test, 42, 20, validation=how) for how in ("published", "reselected")
    )
    assert reselected.validation_auc == pytest.approx(published.validation_auc, abs=1e-9)


def test_auc_is_that_of_sklearn():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=30), np.round(rng.normal(size=(5, 30)), 1)
    assert auc(labels, scores) == pytest.approx([roc_auc_score(labels, each) for each in scores])


def test_reselected_validation_finds_signal_where_there_is_some():
    x, y, x_test, y_test = noise(n=200)
    x[:, 7] += y
    x_test[:, 7] += y_test
    shot = shoot_sae(x, y, x_test, y_test, 1, 16)
    assert shot.validation_auc > 0.7
    assert shot.test_auc > 0.65


@pytest.mark.parametrize("n", [4, 14, 130])
def test_validation_never_sees_the_test_rows(n):
    x, y, x_test, y_test = noise(n=n)
    first, other = (shoot_sae(x, y, x_test, labels, 1, 16) for labels in (y_test, 1 - y_test))
    assert first.validation_auc == other.validation_auc
    assert other.test_auc == pytest.approx(1 - first.test_auc)


# tested only where validation is best


@pytest.mark.parametrize("n", [3, 14, 130])
def test_what_can_be_chosen_is_what_it_would_be_with_every_arrow_tested(n):
    for seed in range(2):
        x, y, x_test, y_test = noise(n=n, n_test=60, seed=seed)
        x[:, seed] += y
        every = {str(k): shoot_sae(x, y, x_test, y_test, 42, k) for k in (400, 2, 600, 16)}
        found = dict(zip(every, shoot_best(x, y, x_test, y_test, 42, (400, 2, 600, 16)), strict=True))
        best = choose(hits(every))
        assert (choose(hits(found)), found[best], found["600"]) == (best, every[best], every["600"])
        assert [s.validation_auc for s in hits(found).values()] == [s.validation_auc for s in hits(every).values()]
        tested = [name for name, shot in hits(found).items() if np.isfinite(shot.test_auc)]
        assert tested == ([best] if n > 3 else list(hits(every)))


def test_an_arrow_that_validates_best_and_cannot_be_tested_is_not_in_the_quiver(monkeypatch):
    tried = []

    def cannot(*parts):
        tried.append(parts[5])
        return Missed("no") if len(tried) == 1 else Shot(0.5, 0.6)

    monkeypatch.setattr(sae_arrow, "_published", cannot)
    found = dict(zip((4, 16), shoot_best(*noise(n_test=60), 42, (4, 16)), strict=True))
    assert found[tried[0]] == Missed("no")
    assert found[tried[1]].test_auc == 0.6


# the k latents, and when there are none


def test_only_the_selected_latents_are_read():
    """One latent tells the classes apart; with k = 1 everything else may change in the test rows."""
    x, y, x_test, y_test = noise()
    x[:, 7], x_test[:, 7] = 3 * y, 3 * y_test
    first = shoot_sae(x, y, x_test, y_test, 1, 1)
    x_test[:, :7] = 0
    assert shoot_sae(x, y, x_test, y_test, 1, 1) == first == Shot(1.0, 1.0)


def test_k_above_the_live_latents_is_a_value():
    x, y, x_test, y_test = noise()
    x[:, 20:] = 0  # they fire on test documents only
    assert live_latents(x) == 20
    assert isinstance(shoot_sae(x, y, x_test, y_test, 1, 20), Shot)
    missed = shoot_sae(x, y, x_test, y_test, 1, 21)
    assert missed == Missed("k = 21 is above the 20 latents that fire on the training documents")


def test_nan_and_one_class_are_values():
    x, y, x_test, y_test = noise()
    assert shoot_sae(x, 0 * y, x_test, y_test, 1, 16) == Missed("one class left in the training rows")
    x[0, 0] = np.nan
    assert shoot_sae(x, y, x_test, y_test, 1, 16) == Missed("NaN or infinite activations in the training rows")


@pytest.mark.parametrize("n", [14, 130])
def test_columns_that_are_left_out_change_no_digit_and_are_not_sent(n):
    """Many latents fire on one document alone, so that ranks have ties, and others on test documents only."""
    x, y, x_test, y_test = noise(n=n, n_test=60)
    rng = np.random.default_rng(1)
    x[rng.random(x.shape) < 1 - 2 / n] = 0
    x_test[rng.random(x_test.shape) < 0.5] = 0
    aim = SaeAim.of(x, y, x_test, y_test, 42, (30, 499))
    assert aim.x_train.shape[1] == live_latents(x) < 490
    assert x_test[:, (x == 0).all(axis=0)].any()
    shots = tuple(shoot_sae(x, y, x_test, y_test, 42, k) for k in (30, 499))
    assert aim.shoot() == shots  # the one that is not missed is tested
    assert [type(shot) for shot in shots] == [Shot, Missed]


def test_a_latent_that_is_nan_on_test_documents_alone_is_still_seen():
    x, y, x_test, y_test = noise(n=14)
    x[:, 3], x_test[5, 3] = 0, np.nan
    shots = SaeAim.of(x, y, x_test, y_test, 42, (16,)).shoot()
    assert shots == (Missed("NaN or infinite activations in the test rows"),)


def test_k_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be at least 1 and is 0"):
        shoot_sae(*noise(), 1, 0)
