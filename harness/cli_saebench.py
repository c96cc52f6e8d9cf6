"""`sae-sanity saebench`: what is typed and what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from .errors import UsageError

if TYPE_CHECKING:
    from ..results.saebench_format import SaebenchCell, SaebenchSummary

EXIT_MEASURED, EXIT_INCOMPLETE = 0, 4


def parse_options(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read `EVAL.FIELD=VALUE`; a value is JSON, or else the text as it is.

    Raises:
        UsageError: for anything of another form.
    """
    options: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        evaluation, dot, field = name.strip().partition(".")
        if not (equals and dot and evaluation and field):
            raise UsageError(f"--set is {assignment!r}; it must be EVAL.FIELD=VALUE, such as core.batch_size_prompts=4")
        options.setdefault(evaluation.replace("-", "_"), {})[field] = _value(value.strip())
    return options


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def exit_code(summary: SaebenchSummary) -> int:
    """0 where everything that was asked for has been measured, 4 where something is missing."""
    return EXIT_INCOMPLETE if summary.skipped or not summary.cells else EXIT_MEASURED


def tables(summary: SaebenchSummary) -> Iterator[Table]:
    """One table per eval, then what could not be run."""
    for evaluation in dict.fromkeys(cell.eval for cell in summary.cells):
        yield _table(evaluation, [cell for cell in summary.cells if cell.eval == evaluation])
    if summary.skipped:
        table = Table("not run", "reason", title_justify="left")
        for skip in summary.skipped:
            table.add_row(skip.what, skip.reason)
        yield table


def _table(evaluation: str, cells: Sequence[SaebenchCell]) -> Table:
    # One line per number: SAEBench's names are long, and cut ones say nothing.
    table = Table("arm", "seed", "metric", "value", title=f"SAEBench {evaluation}", title_justify="left")
    for cell in cells:
        for metric, value in cell.metrics.items():
            table.add_row(cell.arm, str(cell.seed), metric, _number(value))
    notes = dict.fromkeys(note for cell in cells for note in cell.notes)
    table.caption = "; ".join(notes) or None
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
