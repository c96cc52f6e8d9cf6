"""Badges: what they say, that they are XML, and that nobody's name can break them."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from sae_sanity.results.decision import Decision
from sae_sanity.results.release.badge import STOPPED, WORDS, endpoint_json, svg

SVG = "{http://www.w3.org/2000/svg}"
SAID = {
    "PASS": "beats random",
    "FAIL": "does not beat random",
    "INCONCLUSIVE": "inconclusive",
    "INVALID": "no verdict",
}


def parsed(text):
    return ET.fromstring(text)  # noqa: S314 - our own text


@pytest.mark.parametrize(("verdict", "said"), SAID.items())
def test_both_forms_say_the_verdict(make, verdict, said):
    found = make.report(verdict)
    assert json.loads(endpoint_json(found)) == {
        "schemaVersion": 1,
        "label": "sae-sanity",
        "message": said,
        "color": WORDS[verdict].color,
    }
    texts = [text.text for text in parsed(svg(found)).iter(f"{SVG}text")]
    assert texts == ["sae-sanity", said]


def test_a_pass_that_the_policy_stops_is_not_shown_as_one(make):
    stopped = make.report(decision=Decision(action="fail", reasons=("worse than v1 in reconstruction",)), exit_code=1)
    said = json.loads(endpoint_json(stopped))
    assert (said["message"], said["color"]) == (STOPPED.message, STOPPED.color)
    assert said["message"] not in SAID.values()
    assert said["color"] != WORDS["PASS"].color
    root = parsed(svg(stopped))
    assert [text.text for text in root.iter(f"{SVG}text")] == ["sae-sanity", STOPPED.message]
    assert STOPPED.color in svg(stopped)
    assert root.get("aria-label") == "sae-sanity: my-sae beats random, but is stopped by its policy"
    assert "beats random" in endpoint_json(make.report(decision=Decision(action="warn", reasons=("departed",))))


@pytest.mark.parametrize("target", ["/home/me/my-sae", "~/my-sae/", "./my-sae", "runs/of/my-sae", "C:\\me\\my-sae"])
def test_no_folder_of_this_machine_is_named(make, target):
    root = parsed(svg(make.report().model_copy(update={"target": target})))
    assert root.get("aria-label") == "sae-sanity: my-sae beats random"


def test_a_screen_reader_hears_what_was_checked(make):
    root = parsed(svg(make.report("FAIL")))
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.find(f"{SVG}title").text == "sae-sanity: my-sae does not beat random"


@pytest.mark.parametrize(
    "target", ["<script>alert(1)</script>", "a&b\"'>", "bell\x07\x00\x1b[31m", "\ud800\ufffe", "x" * 500]
)
def test_a_hostile_name_is_only_text(make, target):
    report = make.report().model_copy(update={"target": target})
    text = svg(report)
    root = parsed(text.encode("utf-8"))
    assert "script" not in {element.tag.removeprefix(SVG) for element in root.iter()}
    assert root.find(f"{SVG}title").text.endswith("beats random")


def test_parts_fit_into_the_whole_and_text_into_its_part(make):
    stopped = make.report(decision=Decision(action="fail"))
    for one in (stopped, *map(make.report, WORDS)):
        root = parsed(svg(one))
        left, right = [float(r.get("width")) for r in root.findall(f"{SVG}g/{SVG}rect")]
        assert left + right == float(root.get("width"))
        for text, width in zip(root.iter(f"{SVG}text"), (left, right), strict=True):
            assert float(text.get("textLength")) < width


@pytest.mark.parametrize("words", [*WORDS.values(), STOPPED], ids=lambda words: words.message)
def test_white_on_each_colour_can_be_read(words):
    """WCAG 2.1: a contrast of 4.5 for small text."""
    parts = [int(words.color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= 4.5


def test_nothing_is_fetched(make):
    text = svg(make.report()).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in text
    assert "url(#r)" in text
