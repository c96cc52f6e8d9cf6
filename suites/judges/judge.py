"""What a judge is: something that answers messages, and never learns whose latent they are about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

GROUP = "sae_sanity.judges"
"""Entry point group by which another package adds a judge: name = what `--judge` takes, value = `module:class`."""

Purpose = Literal["explanation", "detection"]


@dataclass(frozen=True)
class Question:
    """One request to a judge. Nothing in it tells which SAE, arm or seed it belongs to."""

    messages: tuple[tuple[str, str], ...]
    """(role, content) pairs, as in OpenAI's chat protocol."""
    max_tokens: int
    """Longest answer that is wanted."""
    purpose: Purpose
    """What is asked for: an explanation of a latent, or the numbers of the examples on which it fires."""
    n_examples: int = 0
    """Examples that a detection question shows, numbered from 1."""
    attempt: int = 0
    """0 for the first time; a question that is asked again to see whether the judge agrees with itself has another."""


@dataclass(frozen=True)
class Answer:
    """What came back. A failure is a value: nothing is dropped."""

    text: str | None
    """The judge's words, stripped of control characters; None where there are none."""
    failure: str = ""
    """Why there is no usable text (`refusal`, `timeout`, `rate limit`, `server error`, `not JSON`, …), else empty."""
    prompt_tokens: int = 0
    """Tokens of the question, as the server counts them."""
    completion_tokens: int = 0
    """Tokens of the answer."""
    model: str = ""
    """Model that the server says has answered."""
    fingerprint: str = ""
    """`system_fingerprint` of the server, if it sends one."""
    tries: int = 1
    """Requests that it took."""
    lost: int = 0
    """Requests before the last whose reply never came, though a server may bill it: time-outs, cut connections."""
    without: str = ""
    """Parameters that the server refused, and that it was then asked without; with spaces between."""
    cached: bool = False
    """Whether it was read from the cache of answers."""


@runtime_checkable
class Judge(Protocol):
    """Answers questions one at a time; called from several threads.

    One that asks a server more than once by itself, and may be billed each time, also has `most_tries: int`.
    """

    name: str
    """What the report calls it, such as `gpt-4o-mini` or `token_statistics`; no key, and no address with one."""
    is_llm: bool
    """Whether a language model answers; scores of others are never mixed with those of LLM judges."""

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers (model, temperature, seed, version), JSON-able, without secrets."""
        ...

    def ask(self, question: Question) -> Answer:
        """Answer one question; failures are answers too.

        Raises:
            JudgeUnavailable: when nothing can be asked of it at all (no server, wrong key, unknown model).
        """
        ...

    def close(self) -> None:
        """Free what it holds: connections, a server that it started."""
        ...


def most_tries(judge: Judge) -> int:
    """Most requests that a judge makes for one question; 1 where it does not say."""
    return getattr(judge, "most_tries", 1)


class JudgeUnavailable(RuntimeError):  # noqa: N818  (a value in the report, named for what it is)
    """No question can be answered: one line that says why and what would help, without any secret."""
