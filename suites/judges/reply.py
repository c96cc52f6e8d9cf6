"""What a server's reply says, whatever it holds: a stranger's words, bounded and cleaned, never trusted."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from typing import Any

from .judge import Answer, Question

CHARACTERS_PER_TOKEN = 20
"""A text longer than this for each token that was asked for is no answer to the question."""
CUT_OFF = "cut off"
"""Failure of a list that ended because no more tokens were allowed: what is not in it was not said."""

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS: titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are spelled with them
_SNAPSHOT = re.compile(r"(?:[-@:]v?\d[\d.\-]*)?")


def clean(text: str) -> str:
    """Text without what a terminal obeys or a reader is fooled by; newlines, tabs and printable characters are left.

    Whole escape sequences go, then control characters, surrogates and format characters (bidi controls, zero-width
    and tag characters; joiners stay). Every kind of line break becomes a newline.
    """
    text = _BREAKS.sub("\n", _ESCAPES.sub("", text))
    return "".join(c for c in text if c in "\n\t" or c in _JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def same_model(asked: str, answered: str) -> bool:
    """Whether a server that names `answered` has answered with the model that was asked for.

    Compared are the last parts of the paths, without case, `.gguf` and `latest`. What answers may add a snapshot:
    digits after `-`, `@` or `:` (`gpt-4o` and `gpt-4o-2024-08-06`, but not `gpt-4o-mini`). A server that names none
    is believed.
    """
    want, got = _bare(asked), _bare(answered)
    return not got or (got.startswith(want) and _SNAPSHOT.fullmatch(got[len(want) :]) is not None)


def _bare(model: str) -> str:
    last = re.split(r"[/\\]", model.strip().lower().rstrip("/\\"))[-1]
    return re.sub(r"[-:]latest$", "", last.removesuffix(".gguf"))


def plain_numbers(text: str) -> str:
    """Text of a structured answer in the words that the prompt asks for.

    `{"examples": [1, 3]}` becomes `1, 3`, and an empty list `None`; anything else is returned as it is.
    """
    numbers = at(_json(text), "examples")
    if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
        return text
    return ", ".join(str(n) for n in numbers) or "None"


def read_reply(body: bytes, question: Question, model: str) -> Answer:
    """Answer in the body of a reply with status 200, whatever it holds.

    `model` is the one that was asked for. Failures: `not JSON`, `wrong model: …`, `no choices`, `refusal`, `no text`,
    `too long` (with the beginning of the text), `cut off`: the numbers of examples, as far as the server let the model
    speak. An explanation that was cut off is one, as for SAEBench.
    """
    reply = _json(body)
    if not isinstance(reply, dict):
        return Answer(None, failure="not JSON")
    known = Answer(
        None,
        prompt_tokens=_count(at(reply, "usage", "prompt_tokens")),
        completion_tokens=_count(at(reply, "usage", "completion_tokens")),
        model=_short(reply.get("model")),
        fingerprint=_short(reply.get("system_fingerprint")),
    )
    if not same_model(model, known.model):
        return replace(known, failure=f"wrong model: {known.model}")
    choice = at(reply, "choices", 0)
    if choice is None:
        return replace(known, failure="no choices")
    if at(choice, "message", "refusal") or at(choice, "finish_reason") == "content_filter":
        return replace(known, failure="refusal")
    answer = _with_text(known, at(choice, "message", "content"), question.max_tokens * CHARACTERS_PER_TOKEN)
    if question.purpose == "detection" and at(choice, "finish_reason") == "length":
        return replace(answer, failure=CUT_OFF)
    return answer


def _with_text(known: Answer, content: object, longest: int) -> Answer:
    if isinstance(content, str) and len(content) > longest:
        return replace(known, text=clean(content[:longest]).strip(), failure="too long")
    text = clean(content).strip() if isinstance(content, str) else ""
    return replace(known, text=text) if text else replace(known, failure="no text")


def _json(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def at(node: object, *path: str | int) -> Any:  # noqa: ANN401  (anything may lie in a stranger's JSON)
    """What lies at a path of keys and places; None where there is no such path."""
    for step in path:
        if isinstance(step, int):
            node = node[step] if isinstance(node, list) and len(node) > step else None
        else:
            node = node.get(step) if isinstance(node, dict) else None
    return node


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _short(value: object) -> str:
    return clean(value[:1000])[:200] if isinstance(value, str) else ""
