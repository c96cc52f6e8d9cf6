# The signs of the page are what is compared.
from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sae_sanity.results.comparison import ClusterDifference
from sae_sanity.results.latents_seen import SeenText
from sae_sanity.results.outcome import GateCheck
from sae_sanity.results.report.html.arms import arm_tables, normalised
from sae_sanity.results.report.html.axis import EDGE, Axis, differences_axis, ground, scale_marks
from sae_sanity.results.report.html.evidence import missing
from sae_sanity.results.report.html.forests import axis_of, forest, interval_marks, overview
from sae_sanity.results.report.html.ladder import ladder, rungs
from sae_sanity.results.report.html.pairs import BINS, MOST_DOTS, pairs, stacks, summary
from sae_sanity.results.report.html.seen import pieces
from sae_sanity.results.report.html.svg import drawing, places, tag
from sae_sanity.results.report.html_format import to_html

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def xml(*drawn):
    return ET.fromstring(f"<all>{''.join(drawn)}</all>")  # noqa: S314 - our own drawing


def percent(element, name):
    return float(element.get(name).removesuffix("%"))


def of_class(tree, name):
    return [one for one in tree.iter() if name in (one.get("class") or "").split()]


def differing(make, differences, **changes):
    clusters = tuple(ClusterDifference(cluster=f"c{i}", difference=x) for i, x in enumerate(differences))
    return make.comparison("random", "BEATS", make.estimate(0.03, 0.01), clusters=clusters, **changes)


# Elements


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (-0.001, "0"), (1.0, "1"), (12.345, "12.35"), (-3.5, "-3.5"), (100.0, "100"), (3, "3")],
)
def test_places(value, told):
    assert places(value) == told


@pytest.mark.parametrize("hostile", ["<script>", '" onload="x', "a&b", "\x00\x1b[2J", "\u202e", "]]>", "\ud800"])
def test_whatever_is_said_is_text(hostile):
    drawn = drawing(hostile, hostile, 10, tag("text", hostile, x=hostile))
    assert [one.tag for one in xml(drawn).iter()] == ["all", "svg", "title", "desc", "text"]
    assert set(xml(drawn).find(".//text").attrib) == {"x"}
    assert drawn.isprintable()


# Axes


@given(st.lists(FINITE, min_size=1, max_size=8))
def test_every_value_lies_on_its_axis_in_order(values):
    axis = Axis.over(values)
    found = [axis.at(x) for x in sorted(values)]
    assert found == sorted(found)
    assert EDGE - 1e-9 <= found[0] <= found[-1] <= 100 - EDGE + 1e-9
    assert all(map(axis.holds, values))


@given(FINITE, st.floats(1e-6, 1e6))
@example(879609.9999999999, 1e-6)
def test_ticks_are_few_round_and_on_the_axis(low, span):
    axis = Axis(low, low + span)
    ticks = axis.ticks()
    assert len(ticks) <= 8
    assert float(f"{axis.step:.0e}") == pytest.approx(axis.step)
    assert f"{axis.step:.0e}"[0] in "125"
    assert np.allclose(np.diff(ticks), axis.step)
    rounding = 1e-6 * axis.step + 4 * np.spacing(abs(low) + span)  # of a float that large
    assert all(low - rounding <= x <= low + span + rounding for x in ticks)


def test_labels():
    assert [Axis(-0.02, 0.06, is_signed=True).label(x) for x in (-0.02, 0.0, 0.06)] == ["−0.02", "0", "+0.06"]
    assert Axis(0.0, 100.0).label(50.0) == "50"
    assert list(Axis(0.0, 1.0).ticks()) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_the_margin_can_be_seen_beside_anything():
    axis = differences_axis([1e9, float("nan"), -0.01], 0.02)
    assert axis.high == 2.0
    assert axis.at(0.02) - axis.at(-0.02) > 1
    assert axis.low == -0.03


