"""Two runs compared, in the terminal."""

from __future__ import annotations

import pytest

from sae_sanity.results.decision import RunComparison, SuiteComparison
from sae_sanity.results.outcome import Verdict
from sae_sanity.results.report.look import Look
from sae_sanity.results.report.run_comparison import WORDS, in_words, pieces


def shown(console_of, found, width=100):
    console, text = console_of(width)
    for piece in pieces(found, Look.of(console)):
        console.print(piece)
    return text()


@pytest.fixture
def found(make):
    worse = make.comparison("v1", "WORSE", make.estimate(-0.011, 0.0015))
    same = make.comparison("v1", "EQUIVALENT", make.estimate(0.0, 0.016))
    pairs = (
        SuiteComparison(suite="reconstruction", comparison=worse),
        SuiteComparison(suite="probing", comparison=same),
    )
    skipped, notes = ("autointerp: only in v1",), ("tokens is 1 in v2 and 2 in v1",)
    return RunComparison(ours="v2", theirs="v1", comparisons=pairs, skipped=skipped, notes=notes)


def test_every_suite_has_a_line_with_its_figures(console_of, found):
    lines = shown(console_of, found).splitlines()
    (line,) = (line for line in lines if line.startswith("reconstruction ") and "WORSE" in line)
    assert "−0.011 [−0.013, −0.010]" in line or "−0.011 [−0.012, −0.009]" in line
    assert max(map(len, lines)) <= 100


def test_what_was_left_out_and_what_differs_is_said(console_of, found):
    text = shown(console_of, found)
    assert "not compared: autointerp: only in v1" in text
    assert "differs, and may: tokens is 1 in v2 and 2 in v1" in text


def test_nothing_compared_is_no_table(console_of):
    text = shown(console_of, RunComparison(ours="a", theirs="b", comparisons=(), skipped=("x: only in a",)))
    assert text.split() == ["ours:", "a", "theirs:", "b", "not", "compared:", "x:", "only", "in", "a"]


def test_words_say_how_much_worse(make):
    def words(verdict, difference, half):
        return in_words(make.comparison("v1", verdict, make.estimate(difference, half)))

    assert words("WORSE", -0.011, 0.002).startswith("worse, by less than the margin")
    assert words("WORSE", -0.08, 0.01).startswith("worse (")
    assert words("INCONCLUSIVE", 0.02, 0.03).startswith("not worse by the margin")
    assert words("INCONCLUSIVE", 0.0, 0.05).startswith("may be worse by the margin")
    assert set(WORDS) == set(Verdict)


def test_a_hostile_name_is_only_text(console_of, found):
    bad = found.model_copy(update={"ours": "[red]x\x1b[31m"})
    text = shown(console_of, bad)
    assert "\x1b" not in text
    assert "[red]x" in text
