from __future__ import annotations

import pytest

from sae_sanity.results.report.columns import WIDEST_NAME, Column, fitting, stacked, table
from sae_sanity.results.report.look import Look

NAMES = Column("arm", ("trained", "random"), "left", wraps=True)
SCORES = Column("score\n± sd", ("0.812 ± 0.003", "0.600"))


def test_width_is_that_of_the_widest_line():
    assert NAMES.width(Look(80)) == 7
    assert SCORES.width(Look(80)) == 13
    assert SCORES.width(Look(80, ascii=True)) == 14  # ± is spelled +-
    assert Column("a_long_heading", ("1",)).width(Look(80)) == 14
    assert Column("n", ("中中",)).width(Look(80)) == 4


def test_only_names_are_capped():
    long = "x" * (WIDEST_NAME + 10)
    assert Column("n", (long,), wraps=True).width(Look(80)) == WIDEST_NAME
    assert Column("n", (long,)).width(Look(80)) == WIDEST_NAME + 10


@pytest.mark.parametrize(
    ("header", "name"),
    [("arm", "arm"), ("sign-\nflip p", "sign-flip p"), ("TOST\np", "TOST p"), ("loss_\nrecovered", "loss_recovered")],
)
def test_name_is_the_heading_on_one_line(header, name):
    assert Column(header, ()).name == name


def test_stacked():
    assert stacked("explained_variance") == "explained_\nvariance"
    assert stacked("auc") == "auc"


@pytest.mark.parametrize(("width", "kept"), [(80, 3), (25, 3), (24, 2), (21, 2), (20, 1), (7, 1), (3, 1)])
def test_fitting_exact(width, kept):
    # 7 + 1 + 13 + 1 + 3: the third column fits from 25 on, the second from 21; the first always stays.
    columns = (NAMES, SCORES, Column("L0", ("320", "321")))
    shown, rest = fitting(columns, Look(width))
    assert shown == columns[:kept]
    assert rest == tuple(column.name for column in columns[kept:])


def test_table_exact(console_of):
    console, text = console_of(40)
    console.print(table((NAMES, SCORES), Look(40)))
    assert [line.rstrip() for line in text().splitlines()] == [
        "                score",
        "arm              ± sd",
        "─────────────────────",
        "trained 0.812 ± 0.003",
        "random          0.600",
    ]


def test_table_in_ascii(console_of):
    console, text = console_of(40)
    console.print(table((NAMES, SCORES), Look(40, ascii=True)))
    assert text().isascii()
    assert "-" * 22 in text()


def test_cells_are_literal(console_of):
    console, text = console_of(40)
    console.print(table((Column("[b]", ("[red]x[/]", "\x1b[0m")),), Look(40)))
    assert "[b]" in text()
    assert "[red]x[/]" in text()
    assert "\\x1b[0m" in text()
