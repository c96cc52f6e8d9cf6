# The signs of the report are what is compared.
from __future__ import annotations

from math import inf, nan

import pytest

from sae_sanity.results.report.bars import BELOW, axis, background, bar, interval_of, plot, reason
from sae_sanity.results.report.look import Look
from sae_sanity.results.report.scale import Scale

SCALE = Scale(width=21, zero=10, cells=4, unit=0.5, band=4)
UTF8, ASCII = Look(80), Look(80, ascii=True)


def drawn(make, lo, hi, look=UTF8, verdict="BEATS", middle=None):
    numbers = make.estimate((lo + hi) / 2 if middle is None else middle, lo=lo, hi=hi)
    return plot(make.comparison("b", verdict, numbers), SCALE, look).plain


def test_background():
    assert background(SCALE, UTF8) == "      ░░░░│░░░░      "
    assert background(SCALE, ASCII) == "      ::::|::::      "


@pytest.mark.parametrize(
    ("lo", "hi", "unicode", "ascii"),
    [
        pytest.param(0.5, 1.0, "      ░░░░│░░░░━━●━╸ ", "      ::::|::::==o== ", id="begins at the margin"),
        pytest.param(0.4375, 0.9375, "      ░░░░│░░░╺━●━━  ", "      ::::|:::==o==  ", id="half a cell inside"),
        pytest.param(0.0625, 0.3125, "      ░░░░│╺●━░      ", "      ::::|=o=:      ", id="off zero by half a cell"),
        pytest.param(-0.25, 0.25, "      ░╺━━●━━╸░      ", "      :===o===:      ", id="around zero"),
        pytest.param(-1.0, -0.625, " ╺━●━ ░░░░│░░░░      ", " ==o= ::::|::::      ", id="worse"),
        pytest.param(-2.0, 2.0, "◄━━━━━━━━━●━━━━━━━━━►", "<=========o=========>", id="beyond both ends"),
        pytest.param(3.0, 4.0, "      ░░░░│░░░░     ►", "      ::::|::::     >", id="all beyond"),
        pytest.param(-4.0, -3.0, "◄     ░░░░│░░░░      ", "<     ::::|::::      ", id="all beyond, left"),
    ],
)
def test_bar_exact(make, lo, hi, unicode, ascii):
    assert drawn(make, lo, hi) == unicode
    assert drawn(make, lo, hi, ASCII) == ascii


def test_crossing_zero_shows_where(make):
    assert drawn(make, -0.1, 0.9, middle=0.4) == "      ░░░━┿━━━●━━━╸  "


@pytest.mark.parametrize(("lo", "crosses"), [(-1e-9, True), (0.0, True), (1e-9, False)])
def test_zero_line_is_crossed_only_by_what_holds_zero(lo, crosses):
    assert (bar(SCALE, UTF8, lo, 0.4, 0.8).get(SCALE.zero) == "┿") is crosses


@pytest.mark.parametrize(("hi", "leaves"), [(0.4999999, False), (0.5, True)])
def test_the_band_is_left_only_by_what_reaches_the_margin(hi, leaves):
    assert (SCALE.zero + SCALE.band + 1 in bar(SCALE, UTF8, -0.1, 0.1, hi)) is leaves


def test_a_point_interval_is_a_point():
    assert bar(SCALE, UTF8, 0.5, 0.5, 0.5) == {15: "●"}
    assert bar(SCALE, UTF8, 0.0, 0.0, 0.0) == {10: "●"}


@pytest.mark.parametrize("end", [None, nan, inf, -inf])
def test_no_bar_without_two_finite_ends(make, end):
    comparison = make.comparison("b", "INCONCLUSIVE", make.estimate(0.1, lo=-0.1, hi=end))
    assert interval_of(comparison) is None
    assert plot(comparison, SCALE, UTF8).plain == reason(comparison) == "no interval"


def test_no_bar_without_an_estimate(make):
    comparison = make.comparison("b", "INVALID", None, reason="no scores of b")
    assert plot(comparison, SCALE, UTF8).plain == "no scores of b"


def test_invalid_shows_its_reason_not_its_numbers(make):
    assert interval_of(make.comparison("b", "INVALID", make.estimate(0.1, 0.1), reason="unmatched")) is None
    assert interval_of(make.comparison("b", "INVALID", make.estimate(0.1, 0.1))) == (0.0, 0.1, 0.2)
    assert interval_of(make.comparison("b", "BEATS", make.estimate(0.1, 0.1), reason="remark")) == (0.0, 0.1, 0.2)


def test_a_long_reason_goes_below(make):
    comparison = make.comparison("b", "INVALID", None, reason="x" * (2 * SCALE.width - 7))
    assert plot(comparison, SCALE, UTF8).plain == BELOW
    assert reason(comparison) == comparison.reason


def test_reason_is_literal(make):
    comparison = make.comparison("b", "INVALID", None, reason="[red]x[/]")
    assert plot(comparison, SCALE, UTF8).plain == "[red]x[/]"


def test_verdict_colours_the_bar_only(make):
    line = plot(make.comparison("b", "WORSE", make.estimate(-0.8, 0.1)), SCALE, UTF8)
    coloured = {span.start for span in line.spans if span.style == "bold red"}
    assert coloured == {i for i, mark in enumerate(line.plain) if mark in "━●╸╺"}


def test_axis_marks_zero_the_margin_and_the_ends():
    wide = Scale(width=41, zero=20, cells=4, unit=0.5, band=4)
    assert axis(wide, UTF8, 2) == "−2.50          −δ   0   +δ          +2.50"
    assert axis(wide, ASCII, 2) == "-2.50          -d   0   +d          +2.50"


def test_axis_leaves_out_what_would_touch():
    narrow = Scale(width=9, zero=4, cells=2, unit=0.02, band=2)
    assert axis(narrow, UTF8, 3) == " −δ 0 +δ "
    assert axis(Scale(9, 4, 2, 1.0, 0), UTF8, 3) == "    0    "
