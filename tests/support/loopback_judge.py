"""A real HTTP server on 127.0.0.1 that answers as a judge, well or badly, and remembers what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-loopback-SECRET-0123456789"


@dataclass
class Reply:
    """What the server sends once."""

    body: Any
    """Bytes as they are, anything else as JSON."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """Before anything is sent."""
    cut: bool = False
    """Half of the body only, then the connection is closed."""
    drip_s: float = 0.0
    """Between single bytes of the body."""

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Sent:
    """What the server was sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class LoopbackJudge:
    """What was pushed comes first, in turn; then `reply` to each request, which is `1, 3`."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: Reply(self.chat("1, 3"))
        self.sent: list[Sent] = []
        self.dead = False
        self._lock = threading.Lock()
        judge = self

        class Handler(_Handler):
            loopback = judge

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request, client_address):
                """A client that hangs up is part of the game."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @staticmethod
    def chat(content: Any, **more: Any) -> dict[str, Any]:
        """Body of a chat completion as OpenAI's reference shows it."""
        message = {"role": "assistant", "content": content, "refusal": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
        } | more

    @staticmethod
    def error(message: str, **more: Any) -> dict[str, Any]:
        """Body of an error as OpenAI's reference shows it."""
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more}

    def push(self, body: Any, *, times: int = 1, **how: Any) -> None:
        """Answer the next requests so."""
        self.replies += [Reply(body, **how)] * times

    def always(self, body: Any, **how: Any) -> None:
        """Answer all further requests so."""
        self.reply = lambda _: Reply(body, **how)

    def take(self, sent: Sent) -> Reply:
        with self._lock:
            self.sent.append(sent)
            next_one = self.replies.pop(0) if self.replies else None
        return next_one or self.reply(sent.body)

    def die(self) -> None:
        """Hang up on who is connected, and refuse whoever connects from now on."""
        self.dead = True
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    loopback: LoopbackJudge
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.loopback.take(Sent(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        time.sleep(reply.wait_s)
        if self.loopback.dead:
            self.close_connection = True
        else:
            self.answer(reply)

    def answer(self, reply):
        body = reply.encoded()
        self.send_response(reply.status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(body))} | reply.headers
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if reply.cut:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif reply.drip_s:
            self.drip(body, reply.drip_s)
        else:
            self.wfile.write(body)
        self.wfile.flush()

    def drip(self, body, seconds):
        for i in range(len(body)):
            self.wfile.write(body[i : i + 1])
            self.wfile.flush()
            time.sleep(seconds)

    def log_message(self, *_):
        """Say nothing."""
