from __future__ import annotations

import itertools
import json
from collections import Counter

import pandas as pd
import pytest
from hub_contents import documents
from loopback_hub import Fault, loopback_hub
from tiny_site import tiny_tokenizer

from sae_sanity.suites import corpora
from sae_sanity.suites.corpora import load_texts
from sae_sanity.suites.corpus import DemoTexts
from sae_sanity.suites.near_duplicates import SHARED, normalised
from sae_sanity.suites.probe_data import read_table
from sae_sanity.suites.texts import TextSet

SMALL = {"n_train_tokens": 3000, "n_calibration_tokens": 500, "n_held_out_docs": 20}
DOCUMENTS = documents(200)


def load(source, seed=0, exclude=(), **sizes):
    return load_texts(
        str(source), **(SMALL | sizes), exclude_datasets=exclude, tokenizer=tiny_tokenizer(), seed=seed, context_size=32
    )


def refusal(source, **settings):
    with pytest.raises(ValueError) as error:
        load(source, **settings)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def write(path, texts, column="text"):
    """Texts as a file of any of the formats."""
    if path.suffix == ".txt":
        path.write_text("\n<|endoftext|>\n".join(texts))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": i, column: text}) + "\n" for i, text in enumerate(texts)))
    else:
        pd.DataFrame({"id": range(len(texts)), column: texts}).to_parquet(path)
    return path


def sets(texts):
    return [part.documents for part in (texts.train, texts.calibration, texts.held_out)]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with loopback_hub(tmp_path / "on-the-hub") as served:
        served.patched(monkeypatch, tmp_path / "home")
        yield served


# formats


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_texts(tmp_path, suffix):
    found = load(write(tmp_path / f"texts{suffix}", DOCUMENTS))
    assert sets(found) == sets(load(write(tmp_path / "other.jsonl", DOCUMENTS)))
    assert [part.name for part in (found.train, found.calibration, found.held_out)] == [
        "train",
        "calibration",
        "held_out",
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_only_column_of_text_is_the_texts(tmp_path, suffix):
    one = load(write(tmp_path / f"texts{suffix}", DOCUMENTS, column="content"))
    assert sets(one) == sets(load(write(tmp_path / "other.jsonl", DOCUMENTS)))


def test_a_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "texts/b").mkdir(parents=True)
    write(tmp_path / "texts/a.jsonl", DOCUMENTS[:50])
    write(tmp_path / "texts/b/c.parquet", DOCUMENTS[50:100])
    for number, text in enumerate(DOCUMENTS[100:]):
        (tmp_path / f"texts/z{number:03d}.txt").write_text(text)
    (tmp_path / "texts/README.md").write_text("no text of the corpus " * 20)
    (tmp_path / "texts/.hidden.txt").write_text("hidden " * 100)
    found = load(tmp_path / "texts")
    assert sets(found) == sets(load(write(tmp_path / "all.jsonl", DOCUMENTS)))


def test_the_packaged_texts(monkeypatch):
    asked = {}

    def demo_texts(**settings):
        asked.update(settings)
        counts = dict.fromkeys(("read", "short", "duplicate", "probed", "kept"), 3)
        return DemoTexts(*(TextSet(name, (name,)) for name in ("train", "calibration", "held_out")), counts)

    monkeypatch.setattr(corpora, "demo_texts", demo_texts)
    found = load("packaged", seed=4, exclude=["90_glue_qnli"])
    assert sets(found) == [("train",), ("calibration",), ("held_out",)]
    assert found.notes[0].startswith("texts: 3 prompts of sae-probes")
    assert (asked["seed"], asked["exclude_datasets"], asked["context_size"]) == (4, ["90_glue_qnli"], 32)
    assert {name: asked[name] for name in SMALL} == SMALL


# what is chosen


@pytest.fixture
def source(tmp_path):
    return write(tmp_path / "texts.jsonl", DOCUMENTS)


def test_no_document_is_in_two_sets(source):
    found = load(source)
    runs = [
        {raw[i : i + SHARED] for text in part for raw in [normalised(text)] for i in range(len(raw) - SHARED + 1)}
        for part in sets(found)
    ]
    assert all(runs)
    for one, other in itertools.combinations(runs, 2):
        assert not one & other


def test_as_much_as_was_asked_for(source):
    found = load(source)
    tokens = [sum(min(len(text.split()), 31) for text in part) for part in sets(found)]
    assert tokens[0] >= 3000 > tokens[0] - 31
    assert tokens[1] >= 500 > tokens[1] - 31
    assert len(found.held_out.documents) == 20


