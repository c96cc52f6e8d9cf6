from __future__ import annotations

import io
import re
from xml.etree import ElementTree as ET

import pytest
from hostile_names import NASTY, renamed
from rich.console import Console
from sweep_reports import sweep_of, swept

from sae_sanity.results.comparison import Verdict
from sae_sanity.results.report.sweep import MARKS, PLOTS, counts, render_sweep, sweep_figure, sweep_plot, sweep_text
from sae_sanity.results.sweep import SweptSAE


def shown(found, width=120, encoding="utf-8") -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    render_sweep(found, Console(file=file, width=width, force_terminal=False, legacy_windows=False))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_the_verdict_comes_first_and_every_sae_has_a_line_for_each_suite():
    text = shown(sweep_of())
    assert text.splitlines()[0].startswith("FAIL")
    assert re.match(r"good +probing +BEATS +\+0\.\d+ \[\+0\.\d+, \+0\.\d+\]", line_of(text, "good"))
    assert re.search(r"^ +blind +INVALID", text, re.MULTILINE)
    assert re.match("worse +probing +WORSE +\N{MINUS SIGN}", line_of(text, "worse"))
    assert re.search(r"\b6 +2048\b", line_of(text, "worse"))


def test_counts_are_of_saes_and_of_verdicts():
    found = sweep_of()
    assert counts(found).startswith("0 of 3 SAEs beat")  # the good one's blind suite is INVALID
    verdicts = [c.verdict for row in found.rows for c in row.cells]
    for verdict in set(verdicts):
        assert f"{verdicts.count(verdict)} {verdict.value}" in counts(found)


def test_a_suite_without_a_vote_is_in_brackets_and_not_counted():
    found = sweep_of()
    rows = [r.model_copy(update={"cells": (r.cells[0].model_copy(update={"votes": False}),)}) for r in found.rows]
    found = found.model_copy(update={"rows": tuple(rows)})
    assert "(probing)" in shown(found)
    assert "no verdicts" in counts(found)


def test_what_was_not_measured_is_said():
    assert "autointerp: no judge was given" in shown(sweep_of())


def test_no_line_is_wider_than_the_console():
    for width in (60, 80, 120):
        assert max(map(len, shown(sweep_of(), width).splitlines())) <= width


def test_ascii_where_the_console_knows_no_more():
    shown(sweep_of(), encoding="ascii").encode("ascii")


@pytest.mark.parametrize("name", [*NASTY, "a\nb", "\x1b[31mred", "$x^2$", "<svg onload=x>"])
def test_hostile_names_are_shown_and_do_nothing(name):
    found = sweep_of({n: swept(n) for n in (name, "b", "c")})
    found = found.model_copy(update={"report": renamed(found.report, name)})
    text = shown(found)
    assert "\x1b" not in text
    svg = sweep_plot(found, "svg")
    ET.fromstring(svg)  # noqa: S314  # our own file
    assert b"<svg onload" not in svg


def labels(figure) -> list[str]:
    return [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]


def test_a_panel_for_what_the_saes_differ_in():
    assert labels(sweep_figure(sweep_of())) == ["layer", "d_sae"]
    layers = {n: swept(n, layer=i) for i, n in enumerate("abc")}
    assert labels(sweep_figure(sweep_of(layers))) == ["layer"]
    assert labels(sweep_figure(sweep_of({n: swept(n) for n in "abc"}))) == ["SAE"]
    assert labels(sweep_figure(sweep_of({n: SweptSAE(name=n, folder=n) for n in "abc"}))) == ["SAE"]


@pytest.mark.parametrize(("l0", "panel"), [((30, 33, 60), True), ((30.0, 30.5, 33.0), False)])
def test_an_l0_that_is_nearly_the_same_is_no_panel(l0, panel):
    found = sweep_of({n: swept(n) for n in "abc"})
    rows = [row.model_copy(update={"l0": float(value)}) for row, value in zip(found.rows, l0, strict=True)]
    assert (labels(sweep_figure(found.model_copy(update={"rows": tuple(rows)}))) == ["L0"]) is panel


def test_points_are_where_the_differences_are():
    found = sweep_of()
    by_layer = sweep_figure(found).axes[0]
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in by_layer.lines if line.get_marker() != "None"}
    wanted = {(row.layer, row.cells[0].difference) for row in found.rows}
    assert points == wanted


def test_every_verdict_has_a_colour_and_a_marker_of_its_own():
    assert set(MARKS) == set(Verdict)
    assert len({colour for colour, _ in MARKS.values()}) == len({marker for _, marker in MARKS.values()}) == len(MARKS)


@pytest.mark.parametrize("kind", PLOTS)
def test_the_same_sweep_gives_the_same_bytes(kind):
    assert sweep_plot(sweep_of(), kind) == sweep_plot(sweep_of(), kind)


def test_a_sweep_of_which_nothing_was_measured_can_be_shown():
    found = sweep_of().model_copy(update={"rows": ()})
    assert "0 of 0 SAEs" in sweep_text(found)
    assert sweep_plot(found, "png").startswith(b"\x89PNG")
