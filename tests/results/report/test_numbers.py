# The signs of the report are what is compared.
from __future__ import annotations

from math import inf, nan

import pytest

from sae_sanity.results.report import numbers


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(0.02, 3), (0.05, 3), (0.5, 3), (0.01, 3), (0.001, 4), (0.00025, 5), (None, 3), (0.0, 3), (nan, 3)],
)
def test_decimals_show_a_tenth_of_the_margin(margin, expected):
    assert numbers.decimals_for(margin) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0314, "+0.031"),
        (-0.0314, "−0.031"),
        (0.0001, "+0.000"),
        (-0.0001, "−0.000"),
        (0.0, "0.000"),
        (12.5, "+12.500"),
    ],
)
def test_signed_never_loses_the_sign_to_rounding(value, expected):
    assert numbers.signed(value) == expected


@pytest.mark.parametrize("missing", [None, nan, inf, -inf])
def test_missing_is_a_dash_everywhere(missing):
    formatters = (numbers.number, numbers.signed, numbers.p_value, numbers.percent)
    assert [formatter(missing) for formatter in formatters] == ["–"] * 4
    assert numbers.interval(missing, 0.1) == numbers.interval(0.1, missing) == "[no interval]"
    assert numbers.mean_and_sd(missing, 0.1) == "– ± 0.100"
    assert numbers.mean_and_sd(0.5, missing) == "0.500"
    assert not numbers.known(0.1, missing)


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, "<0.001"), (0.00099, "<0.001"), (0.001, "0.001"), (0.05, "0.050"), (0.9991, ">0.999"), (1.0, ">0.999")],
)
def test_p_value_is_never_printed_as_zero_or_one(p, expected):
    assert numbers.p_value(p) == expected


def test_interval_and_share():
    assert numbers.interval(-0.02, 0.042) == "[−0.020, +0.042]"
    assert numbers.percent(0.976) == "98 %"
    assert numbers.mean_and_sd(0.7123, 0.0034) == "0.712 ± 0.003"
    assert numbers.number(-1.26, 1) == "−1.3"


def test_short_hash_says_that_it_is_cut():
    assert numbers.short_hash("a" * 16) == "a" * 16
    assert numbers.short_hash("a" * 17) == "a" * 16 + "…"
