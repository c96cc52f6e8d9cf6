from __future__ import annotations

import itertools

import numpy as np
import pytest
from tiny_site import tiny_tokenizer

from sae_sanity.suites import corpus, documents
from sae_sanity.suites.corpus import SOURCES, demo_texts
from sae_sanity.suites.documents import MAX_PASSAGES, MIN_CHARACTERS, Pool, in_rounds, passages
from sae_sanity.suites.near_duplicates import SHARED, fingerprints, normalised
from sae_sanity.suites.probe_data import DEMO, file_families, profile_datasets, read_table, related_files

# The word tokenizer knows no English, but it counts words, and nothing else of it is used.
SMALL = {"n_train_tokens": 20_000, "n_calibration_tokens": 4_000, "n_held_out_docs": 100}


@pytest.fixture(scope="module")
def choose():
    """`demo_texts` on the real tables; the search for duplicates is done once for each set of probed datasets."""
    found = {}

    def documents(exclude):
        key = frozenset(exclude)
        if key not in found:
            found[key] = original(key)
        return found[key]

    original = corpus._documents
    patch = pytest.MonkeyPatch()
    patch.setattr(corpus, "_documents", documents)
    yield lambda exclude=DEMO, seed=0, **sizes: demo_texts(
        **(SMALL | sizes), exclude_datasets=exclude, tokenizer=tiny_tokenizer(), seed=seed
    )
    patch.undo()


@pytest.fixture(scope="module")
def texts(choose):
    return choose()


def runs(texts, length=SHARED):
    """Every run of that many normalised bytes: brute force, to compare the fingerprints with."""
    found = set()
    for text in texts:
        raw = normalised(text)
        found.update(raw[i : i + length] for i in range(len(raw) - length + 1))
    return found


def prompts(names):
    return [str(prompt) for name in names for prompt in read_table(name)["prompt"].dropna()]


# disjoint, on the real tables


def test_no_run_of_80_is_in_two_sets_or_in_a_probed_prompt(texts):
    sets = {name: runs(getattr(texts, name).documents) for name in ("train", "calibration", "held_out")}
    sets["probed"] = runs(prompts(DEMO))
    assert all(sets.values())
    for one, other in itertools.combinations(sets, 2):
        assert not sets[one] & sets[other], (one, other)


def test_no_document_is_in_two_sets_whatever_its_length(texts):
    sets = [{normalised(d) for d in part.documents} for part in (texts.train, texts.calibration, texts.held_out)]
    sets.append(set(map(normalised, prompts(DEMO))))
    for one, other in itertools.combinations(sets, 2):
        assert not one & other


def test_no_two_documents_of_the_pool_share_a_run_of_80(choose):
    # By brute force on a sample, one run in eight: the whole pool has 30 million runs.
    documents, _ = corpus._documents(DEMO)
    rng = np.random.default_rng(0)
    seen = {}
    for index in rng.choice(len(documents), 4000, replace=False):
        for run in runs([documents[index]]):
            if hash(run) % 8 == 0:
                assert seen.setdefault(run, index) == index


def test_tables_of_probed_families_are_not_read(monkeypatch):
    read = []
    monkeypatch.setattr(documents, "read_table", lambda name: read.append(name) or read_table(name))
    corpus._documents(["139_news_class_Politics", "94_ai_gen"])
    assert set(read) - {"139_news_class_Politics", "94_ai_gen"} <= set(SOURCES) - {"97_news_class", "94_ai_gen"}
    assert read.count("94_ai_gen") == 1  # as a probed table, not as a source


@pytest.mark.parametrize("profile", ["smoke", "demo"])
def test_there_are_three_million_tokens(choose, profile):
    # Of words, each of which is a token at least; SmolLM2 itself counts 5.8 million.
    documents, _ = corpus._documents(profile_datasets(profile))
    n_words = sum(min(len(p.split()), 100) for d in documents for p in passages(d, 128))
    assert n_words > 3_000_000


# the choice


def test_the_same_seed_chooses_the_same_texts(choose, texts):
    again = choose()
    assert again == texts
    assert again.train.sha256 == texts.train.sha256
    assert choose(seed=1).held_out.sha256 != texts.held_out.sha256


