"""The report on a terminal, verdict first; plain text where the output is a file or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from .forest import BESIDE, forest, layout, legend, long_reasons, ordered
from .hard_probing import gain_parts
from .look import Look
from .panels import bullets, gate_table, manifest_grid, verdict_panel
from .synthetic import synthetic_parts
from .tables import EXPLAINED, arm_table, evidence_table, exploratory_table
from .words import RELATIVE, SHOWN_ONLY, plan_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from ..outcome import CheckReport, LockStatus, RecipeClaim, RunComparison, SuiteResult


def heading(title: str, look: Look, word: str = "", aside: str = "") -> Text:
    """A section's title on a line of its own width, with a verdict and an aside behind it."""
    rule = "-" if look.ascii else "─"
    line = Text(f"{rule * 2} ").append(look.say(title), "bold").append(" ")
    if word:
        line.append_text(look.word(word)).append(" ")
    if aside:
        line.append(f"{aside} ")
    line.append(rule * max(look.width - line.cell_len, 0), "dim")
    return line


def _forest_parts(suite: SuiteResult, look: Look) -> Iterator[RenderableType]:
    rows = ordered(suite.comparisons)
    widths = layout(rows, look)
    yield forest(rows, look, widths)
    yield legend(rows, look)
    if reasons := long_reasons(rows, widths):
        yield bullets(reasons, look)
    yield ""
    yield from evidence_table(rows, look, BESIDE if widths.wide else ())


def recipe_parts(recipe: RecipeClaim, look: Look) -> Iterator[RenderableType]:
    """The second claim of a suite on a given SAE: what its way of training does on the baselines' own tokens."""
    yield look.text(f"The recipe: {recipe.arm}, trained on the tokens that the baselines had. ", "bold").append_text(
        look.word(recipe.verdict)
    )
    yield look.text(recipe.reason)
    if recipe.comparisons:
        widths = layout(recipe.comparisons, look)
        yield forest(recipe.comparisons, look, widths, subject=recipe.arm)
    yield ""


def suite_parts(suite: SuiteResult, look: Look) -> Iterator[RenderableType]:
    """Everything about one suite, from its verdict to its exploratory comparisons."""
    yield heading(suite.label, look, suite.verdict, "" if suite.votes else "(shown only)")
    if not suite.votes:
        yield look.text(f"{SHOWN_ONLY}.")
    for line in (suite.reason, f"Judged by {suite.metric}; {suite.unit}."):
        yield look.text(line)
    if suite.note:
        yield look.text(f"Note: {suite.note}", "italic")
    yield ""
    yield from arm_table(suite, look)
    yield ""
    if suite.comparisons:
        yield from _forest_parts(suite, look)
    else:
        yield look.text("Nothing was compared.")
    if suite.detail:
        yield ""
        yield from synthetic_parts(suite.detail, look)
    if suite.gains:
        yield ""
        yield from gain_parts(suite.gains, look)
    if suite.recipe:
        yield ""
        yield from recipe_parts(suite.recipe, look)
    if suite.exploratory:
        yield ""
        yield look.text("Exploratory, no part of the verdict (p adjusted by Benjamini-Hochberg):", "dim")
        yield exploratory_table(suite.exploratory, look)
    yield ""


def gate_parts(report: CheckReport, look: Look) -> Iterator[RenderableType]:
    """Whether the assay of each suite could have told."""
    yield heading("Could the assay have told?", look)
    for suite in report.suites:
        yield gate_table(suite, look)
        yield ""
    if not report.suites:
        yield look.text("No suite was measured.")
        yield ""


def since_parts(since: RunComparison, look: Look) -> Iterator[RenderableType]:
    """The SAE under test against that of an earlier run, suite by suite."""
    yield heading("Against an earlier run", look)
    yield look.text(f"{since.ours} minus {since.theirs}, item by item. {RELATIVE}")
    for one in since.comparisons:
        yield ""
        yield look.text(f"{one.suite}, {one.comparison.metric}: ", "bold").append_text(
            look.word(one.comparison.verdict)
        )
        # A star would say that the verdict of the check needs it.
        rows = (one.comparison.model_copy(update={"required": False}),)
        widths = layout(rows, look)
        yield forest(rows, look, widths, subject="this run")
        yield legend(rows, look)
        if one.comparison.reason:
            yield look.text(one.comparison.reason)
    if lines := (*since.skipped, *since.notes):
        yield ""
        yield bullets(lines, look)
    yield ""


def lock_parts(lock: LockStatus, look: Look) -> Iterator[RenderableType]:
    """The plan that was registered, whether the run knew it, and where the run is another one."""
    yield heading("Registered plan", look)
    yield look.text(f"{plan_words(lock)} sha256 {lock.sha256}")
    if lock.departures:
        yield look.text("The run departed from it:", "bold")
        yield bullets(lock.departures, look)
    else:
        yield look.text("The run is what was registered.")
    yield ""


def closing_parts(report: CheckReport, look: Look) -> Iterator[RenderableType]:
    """What would change the verdict, what was skipped, how to reproduce; the command comes last, by itself."""
    sections = (
        ("What would change the verdict", report.advice, "Nothing that this report knows of."),
        ("Not measured", tuple(f"{skip.what}: {skip.reason}" for skip in report.skipped), "Everything was measured."),
    )
    for title, lines, otherwise in sections:
        yield heading(title, look)
        yield bullets(lines, look) if lines else look.text(otherwise)
        yield ""
    if report.lock:
        yield from lock_parts(report.lock, look)
    yield heading("How to reproduce", look)
    yield manifest_grid(report.manifest, look)


def parts(report: CheckReport, look: Look) -> Iterator[RenderableType]:
    """The whole report but for its last line, top to bottom."""
    yield verdict_panel(report, look)
    yield ""
    for suite in report.suites:
        yield from suite_parts(suite, look)
    if report.suites:
        yield look.text(EXPLAINED, "dim")
        yield ""
    if report.since:
        yield from since_parts(report.since, look)
    yield from gate_parts(report, look)
    yield from closing_parts(report, look)


def render_text(report: CheckReport, console: Console) -> None:
    """Print a report.

    Args:
        report: What a check concluded.
        console: Where to print; its width, encoding and colours are respected. Strings of the report are shown
            literally: neither rich markup nor control characters in a name have any effect.
    """
    look = Look.of(console)
    for part in parts(report, look):
        console.print(part, markup=False, highlight=False, emoji=False)
    # Not folded by us: a command broken into lines could not be copied.
    console.print(look.text(f"$ {report.manifest.command}", "bold"), soft_wrap=True)
