"""A judge behind any OpenAI-compatible server; what comes back is a stranger's: bounded, cleaned, never trusted."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import httpx2
import openai

from .address import OPENAI_URL, checked_url, in_clear_text, is_loopback, without_scheme
from .judge import Answer, JudgeUnavailable, Question
from .reply import at, plain_numbers, read_reply

PROTOCOL = 2
"""Version of how a question becomes a request and a reply becomes text; part of the identity."""
MAX_BODY_BYTES = 4 * 2**20
"""A longer body is not read to its end."""
SECRET_LENGTH = 12
"""A key this long or longer is taken out of what a server sends; shorter ones (`none`, `EMPTY`) are no secrets."""

Structured = Literal["auto", "never"]

_NO_KEY = "no-key"
_TIMED_OUT = frozenset({408, 499, 504, 522, 524})
"""Somebody on the way stopped waiting: the model may have answered, and its server may bill that."""
_UNBILLED = frozenset(range(300, 600)) - _TIMED_OUT
_LEFT_OUT = ("response_format", "seed", "max_tokens", "temperature")  # what a server may refuse by name
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


class _Heard(threading.local):
    """What came back for the question that this thread is asking."""

    unbilled: int = 0
    """Replies with a status that no server bills for."""


class OpenAIJudge:
    """A model behind `/chat/completions`; temperature 0, and the seed `seed + question.attempt`.

    The `openai` client asks again by itself after 408, 409, 429, 5xx, time-outs and cut connections. It waits as long
    as `Retry-After` says up to two minutes, and gives up at once if that says more.
    A parameter that the server refuses by name (`response_format`, `seed`, `max_tokens`, `temperature`) is not sent to
    it again, and answers say so (`Answer.without`); instead of `max_tokens` it then gets `max_completion_tokens`.
    """

    is_llm = True

    def __init__(
        self,
        model: str,
        url: str | None = None,
        *,
        key_variable: str | None = "OPENAI_API_KEY",
        timeout_s: float = 60.0,
        retries: int = 4,
        seed: int = 0,
        structured: Structured = "auto",
    ) -> None:
        """Name a model and a server; nothing is sent yet.

        `url` is the base of the API, as in `http://127.0.0.1:8080/v1`; without it OpenAI's own. `timeout_s` limits
        each request. `structured="never"` keeps detection questions from asking for JSON. Where `key_variable` is None,
        no key is sent, whatever is in the environment.

        Raises:
            ValueError: the url is not one, holds a user, a password, a query or a fragment, or would take the key
                through the network in clear text.
            JudgeUnavailable: the key is missing where one is needed, or cannot be one.
        """
        base = checked_url(url or OPENAI_URL)
        self._key = _key(key_variable, needed=url is None) if key_variable else ""
        if self._key and in_clear_text(base):
            raise ValueError(
                f"the judge's url is plain http, and {key_variable} would go there in clear text; use https"
            )
        self.name = model
        self.most_tries = retries + 1
        self._server = without_scheme(base)
        self._key_variable, self._seed, self._structured = key_variable, seed, structured
        self._timeout_s = timeout_s
        self._refused: set[str] = set() if structured == "auto" else {"response_format"}
        self._heard = _Heard()
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
                trust_env=not is_loopback(base),
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
        # The last request is in the answer itself.
        lost = max(0, tries - 1 - self._heard.unbilled + _is_unbilled(reply))
        return self._without_key(replace(answer, tries=tries, lost=lost, without=self._left_out(asked)))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _adapted(self, question: Question) -> tuple[bytes | openai.OpenAIError, dict[str, Any], int]:
        """Reply, the request that it is for, and the tries; asks once more without what the server refuses by name."""
        tries, self._heard.unbilled = 0, 0
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
            longest: question.max_tokens,
        }
        if "temperature" not in refused:
            request["temperature"] = 0
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
        self._heard.unbilled += response.status_code in _UNBILLED
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
        if status == 401 and not self._key_variable:
            return f"{self._server} wants a key, and none is sent to an address out of a file; give it as a flag"
        return {
            401: f"{self._server} refuses the key; check {self._key_variable}",
            403: f"{self._server} forbids it; {self._key_variable} must be of an account that may use {self.name!r}",
            404: f"{self._server} has no model {self.name!r}, or no chat completions; most addresses end in /v1",
        }.get(status, "")

    def _left_out(self, asked: dict[str, Any]) -> str:
        """What this server refused, of what would have been asked for."""
        refused = frozenset(self._refused) - ({"response_format"} if self._structured == "never" else set())
        return " ".join(name for name in _LEFT_OUT if name in refused and name not in asked and name != "max_tokens")

    def _without_key(self, answer: Answer) -> Answer:
        if len(self._key) < SECRET_LENGTH:
            return answer
        parts = {name: getattr(answer, name) for name in ("text", "failure", "model", "fingerprint")}
        return replace(answer, **{n: part.replace(self._key, "[key]") for n, part in parts.items() if part})


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
    complaint = str(reply.param or at(reply.body, "message") or reply.body)
    names = (name for name in _LEFT_OUT if name in asked)
    return next((name for name in names if re.search(rf"\b{name}\b", complaint)), "")


def _failure(error: openai.OpenAIError) -> str:
    match error:
        case _UnreadError():
            return str(error)
        case openai.APITimeoutError():
            return "timeout"
        case openai.RateLimitError():
            return "rate limit"
        case openai.APIStatusError(status_code=status) if status in _TIMED_OUT:
            return "timeout"
        case openai.APIStatusError(status_code=status):
            return "bad request" if status in (400, 413, 422) else "server error"
        case _:
            return "connection"


def _is_unbilled(reply: bytes | openai.OpenAIError) -> bool:
    return isinstance(reply, openai.APIStatusError) and reply.status_code in _UNBILLED


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