def test_the_seed_decides(source):
    assert sets(load(source)) == sets(load(source))
    assert sets(load(source))[2] != sets(load(source, seed=1))[2]


def test_exact_and_near_duplicates_are_left_out(tmp_path):
    copies = [*DOCUMENTS, *DOCUMENTS, *(f"Reprinted: {text.upper()}" for text in DOCUMENTS), "short"]
    # Beyond what fills six contexts nothing is used: there, copies do no harm, and are not searched for.
    more = write(tmp_path / "more.jsonl", copies)
    found = load(more, n_train_tokens=12_000)
    assert sets(found) == sets(load(write(tmp_path / "texts.jsonl", DOCUMENTS), n_train_tokens=12_000))
    assert Counter(itertools.chain(*sets(found))).most_common(1)[0][1] == 1


def test_probed_prompts_are_left_out(tmp_path):
    prompts = [str(p) for p in read_table("90_glue_qnli")["prompt"].dropna() if len(str(p)) > 260][:30]
    found = load(write(tmp_path / "texts.jsonl", [*prompts, *DOCUMENTS]), exclude=["90_glue_qnli"])
    assert "30 that do so with a probed prompt" in found.notes[0]
    assert not [text for part in sets(found) for text in part if any(text[:60] in p for p in prompts)]


def test_notes_count(source):
    (note,) = load(source).notes
    assert note.startswith(f"texts: the first 133 documents of {source}; left out 0 of under 240 characters, 0 that")
    assert note.endswith("133 documents kept")


# bounded reading


def test_no_more_is_read_than_needed(monkeypatch):
    read = []

    def endless(path):
        for number in itertools.count():
            read.append(number)
            yield from documents(1, seed=number)

    monkeypatch.setattr(corpora, "file_documents", endless)
    load(".")
    assert len(read) < 200


def test_endless_duplicates_end(monkeypatch):
    monkeypatch.setattr(corpora, "file_documents", lambda path: itertools.cycle(DOCUMENTS[:5]))
    monkeypatch.setattr(corpora, "MAX_READ", 2)
    assert "20 held-out documents wanted, but . has 5 left" in refusal(".")


def test_short_documents_make_it_read_on(tmp_path):
    # At 130 words a document fills a context four times; at 61 twice: more of them are needed.
    texts = documents(400, words=61)
    found = load(write(tmp_path / "texts.jsonl", texts), n_train_tokens=9000)
    assert sum(min(len(text.split()), 31) for text in found.train.documents) >= 9000


def test_of_a_long_document_only_the_start_is_used(tmp_path):
    texts = [" ".join(documents(1, seed=i, words=5000)) for i in range(60)]
    found = load(write(tmp_path / "texts.jsonl", texts))
    starts = [text[: 6 * 5 * 32] for text in texts]
    assert all(any(text in start for start in starts) for part in sets(found) for text in part)


def test_what_is_not_used_makes_no_duplicates(tmp_path):
    tail = documents(1, seed=9)[0]
    texts = [f"{text} {tail}" for text in documents(133, words=260)]  # the tail starts behind six contexts
    assert "133 documents of" in load(write(tmp_path / "texts.jsonl", texts)).notes[0]


