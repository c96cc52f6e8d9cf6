"""A judge behind any OpenAI-compatible server; what comes back is a stranger's: bounded, cleaned, never trusted."""

from __future__ import annotations

import json
import os
import re
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx2
import openai

from .judge import Answer, JudgeUnavailable, Question

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Names of this machine."""
OPENAI_URL = "https://api.openai.com/v1"
"""Where a judge without a url is."""
PROTOCOL = 1
"""Version of how a question becomes a request and a reply becomes text; part of the identity."""
MAX_BODY_BYTES = 4 * 2**20
"""A longer body is not read to its end."""
CHARACTERS_PER_TOKEN = 20
"""A text longer than this for each token that was asked for is no answer to the question."""
SECRET_LENGTH = 12
"""A key this long or longer is taken out of what a server sends; shorter ones (`none`, `EMPTY`) are no secrets."""

Structured = Literal["auto", "never"]

_NO_KEY = "no-key"
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS: titles, links
    r"|\x1b[ -/]*[0-~]?"
)
_BREAKS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are spelled with them
_SNAPSHOT = re.compile(r"(?:[-@:]v?\d[\d.\-]*)?")
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "examples",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"examples": {"type": "array", "items": {"type": "integer"}}},
            "required": ["examples"],
            "additionalProperties": False,
        },
    },
}


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
    numbers = _at(_json(text), "examples")
    if not isinstance(numbers, list) or not all(type(n) is int for n in numbers):
        return text
    return ", ".join(str(n) for n in numbers) or "None"


def read_reply(body: bytes, question: Question, model: str) -> Answer:
    """Answer in the body of a reply with status 200, whatever it holds.

    `model` is the one that was asked for. Failures: `not JSON`, `wrong model: …`, `no choices`, `refusal`, `no text`,
    `too long` (with the beginning of the text).
    """
    reply = _json(body)
    if not isinstance(reply, dict):
        return Answer(None, failure="not JSON")
    known = Answer(
        None,
        prompt_tokens=_count(_at(reply, "usage", "prompt_tokens")),
        completion_tokens=_count(_at(reply, "usage", "completion_tokens")),
        model=_short(reply.get("model")),
        fingerprint=_short(reply.get("system_fingerprint")),
    )
    if not same_model(model, known.model):
        return replace(known, failure=f"wrong model: {known.model}")
    choice = _at(reply, "choices", 0)
    if choice is None:
        return replace(known, failure="no choices")
    if _at(choice, "message", "refusal") or _at(choice, "finish_reason") == "content_filter":
        return replace(known, failure="refusal")
    return _with_text(known, _at(choice, "message", "content"), question.max_tokens * CHARACTERS_PER_TOKEN)


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


def _at(node: object, *path: str | int) -> Any:  # noqa: ANN401  (anything may lie in a stranger's JSON)
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


class _UnreadError(openai.OpenAIError):
    """A body that is not read, with the failure as text; of openai's errors, for its client retries all others."""


@dataclass
class _Bounded(httpx2.SyncByteStream):
    """A body that ends in an error after so many bytes, or so much time: httpx limits only the wait for a next byte."""

    stream: httpx2.SyncByteStream
    deadline: float

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self.stream:
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise _UnreadError("too long")
            if time.monotonic() > self.deadline:
                raise httpx2.ReadTimeout("the body takes too long")
            yield chunk

    def close(self) -> None:
        self.stream.close()


