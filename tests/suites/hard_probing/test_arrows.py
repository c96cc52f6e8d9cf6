from __future__ import annotations

import json
import warnings

import joblib
import numpy as np
import pytest
import torch
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sae_sanity.suites.hard_probing import arrows
from sae_sanity.suites.hard_probing.arrows import ARROWS, Aim, Missed, Shot, calm, fitted, shoot, shoot_all
from sae_sanity.suites.hard_probing.conditions import Condition
from sae_sanity.suites.hard_probing.features import Features, as_is
from sae_sanity.suites.hard_probing.problems import problems
from sae_sanity.suites.probe_data import Sampling, quietly_import
from sae_sanity.suites.smollm2 import demo_site

DATASET = "41_truthqa_tf"
WIDTH = 6
SCARCE, IMBALANCED = Condition("scarcity", 14), Condition("imbalance", 0.2)  # six folds; the last rows held out
SHOTS = [
    *((name, condition) for name in ARROWS for condition in (Condition("standard"), SCARCE, IMBALANCED)),
    ("knn", Condition("scarcity", 2)),  # no validation
    ("knn", Condition("scarcity", 4)),  # every pair held out
]


def vectors(seed=0, n=786):
    """One vector for each prompt of the dataset, with some information about its label."""
    labels = quietly_import("sae_probes.utils_data").get_yvals(DATASET)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, WIDTH))
    x[:, :2] += 0.6 * labels[:n, None]
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """They are where sae-probes looks for activations."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "model_activations_fake").mkdir()
    torch.save(torch.from_numpy(vectors()), folder / "model_activations_fake" / f"{DATASET}_hook.pt")
    return folder


def run_of_sae_probes(cache, folder, condition, method, seed):
    """Figures of its own run, from the file that it writes."""
    library = quietly_import("sae_probes.run_baselines")
    where = {"model_cache_path": cache, "results_path": folder, "seed": seed}
    with warnings.catch_warnings(), xgboost.config_context(nthread=1), joblib.parallel_config("sequential"):
        warnings.simplefilter("ignore")
        if condition.regime == "standard":
            library.run_baseline_dataset_layer("hook", DATASET, method, "fake", **where)
        elif condition.regime == "scarcity":
            library.run_baseline_scarcity(int(condition.level), DATASET, method, "fake", "hook", **where)
        elif condition.regime == "imbalance":
            library.run_baseline_class_imbalance(condition.level, DATASET, method, "fake", "hook", **where)
        else:
            library.run_baseline_corrupt(condition.level, DATASET, method, "fake", "hook", **where)
    (file,) = [f for f in folder.rglob("*") if f.suffix in (".json", ".csv")]
    if file.suffix == ".csv":
        header, values = (line.split(",") for line in file.read_text().splitlines())
        return dict(zip(header, values, strict=True))
    return json.loads(file.read_text())[0]


def posed(condition, seed):
    (problem,) = problems([DATASET], [condition], [seed], Sampling(distinct=False))
    return problem


def data(n=130, n_test=60, signal=1.0, seed=0):
    """With 128 rows or more sae-probes has one fold: fewer rows take longer."""
    rng = np.random.default_rng(seed)
    y, y_test = np.arange(n) % 2, np.arange(n_test) % 2
    x, x_test = (rng.normal(size=(len(labels), WIDTH)).astype(np.float32) for labels in (y, y_test))
    x[:, 0] += signal * y
    x_test[:, 0] += signal * y_test
    return x, y, x_test, y_test


# against sae-probes


@pytest.mark.parametrize(("name", "condition"), SHOTS, ids=lambda x: f"{getattr(x, 'regime', x)}")
def test_exactly_what_a_run_of_sae_probes_gives(cache, tmp_path, name, condition):
    expected = run_of_sae_probes(cache, tmp_path, condition, name, seed=42)
    x, problem = vectors(), posed(condition, 42)
    shot = shoot(name, x[problem.train], problem.y_train, x[problem.test], problem.y_test, 42)
    assert shot == Shot(expected["val_auc"], expected["test_auc"])


@pytest.mark.parametrize("condition", [Condition("standard"), IMBALANCED], ids=lambda x: x.regime)
def test_a_probe_that_draws_is_that_of_sae_probes_after_the_same_seed(tmp_path, condition):
    """Above 500 activations its PCA draws from NumPy's global generator, which sae-probes seeds nowhere."""
    x = np.concatenate([vectors(), np.random.default_rng(1).normal(size=(786, 600)).astype(np.float32)], axis=1)
    (tmp_path / "model_activations_fake").mkdir()
    torch.save(torch.from_numpy(x), tmp_path / "model_activations_fake" / f"{DATASET}_hook.pt")
    found = []
    for seed in (42, 7):
        np.random.seed(seed)
        found.append(run_of_sae_probes(tmp_path, tmp_path / str(seed), condition, "pca", seed=42))
    assert found[0] != found[1]
    problem = posed(condition, 42)
    before = np.random.get_state()[1].tolist()
    shots = [shoot("pca", x[problem.train], problem.y_train, x[problem.test], problem.y_test, 42) for _ in range(2)]
    assert shots == [Shot(found[0]["val_auc"], found[0]["test_auc"])] * 2
    assert np.random.get_state()[1].tolist() == before


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """SmolLM2's activations of all prompts of the dataset, 576 wide, and where sae-probes looks for them."""
    folder = tmp_path_factory.mktemp("real")
    site = demo_site(folder / "cache", hook_name="blocks.12.hook_resid_post", context_size=128)
    x = Features(Sampling(distinct=False), None).pooled(site, DATASET, as_is).astype(np.float32)
    (folder / "model_activations_fake").mkdir()
    torch.save(torch.from_numpy(x), folder / "model_activations_fake" / f"{DATASET}_hook.pt")
    return folder, x