# bad input


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_train_tokens": 10**6}, "1,000,000 training tokens wanted, but"),
        ({"n_calibration_tokens": 10**6}, "1,000,000 calibration tokens wanted, but"),
        ({"n_held_out_docs": 300}, "300 held-out documents wanted, but"),
    ],
)
def test_not_enough_text(source, sizes, message):
    text = refusal(source, **sizes)
    assert message in text
    assert f"{source} has " in text
    assert text.endswith("(200 documents read, 200 usable)")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text', "line 2 of"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1 of"),
        ("a.jsonl", b"[1]\n", "is list; it must be an object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "line 2 of"),
        ("a.jsonl", b'{"a": "x", "b": "y"}\n', "has no column 'text', nor a single one of text; its columns: 'a', 'b'"),
        ("a.jsonl", b'{"input_ids": [1, 2]}\n', "tokenised already (column 'input_ids')"),
        ("a.jsonl", b'{"text": "\xff"}\n', "is not text in UTF-8"),
        ("a.jsonl", b"", "has 0 left"),
        ("a.txt", b"\x00\xff\xfe", "is not text in UTF-8"),
        ("a.parquet", b"PAR1nonsense", "cannot be read as Parquet"),
        ("a.parquet", b"", "cannot be read as Parquet"),
        ("a.csv", b"text\nhello\n", "must be, or hold, files of .txt, .jsonl, .parquet"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, raw, message):
    (tmp_path / name).write_bytes(raw)
    assert message in refusal(tmp_path / name)


def test_a_parquet_file_of_tokens(tmp_path):
    pd.DataFrame({"tokens": [[1, 2]] * 3}).to_parquet(tmp_path / "a.parquet")
    assert "tokenised already (column 'tokens')" in refusal(tmp_path / "a.parquet")


def test_a_line_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr("sae_sanity.suites.text_files.MAX_CHARACTERS", 1000)
    (tmp_path / "a.jsonl").write_text('{"text": "' + "x" * 2000)
    assert "has a line of over 1,000 characters" in refusal(tmp_path / "a.jsonl")
    (tmp_path / "a.txt").write_text("word\n" * 500)
    assert "put <|endoftext|> alone on a line between" in refusal(tmp_path / "a.txt")


def test_an_empty_folder(tmp_path):
    assert "no texts in" in refusal(tmp_path)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "./nowhere", "a/b/c", "", "../x", "a b"])
def test_no_such_source(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what lies beside the checkout is nobody's business here
    assert f"no such texts: {source!r}; it must be packaged, a file or folder" in refusal(source)


# the hub


@pytest.mark.parametrize("name", ["train.jsonl", "train.parquet", "data/train-00000.parquet"])
def test_a_dataset_of_the_hub(hub, tmp_path, name):
    path = hub.repo("org/texts", "datasets") / name
    path.parent.mkdir(exist_ok=True)
    write(path, DOCUMENTS)
    assert sets(load("org/texts")) == sets(load(write(tmp_path / "same.jsonl", DOCUMENTS)))
    assert "documents of org/texts" in load("org/texts").notes[0]


def test_a_dataset_is_not_downloaded_whole(hub):
    folder = hub.repo("org/texts", "datasets")
    for number in range(5):
        write(folder / f"train-{number}.jsonl", documents(200, seed=number))
    load("org/texts")
    assert (hub.asked_for("train-0.jsonl"), hub.asked_for("train-4.jsonl")) == (1, 0)


def test_a_dataset_with_several_configurations(hub, tmp_path):
    folder = hub.repo("org/texts", "datasets")
    for name in ("a", "b"):
        (folder / name).mkdir()
        write(folder / name / "train.jsonl", documents(200, seed=ord(name)))
    configs = "".join(f"- config_name: {n}\n  data_files: {n}/train.jsonl\n" for n in "ab")
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert sets(load("org/texts:b")) == sets(load(write(tmp_path / "b.jsonl", documents(200, seed=ord("b")))))
    assert "name one as org/name:config" in refusal("org/texts")
    assert "'a', 'b'" in refusal("org/texts")


def test_a_tokenised_dataset(hub):
    rows = [json.dumps({"input_ids": [1, 2, 3]})] * 3
    (hub.repo("org/tokens", "datasets") / "train.jsonl").write_text("\n".join(rows))
    text = refusal("org/tokens")
    assert "is tokenised already (column 'input_ids'), and its texts are lost; pass texts with --texts" in text


def test_code_of_a_dataset_is_never_run(hub, tmp_path):
    marker = tmp_path / "executed"
    (hub.repo("org/script", "datasets") / "script.py").write_text(f"open({str(marker)!r}, 'w')")
    assert "needs code from its repo to be run, which is never done" in refusal("org/script")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [(Fault("gated"), "gated"), (Fault("missing"), "cannot be read"), (Fault("error"), "500")],
)
def test_faults_of_the_hub(hub, fault, message, monkeypatch):
    monkeypatch.setattr("datasets.config.STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.setattr("datasets.config.STREAMING_READ_RETRY_INTERVAL", 0)
    write(hub.repo("org/texts", "datasets") / "train.jsonl", DOCUMENTS)
    hub.faults["datasets/org/texts/train.jsonl"] = fault
    assert message in refusal("org/texts")


def test_no_such_dataset(hub):
    assert "dataset 'org/nothing' cannot be read: " in refusal("org/nothing")
    hub.die()
    assert "dataset 'org/other' cannot be read: " in refusal("org/other")
