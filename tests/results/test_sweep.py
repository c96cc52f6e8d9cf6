from __future__ import annotations

import json

import pytest
from statsmodels.stats.multitest import multipletests
from sweep_reports import sweep_of, swept

from sae_sanity.results.comparison import Verdict
from sae_sanity.results.sweep import SweepOverview, SweptSAE, hardest


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.12.hook_resid_post", 12),
        ("model.layers.7.mlp", 7),
        ("transformer.h.3", 3),
        ("layer.0.output", 0),
        ("blocks.1.attn.2.hook", 1),
        ("synthetic.variable", None),
        ("embed", None),
        ("myblocks.4.x", None),
        ("", None),
    ],
)
def test_the_layer_is_in_the_hook_s_name(hook, layer):
    assert SweptSAE(name="a", folder="a", hook_name=hook).layer == layer


def test_a_row_for_each_sae_and_a_cell_for_each_of_its_suites():
    found = sweep_of()
    assert [row.sae.name for row in found.rows] == ["good", "broken", "worse"]
    assert [[cell.suite for cell in row.cells] for row in found.rows] == [
        ["probing", "reconstruction", "blind"],
        ["probing", "reconstruction"],
        ["probing", "reconstruction"],
    ]
    assert found.suites == ("probing", "reconstruction", "blind")
    assert [row.layer for row in found.rows] == [0, 3, 6]


def test_verdicts_are_those_of_the_report():
    found = sweep_of()
    cells = {(row.sae.name, c.suite): c.verdict for row in found.rows for c in row.cells}
    assert cells == {(s.subject, s.suite): s.verdict for s in found.report.suites}
    assert found.rows[0].cells[0].verdict is Verdict.BEATS
    assert found.rows[0].cells[2].verdict is Verdict.INVALID
    assert found.rows[2].cells[0].verdict is Verdict.WORSE


def test_the_difference_is_the_smallest_of_the_required_ones():
    found = sweep_of()
    cells = {(row.sae.name, c.suite): c for row in found.rows for c in row.cells}
    for suite in found.report.suites:
        cell = cells[suite.subject, suite.suite]
        made = {c.baseline: c.estimate.difference for c in suite.comparisons if c.required and c.estimate}
        if not made:
            assert (cell.baseline, cell.difference) == ("", None)
            continue
        assert cell.difference == min(made.values())
        assert made[cell.baseline] == cell.difference
        assert cell.lo < cell.difference < cell.hi


def test_where_nothing_was_compared_there_is_no_hardest():
    (suite, *_) = sweep_of().report.suites
    assert hardest(suite.model_copy(update={"comparisons": ()})) is None


def test_p_is_holm_s_over_all_saes_and_suites():
    found = sweep_of()
    # What cannot vote makes no other easier: it counts as p = 1.
    votes = [s.verdict is not Verdict.INVALID for s in found.report.suites]
    ps = [s.p if vote else 1.0 for s, vote in zip(found.report.suites, votes, strict=True)]
    adjusted = multipletests(ps, method="holm")[1]
    wanted = {(s.subject, s.suite): p for s, p, vote in zip(found.report.suites, adjusted, votes, strict=True) if vote}
    cells = {(row.sae.name, c.suite): c.p_holm for row in found.rows for c in row.cells if c.p_holm is not None}
    assert cells == pytest.approx(wanted)


def test_l0_is_what_was_measured_on_the_sae_under_test():
    found = sweep_of()
    l0 = {s.subject: arm.l0 for s in found.report.suites for arm in s.arms if arm.role == "trained"}
    assert {row.sae.name: row.l0 for row in found.rows} == l0


def test_json_there_and_back():
    found = sweep_of()
    text = found.model_dump_json()
    assert SweepOverview.model_validate_json(text) == found
    assert set(json.loads(text)) == {"schema_version", "rows", "skipped", "report"}


def test_what_is_not_known_of_an_sae_is_left_open():
    saes = {name: SweptSAE(name=name, folder=name) for name in "abc"}
    found = sweep_of(saes)
    assert [(row.layer, row.sae.d_sae) for row in found.rows] == [(None, None)] * 3
    assert swept("x").layer == 3