@given(st.floats(-0.2, 0.2), st.floats(0, 0.1), st.floats(0.005, 0.1))
def test_a_drawn_interval_leaves_the_band_and_zero_only_where_its_numbers_do(lo, width, margin):
    hi = lo + width
    axis = differences_axis([lo, hi], margin)
    tree = xml(ground(axis, 10, margin), interval_marks(axis, (lo, (lo + hi) / 2, hi), 5))
    (band,), (line,), (zero,) = (of_class(tree, name) for name in ("band", "interval", "zero"))
    right = percent(band, "x") + percent(band, "width")
    for end, x in ((lo, percent(line, "x1")), (hi, percent(line, "x2"))):
        for mark, at in ((-margin, percent(band, "x")), (0.0, percent(zero, "x1")), (margin, right)):
            # What is drawn is rounded to a hundredth of a percent.
            assert (x - at) * np.sign(end - mark) >= -0.021


def test_the_band_is_the_margin():
    axis = differences_axis([-0.1, 0.4], 0.02)
    (band,) = of_class(xml(ground(axis, 10, 0.02)), "band")
    left = percent(band, "x")
    assert [left, left + percent(band, "width")] == pytest.approx([axis.at(-0.02), axis.at(0.02)], abs=0.011)
    assert not of_class(xml(ground(axis, 10)), "band")


def test_an_interval_beyond_the_axis_goes_on():
    tree = xml(interval_marks(Axis(-1.0, 1.0), (0.5, 3.0, 9.0), 5))
    assert [one.text for one in tree.iter("text")] == ["▸"]
    assert not of_class(tree, "point")
    assert "▸" in "".join(xml(interval_marks(Axis(-1.0, 1.0), (-9.0, 0.0, 9.0), 5)).itertext())


def test_scale_marks_say_their_numbers():
    texts = [one.text for one in xml(scale_marks(Axis(0.0, 1.0))).iter("text")]
    assert texts == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_zero_is_no_label_that_gives_way():
    tree = xml(scale_marks(Axis(-0.5, 0.5, is_signed=True)))
    assert [one.text for one in tree.iter("text") if "odd" not in one.get("class")] == ["−0.4", "0", "+0.4"]


# Forest


def test_forest_has_required_first_and_reasons_instead_of_bars(make):
    shown = make.comparison("shown", "BEATS", make.estimate(0.05, 0.01), required=False)
    lost = make.comparison("lost", "INVALID", make.estimate(0.1, 0.01), reason="L0 is unmatched")
    (group,) = forest((shown, lost), "caption").groups
    assert [(row.name, row.tag, row.word) for row in group.rows] == [
        ("lost", "required", "INVALID"),
        ("shown", "", "BEATS"),
    ]
    assert (str(group.rows[0].plot), group.rows[0].instead) == ("", "L0 is unmatched")
    assert group.rows[1].cells == ("+0.050 [+0.040, +0.060]", "0.012")
    assert of_class(xml(group.rows[1].plot), "hollow")
    assert group.axis


def test_no_axis_without_an_interval(make):
    (group,) = forest((make.comparison("random", "INCONCLUSIVE", make.estimate(0.1)),), "caption").groups
    assert (str(group.axis), group.rows[0].instead) == ("", "no interval")


def test_overview_has_required_comparisons_each_suite_on_its_own_axis(make):
    found = overview((make.reconstruction(), make.probing()), {"reconstruction": "a", "sparse_probing": "b"})
    assert [(group.title, group.word, group.link) for group in found.groups] == [
        ("reconstruction", "BEATS", "a"),
        ("sparse_probing", "INCONCLUSIVE", "b"),
    ]
    required = {
        c.baseline for suite in (make.reconstruction(), make.probing()) for c in suite.comparisons if c.required
    }
    assert {row.name for group in found.groups for row in group.rows} == required
    assert found.groups[0].axis != found.groups[1].axis
    assert overview((), {}) is None


def test_a_suite_that_does_not_vote_says_so(make):
    silent = make.probing().model_copy(update={"votes": False})
    assert "the policy requires other suites" in overview((silent,), {silent.label: "x"}).groups[0].note


# Paired differences


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=60))
def test_stacks_against_numpy(values):
    axis = Axis(-0.5, 0.5)
    found = stacks(values, axis)
    assert sorted(i for column in found.values() for i in column) == list(range(len(values)))
    counts, edges = np.histogram(values, BINS, (-0.5, 0.5))
    if all(abs(x - edge) > 1e-9 for x in values for edge in edges):
        assert [len(found.get(i, ())) for i in range(BINS)] == counts.tolist()


