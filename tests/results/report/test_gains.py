"""What every format shows of the suite `hard_probing` beside its verdict."""

from __future__ import annotations

import re
import sys
from html import unescape
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len

sys.path.insert(0, str(Path(__file__).parents[1]))
from gain_rows import ARMS, judged, made

from sae_sanity.results.hard_probing import gains
from sae_sanity.results.report import FORMATS, from_json, to_json
from sae_sanity.results.report.figures import save_suite_figures
from sae_sanity.results.report.gain_figure import size_figure
from sae_sanity.results.report.hard_probing import by_regime, regime_columns

REGIMES = ("standard", "scarcity", "noise")
SHOWN = ("trained", "random", "@clean_probe")


@pytest.fixture(scope="module")
def scores():
    return made()


@pytest.fixture(scope="module")
def suite(scores):
    return judged(scores)


@pytest.fixture
def report(make, suite):
    return make.report(suites=(make.probing(), suite))


def told(one):
    """A gain and its rates as a reader expects them, written out anew."""
    ends = f"[{one.lo:+.3f}, {one.hi:+.3f}]"
    return f"{one.gain:+.3f} {ends}".replace("-", "−"), f"{100 * one.win_rate:.0f} %", f"{100 * one.loss_rate:.0f} %"


def expected(suite):
    return [
        (regime, arm, *told(one))
        for regime in REGIMES
        for arm in SHOWN
        for one in suite.gains
        if (one.regime, one.arm, one.level) == (regime, arm, None)
    ]


def test_the_table_has_every_arm_of_every_regime_but_the_quiver_without_an_sae(suite):
    assert {
        regime: tuple(one.arm for one in found) for regime, found in by_regime(suite.gains).items()
    } == dict.fromkeys(REGIMES, SHOWN)
    assert {one.arm for one in suite.gains} == set(ARMS)
    first, second, *_ = regime_columns(suite.gains)
    assert first.cells == tuple(word for regime in REGIMES for word in (regime, "", ""))
    assert second.cells == SHOWN * 3


@pytest.mark.parametrize("width", [60, 80, 100])
def test_terminal(report, suite, show, width):
    text = show(report, width)
    assert max(map(cell_len, text.splitlines()[:-1])) <= width
    assert text.index("trained minus") < text.index("Gain of the quiver by regime, no part of the verdict:")
    assert text.count("Gain of the quiver by regime") == 1
    if width >= 80:
        lines = [" ".join(line.split()) for line in text.splitlines()]
        for regime, arm, *numbers in expected(suite):
            row = " ".join((*([regime] if arm == SHOWN[0] else []), arm, *numbers))
            assert f"{row} {20 if regime == 'scarcity' else 10}, 5" in lines


def test_markdown(report, suite):
    text = FORMATS["markdown"](report)
    for regime, arm, *numbers in expected(suite):
        assert f"| {regime if arm == SHOWN[0] else ''} | `{arm}` | {' | '.join(numbers)} |" in text
    assert "| regime | arm | gain in AUC [90 % interval] | wins | losses | problems, families |" in text


def test_html(report, suite):
    text = FORMATS["html"](report)
    assert text.count("<h3>By regime</h3>") == 1
    table = unescape(text[text.index("<h3>By regime</h3>") :].split("</table>")[0])
    titles = re.findall(r'scope="rowgroup"[^>]*>([^<]*)<', table)
    assert titles == list(REGIMES)
    rows = [tuple(re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row)) for row in re.split("<tr[ >]", table)]
    assert [row[:4] for row in rows if len(row) == 5 and row[0] in ARMS] == [row[1:] for row in expected(suite)]


def test_json_keeps_every_gain(report, suite):
    assert from_json(to_json(report)).suites[1].gains == suite.gains


@pytest.mark.parametrize("name", FORMATS)
def test_a_suite_without_gains_says_nothing_of_them(make, name):
    text = FORMATS[name](make.report())
    assert "quiver" not in text
    assert "By regime" not in text


def test_a_hostile_name_is_literal(make, suite):
    bad = "<b>|[red]\x1b[2J"
    found = tuple(one.model_copy(update={"arm": bad, "regime": bad}) for one in suite.gains)
    hostile = make.report(suites=(suite.model_copy(update={"gains": found}),))
    for name in ("html", "markdown", "table"):
        text = FORMATS[name](hostile)
        assert "\x1b" not in text
        assert "<b>" not in text or name == "table"


def test_the_figure_draws_every_arm_over_the_training_sizes(suite):
    figure = size_figure(suite.gains)
    assert figure is not None
    axis = figure.axes[0]
    drawn = {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}
    assert tuple(drawn) == SHOWN
    assert list(drawn["trained"].get_xdata()) == [15.0, 56.0]
    by_size = {g.level: g.gain for g in suite.gains if (g.arm, g.regime) == ("random", "scarcity") and g.level}
    assert list(drawn["random"].get_ydata()) == [by_size[15.0], by_size[56.0]]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["15", "56"]


def test_with_one_size_nothing_is_invisible():
    figure = size_figure(gains(made(conditions=("scarcity 15",)), by_level=True))
    assert figure is not None
    axis = figure.axes[0]
    named = [line for line in axis.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in named] == list(SHOWN)
    markers = [line.get_marker() for line in named]
    assert not {None, "None", ""} & set(markers)
    assert len(set(markers)) == len(markers)


def test_without_scarcity_there_is_no_figure(tmp_path, scores):
    rest = judged(scores[~scores["item"].str.contains("scarcity")])
    assert size_figure(rest.gains) is None
    assert save_suite_figures(rest, tmp_path / "no" / "x") == []
    assert not list(tmp_path.iterdir())


def test_the_files_are_whole_and_the_same_twice(suite, tmp_path):
    files = save_suite_figures(suite, tmp_path / "a" / "one")
    assert [file.name for file in files] == ["one-gain-by-size.png", "one-gain-by-size.svg"]
    again = save_suite_figures(suite, tmp_path / "b" / "one")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    assert Image.open(files[0]).size[0] > 1000
    assert "@clean_probe" in files[1].read_text("utf-8")


def test_an_unknown_format_is_refused(suite, tmp_path):
    with pytest.raises(ValueError, match="no such image format: gifff"):
        save_suite_figures(suite, tmp_path / "x", ("gifff",))
