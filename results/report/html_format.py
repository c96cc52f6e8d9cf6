"""The report as one page that needs nothing but itself: no script, no font, no request."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .html.forests import verdict_class
from .html.ladder import FLAG, MORE_RUNGS
from .html.page import WORDS, page_of
from .look import visible
from .numbers import short_hash
from .words import RELATIVE, SHOWN_ONLY, plan_words

if TYPE_CHECKING:
    from ..outcome import CheckReport


def to_html(report: CheckReport) -> str:
    """A report as an HTML page.

    Args:
        report: What a check concluded. Its strings are shown literally: neither markup nor control characters in a
            name or a text have any effect.

    Returns:
        A whole document with its styles and drawings inside; the same report gives the same bytes.
    """
    return _environment().get_template("page.html.j2").render(page=page_of(report), report=report)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader(f"{__package__}.html"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {
        "WORDS": WORDS,
        "MORE_RUNGS": MORE_RUNGS,
        "FLAG": FLAG,
        "SHOWN_ONLY": SHOWN_ONLY,
        "RELATIVE": RELATIVE,
        "plan_words": plan_words,
    }
    made.filters |= {"verdict_class": verdict_class, "short_hash": short_hash}
    return made


def _shown(value: object) -> object:
    """Strings from outside with nothing invisible in them; escaping follows."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
