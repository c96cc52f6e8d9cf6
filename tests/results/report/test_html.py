# The signs of the page are what is compared.
from __future__ import annotations

import re
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from html_pages import HOSTILE, VOID, cached, clusters, parsed, plain_page, whole, with_names

from sae_sanity.results.decision import LockStatus
from sae_sanity.results.report.html_format import to_html
from sae_sanity.results.report.json_format import from_json, to_json

FORBIDDEN = VOID - {"meta", "br"} | {"script", "iframe", "object", "use", "image", "foreignobject", "form", "video"}
LINKING = {"src", "srcset", "xlink:href", "action", "data", "poster", "background", "ping", "style", "formaction"}


@pytest.fixture
def report(make):
    return cached(make)[0]


@pytest.fixture
def page(make):
    return cached(make)[1]


@pytest.fixture
def tree(page):
    return parsed(page)


def flat(tree):
    return re.sub(r"\s+", " ", " ".join(tree.words))


def assert_needs_nothing(page):
    tree = parsed(page)
    ids = [attrs["id"] for _, attrs, _ in tree.all if "id" in attrs]
    assert len(set(ids)) == len(ids)
    assert not {tag for tag, _, _ in tree.all} & FORBIDDEN
    for tag, attrs, _ in tree.all:
        assert not [name for name in attrs if name.startswith("on") or name in LINKING], (tag, attrs)
        if "href" in attrs:
            assert attrs["href"][0] == "#"
            assert attrs["href"][1:] in ids
    styles = " ".join(tree.texts["style"])
    assert "url(" not in styles
    assert "@import" not in styles
    assert "//" not in styles
    assert page.count("<style>") == 1
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", page)


