"""The formats of a report by name: each renders the one result object, none computes anything."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from .github import to_github
from .json_format import to_json
from .junit import to_junit
from .markdown import to_markdown
from .terminal import render_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..outcome import CheckReport

WIDTH = 100
"""Columns of the text where there is no terminal to ask."""


def to_table(report: CheckReport) -> str:
    """The report as on a terminal of 100 columns, without colour; lines end where their last sign does."""
    from rich.console import Console

    file = io.StringIO()
    render_text(report, Console(file=file, width=WIDTH, force_terminal=False, legacy_windows=False, no_color=True))
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _html(report: CheckReport) -> str:
    from .html_format import to_html  # late: only this format needs jinja2

    return to_html(report)


FORMATS: dict[str, Callable[[CheckReport], str]] = {
    "table": to_table,
    "json": to_json,
    "markdown": to_markdown,
    "junit": to_junit,
    "github": to_github,
    "html": _html,
}
"""What renders a report, by the name of the format."""

EXTENSIONS = {".json": "json", ".md": "markdown", ".xml": "junit", ".html": "html", ".txt": "table"}
"""Format of a file, by its extension."""