@pytest.mark.slow
@pytest.mark.parametrize("condition", [Condition("standard"), SCARCE, IMBALANCED], ids=lambda x: x.regime)
@pytest.mark.parametrize("name", ["logreg", "pca", "knn"])
def test_on_real_activations_likewise(real, tmp_path, name, condition):
    folder, x = real
    assert x.shape == (786, 576)
    np.random.seed(42)
    expected = run_of_sae_probes(folder, tmp_path, condition, name, seed=42)
    problem = posed(condition, 42)
    shot = shoot(name, x[problem.train], problem.y_train, x[problem.test], problem.y_test, 42)
    assert shot == Shot(expected["val_auc"], expected["test_auc"])
    assert isinstance(shot, Shot)
    assert 0.4 < shot.test_auc < 0.999


def test_noise_is_that_of_sae_probes_with_another_seed_too(cache, tmp_path):
    expected = run_of_sae_probes(cache, tmp_path, Condition("noise", 0.3), "logreg", seed=7)
    x, problem = vectors(), posed(Condition("noise", 0.3), 7)
    shot = shoot("logreg", x[problem.train], problem.y_train, x[problem.test], problem.y_test, 7)
    assert isinstance(shot, Shot)
    assert shot.validation_auc == pytest.approx(float(expected["val_auc"]), abs=1e-12)
    assert shot.test_auc == pytest.approx(float(expected["test_auc"]), abs=1e-12)


def test_order_of_arrows_is_that_of_sae_probes_methods():
    assert tuple(ARROWS) == tuple(quietly_import("sae_probes.run_baselines").METHODS)


# against sklearn


def test_test_auc_is_that_of_a_logistic_regression_on_all_training_rows():
    x, y, x_test, y_test = data()
    shot = shoot("logreg", x, y, x_test, y_test, 0)
    aucs = {
        roc_auc_score(y_test, LogisticRegression(C=c, max_iter=1000).fit(x, y).decision_function(x_test))
        for c in np.logspace(5, -5, 10)
    }
    assert isinstance(shot, Shot)
    assert min(abs(shot.test_auc - auc) for auc in aucs) < 1e-9


@pytest.mark.parametrize("name", ARROWS)
def test_validation_never_sees_the_test_rows(name):
    x, y, x_test, y_test = data()
    first = shoot(name, x, y, x_test, y_test, 42)
    flipped = shoot(name, x, y, x_test, 1 - y_test, 42)
    assert isinstance(first, Shot)
    assert isinstance(flipped, Shot)
    assert first.validation_auc == flipped.validation_auc
    assert flipped.test_auc == pytest.approx(1 - first.test_auc)


@pytest.mark.parametrize("name", ARROWS)
def test_finds_what_is_there_and_nothing_in_noise(name):
    found = shoot(name, *data(n=140, n_test=400, signal=2.5), 0)
    nothing = shoot(name, *data(n=140, n_test=400, signal=0.0), 0)
    assert isinstance(found, Shot)
    assert isinstance(nothing, Shot)
    assert found.test_auc > 0.85
    assert abs(nothing.test_auc - 0.5) < 4 * np.sqrt(401 / (12 * 200 * 200))  # sd of the Mann-Whitney AUC


