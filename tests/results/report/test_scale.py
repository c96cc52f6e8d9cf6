"""Geometry in closed form: with a band of n cells and a margin δ, a half cell is δ / 2n."""

from __future__ import annotations

from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sae_sanity.results.report.scale import Scale, fit

SCALE = Scale(width=21, zero=10, cells=4, unit=0.5, band=4)
"""Half a cell is 0.0625: every position below is exact in binary."""


@pytest.mark.parametrize(
    ("x", "half"),
    [
        (0.0625 * 0.5, 22),  # the first half cell right of the zero cell, which is halves 20 and 21
        (0.0625, 23),
        (0.125, 24),
        (0.4375, 29),  # the last half cell of the band
        (nextafter(0.5, 0), 29),
        (0.5, 30),
        (0.5625, 31),
        (1.25, 42),  # right of the plot
        (-0.0625 * 0.5, 19),
        (-0.0625, 18),
        (nextafter(-0.5, 0), 12),
        (-0.5, 11),
        (-1.25, -1),
    ],
)
def test_half_exact(x, half):
    assert SCALE.half(x) == SCALE.start(x) == SCALE.end(x) == half
    assert SCALE.cell(x) == half // 2


def test_zero_is_the_whole_zero_cell():
    assert (SCALE.start(0.0), SCALE.end(0.0), SCALE.cell(0.0)) == (20, 21, 10)
    assert (SCALE.start(-0.0), SCALE.end(-0.0)) == (20, 21)


def test_ends_of_the_axis():
    assert (SCALE.left, SCALE.right) == (-1.25, 1.25)


def test_the_smallest_number_leaves_the_zero_line():
    assert SCALE.half(5e-324) == 22
    assert SCALE.half(-5e-324) == 19


scores = st.floats(-1e300, 1e300)


@given(scores, scores, st.floats(1e-4, 1.0), st.integers(7, 60))
def test_order_is_kept(a, b, margin, width):
    scale = fit([a, b], margin, width)
    low, high = sorted((a, b))
    assert scale.start(low) <= scale.start(high)
    assert scale.end(low) <= scale.end(high)


@given(scores, st.floats(1e-4, 1.0), st.integers(7, 60))
def test_what_is_drawn_leaves_zero_and_the_band_where_the_number_does(x, margin, width):
    scale = fit([x], margin, width)
    cell = scale.cell(x)
    assert (cell > scale.zero, cell == scale.zero, cell < scale.zero) == (x > 0, x == 0, x < 0)
    assert (abs(cell - scale.zero) <= scale.band) == (abs(x) < margin)


@given(st.lists(scores, max_size=6), st.floats(1e-4, 1.0), st.integers(7, 60))
def test_zero_band_and_a_cell_outside_are_always_on_the_plot(ends, margin, width):
    scale = fit(ends, margin, width)
    assert scale.zero - scale.band - 1 >= 0
    assert scale.zero + scale.band + 1 < width
    assert scale.band >= 2


@given(st.lists(st.floats(-0.1, 0.1), min_size=1, max_size=6), st.integers(15, 60))
def test_everything_fits_where_the_margin_is_of_the_same_size(ends, width):
    scale = fit(ends, 0.06, width)
    assert all(0 <= scale.cell(x) < width for x in ends)


def test_fit_takes_the_finest_scale():
    # One side needs n cells for the band or floor(n r / δ), and one more: 1 + (n + 1) + (3n + 1) <= 31 gives n = 7.
    scale = fit([0.06], 0.02, 31)
    assert (scale.cells, scale.band) == (7, 7)
    assert scale.cell(0.06) < 31
    finer = Scale(31, 9, 8, 0.02, 8)
    assert finer.cell(0.06) >= 31


def test_fit_keeps_the_margin_visible_and_lets_far_numbers_go():
    scale = fit([-0.01, 5.0], 0.02, 31)
    assert (scale.cells, scale.zero) == (2, 3)
    assert scale.cell(5.0) >= 31


def test_fit_shares_the_room_between_two_far_sides():
    assert fit([-5.0, 5.0], 0.02, 31).zero == 15
    assert fit([-5.0, 0.01], 0.02, 31).zero == 27


def test_fit_without_numbers_is_symmetric():
    scale = fit([], 0.02, 21)
    assert (scale.zero, scale.cells) == (10, 9)


@pytest.mark.parametrize("margin", [0.0, -1.0])
def test_without_a_margin_nothing_is_shaded(margin):
    assert fit([0.3], margin, 21).band == 0
    assert fit([], margin, 21).band == 0
