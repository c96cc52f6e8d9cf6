"""The same cells on a Ray cluster: workers measure, this process hands out cells and writes what comes back."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ...results.outcome import Skip
from ...suites.shelf import VARIABLE as CACHE_MAX
from ..baseline_store import cache_folder
from ..errors import UsageError
from ..record import versions
from ..subject import TARGETS
from .executor import Bench, Cell, Found
from .worker import Blueprint, Refusal, Worker

_LIVES = 3
"""Workers that may die over one cell, or while they load: after that it is no accident."""
_PATIENCE = 1.0
"""Seconds between two looks at the cluster."""
_ADDRESS = "RAY_ADDRESS"
_PASSED_ON = ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", CACHE_MAX)
"""Variables of this process that a worker gets too: what decides its threads, and what its cache may take; never one
with a secret."""
_OF_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
}
"""Of a cluster that is started here: it tells nobody of itself and listens on the loopback interface alone (Ray's own
switch for Windows and macOS works on Linux too), and to nobody who has not the token."""


class RayExecutor:
    """Keeps its cluster, and the connection, for all checks of a command."""

    name: str = "Ray: "
    """Said before the stage."""

    def __init__(self, address: str | None = None) -> None:
        """Look for Ray; nothing is started before the first cell.

        Args:
            address: of a cluster; None for that of RAY_ADDRESS, else one is started on this machine.

        Raises:
            UsageError: without Ray.
        """
        self.address = address or os.environ.get(_ADDRESS) or None
        self.connected = False
        # Before Ray is imported: it reads them once.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if self.address is None:
            os.environ.update(_OF_RAY)
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        try:
            import ray  # noqa: F401
        except ImportError:
            raise UsageError("executor is ray, which is not installed; pip install 'sae-sanity[ray]'") from None

    def measure(self, cells: Sequence[Cell], bench: Bench) -> list[Skip]:
        """Measure cells on the workers of the cluster; a cell whose worker dies goes to another one.

        Raises:
            UsageError: for a cluster that cannot be reached or has no room, or a worker that sees another check.
        """
        if not cells:
            return []
        need = Need.of(bench)
        self._connect()
        crew = Crew(need, blueprint(cells, bench), bench)
        try:
            return crew.measure(cells)
        finally:
            crew.dismiss()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        import ray

        if self.connected:
            ray.shutdown()
            self.connected = False

    def _connect(self) -> None:
        import ray

        if self.connected or ray.is_initialized():
            return
        local: dict[str, Any] = {"include_dashboard": False, "num_cpus": _cores()} if self.address is None else {}
        try:
            with _own_signals():
                ray.init(address=self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError, OSError):
            # Ray's own words hold the address, which may be a private one.
            raise UsageError("no Ray cluster could be reached at the address of --ray-address or RAY_ADDRESS") from None
        self.connected = True


@dataclass(frozen=True)
class Need:
    """What one worker takes of a node."""

    cpus: int
    """Threads of torch: a worker with another number would give other last digits."""
    gpus: int
    """One where the check runs on a GPU."""

    @classmethod
    def of(cls, bench: Bench) -> Need:
        """Read it from the settings of the check.

        Raises:
            UsageError: for a GPU by its number.
        """
        device = bench.plan.settings.device
        if device.startswith("cuda:"):
            raise UsageError(f"device is {device!r}; with --executor ray it must be cuda: Ray gives a worker its GPU")
        return cls(torch.get_num_threads(), int(device == "cuda"))

    def room(self) -> int:
        """How many workers the nodes that are alive could hold."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(self._fits(node) for node in nodes)

    def __str__(self) -> str:
        """The same in words."""
        return f"{self.cpus} CPUs{' and a GPU' if self.gpus else ''}"

    def _fits(self, node: dict[str, float]) -> int:
        by_cpu = int(node.get("CPU", 0) // self.cpus)
        return min(by_cpu, int(node.get("GPU", 0) // self.gpus)) if self.gpus else by_cpu


@dataclass
class Crew:
    """The workers of one check, and what each is at."""

    need: Need
    """What one takes."""
    blueprint: Blueprint
    """What each is made from."""
    bench: Bench
    """Where rows go."""
    idle: list[Any] = field(default_factory=list)
    """Workers without a cell."""
    tasks: dict[Any, tuple[Any, Cell | None]] = field(default_factory=dict)
    """Worker and cell of every call that has not come back; no cell while a worker loads."""
    queue: deque[Cell] = field(default_factory=deque)
    """Cells that nobody is at."""
    skipped: dict[str, Skip] = field(default_factory=dict)
    """Suites that cannot measure here."""
    deaths: Counter[str] = field(default_factory=Counter)
    """How many workers died over a cell, by its key; under no key those that died while they loaded."""

    def measure(self, cells: Sequence[Cell]) -> list[Skip]:
        """Hand out cells until all have come back."""
        import ray

        self.queue.extend(cells)
        shared = ray.put(self.blueprint)
        done = 0
        while self.queue or self._at_work():
            self._hire(shared)
            self._hand_out()
            for call in self._came_back():
                done += self._settle(call)
            # Also where nothing came back: whoever watches sees that it goes on.
            self.bench.progress.advance(done)
        return list(self.skipped.values())

    def dismiss(self) -> None:
        """End every worker, at once."""
        import ray

        for worker in [*self.idle, *(worker for worker, _ in self.tasks.values())]:
            ray.kill(worker)
        self.idle.clear()
        self.tasks.clear()

    def _at_work(self) -> bool:
        return any(cell is not None for _, cell in self.tasks.values())

    def _hire(self, shared: Any) -> None:  # noqa: ANN401
        """Start as many workers as there is room and work for; nodes that have come or gone are counted."""
        import ray

        if not self.queue:
            return
        there, room = len(self.idle) + len(self.tasks), self.need.room()
        if room == 0 and not self._at_work():
            few = "; set OMP_NUM_THREADS to fewer" if self.need.cpus > 1 else ""
            raise UsageError(f"no node of the Ray cluster has {self.need}{few}")
        for _ in range(min(room, len(self.queue) + len(self.tasks)) - there):
            actor: Any = ray.remote(Worker)
            worker = actor.options(**self._options()).remote()
            self.tasks[worker.load.remote(shared)] = (worker, None)

    def _options(self) -> dict[str, Any]:
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        variables = passed_on | {"OMP_NUM_THREADS": str(self.need.cpus)}
        return {"num_cpus": self.need.cpus, "num_gpus": self.need.gpus, "runtime_env": {"env_vars": variables}}

    def _hand_out(self) -> None:
        while self.idle and self.queue:
            worker, cell = self.idle.pop(), self.queue.popleft()
            self.tasks[worker.measure.remote(cell.suite.name, cell.sae, cell.key)] = (worker, cell)

    def _came_back(self) -> list[Any]:
        import ray

        if not self.tasks:
            threading.Event().wait(_PATIENCE)
            return []
        return ray.wait(list(self.tasks), num_returns=1, timeout=_PATIENCE)[0]

    def _settle(self, call: Any) -> int:  # noqa: ANN401
        """Take what one call brought back; returns how many cells are done by it."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, cell = self.tasks.pop(call)
        try:
            found: Found | Refusal | None = ray.get(call)
        except RayTaskError:
            raise  # a bug, with the worker's own traceback
        except RayError:
            self._bury(worker, cell)
            return 0
        self.idle.append(worker)
        if isinstance(found, Refusal):
            return self._refused(found)
        if cell is None or found is None:
            return 0
        self.bench.keep(cell, found)
        return 1

    def _refused(self, refusal: Refusal) -> int:
        """Leave out a suite; anything else ends the run.

        Raises:
            UsageError: with the worker's line.
        """
        if not refusal.suite:
            raise UsageError(refusal.reason)
        self.skipped.setdefault(refusal.suite, Skip(what=refusal.suite, reason=refusal.reason))
        left = [cell for cell in self.queue if cell.suite.name != refusal.suite]
        dropped = len(self.queue) - len(left)
        self.queue = deque(left)
        return 1 + dropped

    def _bury(self, worker: Any, cell: Cell | None) -> None:  # noqa: ANN401
        """A worker or its node has died: its cell goes first to the next one.

        Raises:
            UsageError: where that has happened too often.
        """
        import ray

        ray.kill(worker)  # it may only have been out of reach
        what = cell.key if cell else ""
        self.deaths[what] += 1
        if self.deaths[what] >= _LIVES:
            of = f"measure {cell.suite.name} of {cell.sae.arm} seed {cell.sae.seed}" if cell else "load"
            raise UsageError(f"{_LIVES} Ray workers died as they were to {of}; is their memory enough?")
        if cell is not None:
            self.queue.appendleft(cell)


def blueprint(cells: Sequence[Cell], bench: Bench) -> Blueprint:
    """What workers need to measure some cells of a check."""
    return Blueprint(
        bench.plan,
        tuple(dict.fromkeys(cell.suite.name for cell in cells)),
        None if bench.subject.artefact else TARGETS[bench.plan.settings.target],
        bench.subject.artefact,
        bench.store.folder.absolute(),
        cache_folder().absolute(),
        torch.get_num_threads(),
        versions(),
    )


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of the command line's, and a run that is ended would end as a bug."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
