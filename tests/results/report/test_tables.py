# The signs of the report are what is compared.
from __future__ import annotations

from math import nan

import pytest

from sae_sanity.results.report import tables
from sae_sanity.results.report.look import Look


def text_of(parts, console_of, width=100):
    console, text = console_of(width)
    for part in parts:
        console.print(part)
    return text()


def test_arm_columns(make):
    arms = (
        make.arm("trained", "trained", 0.8123),
        make.arm("b", "baseline", 0.6, matched=False, l0=45.2, dead_share=None),
    )
    cells = {column.name: column.cells for column in tables.arm_columns(arms, "accuracy", 3)}
    assert cells == {
        "arm": ("trained", "b"),
        "role": ("trained", "baseline"),
        "seeds": ("5", "5"),
        "accuracy ± seed sd": ("0.812 ± 0.003", "0.600 ± 0.003"),
        "norm.": ("0.61", "0.00"),
        "L0": ("32.0", "45.2"),
        "dead %": ("3.1", "–"),
        "L0 is": ("matched", "unmatched"),
        "auc": ("0.842", "0.630"),
        "loss_recovered": ("0.912", "0.700"),
    }


def test_metrics_keep_their_order_and_missing_ones_are_dashes(make):
    arms = (make.arm("a", "trained", 0.5, secondary={"z": 1.0}), make.arm("b", "baseline", 0.5, secondary={"a": 2.0}))
    assert tables.metrics_of(arms) == ("z", "a")
    assert [column.cells for column in tables.arm_columns(arms, "m", 3)[-2:]] == [("1.000", "–"), ("–", "2.000")]


@pytest.mark.parametrize(("width", "told"), [(80, "No room here for loss_recovered"), (100, None)])
def test_secondary_metrics_as_width_allows(make, console_of, width, told):
    text = text_of(tables.arm_table(make.probing(), Look(width)), console_of, width)
    assert ("No room here" in text) is bool(told)
    assert told is None or told in text
    assert ("recovered\n" in "".join(line.rstrip() + "\n" for line in text.splitlines())) is (told is None)


def test_notes_of_arms_follow_the_table(make, console_of):
    text = text_of(tables.arm_table(make.probing(), Look(100)), console_of)
    assert text.rstrip().endswith("soft_frozen@0.8: L0 45.2 at the last step, target 32.")


def test_no_arms(make, console_of):
    suite = make.probing().model_copy(update={"arms": ()})
    assert text_of(tables.arm_table(suite, Look(100)), console_of) == "No arm was measured.\n"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mde": 0.02}, "enough"),
        ({"mde": 0.0201, "clusters_needed": 84, "seeds_needed": 9}, "84 clusters or 9 seeds"),
        ({"mde": 0.03, "clusters_needed": 84, "seeds_needed": None}, "84 clusters"),
        ({"mde": 0.03, "clusters_needed": None, "seeds_needed": 9}, "9 seeds"),
        ({"mde": 0.03, "clusters_needed": None, "seeds_needed": None}, "neither alone"),
        ({"mde": None, "clusters_needed": None, "seeds_needed": None}, "–"),
    ],
)
def test_needed(make, changes, expected):
    assert tables.needed(make.estimate(0.01, 0.01, **changes), 0.02) == expected


def test_needed_without_an_estimate():
    assert tables.needed(None, 0.02) == "–"


def test_evidence_columns(make):
    numbers = make.estimate(0.01, 0.01, p_crossed=0.2, p_signflip=0.1, p_wilcoxon=nan, p_tost=0.04)
    comparisons = (make.comparison("b", "INCONCLUSIVE", numbers), make.comparison("c", "INVALID", None))
    cells = {column.name: column.cells for column in tables.evidence_columns(comparisons, ())}
    assert cells == {
        "trained minus": ("b", "c"),
        "p": ("0.200", "–"),
        "d_z": ("+1.32", "–"),
        "wins": ("98 %", "–"),
        "MDE": ("0.015", "–"),
        "n": ("41×5", "–"),
        "data needed": ("enough", "–"),
        "crossed t p": ("0.200", "–"),
        "sign-flip p": ("0.100", "–"),
        "Wilcoxon p": ("–", "–"),
        "TOST p": ("0.040", "–"),
    }
    assert "d_z" not in [column.name for column in tables.evidence_columns(comparisons, ("p", "d_z"))]


def test_exploratory_exact(make, console_of):
    made = [
        make.comparison("random", "BEATS", make.estimate(0.08, 0.01), metric="auc", p_adjusted=0.0002),
        make.comparison("[b]x", "INVALID", None, metric="[i]k1", p_adjusted=None),
    ]
    assert [
        line.rstrip() for line in text_of([tables.exploratory_table(made, Look(100))], console_of).splitlines()
    ] == [
        "metric, trained minus diff. [90 % interval]     BH p verdict",
        "────────────────────────────────────────────────────────────",
        "auc",
        "  random              +0.080 [+0.070, +0.090] <0.001 BEATS",
        "[i]k1",
        "  [b]x                –                            – INVALID",
    ]
