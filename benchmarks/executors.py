"""Two Ray workers against one, and against no Ray at all, on the same cells of the demo, in one run.

Usage: OMP_NUM_THREADS=1 python benchmarks/executors.py [--suite sparse_probing] [--cells 6] [--repeats 1]

Makes the demo's SAEs (profile smoke) and measures the same cells in this process, with one worker and with two, in
turn. The cells are those of SAEs, which compute about as long; their references are left out. Timed is from the first
cell that is handed out to the last one that is written, by processes that are warm: each has loaded the language model
and measured another cell before, so that imports, texts and a process's first passes are not held against two workers
that each need them once. What that took is printed apart; in a run of hundreds of cells it does not matter, in one of
six it would be the result. Counted are handing out, sending rows back, writing them, and the end, at which one worker
waits for the other. Efficiency is the time of one worker over twice the time of two. It says as much of the machine as
of Ray where the cores are busy with something else (their load is printed); what Ray alone decides is the share of the
workers' time in which they are at a cell, rather than waiting for one.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from figures import emit

from sae_sanity.harness import check
from sae_sanity.harness.config import Settings, resolve
from sae_sanity.harness.executors.executor import Bench, Cell
from sae_sanity.harness.executors.local import LocalExecutor
from sae_sanity.harness.executors.ray import Crew, Need, RayExecutor, blueprint
from sae_sanity.harness.progress import Silent
from sae_sanity.results.outcome import Skip


class _MeasuredError(Exception):
    """Everything that is timed is done; no report is wanted."""


@dataclass
class TimedCrew(Crew):
    """Waits until all workers have loaded and measured a cell each, and takes the time from there."""

    wanted: int = 1
    warm_up: deque[Cell] = field(default_factory=deque)
    began: float = 0.0
    busy: float = 0.0
    handed: dict[Any, float] = field(default_factory=dict)

    def _hand_out(self) -> None:
        if not self.began and len(self.idle) == self.wanted:
            if self.warm_up:
                self._warm()
            else:
                self.began = time.monotonic()
        if self.began:
            super()._hand_out()
            for call in self.tasks:
                self.handed.setdefault(call, time.monotonic())

    def _warm(self) -> None:
        """Hand every worker its first cell, which does not count."""
        real, self.queue, self.warm_up = self.queue, self.warm_up, deque()
        super()._hand_out()
        self.queue = real

    def _settle(self, call: Any) -> int:  # noqa: ANN401
        if call in self.handed:
            self.busy += time.monotonic() - self.handed[call]
        return super()._settle(call)


@dataclass
class Timed:
    """Measures some of the cells and keeps how long that took."""

    workers: int
    n_cells: int
    name: str = "timed: "
    seconds: float = 0.0
    loading: float = 0.0
    busy: float = 1.0

    def measure(self, cells: Sequence[Cell], bench: Bench) -> list[Skip]:
        """Measure the first of the cells, and leave it at that."""
        begun = time.monotonic()
        alike = [cell for cell in cells if not cell.reference]
        first = max(1, self.workers)
        some, warm_up = alike[: self.n_cells], alike[self.n_cells : self.n_cells + first]
        if len(warm_up) < first:
            raise SystemExit(f"there are {len(alike)} cells of SAEs; --cells must leave {first} to warm up with")
        if self.workers:
            self._with_ray(some, warm_up, bench, begun)
        else:
            LocalExecutor().measure(warm_up, bench)
            start = time.monotonic()
            LocalExecutor().measure(some, bench)
            self.seconds, self.loading = time.monotonic() - start, start - begun
        for cell in (*some, *warm_up):
            bench.store.discard(cell.key)
        raise _MeasuredError

    def close(self) -> None:
        """Nothing is kept."""

    def _with_ray(self, cells: Sequence[Cell], warm_up: Sequence[Cell], bench: Bench, begun: float) -> None:
        import ray

        ray.init(
            "local", num_cpus=self.workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        made = blueprint(cells, bench)
        crew = TimedCrew(Need(1, 0), made, bench, wanted=self.workers, warm_up=deque(warm_up))
        crew.measure(cells)
        self.seconds, self.loading = time.monotonic() - crew.began, crew.began - begun
        self.busy = crew.busy / (self.workers * self.seconds)
        crew.dismiss()
        ray.shutdown()


def timed(settings: Settings, workers: int, n_cells: int, results: Path) -> Timed:
    """Time one way; the first makes the arms."""
    executor = Timed(workers, n_cells)
    with suppress(_MeasuredError):
        check.run_check(settings, results, Silent(), executor=executor)
    how = f"{executor.loading:5.1f} s before" + (f", at a cell {executor.busy:.1%} of the time" if workers else "")
    print(f"  {f'{workers} workers' if workers else 'this process':<14}{executor.seconds:6.1f} s  {how}", flush=True)
    return executor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="sparse_probing")
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    RayExecutor()  # before Ray is imported: a cluster of this machine alone
    torch.set_num_threads(1)
    settings = resolve({"target": "demo", "profile": "smoke", "suites": [options.suite]}, environ={})
    found: dict[int, list[Timed]] = {0: [], 1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        print(f"{options.cells} cells of {options.suite}, one thread each, {os.cpu_count()} cores")
        for _ in range(options.repeats):
            for workers, times in found.items():
                print(f"load {os.getloadavg()[0]:.1f}", end="")
                times.append(timed(settings, workers, options.cells, Path(folder) / "results"))
    local, one, two = (statistics.median(each.seconds for each in found[n]) for n in (0, 1, 2))
    print(f"one worker / this process: {one / local:.2f}")
    print(
        f"efficiency of 2 workers: {one / (2 * two):.2f} of ideal (this process as the unit: {local / (2 * two):.2f})"
    )
    print(f"share of their time at a cell, 2 workers: {statistics.median(each.busy for each in found[2]):.3f}")
    emit(
        "executors",
        {
            "efficiency": [a.seconds / (2 * b.seconds) for a, b in zip(found[1], found[2], strict=True)],
            "one worker / this process": [a.seconds / b.seconds for a, b in zip(found[1], found[0], strict=True)],
            "at a cell": [each.busy for each in found[2]],
        },
    )


if __name__ == "__main__":
    main()
