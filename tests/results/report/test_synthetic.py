# The signs of the report are what is compared.
from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_rows import design, rows

from sae_sanity.results.analysis import analyse
from sae_sanity.results.report import from_json, to_json
from sae_sanity.results.report.look import Look
from sae_sanity.results.report.strips import axis_of, dots, level, strip, ticks
from sae_sanity.results.report.synthetic import share, synthetic_parts
from sae_sanity.results.synthetic import summarise

TITLES = ("Recovered: ", "Largest cosine of each", "Explained variance, from", "The dictionaries: ", "The codes: ")


def detail_of(frame, world="variable"):
    return summarise(frame, world=world, n_features=400, d_in=100, true_l0=20.0, chance_mean_cosine=0.348)


@pytest.fixture(scope="module")
def frame():
    return rows(n_features=400)


@pytest.fixture(scope="module")
def detail(frame):
    return detail_of(frame)


@pytest.fixture(scope="module")
def constant():
    return detail_of(rows(n_features=100, constant=True), "constant")


def text_of(detail, console_of, width=80, *, ascii=False):
    console, text = console_of(width)
    for part in synthetic_parts(detail, Look(width, ascii=ascii)):
        console.print(part, markup=False, highlight=False, emoji=False)
    return "".join(line.rstrip() + "\n" for line in text().splitlines())


def lines_of(text, begin):
    """The lines from a title to the next empty line."""
    return text[text.index(begin) :].split("\n\n")[0].splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 160])
@pytest.mark.parametrize("ascii", [False, True])
def test_fits_and_has_every_part(detail, console_of, width, ascii):
    text = text_of(detail, console_of, width, ascii=ascii)
    assert max(map(cell_len, text.splitlines())) <= width
    assert [title for title in TITLES if title in text] == list(TITLES)
    assert text.isascii() is ascii


@pytest.mark.parametrize("width", [1, 10, 30])
def test_tiny_consoles_do_not_crash(detail, constant, console_of, width):
    assert text_of(detail, console_of, width)
    assert text_of(constant, console_of, width)


def test_recovery_of_all_arms_is_on_one_page(detail, console_of):
    text = text_of(detail, console_of)
    page = lines_of(text, "Recovered: ")
    table = text[text.index("rate\n") :].split("Percent")[0]
    assert len(page) + len(table.splitlines()) <= 40
    strips = {line.split()[0]: line for line in page[2:-1]}
    assert list(strips) == [curve.arm for curve in detail.curves]
    oracle = re.search("█+", strips["@oracle"]).group()
    assert len(oracle) % len(detail.curves[0].bins) == 0
    assert strips["random"].count(".") - strips["random"].count("0.0") >= len(oracle)
    trained = next(score for score in detail.scores if score.arm == "trained")
    assert f"{100 * trained.recovered_08:.1f} %" in strips["trained"]


def test_strips_follow_the_rates_where_bins_are_wider_or_missing(detail, console_of):
    """Bins from 1e-5 to 1e-3 and from 1e-2 to 1e-1, of four decades: two quarters, a gap, a quarter."""
    one = detail.curves[0].bins[0]
    wide, far = ({"low": 1e-5, "high": 1e-3, "value": 0.5}, {"low": 1e-2, "high": 1e-1, "value": 1.0})
    curve = detail.curves[0].model_copy(update={"bins": tuple(one.model_copy(update=u) for u in (wide, far))})
    line = lines_of(text_of(detail.model_copy(update={"curves": (curve,)}), console_of), "Recovered: ")[2]
    drawn = re.search("(▅+)( +)(█+)", line)
    first, gap, last = (len(part) for part in drawn.groups())
    assert (first / 2, gap) == pytest.approx((last, last), abs=1)


def test_recovery_table_has_intervals(detail, console_of):
    text = text_of(detail, console_of, 120)
    last = next(curve for curve in detail.curves if curve.arm == "trained").bins[-1]
    assert f"{100 * last.value:.0f}±{100 * (last.hi - last.value):.0f}" in text


def test_a_constant_world_is_shown_on_a_scale(constant, console_of):
    lines = lines_of(text_of(constant, console_of), "Recovered: ")
    assert lines[0].endswith("All features fire equally often.")
    one = constant.curves[0].bins[0]
    (trained,) = (line for line in lines if line.startswith("trained"))
    assert trained.endswith(f"{one.value:.4f} [{one.lo:.4f}, {one.hi:.4f}]".replace("-", "−"))
    assert "●" in trained


