"""A judge without an API: a llama.cpp server of our own, in a process of its own, with the packaged model."""

from __future__ import annotations

import hashlib
import http.client
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .judge import Answer, JudgeUnavailable, Question

if TYPE_CHECKING:
    from .openai_judge import OpenAIJudge

INSTALL = "pip install 'sae-sanity[judge]'"
"""What brings the server."""
MODEL = "SmolLM2-135M-Instruct.Q4_1"
"""Name of the packaged model."""
CONTEXT = 6144
"""Tokens of a question and its answer. 100 texts of 21 tokens make about 3,000; the model was made for 8,192."""
SLOTS = 1
"""Questions that are read at the same time. Two are no faster on two cores, and their answers depend on each other."""
START_S = 120.0
"""Longest wait for the server to be up; it takes one to four seconds."""
ANSWER_S = 900.0
"""Longest wait for an answer: a judge that reads slowly is not a dead one."""
DYING_S = 1.0
"""A killed process closes its sockets a moment before it can be waited for."""

_KEY_VARIABLE = "SAE_SANITY_LOCAL_JUDGE_KEY"  # never set: a key for another server must not be sent to this one


@dataclass(frozen=True)
class Setup:
    """How the server is started: what goes to the child process."""

    model: str
    """Path of the GGUF file."""
    threads: int
    """Threads that compute."""
    slots: int
    """Questions at the same time."""
    context: int
    """Tokens of one question and its answer."""
    cache_prompt: bool
    """Whether the beginning that a question shares with an earlier one is not read again."""


class LocalJudge:
    """A small model behind a llama.cpp server on 127.0.0.1 that ends with this process.

    The server runs in a child process: if it crashes, the judge is unavailable and nothing else happens. It is asked
    through `OpenAIJudge`, by the same protocol as any other server. A weak judge; the trial must be able to say so.
    """

    is_llm = True

    def __init__(
        self,
        *,
        gguf: Path | None = None,
        threads: int | None = None,
        slots: int = SLOTS,
        cache_prompt: bool = False,
        seed: int = 0,
        start_s: float = START_S,
        timeout_s: float = ANSWER_S,
    ) -> None:
        """Start the server and wait until it answers.

        Args:
            gguf: Another model's file; without it the packaged SmolLM2.
            threads: Threads that compute; all cores that this process may use if None.
            slots: Questions that are read at the same time; further callers of `ask` wait.
            cache_prompt: Whether the beginning that a question shares with the one before is not read again. That
                saves about an eighth of the reading, and then answers depend on what was asked before (rounding).
            seed: Sent with each question.
            start_s: Seconds to wait for the server.
            timeout_s: Seconds to wait for an answer.

        Raises:
            JudgeUnavailable: The server or the model is not installed, or the server does not come up.
        """
        self._gguf = gguf or _packaged()
        self._version = _version()
        self.name = MODEL if gguf is None else self._gguf.stem
        self._sha256 = _sha256(self._gguf)
        self._setup = Setup(str(self._gguf), threads or _cores(), slots, CONTEXT, cache_prompt)
        self._free = threading.BoundedSemaphore(slots)
        self._server = _Server(self._setup, start_s)
        try:
            self._judge = _client(self.name, self._server.url, seed, timeout_s)
        except BaseException:
            self._server.close()
            raise

    @property
    def url(self) -> str:
        """Base of the server's API."""
        return self._server.url

    def identity(self) -> dict[str, Any]:
        """The model's file, the server's version and all settings; not the port, which decides nothing."""
        asked = {
            name: value for name, value in self._judge.identity().items() if name not in ("judge", "server", "model")
        }
        return asked | {
            "judge": "local",
            "model": self.name,
            "gguf_sha256": self._sha256,
            "xllamacpp": self._version,
            "context": self._setup.context,
            "slots": self._setup.slots,
            "cache_prompt": self._setup.cache_prompt,
        }

    def ask(self, question: Question) -> Answer:
        """Answer one question; a caller waits while all slots are busy, for as long as that takes.

        Raises:
            JudgeUnavailable: The server has ended.
        """
        with self._free:
            self._must_run()
            try:
                answer = self._judge.ask(question)
            except JudgeUnavailable:
                self._must_run(DYING_S)
                raise
        # A cut connection is a failure of one answer only as long as there is somebody to ask again.
        if answer.failure == "connection":
            self._must_run(DYING_S)
        return answer

    def close(self) -> None:
        """End the server."""
        self._judge.close()
        self._server.close()

    def _must_run(self, wait_s: float = 0.0) -> None:
        if reason := self._server.ended(wait_s):
            raise JudgeUnavailable(f"the local judge's server has ended: {reason}")


