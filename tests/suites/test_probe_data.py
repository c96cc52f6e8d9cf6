from __future__ import annotations

import hashlib
import warnings
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest

from sae_sanity.suites import probe_data
from sae_sanity.suites.probe_data import (
    DEMO,
    SMOKE,
    Sampling,
    families,
    file_families,
    load,
    membership,
    profile_datasets,
    quietly_import,
    read_table,
    related_files,
)

OVERLAP = 0.05
"""Largest share of the smaller dataset's prompts that two families may have in common."""


@pytest.fixture(scope="module")
def prompts():
    return {name: frozenset(map(str, read_table(name)["prompt"])) for name in families()}


@pytest.fixture(scope="module")
def library():
    return quietly_import("sae_probes.utils_data")


def _shared(one, other):
    return len(one & other) / min(len(one), len(other))


# families


def test_families_cover_exactly_the_datasets_in_order(library):
    assert list(families()) == library.get_numbered_binary_tags()


def test_every_row_has_a_family_and_a_reason():
    rows = probe_data._rows("probe_families.csv")
    assert len(rows) == len({row["dataset"] for row in rows}) == 113
    assert all(row["family"] and row["reason"] and row["use"] for row in rows)


def test_there_are_forty_families():
    assert len({member.family for member in families().values()}) == 40


def test_no_two_datasets_of_different_families_share_prompts(prompts):
    shared = {
        (a, b): _shared(prompts[a], prompts[b])
        for a, b in combinations(prompts, 2)
        if families()[a].family != families()[b].family
    }
    assert {pair: share for pair, share in shared.items() if share > OVERLAP} == {}


def test_no_two_families_share_prompts_when_their_datasets_are_put_together(prompts):
    pooled = defaultdict(frozenset)
    for name, texts in prompts.items():
        pooled[families()[name].family] |= texts
    shared = {pair: _shared(pooled[pair[0]], pooled[pair[1]]) for pair in combinations(pooled, 2)}
    assert {pair: share for pair, share in shared.items() if share > OVERLAP} == {}


def test_datasets_that_do_share_prompts_are_in_one_family(prompts):
    """The other direction, on pairs that only the files can tell."""
    for a, b in (("158_code_C", "161_agnews_0"), ("118_us_state_CA", "122_us_timezone_Los_Angeles")):
        assert _shared(prompts[a], prompts[b]) > OVERLAP
        assert families()[a].family == families()[b].family


def test_no_usable_dataset_has_the_bytes_of_another():
    folder = probe_data._data_folder()
    usable = [name for name, member in families().items() if member.use == "yes"]
    hashes = Counter(hashlib.sha256((folder / f"{name}.csv.zst").read_bytes()).digest() for name in usable)
    assert max(hashes.values()) == 1


def test_sst2_phrases_come_from_the_movie_sentences(prompts):
    """No prompt is identical, so that only the words can show that the source is one."""
    assert families()["92_glue_sst2"].family == families()["113_movie_sent"].family
    sentences = "\n".join(prompts["113_movie_sent"])
    phrases = [p.strip() for p in prompts["92_glue_sst2"] if len(p.split()) >= 8]
    assert sum(p in sentences for p in phrases) / len(phrases) > OVERLAP


def test_temporal_questions_are_inside_the_prompts_of_temp_sense(prompts):
    assert families()["42_temp_sense"].family == families()["130_temp_cat_Frequency"].family
    inside = {line for prompt in prompts["42_temp_sense"] for line in prompt.split("\n")}
    assert _shared(prompts["130_temp_cat_Frequency"], frozenset(inside)) > 0.5


# files


def test_every_table_of_the_wheel_has_a_family():
    tables = {path.name.removesuffix(".csv.zst") for path in probe_data._data_folder().glob("*.csv.zst")}
    assert set(file_families()) == tables


def test_related_files_hold_the_table_that_a_dataset_was_cut_from():
    related = related_files(["140_news_class_Technology"])
    assert {"97_news_class", "139_news_class_Politics", "161_agnews_0", "158_code_C"} <= related
    assert "100_news_fake" not in related


def test_the_demo_leaves_long_prose_to_training():
    left = set(file_families()) - related_files(DEMO)
    assert {"94_ai_gen", "98_cancer_cat", "100_news_fake", "48_cm_correct", "111_yelp_data"} <= left


def test_files_left_for_training_share_no_prompt_set_with_the_demo(prompts):
    probed = frozenset().union(*(prompts[name] for name in DEMO))
    left = set(file_families()) - related_files(DEMO)
    # Binary files that are left; the other ones hold the same prompts or texts of their own.
    assert all(_shared(prompts[name], probed) <= OVERLAP for name in left & set(prompts))


# profiles


