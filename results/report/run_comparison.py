"""Two runs compared, in the terminal: a line for every suite, what was left out, what differs and may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from ..outcome import Verdict
from .columns import Column, table
from .forest import HEADING, difference
from .numbers import MINUS, MISSING, TIMES, decimals_for, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ..decision import RunComparison
    from ..outcome import Comparison
    from .look import Look

WORDS = {
    Verdict.BEATS: "better",
    Verdict.NEGLIGIBLE: "better, by less than the margin",
    Verdict.EQUIVALENT: "the same, within the margin",
    Verdict.WORSE: "worse",
    Verdict.INCONCLUSIVE: "may be worse by the margin: not enough data",
    Verdict.INVALID: "nothing can be said",
}
"""What a verdict says of two SAEs."""


def pieces(found: RunComparison, look: Look) -> Iterator[RenderableType]:
    """Everything that is printed, in order."""
    yield look.text(f"ours:   {found.ours}", "bold")
    yield look.text(f"theirs: {found.theirs}", "bold")
    if found.comparisons:
        yield Text()
        yield _table(found, look)
        yield Text()
    for each in found.comparisons:
        yield look.text(f"{each.suite}: {in_words(each.comparison)}")
    for what, lines in (("not compared", found.skipped), ("differs, and may", found.notes)):
        for line in lines:
            yield look.text(f"{what}: {line}", "dim")


def in_words(one: Comparison) -> str:
    """What a comparison says, and of what."""
    said = WORDS[one.verdict]
    if one.verdict is Verdict.INCONCLUSIVE and one.estimate and (one.estimate.lo or -one.margin) > -one.margin:
        said = "not worse by the margin; whether better is not known"
    if one.verdict is Verdict.WORSE and one.estimate and (one.estimate.lo or -one.margin) > -one.margin:
        said = "worse, by less than the margin"
    about = "ways of training" if one.claim == "recipe" else "the SAEs at hand, as they are"
    return f"{said} ({about}){f': {one.reason}' if one.reason else ''}"


def _table(found: RunComparison, look: Look) -> RenderableType:
    compared = [each.comparison for each in found.comparisons]
    columns = (
        Column("suite", tuple(each.suite for each in found.comparisons), "left", wraps=True),
        Column("metric", tuple(one.metric for one in compared), "left", wraps=True),
        Column(f"ours {MINUS} theirs\n{HEADING}", tuple(map(_difference, compared)), "left"),
        Column("margin", tuple(number(one.margin, decimals_for(one.margin)) for one in compared)),
        Column("verdict", tuple(one.verdict.value for one in compared), "left"),
        Column(f"n\nclusters{TIMES}SAEs", tuple(map(_size, compared))),
    )
    return table(columns, look)


def _difference(one: Comparison) -> str:
    return difference(one.estimate, decimals_for(one.margin))


def _size(one: Comparison) -> str:
    found = one.estimate
    return MISSING if found is None else f"{found.n_clusters}{TIMES}{found.n_trained}/{found.n_baseline}"