class OpenAIJudge:
    """A model behind `/chat/completions`; temperature 0, and the seed `seed + question.attempt`.

    The `openai` client asks again by itself after 408, 409, 429, 5xx, time-outs and cut connections. It waits as long
    as `Retry-After` says up to two minutes, and gives up at once if that says more.
    A parameter that the server refuses by name (`response_format`, `seed`, `max_tokens`) is not sent to it again;
    instead of `max_tokens` it then gets `max_completion_tokens`.
    """

    is_llm = True

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        key_variable: str = "OPENAI_API_KEY",
        timeout_s: float = 60.0,
        retries: int = 4,
        seed: int = 0,
        structured: Structured = "auto",
    ) -> None:
        """Name a model and a server; nothing is sent yet.

        `url` is the base of the API, as in `http://127.0.0.1:8080/v1`; without it OpenAI's own. `timeout_s` limits
        each request. `structured="never"` keeps detection questions from asking for JSON.

        Raises:
            ValueError: the url is not one, or holds a user, a password or a query.
            JudgeUnavailable: the key is missing where one is needed, or cannot be one.
        """
        base = _checked_url(url or OPENAI_URL)
        self._key = _key(key_variable, needed=url is None)
        self.name = model
        self._server = urlsplit(base).netloc + urlsplit(base).path.rstrip("/")
        self._key_variable, self._seed, self._structured = key_variable, seed, structured
        self._timeout_s = timeout_s
        self._refused: set[str] = set() if structured == "auto" else {"response_format"}
        timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0))
        self._client = openai.OpenAI(
            api_key=self._key or _NO_KEY,
            base_url=base,
            max_retries=retries,
            timeout=timeout,
            # A compressed body could grow a thousandfold after it was counted.
            default_headers={"Accept-Encoding": "identity"},
            # A redirect would take questions, and on the same host the key, to where nobody has pointed us.
            # A proxy of the environment cannot reach what listens on this machine alone.
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False,
                trust_env=urlsplit(base).hostname not in LOOPBACK,
                timeout=timeout,
                event_hooks={"response": [self._bound]},
            ),
        )

    def __repr__(self) -> str:
        return f"OpenAIJudge({self.name!r} at {self._server})"

    def identity(self) -> dict[str, Any]:
        """Everything that decides the answers; the server's address without scheme, and no key."""
        return {
            "judge": "openai",
            "model": self.name,
            "server": self._server,
            "temperature": 0,
            "seed": self._seed,
            "structured": self._structured,
            "protocol": PROTOCOL,
        }

    def ask(self, question: Question) -> Answer:
        """Answer one question.

        Failures beside those of `read_reply`: `timeout`, `connection`, `rate limit`, `server error`, `bad request`,
        `too long` (a body beyond `MAX_BODY_BYTES`, without text), `compressed` (though it was asked not to be).

        Raises:
            JudgeUnavailable: 401, 403, 404, a redirect, no credit, or nobody listens there.
        """
        reply, asked, tries = self._adapted(question)
        if isinstance(reply, bytes):
            answer = read_reply(reply, question, self.name)
        else:
            reason = self._unavailable(reply)
            if reason:
                raise JudgeUnavailable(reason)
            answer = Answer(None, failure=_failure(reply))
        if answer.text and not answer.failure and "response_format" in asked:
            answer = replace(answer, text=plain_numbers(answer.text))
        return self._without_key(replace(answer, tries=tries))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _adapted(self, question: Question) -> tuple[bytes | openai.OpenAIError, dict[str, Any], int]:
        """Reply, the request that it is for, and the tries; asks once more without what the server refuses by name."""
        tries = 0
        while True:
            asked = self._request(question)
            reply, more = self._send(asked)
            tries += more
            refused = _refused(reply, asked)
            if not refused:
                return reply, asked, tries
            self._refused.add(refused)

    def _request(self, question: Question) -> dict[str, Any]:
        refused = frozenset(self._refused)  # other threads add to it
        longest = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
        request: dict[str, Any] = {
            "model": self.name,
            "messages": [{"role": role, "content": _utf8(content)} for role, content in question.messages],
            "temperature": 0,
            longest: question.max_tokens,
        }
        if "seed" not in refused:
            request["seed"] = self._seed + question.attempt
        if question.purpose == "detection" and "response_format" not in refused:
            request["response_format"] = _SCHEMA
        return request

    def _send(self, request: dict[str, Any]) -> tuple[bytes | openai.OpenAIError, int]:
        # An error is handed on as a value: as the context of a later one it would bring the request and the key along.
        try:
            reply = self._client.chat.completions.with_raw_response.create(**request)
        except openai.APIError as error:
            return error, int(error.request.headers.get("x-stainless-retry-count", 0)) + 1
        except openai.OpenAIError as error:
            return error, 1
        return reply.content, reply.retries_taken + 1

    def _bound(self, response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _UnreadError("compressed")
        assert isinstance(response.stream, httpx2.SyncByteStream)  # noqa: S101  (for the type checker)
        response.stream = _Bounded(response.stream, time.monotonic() + self._timeout_s)

    def _unavailable(self, error: openai.OpenAIError) -> str:
        """Why nobody can be asked, in one line of our own words: a server's may repeat the key. Empty if others can."""
        if isinstance(error, openai.APIConnectionError):
            silent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
            return f"no judge listens at {self._server}; check the address, and that the server runs" if silent else ""
        if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
            return f"the judge's account at {self._server} has no credit left"
        status = error.status_code if isinstance(error, openai.APIStatusError) else 0
        if 300 <= status < 400:
            return f"{self._server} redirects elsewhere ({status}), and the key is not sent after it; give that address"
        return {
            401: f"{self._server} refuses the key; check {self._key_variable}",
            403: f"{self._server} forbids it; {self._key_variable} must be of an account that may use {self.name!r}",
            404: f"{self._server} has no model {self.name!r}, or no chat completions; most addresses end in /v1",
        }.get(status, "")

    def _without_key(self, answer: Answer) -> Answer:
        if len(self._key) < SECRET_LENGTH:
            return answer
        parts = {name: getattr(answer, name) for name in ("text", "failure", "model", "fingerprint")}
        return replace(answer, **{n: part.replace(self._key, "[key]") for n, part in parts.items() if part})


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise ValueError("the judge's url is not one; it should look like http://127.0.0.1:8080/v1") from None
    if "@" in url or parts.query or parts.fragment:
        raise ValueError(
            f"the url of the judge at {parts.hostname} must hold no user, password or query; "
            "give the key in an environment variable"
        )
    if not usable:
        raise ValueError(f"the judge's url must look like http://127.0.0.1:8080/v1, not {url!r}")
    return url


def _key(variable: str, *, needed: bool) -> str:
    key = os.environ.get(variable, "").strip()
    if needed and not key:
        raise JudgeUnavailable(f"{variable} is not set; put the key there, or name a server of your own by its url")
    # httpx would quote such a key in its error and in the log.
    if not key.isascii() or not key.isprintable():
        raise JudgeUnavailable(f"{variable} holds characters that no key has; copy the key again")
    return key


def _refused(reply: bytes | openai.OpenAIError, asked: dict[str, Any]) -> str:
    """Which parameter of the request a 400 or 422 names; empty if none that can be left out."""
    if not isinstance(reply, openai.BadRequestError | openai.UnprocessableEntityError):
        return ""
    # The whole body only where nothing else is said: it may repeat the question, and whatever stands in that.
    complaint = str(reply.param or _at(reply.body, "message") or reply.body)
    names = (name for name in ("response_format", "seed", "max_tokens") if name in asked)
    return next((name for name in names if re.search(rf"\b{name}\b", complaint)), "")


def _failure(error: openai.OpenAIError) -> str:
    match error:
        case _UnreadError():
            return str(error)
        case openai.APITimeoutError():
            return "timeout"
        case openai.RateLimitError():
            return "rate limit"
        case openai.APIStatusError(status_code=status) if status == 408:
            return "timeout"
        case openai.APIStatusError(status_code=status):
            return "bad request" if status in (400, 413, 422) else "server error"
        case _:
            return "connection"


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
