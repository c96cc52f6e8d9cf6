"""A badge: an SVG in the flat style of shields.io, drawn here, and the JSON of its endpoint badge."""

from __future__ import annotations

import json
import unicodedata
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from .public import public_name

if TYPE_CHECKING:
    from ..outcome import CheckReport
    from ..verdict import CheckVerdict

LABEL = "sae-sanity"

LABEL_WIDTH, PADDING, HEIGHT = 57, 10, 20
"""Pixels of the label in Verdana or DejaVu Sans 11, beside each text, and of the whole."""


class Words(NamedTuple):
    """What a badge says of a verdict."""

    message: str
    """Its right half."""
    width: int
    """Pixels that it takes; `textLength` fits it into them in any font."""
    color: str
    """Background of it, six hexadecimal digits; white text on each has a contrast of at least 4.5 (WCAG AA)."""


WORDS: dict[CheckVerdict, Words] = {
    "PASS": Words("beats random", 76, "2e7d32"),
    "FAIL": Words("does not beat random", 121, "b71c1c"),
    "INCONCLUSIVE": Words("inconclusive", 67, "7a5c00"),
    "INVALID": Words("no verdict", 56, "5f6368"),
}


STOPPED = Words("stopped by policy", 97, "b71c1c")
"""What a badge says of a PASS that the policy does not let through."""


def words_of(report: CheckReport) -> Words:
    """What a badge says of a report."""
    stopped = report.verdict == "PASS" and report.decision.action == "fail"
    return STOPPED if stopped else WORDS[report.verdict]


def endpoint_json(report: CheckReport) -> str:
    """What shields.io's endpoint badge reads (schema version 1), with a newline."""
    words = words_of(report)
    fields = {"schemaVersion": 1, "label": LABEL, "message": words.message, "color": words.color}
    return json.dumps(fields, indent=2) + "\n"


def svg(report: CheckReport) -> str:
    """The badge as SVG: nothing is fetched, and a screen reader hears what was checked and what came out."""
    words = words_of(report)
    left, right = (width + 2 * PADDING for width in (LABEL_WIDTH, words.width))
    title = escape(_printable(f"{LABEL}: {public_name(report.target)} {_sentence(words)}"))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" role="img" aria-label="{title}">
  <title>{title}</title>
  <clipPath id="r"><rect width="{left + right}" height="{HEIGHT}" rx="3"/></clipPath>
  <g clip-path="url(#r)">
    <rect width="{left}" height="{HEIGHT}" fill="#3c3c3c"/>
    <rect x="{left}" width="{right}" height="{HEIGHT}" fill="#{words.color}"/>
  </g>
  <g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">
    {_text(LABEL, left / 2, left)}
    {_text(words.message, left + right / 2, right)}
  </g>
</svg>
"""


def _text(text: str, middle: float, width: int) -> str:
    return f'<text x="{middle:g}" y="14" textLength="{width - 2 * PADDING}">{escape(text)}</text>'


def _sentence(words: Words) -> str:
    if words is STOPPED:
        return "beats random, but is stopped by its policy"
    if words.message.endswith("random"):
        return words.message
    return f"has {'no' if words is WORDS['INVALID'] else 'an inconclusive'} verdict"


def _printable(text: str) -> str:
    """Without what XML 1.0 forbids or a reader cannot see: control, surrogate and private characters."""
    allowed = (
        c if unicodedata.category(c)[0] != "C" and c not in "\ufffe\uffff" else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
    return "".join(allowed)
