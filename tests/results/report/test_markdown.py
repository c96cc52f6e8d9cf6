from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from gate_reports import kinds
from hostile_names import NASTY, renamed
from markdown_it import MarkdownIt

from sae_sanity.results.report.markdown import to_markdown
from sae_sanity.results.report.markdown_text import block, code, html_text, text

REPORTS = kinds()
READER = MarkdownIt("commonmark").enable("table")
HOSTILE = [
    *NASTY,
    "<script>alert(1)</script>",
    "</details>",
    "a|b",
    "a\\|b",
    "`a` ``b``",
    "*a* _b_ __c__ ~~d~~",
    "# a",
    "1. a",
    "- [ ] a",
    "[a](http://evil.example)",
    "![a](//evil.example/x.png)",
    "[a]: http://evil.example",
    "<http://evil.example>",
    "http://evil.example www.evil.example",
    "a@evil.example @bob #12",
    "&lt;b&gt; &amp;",
    "line\nline\r\n\n# heading",
    "--- ",
    "```",
    "$$x$$",
    "\x1b[2J\u202e",
    "<!-- a",
]
TAGS = {"h2", "h3", "p", "strong", "ul", "li", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}


class Reader(HTMLParser):
    """Tags with their attributes, rows of tables, and what is shown."""

    def __init__(self):
        super().__init__()
        self.tags, self.rows, self.shown, self.comments = [], [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append(0)
        if tag in ("td", "th"):
            self.rows[-1] += 1

    def handle_data(self, data):
        self.shown += data

    def handle_comment(self, data):
        self.comments.append(data)


def read(markdown):
    reader = Reader()
    reader.feed(READER.render(markdown))
    return reader


def shown(name):
    """What a reader should see of a name: itself, control characters as escapes, space at its ends left out."""
    plain = "".join(" " if c in "\n\t" else c if c.isprintable() else ascii(c)[1:-1] for c in name)
    return " ".join(plain.split())


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("write", [text, code])
def test_words_are_literal(words, write):
    """Rendered by markdown-it-py: alone, in a list, in a cell."""
    for around in ("{}", "- {}", "| a | b |\n|---|---|\n| x | {} |", "**x** {}"):
        reader = read(around.format(write(words)))
        assert shown(words) in " ".join(reader.shown.split())
        assert {tag for tag, _ in reader.tags} <= TAGS
        assert not any(attrs for _, attrs in reader.tags)
        assert set(reader.comments) <= {" "}
        assert set(reader.rows) <= {2}


@pytest.mark.parametrize("kind", ["worse", "no vote"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_changes_the_shape_of_a_report(kind, name):
    plain, hostile = (read(to_markdown(renamed(REPORTS[kind], n))) for n in ("harmless", name))
    assert [t for t, _ in hostile.tags] == [t for t, _ in plain.tags]
    assert hostile.rows == plain.rows


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("@bob", "@<!-- -->bob"),
        ("of soft_frozen@0.8", "of soft_frozen@<!-- -->0.8"),
        ("frozen_decoder@iso", "frozen_decoder@iso"),
        ("fixes #12", "fixes #<!-- -->12"),
        ("see http://x.example", "see http:<!-- -->//x.example"),
        ("+0.061 [+0.038, +0.084]", "+0.061 [+0.038, +0.084]"),
        ("<0.001", "&lt;0.001"),
        ("a_b", "a_b"),
    ],
)
def test_nothing_is_linked_by_github_and_figures_stay_readable(words, written):
    assert text(words) == written


def test_code_block_holds_any_command_on_one_line():
    reader = read(block("sae-sanity check '```\n# x' && echo `ls`"))
    assert reader.tags == [("pre", {}), ("code", {"class": "language-console"})]
    assert reader.shown.strip() == "$ sae-sanity check '``` # x' && echo `ls`"


def test_summaries_are_html():
    assert html_text("<b> & @x [c](d)") == "&lt;b&gt; &amp; @<!-- -->x [c](d)"


@pytest.mark.parametrize("kind", REPORTS)
def test_the_verdict_is_the_first_line_and_everything_closes(kind):
    markdown = to_markdown(REPORTS[kind])
    assert markdown.splitlines()[0] == f"## sae-sanity: {REPORTS[kind].verdict}"
    assert markdown.count("<details>") == markdown.count("</details>") == len(REPORTS[kind].suites) + 1
    # HTML blocks end at an empty line; what follows a summary would be shown raw without one.
    assert len(re.findall(r"</summary>\n\n", markdown)) == markdown.count("</summary>")


def test_what_a_policy_adds_is_there():
    no_vote, worse = to_markdown(REPORTS["no vote"]), to_markdown(REPORTS["worse"])
    assert "`bad` **WORSE** (shown only)" in no_vote
    assert "- departure: seeds: registered 5, run with 3" in no_vote
    assert "- decision: **warn**: departed from the registered plan" in no_vote
    assert "### my-sae minus the last release" in worse
    assert "| `good` | `accuracy` | **WORSE** |" in worse
    assert "- autointerp: not there" in worse


def test_hashes_of_baselines_are_left_to_the_json_report():
    markdown = to_markdown(REPORTS["pass"])
    assert "weights/trained/0" in markdown
    assert "weights/random/0" not in markdown