@pytest.mark.parametrize(("n", "dots"), [(7, 7), (MOST_DOTS, MOST_DOTS), (MOST_DOTS + 1, 0), (1000, 0)])
def test_one_dot_for_each_cluster_until_there_are_too_many(make, n, dots):
    values = np.random.default_rng(1).normal(0.03, 0.02, n)
    table = pairs((differing(make, values),))
    tree = xml(table.groups[0].rows[0].plot)
    assert len(of_class(tree, "one")) == dots
    counted = [int(one.find("title").text.split()[0]) for one in of_class(tree, "count")]
    assert sum(counted) == (0 if dots else n)
    assert max(float(one.get("cy")) for one in of_class(tree, "one")) < 72 if dots else table.legend.startswith("Bars")
    assert all(float(one.get("cy")) > 0 for one in of_class(tree, "one"))


def test_summary_says_how_many_and_which(make):
    found = summary(differing(make, [0.02, -0.01, 0.0, 0.5]))
    assert found == "2 of 4 clusters above zero; lowest −0.010 (c1); highest +0.500 (c3)"


def test_no_pairs_where_nothing_is_paired(make):
    assert pairs((make.comparison("random", "BEATS", make.estimate(0.1, 0.01), sampled=True),)) is None
    assert pairs((differing(make, [float("nan")]),)) is None


# Arms


def test_normalised_places_are_those_of_the_scale(make):
    suite = make.probing()
    found = normalised(suite)
    axis_values = {arm.arm: (arm.score - 0.6) / 0.35 for arm in suite.arms}
    rows = {row.name: row for row in found.groups[0].rows}
    centre = percent(of_class(xml(rows["random"].plot), "point")[0], "cx")
    one = percent(of_class(xml(rows["random"].plot), "zero")[-1], "x1")
    at = percent(of_class(xml(rows["frozen_encoder@iso"].plot), "point")[0], "cx")
    assert at == pytest.approx(centre + axis_values["frozen_encoder@iso"] * (one - centre), abs=0.02)
    assert rows["frozen_encoder@iso"].cells == ("0.801 ± 0.003", "0.58")
    assert "0 is the floor (0.600), 1 the ceiling (0.950)" in found.legend


def test_an_arm_far_off_the_scale_is_pointed_at(make):
    far = make.probing().model_copy(
        update={"arms": (make.arm("trained", "trained", 0.9), make.arm("x", "control", -9))}
    )
    row = normalised(far).groups[0].rows[1]
    assert "◂" in row.plot
    assert not of_class(xml(row.plot), "hollow")


def test_a_scale_upside_down_says_so(make):
    assert "says nothing" in normalised(make.probing().model_copy(update={"ceiling": 0.5})).legend
    assert "says nothing" not in normalised(make.probing()).legend


def test_bars_are_shares(make):
    first, other = arm_tables(make.probing())
    names = [heading.name for heading in first.headings]
    row = {cells[0].text: cells for cells in first.groups[0].rows}["soft_frozen@0.8"]
    assert (row[names.index("L0")].text, row[names.index("dead %")].text) == ("45.2", "3.1")
    fills = [percent(of_class(xml(row[i].bar), "fill")[0], "width") for i in map(names.index, ("L0", "dead %"))]
    assert fills == [100, 3.12]
    assert [heading.name for heading in other.headings] == ["arm", "auc", "loss_recovered"]


def test_many_metrics_are_several_tables(make):
    arm = make.arm("trained", "trained", 0.8, secondary={f"m{i}": 0.1 for i in range(14)})
    tables = arm_tables(make.probing().model_copy(update={"arms": (arm,)}))
    assert [len(table.headings) for table in tables[1:]] == [7, 7, 3]
    assert tables[1].caption == "Arms: other metrics (1 of 3)"
    assert sorted(h.name for table in tables[1:] for h in table.headings[1:]) == sorted(arm.secondary)


def laddered(make, *taus, frozen=True):
    arms = [make.arm(f"soft_frozen@{tau}", "baseline", 1.2 - float(tau)) for tau in taus]
    arms += [make.arm("frozen_decoder@iso", "baseline", 0.1)] * frozen
    return make.probing().model_copy(update={"arms": (make.arm("trained", "trained", 0.9), *arms)})


