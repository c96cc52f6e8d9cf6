# The signs of the report are what is compared.
from __future__ import annotations

import io
from dataclasses import astuple

import pytest
from rich.cells import cell_len
from rich.console import Console

from sae_sanity.results.outcome import Verdict
from sae_sanity.results.report.look import ASCII_GLYPHS, SPELLED, STYLES, UNICODE_GLYPHS, WIDEST, Look, spelled, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\tand a tab", "two lines and a tab"),
        ("\u202eright to left", "\\u202eright to left"),
        ("\udcff", "\\udcff"),
        ("bell\x07\x9b", "bell\\x07\\x9b"),
        ("δ = ±0.02, 中", "δ = ±0.02, 中"),
    ],
)
def test_nothing_invisible_reaches_the_terminal(text, expected):
    assert visible(text) == expected


def test_spelled_is_ascii():
    assert spelled("−0.02 ≤ δ ± 3 × τ … “a” → 中") == '-0.02 <= d +- 3 x tau ... "a" -> \\u4e2d'
    assert all(sign.isascii() for sign in SPELLED.values())


def test_text_is_literal():
    assert Look(80).text("[red]x[/red] :smile:").plain == "[red]x[/red] :smile:"
    assert Look(80, ascii=True).text("[bold]é").plain == "[bold]\\xe9"


@pytest.mark.parametrize("glyphs", [UNICODE_GLYPHS, ASCII_GLYPHS])
def test_every_glyph_is_one_cell(glyphs):
    assert [cell_len(glyph) for glyph in astuple(glyphs)] == [1] * 9


def test_ascii_glyphs_are_ascii_and_tell_apart_what_must_be():
    assert all(glyph.isascii() for glyph in astuple(ASCII_GLYPHS))
    told = ("zero", "crossed", "band", "line", "point", "beyond_left", "beyond_right")
    for glyphs in (UNICODE_GLYPHS, ASCII_GLYPHS):
        assert len({getattr(glyphs, name) for name in told}) == len(told)


def test_every_verdict_has_a_colour():
    assert {*Verdict, "PASS", "FAIL", "INCONCLUSIVE", "INVALID"} <= set(STYLES)


@pytest.mark.parametrize(
    ("encoding", "plain"), [("utf-8", False), ("utf-16", False), ("ascii", True), ("cp1252", True)]
)
def test_look_follows_the_encoding(encoding, plain):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=90, legacy_windows=False)
    assert Look.of(console) == Look(90, plain)


def test_look_of_an_old_windows_console_is_ascii():
    assert Look.of(Console(file=io.StringIO(), width=90, legacy_windows=True)).ascii


def test_look_is_never_wider_than_a_reader():
    assert Look.of(Console(file=io.StringIO(), width=400)).width == WIDEST
