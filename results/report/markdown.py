"""The report as GitHub flavoured Markdown: for a step summary, a comment of a pull request or a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .columns import Column
from .forest import HEADING, difference, ordered
from .hard_probing import EXPLAINED as GAINS_EXPLAINED
from .hard_probing import HEADING as GAINS_HEADING
from .hard_probing import regime_columns
from .markdown_text import block, code, html_text, text
from .numbers import decimals_for, short_hash
from .panels import CLAIMS, QUESTIONS, gate_words
from .tables import arm_columns, evidence_columns, exploratory_columns, suite_decimals
from .words import RELATIVE, SHOWN_ONLY, decision_words, margin_words, p_words, plan_words, required_of, verdict_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..outcome import CheckReport, Comparison, LockStatus, Manifest, RunComparison, SuiteResult

_RULE = {"left": "---", "right": "---:"}
_WEIGHTS, _OWN = "weights/", "weights/trained/"
# Hashes of the baselines' weights are in the JSON report: there are dozens, and nobody else has those files.


def to_markdown(report: CheckReport) -> str:
    """A report as Markdown.

    Args:
        report: What a check concluded.

    Returns:
        The verdict, the decision, a table of the required comparisons and what would change the verdict; below,
        folded, each suite with its arms and its gate, and how to reproduce. Names are shown literally.
    """
    return "\n\n".join(_parts(report)) + "\n"


def grid(columns: Sequence[Column]) -> str:
    """Columns as a table; names as code, everything else as literal text."""
    head = (text(column.name) for column in columns)
    rows = zip(*(map(code if column.wraps else text, column.cells) for column in columns), strict=True)
    lines = (head, (_RULE[column.justify] for column in columns), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _parts(report: CheckReport) -> Iterator[str]:
    yield f"## sae-sanity: {report.verdict}"
    yield f"**{text(report.headline)}**"
    yield "\n".join(_facts(report))
    if report.suites:
        yield _verdicts(report.suites)
    if report.since:
        yield from _since(report.since)
    yield from _list("What would change the verdict", report.advice)
    yield from _list("Not measured", (f"{skip.what}: {skip.reason}" for skip in report.skipped))
    for suite in report.suites:
        title = f"{suite.label}: {verdict_words(suite)}; {gate_words(suite)}"
        yield from _folded(title, _suite(suite))
    if report.lock:
        yield from _list("Registered plan", _lock_lines(report.lock))
    yield from _folded("How to reproduce", _manifest(report.manifest))


def _facts(report: CheckReport) -> Iterator[str]:
    yield f"- checked: {code(report.target)}"
    yield f"- decision: **{report.decision.action}**{text(decision_words(report)[len(report.decision.action) :])}"
    yield f"- exit code: {report.exit_code}"
    yield f"- claim: {text(CLAIMS['both' if report.recipe else report.claim])}"


def _verdicts(suites: Sequence[SuiteResult]) -> str:
    lines = [f"| suite | trained minus | verdict | {HEADING} | margin | p |", "|---|---|---|---|---:|---:|"]
    for suite in suites:
        name = f"{code(suite.label)} **{suite.verdict}**{'' if suite.votes else ' (shown only)'}"
        compared = required_of(suite)
        lines += [_row(name if one is compared[0] else "", one) for one in compared]
        if not compared:
            lines.append(f"| {name} | {text(suite.reason) or 'nothing was compared'} | | | | |")
    return "\n".join(lines)


def _row(name: str, one: Comparison) -> str:
    numbers = difference(one.estimate, decimals_for(one.margin))
    cells = (code(one.baseline), one.verdict, text(numbers), text(margin_words(one)), text(p_words(one)))
    return f"| {name} | {' | '.join(cells)} |"


def _since(since: RunComparison) -> Iterator[str]:
    yield f"### {text(since.ours)} minus {text(since.theirs)}"
    lines = [f"| suite | metric | verdict | {HEADING} | margin | p |", "|---|---|---|---|---:|---:|"]
    for one in since.comparisons:
        compared = one.comparison
        numbers = text(difference(compared.estimate, decimals_for(compared.margin)))
        cells = (code(one.suite), code(compared.metric), f"**{compared.verdict}**", numbers)
        lines.append(f"| {' | '.join((*cells, text(margin_words(compared)), text(p_words(compared))))} |")
    yield "\n".join(lines)
    yield text(RELATIVE)
    yield from _list("Not held against each other", since.skipped)
    yield from _list("What else differs", since.notes)


def _list(title: str, lines: Iterable[str]) -> Iterator[str]:
    if shown := "\n".join(f"- {text(line)}" for line in lines):
        yield f"**{title}**"
        yield shown


def _folded(title: str, parts: Iterable[str]) -> Iterator[str]:
    yield f"<details>\n<summary>{html_text(title)}</summary>"
    yield from parts
    yield "</details>"


def _suite(suite: SuiteResult) -> Iterator[str]:
    if not suite.votes:
        yield text(f"{SHOWN_ONLY}.")
    yield text(suite.reason)
    yield f"Judged by {code(suite.metric)}; {text(suite.unit)}." + (f" Note: {text(suite.note)}." if suite.note else "")
    nested = any(one.nested for one in suite.comparisons)
    if suite.arms:
        yield grid(arm_columns(suite.arms, suite.metric, suite_decimals(suite), nested=nested))
        yield from _list("Of single arms", (f"{arm.arm}: {arm.note}" for arm in suite.arms if arm.note))
    if suite.comparisons:
        yield _evidence(suite.comparisons)
        yield from _list("Of single comparisons", (f"{c.baseline}: {c.reason}" for c in suite.comparisons if c.reason))
    if suite.gains:
        yield f"{GAINS_HEADING}:"
        yield grid(regime_columns(suite.gains))
        yield text(GAINS_EXPLAINED)
    if suite.recipe:
        yield f"The recipe, {code(suite.recipe.arm)}: **{suite.recipe.verdict}**. {text(suite.recipe.reason)}"
        if suite.recipe.comparisons:
            yield _evidence(suite.recipe.comparisons)
    if suite.exploratory:
        yield "Exploratory, no part of the verdict (p adjusted by Benjamini-Hochberg):"
        yield grid(exploratory_columns(suite.exploratory))
    yield f"**Could the assay have told?** {text(gate_words(suite))}"
    gate = (
        f"- {'pass' if c.passed else '**FAIL**'} {code(c.name)}: {text(_asked(c.name, c.detail))}" for c in suite.gate
    )
    yield "\n".join(gate) or "No question was put."


def _asked(name: str, detail: str) -> str:
    return f"{QUESTIONS[name]} {detail}" if name in QUESTIONS else detail


def _evidence(comparisons: Sequence[Comparison]) -> str:
    rows = ordered(comparisons)
    name, *evidence = evidence_columns(rows, ())
    required = Column("required", tuple("yes" if one.required else "" for one in rows), "left")
    verdict = Column("verdict", tuple(one.verdict for one in rows), "left")
    numbers = Column(HEADING, tuple(difference(one.estimate, decimals_for(one.margin)) for one in rows), "left")
    return grid((name, required, verdict, numbers, *evidence))


def _lock_lines(lock: LockStatus) -> Iterator[str]:
    yield f"{plan_words(lock)} sha256 {lock.sha256}"
    yield from (f"departure: {line}" for line in lock.departures)
    if not lock.departures:
        yield "the run is what was registered"


def _manifest(manifest: Manifest) -> Iterator[str]:
    yield block(manifest.command)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    lines = [f"- config hash: {code(manifest.config_hash)}", f"- versions: {text(versions or 'unknown')}"]
    shown = {what: value for what, value in manifest.hashes.items() if _OWN in what or _WEIGHTS not in what}
    lines += [f"- sha256 of {code(what)}: {code(short_hash(value))}" for what, value in shown.items()]
    lines += [f"- {text(f'recipe, {what}: {value}')}" for what, value in manifest.recipe.items()]
    lines += [f"- {text(note)}" for note in manifest.notes]
    yield "\n".join(lines)
