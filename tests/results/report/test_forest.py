# The signs of the report are what is compared.
from __future__ import annotations

import pytest

from sae_sanity.results.report import forest
from sae_sanity.results.report.look import Look


def lines(console_of, renderable, width):
    console, text = console_of(width)
    console.print(renderable)
    return [line.rstrip() for line in text().splitlines()]


def drawn(console_of, comparisons, width):
    look = Look(width)
    return lines(console_of, forest.forest(comparisons, look, forest.layout(comparisons, look)), width)


def test_rows_exact(console_of, make):
    # 80 columns less 18 (name), 23 (numbers), 12 (verdict) and 4 between them: 23 cells of plot.
    # A band of 5 cells needs 1 + 6 + (floor(5 * 0.04 / 0.02) + 1) = 18 cells, 6 need 21, 7 need 24; of 2 spare cells
    # one goes left, so zero is cell 8 and δ is 6 cells.
    rows = [
        make.comparison("a" * 16, "BEATS", make.estimate(0.03, lo=0.02, hi=0.04)),
        make.comparison("b", "INCONCLUSIVE", make.estimate(0.01), required=False, reason="one baseline seed"),
    ]
    assert drawn(console_of, rows, 80) == [
        "  trained minus     −δ     0     +δ +0.047  diff. [90 % interval]   verdict",
        "* aaaaaaaaaaaaaaaa   ░░░░░░│░░░░░░━━━●━━╸   +0.030 [+0.020, +0.040] BEATS",
        "  b                one baseline seed        +0.010 [no interval]    INCONCLUSIVE",
    ]


def test_required_first_and_marked(make):
    rows = [
        make.comparison(n, "BEATS", None, required=r) for n, r in (("a", False), ("b", True), ("c", False), ("d", True))
    ]
    assert [forest.label(row) for row in forest.ordered(rows)] == ["* b", "* d", "  a", "  c"]


@pytest.mark.parametrize(("width", "wide"), [(80, False), (100, False), (140, True), (160, True)])
def test_layout_fills_the_console(make, width, wide):
    rows = [make.comparison("frozen_decoder@iso", "BEATS", make.estimate(0.03, 0.01))]
    widths = forest.layout(rows, Look(width))
    beside = sum(forest.BESIDE_WIDTHS) + len(forest.BESIDE_WIDTHS) if widths.wide else 0
    assert widths.wide is wide
    assert widths.label + widths.plot + widths.numbers + 12 + 4 + beside <= width
    assert widths.plot == min(width - widths.label - widths.numbers - 12 - 4 - beside, forest.WIDEST_PLOT)


def test_layout_of_a_tiny_console_still_has_a_plot(make):
    assert forest.layout([make.comparison("b", "BEATS", None)], Look(20)).plot == 7


def test_long_names_wrap_and_lose_nothing(console_of, make):
    name = "a_very_long_name_of_a_baseline_that_somebody_made_up@somewhere"
    shown = drawn(console_of, [make.comparison(name, "BEATS", make.estimate(0.03, 0.01))], 100)
    assert "".join(line[: forest.WIDEST_LABEL].strip() for line in shown[1:]).removeprefix("*").strip() == name
    assert max(map(len, shown)) <= 100


def test_numbers_beside(make):
    numbers = make.estimate(0.03, 0.01, p_crossed=0.0123, p_signflip=0.04, d_z=-1.3, superiority=1.0, mde=None)
    assert forest.beside(numbers, 3) == ("0.040", "−1.30", "100 %", "–")
    assert forest.beside(None, 3) == ("–",) * 4
    assert forest.beside(make.estimate(0.03), 3)[0] == "–"


def test_difference(make):
    assert forest.difference(make.estimate(0.03, 0.01), 3) == "+0.030 [+0.020, +0.040]"
    assert forest.difference(make.estimate(-0.03), 3) == "−0.030 [no interval]"
    assert forest.difference(None, 3) == "–"


def test_legend_names_the_margin_and_the_star(make):
    required = [make.comparison("b", "BEATS", None, margin=0.0005)]
    assert forest.legend(required, Look(80)).plain == (
        "░ margin ±δ, δ = 0.00050 · ━●━ estimate, 90 % interval · ► goes on · * required"
    )
    other = [make.comparison("b", "BEATS", None, required=False)]
    assert forest.legend(other, Look(80, ascii=True)).plain == (
        ": margin +-d, d = 0.020; =o= estimate, 90 % interval; > goes on"
    )


def test_long_reasons_are_listed_once(make):
    rows = [
        make.comparison("short", "INVALID", None, reason="no scores"),
        make.comparison("[red]long", "INVALID", None, reason="unmatched L0: " + "seed " * 40),
        make.comparison("fine", "BEATS", make.estimate(0.1, 0.01)),
    ]
    listed = forest.long_reasons(rows, forest.layout(rows, Look(80)))
    assert listed == ("[red]long: unmatched L0: " + "seed " * 40,)
