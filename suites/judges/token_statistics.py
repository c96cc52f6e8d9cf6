"""A judge that is no language model: which tokens were marked, and which texts hold one of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import log
from typing import Any

from .judge import Answer, Question

VERSION = 1
"""Version of the rules: raise it when an answer may change."""
N_TOKENS = 12
"""Tokens in an explanation at most; the ten digits are one latent."""
SMOOTHING = 0.5
"""Added to each count, so that a token that was never unmarked has finite odds (Haldane 1955)."""
ASKED = "This neuron activates on"
"""How SAEBench wants an explanation to begin."""

# Texts may hold `<<` and `>>` too: of several pairs the last one opens, unless there is nothing else inside, and the
# last one closes.
_MARK = re.compile(r"(?<!<)(?:<<)*?<<(<<|<|<?(?!<)(?:(?!<<).)+?)>>(?!>)", re.DOTALL)
_QUOTED = re.compile(r'(~?)("(?:[^"\\]|\\.)*")(~?)')
_IN_WORDS = re.compile(r"['‘“\"]([^'’”\"]+)['’”\"]")
_Read = tuple[str, tuple[tuple[int, int], ...]]  # a text, and beginnings and ends of its marked tokens
_FIRES_ON = "this neuron fires on "
_EXAMPLES = "\n\nHere are the examples:\n\n"


@dataclass(frozen=True)
class Piece:
    """A token as it is searched for in a text."""

    text: str
    """The token, with its spaces."""
    after_letter: bool = False
    """Whether it may stand directly behind a letter: `ing` in `running`."""
    before_letter: bool = False
    """Whether a letter may follow directly: `run` in `running`."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Where the token stands in a text."""
        behind = r"(?<![^\W\d_])" if self.text[0].isalpha() and not self.after_letter else ""
        ahead = r"(?![^\W\d_])" if self.text[-1].isalpha() and not self.before_letter else ""
        return re.compile(behind + re.escape(self.text) + ahead)

    def quoted(self) -> str:
        """In quotes, with a `~` on each side where a letter may touch; spaces and all beyond ASCII as escapes.

        No explanation of these can hold `activates on`, a line break or an outer space, all of which are cut off
        or split at on the way to the question about detection.
        """
        inside = json.dumps(self.text).replace(" ", r"\u0020")
        return f"{'~' * self.after_letter}{inside}{'~' * self.before_letter}"


class TokenStatistics:
    """Explains a latent by the tokens that are marked more often than not, and detects by looking for them.

    It sees what a language model would see, the messages, and nothing else; it needs no network and always answers
    the same. What it scores says how far a latent is a matter of single tokens, and is no LLM judge's score.
    """

    name = "token_statistics"
    is_llm = False

    def identity(self) -> dict[str, Any]:
        """The rules' version and settings: everything that decides an answer."""
        return {"judge": self.name, "version": VERSION, "n_tokens": N_TOKENS, "smoothing": SMOOTHING}

    def ask(self, question: Question) -> Answer:
        """Answer a question in SAEBench's layout; one in any other layout is a failure."""
        text = question.messages[-1][1] if question.messages else ""
        answer = _explain(text) if question.purpose == "explanation" else _detect(text)
        if answer is None:
            return Answer(None, "the examples are not in SAEBench's layout")
        return Answer(answer, model=self.name)

    def close(self) -> None:
        """Nothing is held."""


def pieces_by_log_odds(documents: Iterable[str]) -> tuple[tuple[Piece, float], ...]:
    """Marked tokens with the log-odds that an occurrence of them is marked, highest first.

    Args:
        documents: Texts with `<<` and `>>` around the tokens that fire.

    Returns:
        Each distinct token and log((marked + ½) / (unmarked + ½)); ties by spelling.
    """
    texts = [_unmarked(document) for document in documents]
    marked: Counter[str] = Counter()
    after, before = set[str](), set[str]()
    for text, spans in texts:
        for start, end in spans:
            token = text[start:end]
            marked[token] += 1
            if token[0].isalpha() and text[max(start - 1, 0) : start].isalpha():
                after.add(token)
            if token[-1].isalpha() and text[end : end + 1].isalpha():
                before.add(token)
    pieces = [Piece(token, token in after, token in before) for token in marked]
    scored = [(piece, _log_odds(marked[piece.text], _unmarked_count(piece, texts))) for piece in pieces]
    return tuple(sorted(scored, key=lambda pair: (-pair[1], pair[0].text)))


def read_pieces(explanation: str) -> tuple[Piece, ...]:
    """Tokens of an explanation: as `Piece.quoted` wrote them, else what it has in quotes, else its longer words.

    The last two are for explanations that somebody else has written, such as the true one of a planted latent.
    """
    if own := [_piece(*match) for match in _QUOTED.findall(explanation)]:
        return tuple(piece for piece in own if piece and piece.text)
    words = _IN_WORDS.findall(explanation) or re.findall(r"\w{4,}", explanation)
    return tuple(Piece(word) for word in dict.fromkeys(words))


def _piece(before: str, quoted: str, after: str) -> Piece | None:
    try:
        return Piece(json.loads(quoted), bool(before), bool(after))
    except ValueError:
        return None


def _explain(message: str) -> str | None:
    documents = _numbered(message.rpartition("\n\n")[2])
    if documents is None:
        return None
    scored = pieces_by_log_odds(documents)
    likely = [piece for piece, odds in scored if odds > 0] or [piece for piece, _ in scored[:1]]
    return f"{ASKED} {', '.join(piece.quoted() for piece in likely[:N_TOKENS]) or 'nothing'}"


def _detect(message: str) -> str | None:
    # Examples hold no line break, so the last heading is the real one, whatever the explanation says.
    before, heading, after = message.rpartition(_EXAMPLES)
    _, found, explanation = before.partition(_FIRES_ON)
    examples = _numbered(after)
    if not heading or not found or examples is None:
        return None
    patterns = [piece.pattern for piece in read_pieces(explanation)]
    hits = (i for i, text in enumerate(examples, 1) if any(pattern.search(text) for pattern in patterns))
    return ", ".join(map(str, hits)) or "None"


def _numbered(block: str) -> list[str] | None:
    """Texts of the lines `1. ...`, `2. ...`; None where a line has not its number.

    SAEBench replaces line feeds in texts, but no other line break: only a line feed ends a line.
    """
    out = []
    for i, line in enumerate(block.split("\n"), 1):
        if not line.startswith(f"{i}."):
            return None
        out.append(line[len(f"{i}.") :].removeprefix(" "))
    return out


def _unmarked(document: str) -> _Read:
    """A text without its marks, and where the marked tokens are in it."""
    parts, spans, length, end = [], [], 0, 0
    for match in _MARK.finditer(document):
        between, token = document[end : match.start(1) - 2], match[1]
        length += len(between)
        spans.append((length, length + len(token)))
        parts += [between, token]
        length, end = length + len(token), match.end()
    return "".join([*parts, document[end:]]), tuple(spans)


def _unmarked_count(piece: Piece, texts: Iterable[_Read]) -> int:
    """How often a token stands where nothing is marked."""
    return sum(
        not any(start < match.end() and match.start() < end for start, end in spans)
        for text, spans in texts
        for match in piece.pattern.finditer(text)
    )


def _log_odds(marked: int, unmarked: int) -> float:
    return log((marked + SMOOTHING) / (unmarked + SMOOTHING))
