"""Who has answered, what that took and what went wrong, in lines for the manifest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .asking import Heard

if TYPE_CHECKING:
    from ..judges.judge import Judge


def kind(judge: Judge) -> str:
    """What a judge is, in words: scores of the two kinds are never mixed."""
    return "a language model" if judge.is_llm else "no language model: its scores are not those of an LLM judge"


def notes_on(judge: Judge, heard: Heard, what: str = "judge") -> tuple[str, ...]:
    """Say who has answered, what it took, and what went wrong.

    Args:
        judge: who was asked.
        heard: what it answered.
        what: what the lines begin with.
    """
    who = Counter(f"{a.model} {a.fingerprint}".strip() for a in heard.answers if a.text is not None)
    failures = Counter(a.failure for a in heard.answers if a.failure)
    without = dict.fromkeys(name for a in heard.answers for name in a.without.split())
    lines = [
        f"{what}: {judge.name}, {kind(judge)}; answered as {', '.join(who) or 'nobody'}",
        _taken(judge, heard, what),
    ]
    if without:
        lines.append(f"{what}: asked without {', '.join(without)}, which its server refuses")
    if failures:
        lines.append(f"{what}: without a usable answer {', '.join(f'{n} ({why})' for why, n in failures.items())}")
    return tuple(lines)


def _taken(judge: Judge, heard: Heard, what: str) -> str:
    kept = sum(answer.cached for answer in heard.answers)
    if not judge.is_llm:
        return f"{what}: {len(heard.answers) - kept} questions and no tokens; {kept} answers from the cache"
    money = "" if heard.cost is None else f", for {heard.cost:.4g}"
    return (
        f"{what}: {heard.questions} questions sent, {heard.prompt_tokens:,} tokens asked and "
        f"{heard.completion_tokens:,} answered{money}; {kept} answers from the cache"
    )