@pytest.mark.parametrize("profile", ["smoke", "demo"])
def test_small_profiles_take_one_dataset_of_each_family(profile):
    chosen = profile_datasets(profile)
    assert len({membership(name).family for name in chosen}) == len(chosen)


def test_profiles_have_their_sizes():
    assert (len(SMOKE), len(DEMO), len(profile_datasets("release"))) == (4, 16, 113)
    assert profile_datasets("smoke") == SMOKE


def test_an_unknown_profile_is_named():
    with pytest.raises(ValueError, match="no probing profile 'big': choose one of smoke, demo, release"):
        profile_datasets("big")


# loading


def test_an_unknown_dataset_is_named():
    with pytest.raises(ValueError, match="no probing dataset '1_nothing'"):
        load("1_nothing", Sampling())


def test_without_the_wheel_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(probe_data, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install sae-probes"):
        read_table("87_glue_cola")


@pytest.mark.parametrize("name", ["87_glue_cola", "41_truthqa_tf", "21_headline_istrump", "65_high-school"])
def test_as_published_against_sae_probes(name, library):
    data = load(name, Sampling(distinct=False))
    table = library.read_numbered_dataset_df(name)
    assert list(data.texts.documents) == table["prompt"].astype(str).tolist()
    labels = library.get_yvals(name)
    np.testing.assert_array_equal(data.labels, labels)
    n = min(len(labels) - 100, 1024)
    train, test = library.get_train_test_indices(labels, n, len(labels) - n - 1, seed=42)
    np.testing.assert_array_equal(data.train, train)
    np.testing.assert_array_equal(data.test, test)


@pytest.mark.parametrize("name", DEMO)
def test_demo_datasets_load_balanced_distinct_and_disjoint(name):
    data = load(name, Sampling(600, train_share=0.5))
    documents = data.texts.documents
    assert len(set(documents)) == len(documents) <= 600
    assert len(documents) >= 470
    assert data.labels.mean() == 0.5
    assert not set(data.train) & set(data.test)
    assert not {documents[i] for i in data.train} & {documents[i] for i in data.test}
    assert abs(data.labels[data.train].mean() - 0.5) < 0.01
    assert len(data.train) == len(documents) // 2
    assert len(data.test) == len(documents) - len(data.train) - 1


def test_as_published_test_prompts_are_seen_in_training():
    """Why `distinct` is the default."""
    data = load("142_cancer_cat_Thyroid_Cancer", Sampling(distinct=False))
    seen = {data.texts.documents[i] for i in data.train}
    assert np.mean([data.texts.documents[i] in seen for i in data.test]) > 0.5


def test_the_cap_keeps_labels_with_their_prompts():
    table = read_table("96_spam_is").drop_duplicates("prompt").set_index("prompt")["target"]
    data = load("96_spam_is", Sampling(100, train_share=0.5))
    assert len(data.labels) == 100
    assert [table[p] for p in data.texts.documents] == list(data.labels)


def test_prompts_with_both_labels_are_left_out():
    table = read_table("95_toxic_is")
    both = set(table.groupby("prompt")["target"].nunique().loc[lambda n: n > 1].index)
    assert both
    assert not both & set(load("95_toxic_is", Sampling(train_share=0.5)).texts.documents)


def test_a_seed_is_a_draw_and_a_split():
    one, again, other = (load("87_glue_cola", Sampling(200, seed=seed)) for seed in (1, 1, 2))
    assert one.sha256 == again.sha256 != other.sha256
    assert one.texts.documents != other.texts.documents


def test_the_hash_covers_labels_and_split():
    data = load("87_glue_cola", Sampling(200))
    flipped = probe_data.ProbeSet(data.name, data.family, data.texts, 1 - data.labels, data.train, data.test)
    swapped = probe_data.ProbeSet(data.name, data.family, data.texts, data.labels, data.test, data.train)
    assert len({data.sha256, flipped.sha256, swapped.sha256}) == 3


@pytest.mark.parametrize("sampling", [Sampling(100), Sampling(2, train_share=0.5), Sampling(50, train_share=1.0)])
def test_too_few_prompts_are_refused(sampling):
    with pytest.raises(ValueError, match=r"probing dataset '96_spam_is': \d+ prompts are too few"):
        load("96_spam_is", sampling)


@pytest.mark.parametrize(("size", "expected"), [(200, 100), (728, 628), (1124, 1024), (5000, 1024)])
def test_training_size_as_in_sae_probes(size, expected):
    assert Sampling().num_train(size) == expected


def test_importing_the_library_leaves_the_warning_filters_alone():
    with warnings.catch_warnings():
        before = list(warnings.filters)
        quietly_import("sae_probes.run_sae_evals")
        assert warnings.filters == before
