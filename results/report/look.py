"""What a console can show, and text that is safe on it: literal, without control characters, ASCII where needed."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from .numbers import MINUS, MISSING, TIMES

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "PASS": "bold green",
    "BEATS": "bold green",
    "NEGLIGIBLE": "bold yellow",
    "EQUIVALENT": "bold yellow",
    "INCONCLUSIVE": "bold cyan",
    "FAIL": "bold red",
    "WORSE": "bold red",
    "INVALID": "bold magenta",
    "unmatched": "bold red",
}
"""Colour of a word. Colour only repeats what the word says."""

SPELLED = {
    MINUS: "-",
    MISSING: "-",
    "\N{EM DASH}": "-",
    "±": "+-",
    TIMES: "x",
    "·": "|",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "→": "->",
    "δ": "d",
    "τ": "tau",
    "‖": "||",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "“": '"',
    "”": '"',
}
"""Characters that reports use, spelled in ASCII."""

WIDEST = 160
"""Columns of the widest report; lines longer than that are not read."""

UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that could move the cursor, reorder a line or fail to encode."""


@dataclass(frozen=True)
class Glyphs:
    """The characters of a forest plot; each is one cell wide."""

    zero: str
    """The line of no difference."""
    crossed: str
    """The interval where it crosses that line."""
    band: str
    """Inside the margin."""
    line: str
    """A whole cell of the interval."""
    left_half: str
    """The interval in the left half of a cell."""
    right_half: str
    """The interval in the right half of a cell."""
    point: str
    """The estimate."""
    beyond_left: str
    """The interval goes on to the left of the plot."""
    beyond_right: str
    """The interval goes on to the right of the plot."""


UNICODE_GLYPHS = Glyphs("│", "┿", "░", "━", "╸", "╺", "●", "◄", "►")
ASCII_GLYPHS = Glyphs("|", "+", ":", "=", "=", "=", "o", "<", ">")


def _visible(character: str) -> str:
    if character in "\n\t":
        return " "
    unsafe = unicodedata.category(character) in UNSAFE_CATEGORIES
    return character.encode("unicode_escape", "surrogatepass").decode("ascii") if unsafe else character


def visible(text: str) -> str:
    """Text in which nothing is invisible: control, bidirectional and private characters become escapes.

    Names come from files and hubs, so an escape sequence in one must not reach the terminal.
    """
    return "".join(map(_visible, text))


def spelled(text: str) -> str:
    """Text in ASCII: known signs spelled out, everything else as a backslash escape."""
    return "".join(SPELLED.get(c, c) for c in text).encode("ascii", "backslashreplace").decode("ascii")


@dataclass(frozen=True)
class Look:
    """How to write for one console."""

    width: int
    """Columns of the console."""
    ascii: bool = False
    """Whether only ASCII can be shown: the encoding is not UTF-8, or an old Windows console."""

    @classmethod
    def of(cls, console: Console) -> Look:
        """The look that suits a console."""
        options = console.options
        return cls(min(options.max_width, WIDEST), options.ascii_only or options.legacy_windows)

    @property
    def glyphs(self) -> Glyphs:
        """The characters of a plot."""
        return ASCII_GLYPHS if self.ascii else UNICODE_GLYPHS

    def say(self, text: str) -> str:
        """Text as this console can show it."""
        return spelled(visible(text)) if self.ascii else visible(text)

    def text(self, text: str, style: str = "") -> Text:
        """Literal text: square brackets are shown, never read as markup, and long words are folded."""
        return Text(self.say(text), style=style, overflow="fold")

    def word(self, word: str) -> Text:
        """A verdict or another word of `STYLES`, in its colour."""
        return self.text(word, STYLES.get(word, ""))
