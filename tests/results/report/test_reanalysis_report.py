"""The reanalysed table in the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from sae_sanity.results.reanalysis import METRICS, reanalyse
from sae_sanity.results.report.reanalysis import count_table, render


@pytest.fixture(scope="module")
def found():
    return reanalyse()


@pytest.fixture(scope="module")
def text(found):
    file = io.StringIO()
    render(found, Console(file=file, width=100))
    return file.getvalue()


def test_it_fits_100_columns_and_cuts_no_word(text):
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text


def test_every_baseline_has_a_line_under_both_readings(found, text):
    lines = [line for line in text.splitlines() if re.match(r"(fr_|soft_)\w+@", line)]
    assert len(lines) == 2 * len(found.contrasts) / len(METRICS) == 60


def test_a_line_says_what_its_contrasts_say(text):
    first = next(line for line in text.splitlines() if line.startswith("soft_frozen@iso"))
    assert first.split() == [
        "soft_frozen@iso",
        "+.067*",
        "BEATS",
        "+.062",
        "INCONCLUSIVE",
        "+.126*",
        "BEATS",
        "−.008",
        "INCONCLUSIVE",
    ]


def test_the_counts_come_first(found, text):
    assert re.search(r"standard error\s+EV\s+24\s+24\s+0\s+0\s+24 BEATS", text)
    assert re.search(r"probing top-1\s+24\s+11\s+0\s+0", text)
    assert re.search(r"RAVEL\s+24\s+10\s+0\s+10", text)
    assert count_table(found.counts).row_count == 16


def test_it_names_its_limits(text):
    flat = " ".join(text.split())
    for limit in (
        "nothing is paired",
        "two of three sites",
        "number of seeds is not stated",
        "a frozen decoder is none",
    ):
        assert limit in flat