@pytest.mark.parametrize(
    ("name", "n"),
    [
        *((name, n) for name in ARROWS for n in (2, 3, 4)),
        *((name, n) for name in ("pca", "knn") for n in (5, 7)),
        ("pca", 12),
    ],
)
def test_every_size_from_two_rows_on_gives_a_shot(name, n):
    assert isinstance(shoot(name, *data(n=n), 42), Shot)


# what cannot be shot


def broken(part, value):
    rows = list(data())
    rows[part] = rows[part].copy()
    rows[part][:] = value if rows[part].ndim == 1 else rows[part]
    if rows[part].ndim == 2:
        rows[part][3, 2] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (broken(0, np.nan), "NaN or infinite activations in the training rows"),
        (broken(2, np.inf), "NaN or infinite activations in the test rows"),
        (broken(1, 1), "one class left in the training rows"),
        (broken(3, 0), "one class left in the test rows"),
        (data(n=1), "1 training rows are fewer than two"),
        ((*data()[:2], *data(n_test=0)[2:]), "0 test rows are fewer than two"),
    ],
)
@pytest.mark.parametrize("name", ["logreg", "xgboost"])
def test_rows_that_cannot_be_probed_say_why(name, rows, reason):
    assert shoot(name, *rows, 42) == Missed(reason)


def test_a_validation_fold_of_one_class_is_not_an_auc():
    x, _, x_test, y_test = data(n=200)
    y = np.zeros(200, dtype=np.int64)
    y[:10] = 1  # sae-probes validates on the last forty rows
    assert shoot("logreg", x, y, x_test, y_test, 42) == Missed("one class left in every validation fold")


def test_what_the_library_cannot_fit_is_a_value():
    """Leave-two-out with one row of class 1: it is always held out, and pca has no class left to fit."""
    x, _, x_test, y_test = data(n=8)
    y = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    for name, function in (("pca", "find_best_pcareg"), ("knn", "find_best_knn")):
        shot = shoot(name, x, y, x_test, y_test, 42)
        assert isinstance(shot, Missed)
        assert f"{function} of sae-probes cannot fit 8 rows" in shot.reason
        assert "\n" not in shot.reason


def test_a_search_that_finds_nothing_above_auc_0_is_a_value(monkeypatch):
    monkeypatch.setattr("sae_probes.utils_training.roc_auc_score", lambda y, scores: 0.0)
    shot = shoot("xgboost", *data(), 42)
    assert isinstance(shot, Missed)
    assert "must be a mapping, not NoneType" in shot.reason


@pytest.mark.parametrize("error", [TypeError("no such argument"), ValueError("shapes differ"), IndexError("axis 0")])
def test_an_error_that_is_not_known_is_not_a_value(error):
    def fit(*parts, seed):
        raise error

    with pytest.raises(type(error), match=str(error)):
        fitted(fit, *data(), seed=1)


def test_an_unknown_arrow_is_refused():
    with pytest.raises(ValueError, match="no arrow 'svm': choose among logreg"):
        shoot("svm", *data(), 42)


# running


def test_no_process_is_started_and_one_thread_is_used(monkeypatch):
    """kNN of sae-probes asks joblib for every core."""

    def refuse(*args, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr("joblib.externals.loky.get_reusable_executor", refuse)
    assert isinstance(shoot("knn", *data(n=14), 42), Shot)
    seen = []
    monkeypatch.setattr(arrows, "why_not", lambda *parts, seed: "")

    def fit(*parts, seed):
        from threadpoolctl import threadpool_info

        seen.append(xgboost.get_config()["nthread"])
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        fitted(fit, *data(), seed=1)
    assert set(seen) == {1}


def test_warning_filters_are_put_back():
    before = list(warnings.filters)
    with calm():
        assert warnings.filters != before
    assert warnings.filters == before


def test_shots_come_in_the_order_of_aims_and_each_aim_is_taken_when_it_is_shot():
    """In other processes: `test_suite.py`, where one start of them serves all kinds of aims."""
    aims = [Aim(name, *data(seed=seed), seed) for seed in (1, 2) for name in ("pca", "knn")]
    taken = []
    shots = shoot_all(taken.append(n) or aim for n, aim in enumerate(aims))
    assert next(shots) == shoot("pca", *data(seed=1), 1)
    assert taken == [0]
    assert list(shots) == [aim.shoot() for aim in aims[1:]]
