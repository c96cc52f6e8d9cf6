"""The forest plot: a line for each comparison, its interval over zero and the margin band, its numbers and verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...outcome import Comparison, Verdict
from ..bars import interval_of, reason
from ..forest import HEADING, difference, ordered
from ..numbers import decimals_for, number, p_value
from ..panels import gate_words
from ..words import SHOWN_ONLY, p_words
from .axis import Axis, arrows, differences_axis, ground, scale_marks
from .shapes import PlotGroup, PlotRow, PlotTable
from .svg import Markup, Real, dot, drawing, joined, line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...decision import RunComparison
    from ...outcome import RecipeClaim, SuiteResult

HEIGHT = 42
"""Pixels of one line."""
LEGEND = "Point and line: estimate and 90 % interval. Shaded: the margin."
"""How to read a forest plot."""


NOT_REQUIRED = "this run minus"
"""Heading of the names where nothing is required."""


def forest(comparisons: Sequence[Comparison], caption: str, subject: str = "trained") -> PlotTable:
    """The forest plot of one metric.

    Args:
        comparisons: One or more that share a margin; required ones are shown first.
        caption: What it shows.
        subject: The arm that they are about.
    """
    return _table(caption, (_group(ordered(comparisons)),), f"{subject} minus")


def overview(suites: Sequence[SuiteResult], links: Mapping[str, str]) -> PlotTable | None:
    """The required comparisons of every suite, each suite on a scale of its own; None where there is nothing to show.

    Args:
        suites: All suites.
        links: Id of each suite's section, by label.
    """
    groups = tuple(_suite_group(suite, links[suite.label]) for suite in suites)
    return _table("Every required comparison, suite by suite", groups, "trained minus") if groups else None


def recipe_forest(recipe: RecipeClaim) -> PlotTable | None:
    """The comparisons of a suite's second claim; None where there are none."""
    if not recipe.comparisons:
        return None
    return forest(recipe.comparisons, f"{recipe.arm} against every required arm", recipe.arm)


def since_forest(since: RunComparison) -> PlotTable | None:
    """The SAE under test against that of an earlier run, suite by suite; None where no suite could be paired."""
    # No comparison with an earlier run is one that the verdict of the check needs.
    found = ((one.suite, one.comparison.model_copy(update={"required": False})) for one in since.comparisons)
    groups = tuple(_group((one,), title=f"{suite}, {one.metric}") for suite, one in found)
    return _table(f"{since.ours} against {since.theirs}", groups, NOT_REQUIRED) if groups else None


def sentence(comparison: Comparison, subject: str = "trained") -> str:
    """One comparison in words and numbers."""
    told = difference(comparison.estimate, decimals_for(comparison.margin))
    return f"{subject} minus {comparison.baseline}: {told}, {comparison.verdict}"


def interval_marks(axis: Axis, ends: tuple[float, float, float], y: Real, *, hollow: bool = False) -> Markup:
    """An interval with its estimate.

    Args:
        axis: The axis.
        ends: Lower end, estimate, upper end.
        y: Height of the line in pixels.
        hollow: Whether the point is drawn empty.
    """
    lo, middle, hi = ends
    caps = (line(axis.at(x), y - 4, axis.at(x), y + 4, "cap") for x in (lo, hi) if axis.holds(x))
    point = dot(axis.at(middle), y, 5, "hollow" if hollow else "point") if axis.holds(middle) else Markup("")
    return joined(line(axis.at(lo), y, axis.at(hi), y, "interval"), *caps, point, arrows(axis, lo, hi, y))


def axis_of(comparisons: Sequence[Comparison]) -> Axis:
    """The axis on which the intervals of all comparisons lie."""
    ends = [x for comparison in comparisons for x in interval_of(comparison) or ()]
    return differences_axis(ends, comparisons[0].margin)


def band_words(margin: Real) -> str:
    """The margin in words."""
    return f"margin ±{number(margin, decimals_for(margin))}"


def _table(caption: str, groups: tuple[PlotGroup, ...], name: str) -> PlotTable:
    # Every line of a comparison of runs is drawn empty.
    decides = "" if name == NOT_REQUIRED else " Filled points decide the verdict."
    return PlotTable(caption, name, "difference", (HEADING, "p"), groups, legend=LEGEND + decides, verdicts=True)


def _suite_group(suite: SuiteResult, link: str) -> PlotGroup:
    required = tuple(comparison for comparison in suite.comparisons if comparison.required)
    holm = f"p {p_value(suite.p)}, Holm p {p_value(suite.p_holm)}"
    margin = f"; {band_words(required[0].margin)}" if required else ""
    note = f"{suite.metric}{margin}; {holm}; {gate_words(suite)}"
    if not suite.votes:
        note += f"; {SHOWN_ONLY}"
    if not required:
        nothing = PlotRow("nothing required was compared", Markup(""))
        return PlotGroup(Markup(""), (nothing,), suite.label, suite.verdict, note, link)
    return _group(required, title=suite.label, word=suite.verdict, note=note, link=link, marks=False)


def _group(comparisons: Sequence[Comparison], *, marks: bool = True, **said: str) -> PlotGroup:
    axis = axis_of(comparisons)
    rows = tuple(_row(comparison, axis, marks=marks) for comparison in comparisons)
    # Where no interval can be drawn a scale would only promise one.
    drawn = any(row.plot for row in rows)
    return PlotGroup(scale_marks(axis) if drawn else Markup(""), rows, **said)


def _row(comparison: Comparison, axis: Axis, *, marks: bool) -> PlotRow:
    decimals = decimals_for(comparison.margin)
    return PlotRow(
        name=comparison.baseline,
        plot=_plot(comparison, axis),
        cells=(difference(comparison.estimate, decimals), p_words(comparison)),
        word=comparison.verdict,
        tag="required" if comparison.required and marks else "",
        instead=reason(comparison),
    )


def _plot(comparison: Comparison, axis: Axis) -> Markup:
    ends = interval_of(comparison)
    if ends is None:
        return Markup("")
    how = f"A point with its 90 % interval over zero and the {band_words(comparison.margin)}."
    drawn = interval_marks(axis, ends, HEIGHT / 2, hollow=not comparison.required)
    back = ground(axis, HEIGHT, comparison.margin)
    return drawing(sentence(comparison), how, HEIGHT, back, drawn, class_=verdict_class(comparison.verdict))


def verdict_class(word: Verdict | str) -> str:
    """Class of the style sheet that gives a verdict its colour."""
    return f"v-{word.lower()}"