def test_rungs_in_the_order_of_tau(make):
    suite = laddered(make, "0.99", "0.8", "0.95", "1.5")
    odd = make.arm("soft_frozen@x", "baseline", 0.1), make.arm("soft_frozen", "baseline", 0.1)
    assert [tau for tau, _ in rungs((*odd, *suite.arms))] == [0.8, 0.95, 0.99, 1.0]


def test_ladder_is_drawn_from_two_rungs_on_and_is_true_to_its_numbers(make):
    assert ladder(laddered(make, "0.8")) is None
    tree = xml(ladder(laddered(make, "0.99", "0.8", "0.95")).area)
    dots = [(percent(one, "cx"), float(one.get("cy"))) for one in tree.iter("circle")]
    angles = np.degrees(np.arccos([0.8, 0.95, 0.99, 1.0]))
    scores = [0.4, 0.25, 0.21, 0.1]
    xs, ys = zip(*dots, strict=True)
    assert np.corrcoef(xs, angles)[0, 1] == pytest.approx(-1)
    assert np.corrcoef(ys, scores)[0, 1] == pytest.approx(-1)
    assert {"τ 0.8", "τ 0.95", "τ 0.99", "τ 1"} < {one.text for one in tree.iter("text")}
    assert "soft_frozen@0.95 (τ 0.95) 0.250" in tree.find(".//title").text


# Missing data and latents


def test_missing_names_what_was_skipped_unmatched_and_not_compared(make):
    found = dict(missing(make.report()))
    assert found["autointerp"] == "no judge was given (--judge)"
    assert found["sparse_probing: soft_frozen@0.8"].startswith("L0 45.2 is not within 5 %")
    assert not any("permuted" in name for name in found)


def test_missing_names_latents_without_an_answer_and_a_judge_that_failed(make):
    judged = make.probing().model_copy(
        update={
            "suite": "autointerp",
            "arms": (
                make.arm("trained", "trained", 0.8, secondary={"missing": 0.125}),
                make.arm("random", "baseline", 0.6, secondary={"missing": 0.0}),
            ),
            "comparisons": (),
            "gate": (
                GateCheck(name="range", passed=True, detail="wide"),
                GateCheck(name="judge", passed=True, detail="finds what is planted"),
                GateCheck(name="complete", passed=False, detail="incomplete: no answer for trained 1 of 8"),
            ),
        }
    )
    assert dict(missing(make.report(suites=(judged,), skipped=()))) == {
        "autointerp: assay gate, complete": "incomplete: no answer for trained 1 of 8",
        "autointerp: trained": "no answer of the judge for 12.5 % of the latents asked about",
    }


def test_the_page_says_that_nothing_is_missing_only_where_nothing_is(make):
    nothing = "Everything was measured, and every comparison could be made."
    clean = make.reconstruction().model_copy(update={"arms": (make.arm("trained", "trained", 0.8),)})
    assert nothing in to_html(make.report(suites=(clean,), skipped=()))
    (arm,) = clean.arms
    one = clean.model_copy(update={"arms": (arm.model_copy(update={"secondary": {"missing": 0.01}}),)})
    page = to_html(make.report(suites=(one,), skipped=()))
    assert nothing not in page
    assert "no answer of the judge for 1 %" in page


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=6), st.integers(1, 40))
def test_pieces_are_the_text_and_its_active_characters(text, cuts, longest):
    ends = sorted(min(cut, len(text)) for cut in cuts)
    spans = tuple(zip(ends[::2], ends[1::2], strict=False))
    found = pieces(SeenText(text=text, active=spans), longest)
    shown = re.sub("\r?\n", "↵", text[:longest]) if "\r" not in text else None
    if shown is not None:
        assert "".join(piece for piece, _ in found) == shown + ("…" if len(text) > longest else "")
        mask = [any(a <= i < b for a, b in spans) for i in range(len(text[:longest]))]
        told = [active for piece, active in found for _ in piece][: len(mask)]
        assert told == mask
    assert all(a[1] != b[1] for a, b in pairwise(found) if b[0] != "…")


def test_axis_of_holds_every_interval(make):
    comparisons = tuple(make.comparison("a", "BEATS", make.estimate(x, 0.02)) for x in (-0.4, 0.3))
    axis = axis_of(comparisons)
    assert (axis.low, axis.high) == pytest.approx((-0.42, 0.32))
