"""All formats from one run: the same verdicts and the same figures in each, read back by a reader of that format."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from gate_reports import kinds
from markdown_it import MarkdownIt

from sae_sanity.results.report import EXTENSIONS, FORMATS

NUMBER = r"(?:[+−]?\d+\.\d+)"
FIGURES = rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]"
VERDICT = r"(BEATS|NEGLIGIBLE|EQUIVALENT|WORSE|INCONCLUSIVE|INVALID)"
REPORTS = kinds()


def expected(report):
    """(suite, arm, verdict, difference, lo, hi) of every required comparison, as Python prints such numbers."""

    def printed(value, decimals):
        text = f"{value:+.{decimals}f}" if value else f"{value:.{decimals}f}"
        return text.replace("-", "−")

    def row(suite, one):
        decimals = 3 if one.margin > 0.01 else 4
        numbers = (one.estimate.difference, one.estimate.lo, one.estimate.hi)
        return suite.label, one.baseline, one.verdict.value, *(printed(n, decimals) for n in numbers)

    return [row(suite, one) for suite in report.suites for one in suite.comparisons if one.required]


class Cells(HTMLParser):
    """The cells of every table row, tags taken out."""

    def __init__(self):
        super().__init__()
        self.rows, self._cell, self._drawing = [], None, False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self._cell = []
        self._drawing |= tag == "svg"

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None
        if tag == "svg":
            self._drawing = False
        if self._cell is not None:
            self._cell.append(" ")

    def handle_data(self, data):
        if self._cell is not None and not self._drawing:
            self._cell.append(data)


def cells(html):
    parser = Cells()
    parser.feed(html)
    return [row for row in parser.rows if row]


def of_table(text):
    suite, found = "", []
    for line in text.splitlines():
        if heading := re.match(rf"── (.+) {VERDICT}(?: \(shown only\))? ─", line):
            suite = heading[1]
        elif row := re.match(rf"\* (\S+) .*  {FIGURES} +{VERDICT}", line):
            found.append((suite, row[1], row[5], *row.groups()[1:4]))
    return found


def of_json(text):
    def printed(one, name):
        value, decimals = one["estimate"][name], 3 if one["margin"] > 0.01 else 4
        return (f"{value:+.{decimals}f}" if value else f"{value:.{decimals}f}").replace("-", "−")

    suites = [(f"{s['subject']}: " * bool(s["subject"]) + s["suite"], s) for s in json.loads(text)["suites"]]
    return [
        (label, one["baseline"], one["verdict"], *(printed(one, name) for name in ("difference", "lo", "hi")))
        for label, suite in suites
        for one in suite["comparisons"]
        if one["required"]
    ]


def of_markdown(text):
    suite, found = "", []
    for row in cells(MarkdownIt("commonmark").enable("table").render(text)):
        if len(row) != 6 or row[:2] == ["suite", "trained minus"] or row[:2] == ["suite", "metric"]:
            continue
        suite = re.sub(rf" {VERDICT}( \(shown only\))?$", "", row[0]) if row[0] else suite
        if (numbers := re.fullmatch(FIGURES, row[3])) and row[2] in text and not row[1].startswith("accuracy"):
            found.append((suite, row[1], row[2], *numbers.groups()))
    return found


def of_junit(text):
    found = []
    for suite in ET.fromstring(text).iter("testsuite"):  # noqa: S314  # our own text
        for case in suite.iter("testcase"):
            figures = {node.get("name"): node.get("value") for node in case.iter("property")}
            if case.get("name").startswith("beats "):
                numbers = re.match(FIGURES, figures["figures"]).groups()
                found.append((suite.get("name"), case.get("name").removeprefix("beats "), figures["verdict"], *numbers))
    return found


def unescaped(text):
    for code, sign in (("%0A", "\n"), ("%0D", "\r"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def of_github(text):
    found = []
    for line in text.splitlines():
        title, message = re.fullmatch(r"::(?:error|warning|notice) title=(.*?)::(.*)", line).groups()
        suite = re.sub(rf": {VERDICT}( \(shown only\))?$", "", unescaped(title))
        rows = re.findall(rf"^(\S+): {VERDICT}: {FIGURES}", unescaped(message), re.MULTILINE)
        found += [(suite, *row) for row in rows]
    return found


def of_html(text):
    suite, found = "", []
    first = text[text.index("<table") : text.index("</table>")] if "<table" in text else ""
    for row in cells(first):
        words = " ".join(row)
        if heading := re.match(rf"(.+?) {VERDICT}\b", words) if len(row) == 1 else None:
            suite = heading[1]
        elif numbers := re.search(rf"^(\S+).* {FIGURES} .*\b{VERDICT}$", words):
            found.append((suite, numbers[1], numbers[5], *numbers.groups()[1:4]))
    return found


READERS = {
    "table": of_table,
    "json": of_json,
    "markdown": of_markdown,
    "junit": of_junit,
    "github": of_github,
    "html": of_html,
}


def test_every_format_has_a_reader_here_and_an_extension_leads_to_a_format():
    assert set(READERS) == set(FORMATS)
    assert set(EXTENSIONS.values()) == set(FORMATS) - {"github"}


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_verdicts_and_figures(name, kind):
    report = REPORTS[kind]
    assert READERS[name](FORMATS[name](report)) == expected(report)


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_verdict_decision_and_exit_code(name, kind):
    report = REPORTS[kind]
    text = FORMATS[name](report)
    words = re.sub(r"</?[a-z][^>]*>", " ", text) if name in ("html", "markdown") else text
    words = " ".join(re.sub(r"[*│]", " ", words).split())
    code = {"json": '"exit_code": {}', "junit": 'name="exit_code" value="{}"', "github": "Exit code {}."}
    assert code.get(name, "exit code {}").format(report.exit_code) in words.replace("exit code: ", "exit code ")
    assert report.verdict in words
    for suite in report.suites:
        assert re.search(rf"{suite.label}\W.*{suite.verdict}", unescaped(words)) or name == "json"
    if name == "junit":
        return  # says the decision by its colour: test_junit
    for reason in report.decision.reasons:
        assert reason in words or (name == "table" and reason.startswith("the check is")), reason


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_report_gives_the_same_text(name):
    report = REPORTS["departed"]
    text = FORMATS[name](report)
    assert text.endswith("\n")
    assert text == FORMATS[name](type(report).model_validate(report.model_dump()))


def test_a_changed_figure_changes_every_format():
    report = REPORTS["pass"]
    suite = report.suites[0]
    one = suite.comparisons[0]
    estimate = one.estimate.model_copy(update={"difference": one.estimate.difference + 0.001})
    rows = (one.model_copy(update={"estimate": estimate}), *suite.comparisons[1:])
    changed = report.model_copy(update={"suites": (suite.model_copy(update={"comparisons": rows}),)})
    for name, render in FORMATS.items():
        assert READERS[name](render(changed)) == expected(changed) != expected(report), name


def test_only_a_page_needs_jinja():
    code = "import sys, sae_sanity.results.report; print('jinja2' in sys.modules or 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