def test_it_needs_nothing_but_itself(page, tree):
    assert page.startswith("<!DOCTYPE html>")
    assert_needs_nothing(page)
    policy = next(attrs for _, attrs, _ in tree.tags("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_whatever_is_said_is_shown_and_does_nothing(make, hostile):
    report = with_names(whole(make, hostile, hostile), hostile)
    page = to_html(report)
    assert_needs_nothing(page)
    tree, plain = parsed(page), parsed(plain_page(make))
    assert [tag for tag, _, _ in tree.all if tag not in ("mark", "rect")] == [
        tag for tag, _, _ in plain.all if tag not in ("mark", "rect")
    ]
    if hostile.isprintable():
        assert hostile in flat(tree)


def test_same_report_same_bytes(report, page):
    assert to_html(report) == page
    # NaN is null in JSON; nothing else may change on the way.
    assert to_html(from_json(to_json(report))) == page
    page.encode("utf-8")


def test_every_part_in_its_order(tree):
    ids = [attrs["id"] for tag, attrs, _ in tree.all if tag in ("section", "header")]
    suites = [f"suite-{i}" for i in range(1, 5)]
    last = ["gate", "since", "latents", "missing", "advice", "plan", "manifest", "reproduce"]
    assert ids == ["verdict", *suites, *last]
    links = [attrs["href"][1:] for tag, attrs, inside in tree.all if tag == "a" and "nav" in inside]
    assert links == ids


def test_every_comparison_is_there_with_its_numbers_and_verdict(report, page):
    def told(one):
        sign = {True: "+", False: "−"}
        ends = [f"{sign[x >= 0]}{abs(x):.3f}" for x in (one.difference, one.lo, one.hi)]
        return f"{ends[0]} [{ends[1]}, {ends[2]}]"

    lines = [re.sub(r"<title>.*?</title>|<[^>]+>|\s+", " ", row) for row in page.split("<tr")]
    seen = 0
    recipe = report.suites[1].recipe.comparisons
    for one in (*recipe, *(c for suite in report.suites for c in (*suite.comparisons, *suite.exploratory))):
        if one.margin < 0.01 or one.estimate is None or one.estimate.lo is None:
            continue
        row = [line for line in lines if told(one.estimate) in line and one.baseline in line]
        assert row, one
        assert any(one.verdict.value in line for line in row), one
        assert len(row) >= (2 if one.required else 1), one
        seen += 1
    assert seen > 8


def test_what_the_result_object_says_is_on_the_page(report, tree):
    text = flat(tree)
    manifest = report.manifest
    wanted = [
        report.verdict,
        report.headline,
        *report.decision.reasons,
        *report.advice,
        manifest.command,
        "exit code 3",
    ]
    wanted += [manifest.config_hash, *manifest.notes, *manifest.versions.values(), report.lock.sha256]
    wanted += [
        *report.lock.departures,
        *report.since.skipped,
        *report.since.notes,
        report.since.theirs,
        report.skipped[0].reason,
    ]
    wanted += [suite.reason for suite in report.suites] + [check.detail for s in report.suites for check in s.gate]
    wanted += [arm.note for suite in report.suites for arm in suite.arms] + ["quick", "fires: yes; judge: no ✗"]
    missing = [one for one in wanted if re.sub(r"\s+", " ", one) not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("part", "otherwise"),
    [
        ({"suites": ()}, "No suite was measured."),
        ({"lock": None}, "No plan was registered before the run."),
        ({"lock": LockStatus(sha256="ab")}, "Registered as ab"),
        (
            {"lock": LockStatus(sha256="ab", before=False)},
            "Held afterwards against ab",
        ),
        ({"advice": ()}, "Nothing that this report knows of."),
        ({"skipped": (), "suites": ()}, "Everything was measured"),
        ({"latents": (), "since": None}, "Registered plan"),
    ],
)
def test_what_is_not_there_is_said(report, part, otherwise):
    changed = to_html(report.model_copy(update=part))
    assert_needs_nothing(changed)
    assert otherwise in flat(parsed(changed))


def test_sampled_suites_say_that_nothing_is_paired(page):
    assert page.count("Nothing is paired here") == 1


def test_one_rung_says_how_to_get_more(make):
    page = to_html(make.report())
    assert "--tau 0.8,0.9,0.95,0.99" in page
    assert "Ladder of soft caps: accuracy against" not in page
    assert "Ladder of soft caps: accuracy against" in to_html(whole(make))


# For those who do not see it, or not in colour


def test_headings_are_in_order(tree):
    levels = [int(tag[1]) for tag, _, _ in tree.all if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_tables_and_drawings_have_names(tree):
    assert [attrs for _, attrs, _ in tree.tags("html")] == [{"lang": "en"}]
    assert len(tree.tags("caption")) == len(tree.tags("table")) > 10
    assert all(attrs.get("scope") in ("col", "row", "rowgroup") for _, attrs, _ in tree.tags("th"))
    drawings = [(attrs, inside) for _, attrs, inside in tree.tags("svg") if "svg" not in inside]
    named = [attrs for attrs, _ in drawings if attrs.get("role") == "img"]
    assert all(attrs.get("role") == "img" or attrs.get("aria-hidden") == "true" for attrs, _ in drawings)
    titles = [inside for tag, _, inside in tree.all if tag == "desc"]
    assert len(titles) == len(named) > 30
    assert "" not in tree.texts["title"] + tree.texts["desc"]


def test_what_scrolls_can_be_reached_with_the_keyboard(tree):
    frames = [attrs for _, attrs, _ in tree.all if attrs.get("class") in ("scroll", "cards")]
    assert len(frames) > 5
    assert all(attrs["tabindex"] == "0" and attrs["aria-label"] for attrs in frames)
    assert [inside for tag, attrs, inside in tree.all if attrs.get("class") == "data" and "div" not in inside] == []


def luminance(colour):
    """Relative luminance of WCAG 2.2."""
    digits = colour.lstrip("#")
    digits = "".join(2 * c for c in digits) if len(digits) == 3 else digits
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_against_known_ones():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_contrast(tree, scheme):
    roots = re.findall(r":root\s*\{(.*?)\}", " ".join(tree.texts["style"]), re.S)
    assert len(roots) == 3
    light, dark, paper = (dict(re.findall(r"--([\w-]+):\s*(#\w+)", root)) for root in roots)
    assert set(light) == set(dark)
    of = (light, dark, light | paper)[scheme]
    texts = ("ink", "soft", "link", "good", "middling", "open", "bad", "void")
    assert min(contrast(of[name], of["page"]) for name in texts) >= 4.5
    assert contrast(of["ink"], of["panel"]) >= 4.5
    assert contrast(of["mark-ink"], of["mark"]) >= 4.5
    # Marks of a drawing need 3:1 (WCAG 1.4.11), over the margin band as well.
    marks = ("edge", "fill", "focus", "ink", "soft", "link", "good", "middling", "open", "bad", "void")
    assert min(contrast(of[name], of[back]) for name in marks[1:] for back in ("page", "band")) >= 3
    assert contrast(of["edge"], of["page"]) >= 3
    used = set(re.findall(r"var\(--([\w-]+)", " ".join(tree.texts["style"]))) - {"said"}
    assert used <= set(light)


def test_every_class_of_a_drawing_has_a_style(page, tree):
    drawn = {name for _, attrs, inside in tree.all if "svg" in inside for name in (attrs.get("class") or "").split()}
    styles = " ".join(tree.texts["style"])
    assert {name for name in drawn if f".{name} " not in styles and f".{name}," not in styles} <= {"tick"}


# Size


def test_a_thousand_clusters_are_fast_and_small(make):
    base = make.reconstruction()
    many = tuple(c.model_copy(update={"clusters": clusters(1000)}) for c in base.comparisons)
    some = tuple(c.model_copy(update={"clusters": clusters(400)}) for c in base.comparisons)
    suites = (base.model_copy(update={"suite": f"suite {i}", "comparisons": (many, some)[i % 2]}) for i in range(5))
    report = make.report(suites=tuple(suites))
    start = time.process_time()
    page = to_html(report)
    assert time.process_time() - start < 5
    assert len(page.encode()) < 1_500_000
