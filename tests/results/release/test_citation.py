"""BibTeX and CITATION.cff: that they parse, and that a run cites what it used."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

from sae_sanity.results.release.citation import bibtex, entries, used_by

ROOT = Path(__file__).parents[3]
REQUIRED = {
    "article": {"author", "title", "journal", "year"},
    "inproceedings": {"author", "title", "booktitle", "year"},
    "misc": {"author", "title", "year"},
    "software": {"author", "title", "version"},
}


def parse(text):
    """A small BibTeX reader: braces are counted, so that a missing one is an error."""
    found, at = {}, 0
    while (at := text.find("@", at)) >= 0:
        kind, key = re.match(r"@(\w+)\{([^,\s]+),", text[at:]).groups()
        end = _closing(text, text.index("{", at))
        body, fields, i = text[text.index(",", at) + 1 : end], {}, 0
        while match := re.compile(r"\s*(\w+) = \{").match(body, i):
            close = _closing(body, match.end() - 1)
            fields[match[1]] = body[match.end() : close]
            assert body[close + 1] == ","
            i = close + 2
        assert not body[i:].strip(), f"{key}: {body[i:]!r} is no field"
        assert key not in found
        found[key], at = (kind, fields), end
    return found


def _closing(text, start):
    depth = 0
    for i in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return i
    raise AssertionError("a brace is not closed")


def test_every_entry_parses_and_has_what_its_kind_needs():
    for key, body in entries().items():
        ((found, (kind, fields)),) = parse(body).items()
        assert found == key
        assert set(fields) >= REQUIRED[kind]
        assert all(fields.values())
        assert body.isascii()


def test_the_file_holds_no_entry_that_is_not_found():
    text = (ROOT / "results/published/references.bib").read_text()
    assert list(parse(text)) == list(entries())


@pytest.mark.parametrize(
    ("package", "key", "title"),
    [
        ("sae-lens", "bloom2024saelens", "SAELens"),
        ("sae-probes", "kantamneni2025", "Are Sparse Autoencoders Useful? A Case Study in Sparse Probing"),
        ("nnsight", "fiottokaufman2024nnsight", "Democratizing Access to Foundation Model Internals"),
    ],
)
def test_packages_are_cited_as_they_ask(package, key, title):
    """Authors against the BibTeX in the package's own description."""
    text = str(metadata(package).get_payload() or metadata(package)["Description"])
    _, fields = parse(entries()[key])[key]
    assert title in fields["title"].replace("{", "").replace("}", "")
    theirs = re.search(r"@\w+\{.*?author\s*=\s*\{([^}]*)\}", text, re.DOTALL)[1]
    assert fields["author"] == theirs


def test_without_a_run_the_tool_and_the_paper_are_cited():
    assert list(parse(bibtex())) == ["sae_sanity", "korznikov2026sanity"]


def test_a_run_cites_what_it_used_and_nothing_else(make):
    probing = set(parse(bibtex(make.report("PASS", make.suite("sparse_probing")))))
    assert {"kantamneni2025", "karvonen2025saebench", "bloom2024saelens", "demsar2006", "owen2007"} <= probing
    assert not probing & {"huang2024ravel", "paulo2024", "chanin2026synthsaebench", "allal2025smollm2"}
    editing = set(used_by(make.report("PASS", make.suite("causal_editing"))))
    assert "huang2024ravel" in editing
    synthetic = set(used_by(make.report("PASS", make.suite("synthetic"))))
    assert "chanin2026synthsaebench" in synthetic
    assert "fiottokaufman2024nnsight" not in synthetic


def test_sampled_suites_do_not_cite_tests_of_pairs(make):
    sampled = make.suite("autointerp", comparisons=(make.comparison("random", 0.1, sampled=True),))
    found = used_by(make.report("PASS", sampled))
    assert "paulo2024" in found
    assert "demsar2006" not in found


def test_the_demo_cites_its_language_model(make):
    assert "allal2025smollm2" in used_by(make.report().model_copy(update={"target": "demo"}))


def test_every_key_that_can_be_used_is_an_entry(make):
    names = ("sparse_probing", "autointerp", "causal_editing", "synthetic", "reconstruction")
    demo = make.report("PASS", *map(make.suite, names)).model_copy(update={"target": "demo"})
    assert set(used_by(demo)) == set(entries())


def test_citation_cff_has_what_the_format_requires():
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert set(found) >= {"cff-version", "message", "title", "authors", "version", "license", "type"}
    assert found["cff-version"] == "1.2.0"
    assert all("name" in author or "family-names" in author for author in found["authors"])
    for reference in found["references"]:
        assert set(reference) >= {"type", "title", "authors"}


def test_citation_cff_is_of_this_version():
    project = (ROOT / "pyproject.toml").read_text()
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert f'version = "{found["version"]}"' in project
