from __future__ import annotations

import numpy as np
import pytest

from sae_sanity.suites.hard_probing.conditions import Condition, every_condition
from sae_sanity.suites.hard_probing.problems import (
    Problem,
    Skipped,
    imbalance_sizes,
    labelled,
    problems,
    prompts,
    split,
)
from sae_sanity.suites.probe_data import Sampling, families, load, quietly_import, read_table

PUBLISHED = Sampling(distinct=False)
SMALL = Sampling(260, train_share=0.5)
NAME = "41_truthqa_tf"  # 786 prompts
STANDARD = Condition("standard")


@pytest.fixture(scope="module")
def library():
    return quietly_import("sae_probes.utils_data")


def halves(n=400, positive=200):
    return (np.arange(n) < positive).astype(np.int64)


def one(dataset, condition, seed=42, sampling=SMALL):
    (found,) = problems([dataset], [condition], [seed], sampling)
    return found


# against sae-probes


@pytest.mark.parametrize("dataset", [NAME, "157_amazon_5star"])
def test_imbalance_sizes_are_those_of_sae_probes(library, dataset):
    assert imbalance_sizes(library.get_yvals(dataset)) == library.get_classimabalance_num_train(dataset)


def test_imbalance_sizes_are_those_of_sae_probes_for_every_label_count(library, monkeypatch):
    for positive, negative in [(250, 250), (130, 130), (1000, 300), (90, 2000), (2500, 2500)]:
        labels = halves(positive + negative, positive)
        monkeypatch.setattr(library, "get_yvals", lambda name, labels=labels: labels)
        assert imbalance_sizes(labels) == library.get_classimabalance_num_train("any")


@pytest.mark.parametrize("seed", [42, 7])
def test_splits_are_those_of_sae_probes(library, seed, tmp_path):
    """Its `get_xy_traintest...` on activations that are row numbers."""
    import torch

    (tmp_path / "model_activations_fake").mkdir()
    labels = library.get_yvals(NAME)
    torch.save(torch.arange(len(labels)), tmp_path / "model_activations_fake" / f"{NAME}_hook.pt")
    cases = [
        (STANDARD, {"num_train": len(labels) - 100}),
        (Condition("scarcity", 15), {"num_train": 15}),
        (Condition("imbalance", 0.2), {"pos_ratio": 0.2}),
    ]
    for condition, options in cases:
        if condition.regime == "imbalance":
            options["num_train"], options["num_test"] = library.get_classimabalance_num_train(NAME)
        x, y, x_test, y_test = library.get_xy_traintest_specify(
            numbered_dataset_tag=NAME, hook_name="hook", model_name="fake", model_cache_path=tmp_path, seed=seed,
            **options,
        )  # fmt: skip
        found = one(NAME, condition, seed, PUBLISHED)
        np.testing.assert_array_equal(found.train, x)
        np.testing.assert_array_equal(found.test, x_test)
        np.testing.assert_array_equal(found.y_train, y)
        np.testing.assert_array_equal(found.y_test, y_test)


def test_prompts_as_published_are_in_the_order_of_its_labels(library):
    np.testing.assert_array_equal(labelled(NAME, PUBLISHED).labels, library.get_yvals(NAME))


def test_a_shift_trains_on_the_rows_that_get_ood_traintest_draws(library, tmp_path):
    import torch

    name = "87_glue_cola"
    (tmp_path / "model_activations_fake").mkdir()
    torch.save(torch.arange(5000), tmp_path / "model_activations_fake" / f"{name}_hook.pt")
    x, y, _, _ = library.get_xy_traintest_specify(
        1024, name, "hook", "fake", tmp_path, MAX_AMT=1500, num_test=0, seed=42
    )
    found = one(name, Condition("shift", 1), sampling=PUBLISHED)
    np.testing.assert_array_equal(found.train, x)
    np.testing.assert_array_equal(found.y_train, y)
    assert found.test_table == "87_glue_cola_OOD"
    assert len(found.test) == len(prompts("87_glue_cola_OOD", PUBLISHED).documents) == 300


# what holds of every problem


@pytest.mark.parametrize("condition", [c for c in every_condition() if c.level not in (768, 1024)], ids=str)
def test_no_row_both_trains_and_tests_and_classes_are_as_asked(condition):
    found = split(halves(700, 350), condition, 42, Sampling(train_share=0.5))
    if isinstance(found, str):
        assert condition.level > 600
        return
    assert not set(found.train) & set(found.test)
    assert len(set(found.train)) == len(found.train)
    if condition.regime == "scarcity":
        assert len(found.train) == condition.level
    if condition.regime == "imbalance":
        assert found.y_train.sum() == np.ceil(condition.level * len(found.train))
    if condition.regime == "noise":
        wrong = (found.y_train != halves(700, 350)[found.train]).sum()
        assert wrong == int(condition.level * len(found.train))