def test_chance_stands_where_the_random_dictionaries_are(detail, console_of):
    lines = lines_of(text_of(detail, console_of, 120), "Largest cosine")
    middle = next(line.index("chance") + 3 for line in lines if "chance" in line and "@" not in line)
    random = next(line for line in lines if line.startswith("random"))
    drawn = [i for i, c in enumerate(random) if c in "▁▂▃▄▅▆▇█"]
    assert drawn[0] < middle < drawn[-1]
    assert sum(drawn) / len(drawn) == pytest.approx(middle, abs=1.5)
    assert "0.348 on average" in lines[0]


def test_explained_variance_lies_between_its_ends(detail, console_of):
    lines = lines_of(text_of(detail, console_of, 120), "Explained variance, from")
    by_arm = {line.split()[0]: line for line in lines[2:]}
    at = {arm: line.index("●") for arm, line in by_arm.items() if "●" in line}
    assert at["@chance"] < at["trained"] < at["@oracle"]
    assert "◄" in by_arm["permuted_decoder"]
    assert [by_arm["trained"][at[arm]] for arm in ("@chance", "@oracle")] == ["│", "│"]
    assert by_arm["@oracle"].endswith("1.00")
    assert any("With matching pursuit: true dictionary 0.9" in line for line in lines)


def test_parts_without_data_are_left_out(detail, console_of):
    bare = detail.model_copy(update={"curves": (), "histograms": (), "chance_mean_cosine": None})
    assert "Recovered: " not in text_of(bare, console_of)
    nothing = detail.model_copy(update={"curves": (), "histograms": (), "scores": ()})
    assert "Explained variance" not in text_of(nothing, console_of)


def test_the_report_shows_the_detail_and_json_keeps_it(make, frame, detail, show):
    (suite,) = analyse(frame, design(frame))
    whole = make.report(suites=(suite.model_copy(update={"detail": detail}),))
    text = show(whole, 80)
    assert text.index("trained minus") < text.index("3 variable worlds: 400 true features") < text.index("Exploratory")
    assert "3×5" in text
    assert "± world sd" in text
    assert max(map(cell_len, text.splitlines()[:-1])) <= 80
    assert from_json(to_json(whole)) == whole
    assert "true features" not in show(make.report(suites=(suite,)), 80)


def test_a_hostile_name_is_shown_and_does_nothing(detail, console_of):
    name = "[red]x\x1b[2J"
    odd = detail.model_copy(
        update={
            "world": name,
            "curves": tuple(c.model_copy(update={"arm": name}) for c in detail.curves),
            "scores": tuple(s.model_copy(update={"arm": name}) for s in detail.scores),
        }
    )
    text = text_of(odd, console_of, 120)
    assert "\x1b" not in text
    assert "[red]x\\x1b[2J" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.0, "0 %"),
        (1 / 3200, "0.031 %"),
        (3 / 3200, "0.1 %"),
        (0.0928, "9.3 %"),
        (3199 / 3200, "99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_share_never_rounds_to_nothing_or_all(value, text):
    assert share(value) == text


def test_level_is_nothing_only_at_nothing():
    plain, ascii = Look(80), Look(80, ascii=True)
    assert [level(h, plain) for h in (0.0, 1e-9, 0.5, 0.999, 1.0)] == [".", "▁", "▅", "█", "█"]
    assert [level(h, ascii) for h in (0.0, 1e-9, 0.55, 1.0)] == [".", "0", "5", "9"]
    assert level(float("nan"), plain) == "?"


def test_strip_gives_every_height_its_cells():
    assert strip([0.0, 0.5, 1.0], Look(80), cells=6).plain == "..▅▅██"


def test_ticks_stand_above_their_cells_and_never_touch():
    assert ticks({0.0: "0", 0.5: "m", 1.0: "1"}, 0.0, 1.0, 11) == "0    m    1"
    assert ticks({0.5: "long", 0.6: "lost"}, 0.0, 1.0, 10) == "   long   "


def test_axis_names_part_to_both_sides():
    line = axis_of({0.6: "chance", 0.7: "oracle"}, 40)
    assert (line.index("chance") + 5, line.index("oracle")) == (24, 28)
    assert line[0] == "0"


@pytest.mark.parametrize(
    ("numbers", "drawn"),
    [
        ((0.5, 0.3, 0.7), "   ━━●━━  "),
        ((0.0, None, None), "●         "),
        ((1.0, 1.0, 1.0), "         ●"),
        ((-0.2, -0.3, -0.1), "◄         "),
        ((1.5, None, None), "         ►"),
        ((None, None, None), "          "),
    ],
)
def test_dots(numbers, drawn):
    assert dots(*numbers, Look(80), cells=10).plain == drawn
