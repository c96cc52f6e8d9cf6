"""Strings from outside as Markdown and HTML that show them literally, also on GitHub and in a model card."""

from __future__ import annotations

import html
import re

from .look import visible
from .numbers import MISSING

_MARKUP = re.compile(r"[\\`*~$]|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])")
# What would open a heading, a list, a rule, a task or the address of a link at the beginning of a paragraph.
_OPENING = re.compile(r"^(?:[#+=\[-]|\d+[.)])")
# What GitHub turns into a mention, a mail address, a reference to an issue or a link wherever it stands in a text; an
# empty comment in between shows nothing and stops it.
_LINKED = re.compile(r"(?<!\w)@(?=\w)|@(?=[\w-]*\.\w)|(?<!&)#(?=\d)|:(?=//)|\bwww(?=\.)", re.IGNORECASE)
_FIGURES = re.compile(r"[\d\s.,%<>±\[\]+\N{MINUS SIGN}\N{EN DASH}\N{MULTIPLICATION SIGN}]*")
_NO_SPAN = re.compile(r"[`|\\]")


def text(words: str) -> str:
    """Words of a paragraph or a cell: no character of them is markup, a tag, a mention or a link."""
    shown = visible(words).strip()
    if _FIGURES.fullmatch(shown):
        return html.escape(shown, quote=False)
    shown = _MARKUP.sub(r"\\\g<0>", shown)
    shown = html.escape(shown, quote=False).replace("|", "&#124;")
    return _unlinked(_OPENING.sub(_closed, shown))


def html_text(words: str) -> str:
    """The same between HTML tags, where Markdown is not read."""
    return _unlinked(html.escape(visible(words)))


def code(name: str) -> str:
    """A name as code."""
    shown = visible(name).strip()
    if not shown:
        return MISSING
    # A pipe ends a cell even in code, and a backslash before it would be eaten.
    return f"<code>{_entities(shown)}</code>" if _NO_SPAN.search(shown) else f"`{shown}`"


def block(command: str) -> str:
    """A command as a block of code, on one line; the fence is longer than any run of backticks in it."""
    shown = visible(command)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n$ {shown}\n{fence}"


def _unlinked(shown: str) -> str:
    return _LINKED.sub(r"\g<0><!-- -->", shown)


def _closed(found: re.Match[str]) -> str:
    return f"{found[0][:-1]}{_entities(found[0][-1])}"


def _entities(shown: str) -> str:
    # References are never read as markup (CommonMark 2.5).
    return "".join(c if c.isalnum() or c == " " or not c.isascii() else f"&#{ord(c)};" for c in shown)