class _Server:
    """The child process; `url` is the base of its API."""

    def __init__(self, setup: Setup, start_s: float) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the server)
        self._process = subprocess.Popen(
            # `-m` alone would look for modules in the working directory first.
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            # Ctrl-C is for the parent, which then waits for the answers in flight.
            start_new_session=True,
            # Threads that spin while they wait take the cores away from whoever asks.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        try:
            self.url = self._start(setup, start_s)
        except BaseException:
            self.close()
            raise

    def ended(self, wait_s: float = 0.0) -> str:
        """Why the process has ended; empty if it still runs after so many seconds."""
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            return ""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = self._last_line()
        return f"{how} ({said})" if said else how

    def close(self) -> None:
        """End the process, politely at first."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                _close(stream)
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _start(self, setup: Setup, start_s: float) -> str:
        assert self._process.stdin  # noqa: S101  (for the type checker)
        assert self._process.stdout  # noqa: S101
        with suppress(BrokenPipeError):  # it has ended already; why is said below
            self._process.stdin.write(json.dumps(asdict(setup)).encode() + b"\n")
            self._process.stdin.flush()
        # A thread, because a pipe cannot be read with a time limit everywhere.
        said: list[bytes] = []
        stdout = self._process.stdout
        reader = threading.Thread(target=lambda: said.append(stdout.readline()), daemon=True)
        reader.start()
        reader.join(start_s)
        if not said:
            self._process.kill()
            reader.join()
            raise JudgeUnavailable(f"the local judge's server was not up after {start_s:g} seconds")
        if not (address := said[0].decode("utf-8", "replace").strip()).startswith("http://127.0.0.1:"):
            raise JudgeUnavailable(f"the local judge's server did not start: {self.ended(5.0) or 'it gave no address'}")
        self._wait_for_health(address, time.monotonic() + start_s)
        return f"{address}/v1"

    def _wait_for_health(self, address: str, deadline: float) -> None:
        while not _healthy(address):
            if reason := self.ended(0.1):
                raise JudgeUnavailable(f"the local judge's server did not start: {reason}")
            if time.monotonic() > deadline:
                raise JudgeUnavailable("the local judge's server does not become healthy")

    def _last_line(self) -> str:
        self._log.seek(0)
        text = self._log.read()[-4000:].decode("utf-8", "replace")
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return "".join(c for c in lines[-1] if c.isprintable())[:200] if lines else ""


def _healthy(address: str) -> bool:
    # Not `urllib.request`: a proxy of the environment would be asked for our own server.
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _client(model: str, url: str, seed: int, timeout_s: float) -> OpenAIJudge:
    # Imported late: a deterministic judge needs no `openai`.
    try:
        from .openai_judge import OpenAIJudge
    except ImportError as error:
        raise JudgeUnavailable(f"the local judge is asked by the openai client, which is missing: {INSTALL}") from error
    return OpenAIJudge(model, url, key_variable=_KEY_VARIABLE, timeout_s=timeout_s, retries=0, seed=seed)


def _packaged() -> Path:
    from ..smollm2 import DemoModelMissingError, find_gguf

    try:
        return find_gguf()
    except DemoModelMissingError as error:
        raise JudgeUnavailable(str(error)) from None


def _version() -> str:
    try:
        return importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError:
        raise JudgeUnavailable(f"the local judge needs a llama.cpp server: {INSTALL}") from None


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise JudgeUnavailable(f"the local judge's model {path} cannot be read: {error.strerror}") from None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _close(stream: IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        stream.close()


def _serve() -> None:
    """Life of the child process: read the setup, serve, say where, and end when the parent does."""
    parent = os.getppid()
    # What llama.cpp prints must not get between the parent and the address.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setup = Setup(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_input, daemon=True).start()
    server = _llama(setup)
    out.write(f"{server.listening_address}\n")
    out.flush()
    # A process forked by the parent may hold the other end of our input open; our parent changes all the same.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _end_with_input() -> None:
    # Closed, or gone with a killed parent. Not `sys.exit`: the server's own threads would keep us.
    os.read(0, 1)
    os._exit(0)


def _llama(setup: Setup) -> Any:  # noqa: ANN401
    import xllamacpp as library  # its types are compiled: nothing can be read off them

    xllamacpp: Any = library
    params = xllamacpp.CommonParams()
    params.model.path = setup.model
    params.model_alias = {Path(setup.model).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = setup.threads
    params.n_ctx, params.n_parallel = setup.context * setup.slots, setup.slots
    params.n_gpu_layers = 0
    params.fit_params = False
    params.ui = False
    params.verbosity = 0
    params.cache_prompt = setup.cache_prompt
    params.cache_ram_mib = 0
    return xllamacpp.Server(params)


if __name__ == "__main__":
    _serve()