def test_more_training_tokens_change_neither_held_out_nor_calibration_texts(choose, texts):
    more = choose(n_train_tokens=60_000)
    assert more.held_out == texts.held_out
    assert more.calibration == texts.calibration
    assert more.train.documents[: len(texts.train.documents)] == texts.train.documents


def test_as_many_tokens_as_are_asked_for(texts):
    def count(part):
        return [min(len(text.split()), 127) for text in part.documents]

    for part, asked in ((texts.train, 20_000), (texts.calibration, 4_000)):
        assert sum(count(part)) >= asked > sum(count(part)[:-1])
    assert texts.counts["train_tokens"] == sum(count(texts.train))
    assert len(texts.held_out.documents) == 100


def test_held_out_and_calibration_texts_are_one_passage_of_a_document_each(choose):
    documents, _ = corpus._documents(DEMO)
    first = {passages(document, 128)[0] for document in documents}
    chosen = choose(n_train_tokens=100)
    assert set(chosen.held_out.documents) | set(chosen.calibration.documents) <= first


def test_documents_of_many_sources_are_chosen(texts):
    families = file_families()
    source = {p: families[name] for name in SOURCES for d in prompts([name]) for p in passages(d.strip(), 128)[:1]}
    assert len({source[text] for text in texts.held_out.documents}) >= 6


def test_every_document_is_long_enough(texts):
    for part in (texts.train, texts.calibration, texts.held_out):
        assert min(map(len, part.documents)) > MIN_CHARACTERS / 2
    assert min(map(len, texts.held_out.documents)) >= MIN_CHARACTERS


def test_counts_add_up(texts):
    counts = texts.counts
    assert counts["read"] == counts["short"] + counts["duplicate"] + counts["probed"] + counts["kept"]
    assert all(str(counts[name]) in texts.notes[0] for name in ("read", "short", "duplicate", "probed", "kept"))
    assert counts["duplicate"] > 10_000  # the tables share sources: without the search they would be in several sets


def test_sources_are_tables_and_hold_no_code():
    assert len(set(SOURCES)) == len(SOURCES)
    assert set(SOURCES) <= set(file_families())
    assert not related_files(["158_code_C", "161_agnews_0"]) & set(SOURCES) - {"97_news_class"}


# bad input


def test_an_unknown_dataset(choose):
    with pytest.raises(ValueError, match="no probing dataset 'sst2'"):
        choose(exclude=("sst2",))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_train_tokens": 10**9}, r"1,000,000,000 training tokens wanted, but .* have [\d,]+ left"),
        ({"n_calibration_tokens": 10**9}, "1,000,000,000 calibration tokens wanted"),
        ({"n_held_out_docs": 10**6}, "1,000,000 held-out documents wanted"),
    ],
)
def test_more_texts_than_there_are(choose, sizes, message):
    with pytest.raises(ValueError, match=message):
        choose(**sizes)


# the parts


def test_passages_fill_a_context_and_are_cut_at_spaces():
    document = "word " * 400  # 2,000 characters
    found = passages(document, 128)
    assert [len(passage) for passage in found] == [639, 634, 634]
    assert all(set(passage.split()) == {"word"} for passage in found)


def test_a_document_gives_only_so_many_passages():
    assert len(passages("word " * 4000, 128)) == MAX_PASSAGES


def test_letters_without_a_space_are_cut_somewhere():
    assert list(map(len, passages("x" * 1500, 128))) == [320, 320, 320, 540]


@pytest.mark.parametrize(("length", "n"), [(0, 0), (239, 0), (240, 1), (640, 1), (860, 1), (900, 2)])
def test_number_of_passages(length, n):
    assert len(passages(("ab " * 400)[:length], 128)) == n


def test_training_takes_first_passages_first():
    documents = [["a1", "a2", "a3"], ["b1"], ["c1", "c2"]]
    assert list(in_rounds(documents)) == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_a_pool_takes_no_near_duplicates():
    story = " ".join(f"word{i}" for i in range(60))
    probed = " ".join(f"probed{i}" for i in range(60))
    pool = Pool(frozenset(fingerprints(probed)))
    for text in (story, story, "Prefix: " + story.upper(), probed + " and more", "short", story[::-1]):
        pool.offer(text)
    assert list(pool.documents) == [story, story[::-1]]
    assert pool.left_out == {"short": 1, "duplicate": 2, "probed": 1}
