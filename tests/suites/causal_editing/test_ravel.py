"""RAVEL's files read and written: against SAEBench's own reader, the real hub client, and files of strangers."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import constants
from loopback_hub import Fault, loopback_hub

from sae_sanity.suites.causal_editing.ravel import RavelData, Source, file_names, load_ravel, save_ravel

PROMPTS, PROMPT_SPLITS, FACTS, ENTITY_SPLITS = file_names("city")
CITIES = {
    "Zürich": {"Country": "Switzerland", "Language": "German"},
    "São Paulo": {"Country": "Brazil", "Language": "Portuguese"},
    "Bern": {"Country": "Switzerland", "Language": "German"},
    "Porto": {"Country": "Portugal", "Language": "Portuguese"},
}
TEMPLATES = {"Country": ("%s is in", '{"city": "%s", "in": "'), "Language": ("In %s they speak", "%s, 100% in")}
SPLITS = {"%s is in": "train", '{"city": "%s", "in": "': "val", "In %s they speak": "train", "%s, 100% in": "test"}
SOURCE = Source("GeoNames", "1", "CC BY 4.0", "https://www.geonames.org", "cities")


@pytest.fixture
def data() -> RavelData:
    halves = dict(zip(CITIES, ("train", "train", "test", "val"), strict=True))
    return RavelData("city", CITIES, TEMPLATES, halves, SPLITS, (SOURCE, Source("ours", "", "MIT", "", "templates")))


@pytest.fixture
def folder(data, tmp_path):
    save_ravel(data, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with loopback_hub(tmp_path / "on-the-hub") as served:
        served.patched(monkeypatch, tmp_path / "home")
        yield served


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit(folder, name, change):
    value = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(value) or value))


def refused(where, *arguments) -> str:
    with pytest.raises(ValueError) as caught:
        load_ravel(str(where), "city", *arguments)
    (line,) = str(caught.value).splitlines()
    assert line.isprintable()
    assert len(line) <= 500
    return line


def test_round_trip(data, folder):
    again = load_ravel(str(folder), "city")
    assert again == data
    assert again.sha256 == data.sha256
    assert again.attributes == ("Country", "Language")
    assert list(again.values) == list(CITIES)


def test_saebench_reads_what_is_written(data, folder, tmp_path):
    from sae_bench.evals.ravel.instance import RAVELInstance

    shutil.copytree(folder, tmp_path / "saebench/base")
    theirs = RAVELInstance()
    theirs.load_files("city", str(tmp_path / "saebench"))
    assert theirs.entityLBL_attrTYP_attrLBL == data.values
    assert theirs.entity_splits == data.entity_split
    assert theirs.template_splits == data.template_split
    assert {a: tuple(t) for a, t in theirs.attribute_type_to_templates.items()} == data.templates
    assert load_ravel(str(tmp_path / "saebench"), "city") == data


def test_the_hash_is_of_the_content(data):
    swapped = dict(reversed(CITIES.items()))
    changes = [{"values": swapped}, {"entity_type": "town"}, {"entity_split": dict.fromkeys(CITIES, "val")}]
    hashes = {data.sha256, *(replace(data, **change).sha256 for change in changes)}
    assert len(hashes) == 4
    assert replace(data, sources=()).sha256 == data.sha256


def test_some_attributes_and_control_prompts(data, folder):
    def add_controls(prompts):
        prompts["Other"] = ["no entity here, which nobody minds: %s", "%s"]

    edit(folder, PROMPTS, add_controls)
    assert load_ravel(str(folder), "city") == data
    found = load_ravel(str(folder), "city", ("Language",))
    assert found.values["Bern"] == {"Language": "German"}
    assert set(found.template_split) == set(TEMPLATES["Language"])
    assert "no attribute 'Languag'; did you mean 'Language'? (there are Country, Language" in refused(
        folder, ("Languag",)
    )
    assert f"{FACTS} has no attribute 'Other'" in refused(folder, ("Other",))


def test_what_is_not_known_is_not_there(folder):
    edit(folder, FACTS, lambda facts: facts["Bern"].update(Language="") or facts["Porto"].pop("Country"))
    (folder / FACTS).write_text(json.dumps(CITIES | {"Bern": {"Country": "Switzerland", "Language": " "}}))
    assert load_ravel(str(folder), "city").values["Bern"] == {"Country": "Switzerland"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (PROMPTS, "{", f"{PROMPTS}: not JSON"),
        (PROMPTS, "[]", "holds a list of 0; a JSON object is needed"),
        (PROMPTS, "{}", f"{PROMPTS} has no attributes; it is empty"),
        (FACTS, "{}", f"{FACTS} has no entities; it is empty"),
        (FACTS, "", f"{FACTS}: not JSON"),
        (FACTS, "\xff", f"{FACTS}: not JSON"),
        (FACTS, "[" * 100_000, f"{FACTS}: nested too deeply"),
        (FACTS, '{"Bern": {}, "Bern": {}}', "the key 'Bern' is there twice"),
        (FACTS, '{"Bern": []}', f"{FACTS}: 'Bern' has a list of 0; an object of attributes and values is needed"),
        (FACTS, '{"Bern": {"Country": 3}}', "'Country' of 'Bern' is 3; a line of text is needed"),
        (FACTS, '{"Bern": {"Country": "a\\u001b[2J"}}', "'Country' of 'Bern' is 'a\\x1b[2J'; a line of text"),
        (FACTS, '{"": {"Country": "a"}}', "'' is no name of an entity"),
        (FACTS, '{"Bern": {"Land": "a"}}', f"no attribute of {PROMPTS} is one of {FACTS}"),
        (PROMPTS, '{"Country": "%s is in"}', "'Country' has '%s is in'; a list of templates is needed"),
        (PROMPTS, '{"Country": []}', "'Country' has a list of 0; a list of templates is needed"),
        (PROMPTS, '{"Country": [1]}', "the template 1 of 'Country' is no text; a text with one %s is needed"),
        (PROMPTS, '{"Country": ["It is in"]}', "the template 'It is in' of 'Country' has 0 %s; exactly one is needed"),
        (PROMPTS, '{"Country": ["%s, %s"]}', "the template '%s, %s' of 'Country' has 2 %s; exactly one is needed"),
        (PROMPTS, '{"Country": ["%s is in", "%s is in"]}', "has the template '%s is in' twice"),
        (PROMPTS, '{"Country": ["%s is in"]}', "no template of 'Country' is in the split val or test"),
        (PROMPT_SPLITS, "{}", f"{PROMPT_SPLITS} has no split for the template '%s is in'; it needs one of train, val"),
        (
            PROMPT_SPLITS,
            '{"%s is in": "dev"}',
            "the split of the template '%s is in' is 'dev'; it must be one of train",
        ),
        (PROMPT_SPLITS, '{"%s is in": []}', "the split of the template '%s is in' is a list of 0"),
        (ENTITY_SPLITS, '{"Bern": "test"}', f"{ENTITY_SPLITS} has no split for the entity 'Zürich'"),
    ],
)
def test_files_of_strangers(folder, name, text, message):
    (folder / name).write_text(text, encoding="latin-1")
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "no entity with a value of 'Country' is in the split val or test; nothing can be judged"),
        ("test", "no entity with a value of 'Country' is in the split train; nothing can be learned"),
    ],
)
def test_one_side_only(folder, split, message):
    edit(folder, ENTITY_SPLITS, lambda splits: dict.fromkeys(splits, split))
    assert message in refused(folder)


def test_an_attribute_with_one_value(folder):
    edit(folder, FACTS, lambda facts: {city: each | {"Country": "Utopia"} for city, each in facts.items()})
    assert f"{FACTS}: 'Country' has one value only, 'Utopia'; an edit needs two at least" in refused(folder)


def test_files_that_are_none(folder, tmp_path, monkeypatch):
    assert "no RAVEL" not in refused(folder / PROMPTS)
    assert "is no folder" in refused(folder / PROMPTS)
    assert "no such folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert f"has no {PROMPTS}; RAVEL's four JSON files are needed" in refused(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"has no ravel_verb_.*json; it has data of city"):
        load_ravel(str(folder), "verb")
    with pytest.raises(ValueError, match=r"entity type '\.\./x' is no word"):
        load_ravel(str(folder), "../x")
    monkeypatch.setattr("sae_sanity.suites.causal_editing.ravel_files.MAX_BYTES", 50)
    assert "bytes; at most 50 are read" in refused(folder)
    (folder / PROMPTS).unlink()
    os.mkfifo(folder / PROMPTS)
    assert f"{PROMPTS}: not a regular file" in refused(folder)


def test_a_missing_file(folder):
    (folder / ENTITY_SPLITS).unlink()
    assert f"{ENTITY_SPLITS}: it is missing" in refused(folder)


def test_a_folder_with_something_else_is_left_alone(data, folder):
    (folder / "thesis.tex").write_text("years")
    before = contents(folder)
    with pytest.raises(ValueError, match=r"holds 'thesis\.tex', which is not data of 'city'; name a new folder"):
        save_ravel(data, folder)
    with pytest.raises(ValueError, match="is a file; name a new folder"):
        save_ravel(data, folder / "thesis.tex")
    assert contents(folder) == before


def test_data_is_replaced_and_an_empty_folder_filled(data, folder, tmp_path):
    fewer = replace(data, templates={"Country": TEMPLATES["Country"]})
    with pytest.raises(ValueError, match="no template"):
        save_ravel(replace(data, template_split=dict.fromkeys(SPLITS, "val")), folder)
    assert load_ravel(str(folder), "city") == data
    save_ravel(fewer, folder)
    assert load_ravel(str(folder), "city").attributes == ("Country",)
    (tmp_path / "empty").mkdir()
    paths = save_ravel(data, tmp_path / "empty")
    assert {path.name for path in paths} == {*file_names("city"), "SOURCES.md"} == set(contents(tmp_path / "empty"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "empty"]  # nothing half made is left


def test_a_failure_leaves_what_was_there(data, folder, tmp_path, monkeypatch):
    before = contents(folder)
    monkeypatch.setattr("sae_sanity.suites.causal_editing.ravel_files._sources_page", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_ravel(data, folder)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_sources_that_nobody_stated(data, folder):
    page = (folder / "SOURCES.md").read_text()
    assert "| GeoNames | 1 | CC BY 4.0 | https://www.geonames.org | cities |" in page
    assert data.sha256 in page
    (folder / "SOURCES.md").unlink()
    (source,) = load_ravel(str(folder), "city").sources
    assert (source.name, source.licence) == (str(folder), "not stated")


@pytest.mark.parametrize("base", ["", "base"])
def test_the_hub(data, folder, hub, base):
    repo = hub.repo("org/ravel", "datasets")
    shutil.copytree(folder, repo / base, dirs_exist_ok=True)
    found = load_ravel("org/ravel", "city")
    assert replace(found, sources=()) == replace(data, sources=())
    assert load_ravel("hf://datasets/org/ravel", "city") == found
    (source,) = found.sources
    assert source.url == "https://huggingface.co/datasets/org/ravel"
    assert source.version == hub.commit(repo)
    assert not hub.asked_for("SOURCES.md")
    (repo / base / FACTS).write_text("[]")
    assert "hf://datasets/org/ravel: " in refused("hf://datasets/org/ravel")


def test_the_hub_has_it_not(folder, hub, monkeypatch):
    assert "there is no such repo on the hub" in refused("org/nothing")
    repo = hub.repo("org/ravel", "datasets")
    (repo / "README.md").write_text("")
    assert refused("org/ravel") == "dataset 'org/ravel', RAVEL's files of 'city': the repo has no such file"
    shutil.copytree(folder, repo, dirs_exist_ok=True)
    hub.faults[f"datasets/org/ravel/{FACTS}"] = Fault("gated")
    assert "it is gated" in refused("org/ravel")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused("org/other")
    assert "org/repo" in refused("hf://datasets/ravel")