def test_another_seed_draws_another_split_and_the_same_seed_the_same():
    first, again, other = (one(NAME, STANDARD, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.train, again.train)
    assert set(first.train) != set(other.train)


def test_order_and_sampled_prompts_are_those_of_sparse_probing():
    found = problems([NAME, "95_toxic_is"], [STANDARD, Condition("noise", 0.2)], [1, 2], SMALL)
    assert [(p.dataset, p.condition.regime, p.seed) for p in found[:4]] == [
        (NAME, "standard", 1), (NAME, "standard", 2), (NAME, "noise", 1), (NAME, "noise", 2),
    ]  # fmt: skip
    assert prompts(NAME, SMALL) == load(NAME, SMALL).texts
    assert found[0].family == families()[NAME].family


def test_conditions_can_differ_between_datasets():
    found = problems([NAME, "95_toxic_is"], lambda name: [STANDARD] if name == NAME else [], [1], SMALL)
    assert [p.dataset for p in found] == [NAME]


def test_shift_to_a_dataset_with_the_classes_the_other_way_round():
    found = one("36_sciq_tf", Condition("shift", 1))
    other = labelled("41_truthqa_tf", SMALL)
    assert isinstance(found, Problem)
    np.testing.assert_array_equal(found.y_test, 1 - other.labels[found.test])
    # what is a right answer is class 1 of the training rows, and "correct" comes before "incorrect" in the test table
    table = read_table("41_truthqa_tf").drop_duplicates("prompt").set_index("prompt")["target"]
    tested = [table[other.texts.documents[row]] for row in found.test]
    assert [target == "correct" for target in tested] == list(found.y_test == 1)
    trained = read_table("36_sciq_tf").set_index("prompt")["target"]
    assert "Q: What does a keratometer measure in the cornea?\nA: curve" in trained.index[trained == 1]


@pytest.mark.parametrize("size", [260, 1024, 2000])
def test_a_shift_trains_on_all_rows_of_the_source_but_no_more_than_sae_probes_does(size):
    labels = np.random.default_rng(0).permutation(halves(size + 3, size // 2))
    found = split(labels, Condition("shift", 1), 3, Sampling(train_share=0.5))
    assert not isinstance(found, str)
    assert found.y_train.mean() == 0.5
    assert len(set(found.train)) == len(found.train) == min(1024, size)
    assert len(found.test) == 0


# what cannot be posed


@pytest.mark.parametrize(
    ("labels", "condition", "reason"),
    [
        (halves(400, 0), STANDARD, "0 of them of class 1"),
        (halves(400, 400), STANDARD, "400 of them of class 1"),
        (halves(120), Condition("scarcity", 56), "fewer points than asked: 56 of 120"),
        (halves(100, 50), Condition("imbalance", 0.5), "100 prompts are too few to train on"),
        (halves(2), STANDARD, "2 prompts are too few to train on"),
    ],
)
def test_what_cannot_be_split_says_why(labels, condition, reason):
    found = split(labels, condition, 42, Sampling(train_share=0.5))
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("dataset", "condition", "reason"),
    [
        (NAME, Condition("scarcity", 1024), "fewer points than asked: 1024 of 260 prompts"),
        ("68_credit-card", Condition("shift", 1), "no shifted test set 1"),
        ("5_hist_fig_ismale", Condition("shift", 3), "no shifted test set 3"),
        ("90_glue_qnli", Condition("shift", 1), "lack the question"),
    ],
)
def test_what_cannot_be_posed_is_a_value(dataset, condition, reason):
    found = one(dataset, condition)
    assert isinstance(found, Skipped)
    assert (found.dataset, found.condition, found.seed) == (dataset, condition, 42)
    assert reason in found.reason


def test_a_sample_too_small_to_split_is_a_value():
    found = one(NAME, STANDARD, sampling=Sampling(50))
    assert isinstance(found, Skipped)
    assert "too few" in found.reason


def test_flips_that_leave_one_class_are_a_value(monkeypatch, library):
    monkeypatch.setattr(library, "corrupt_ytrain", lambda y, frac, seed: np.zeros_like(y))
    found = one(NAME, Condition("noise", 0.5))
    assert isinstance(found, Skipped)
    assert found.reason == "one class left in the training rows"


def test_an_unknown_dataset_is_refused():
    with pytest.raises(ValueError, match="no probing dataset 'nonsense'"):
        one("nonsense", STANDARD)
