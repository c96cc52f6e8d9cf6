"""Run every benchmark in short form, keep its figures as JSON, and make the table of docs/performance.md.

    python benchmarks/bench.py [--only NAME ...] [--repeats N] [--folder DIR] [--page FILE]      (or: tox -e bench)

Each benchmark runs in a process of its own, as one would type it; what to type is in every file. A benchmark that fails
becomes a row that says so, the others go on, and the exit code is 1. A target that is missed is no failure: it is in
the table. After each benchmark its file and the table are whole, so that a run may be ended at any time and gone on
with by `--only`. The figures are worth what the machine is: let nothing else run on it (the load is kept beside them).
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from catalogue import CATALOGUE, Benchmark
from figures import read
from table import write_table

from sae_sanity.harness.record import versions
from sae_sanity.results.files import write_atomically

HERE = Path(__file__).parent
ROOT = HERE.parent
PATIENCE = 2400.0
"""Seconds after which a run is ended."""
ENDED = (0, 1)
"""Exit codes of a run that measured: some exit with 1 where a target is missed."""
PACKAGES = ("torch", "sae-lens", "sae-bench", "transformers", "nnsight", "numpy", "scipy", "ray")


class FailedError(Exception):
    """A run did not end well or did not say its figures; the reason in one line, without any folder of this machine."""


def main(arguments: Sequence[str] | None = None, catalogue: Sequence[Benchmark] = CATALOGUE, here: Path = HERE) -> int:
    """Run what was asked for, and say in the exit code whether all of it ran."""
    options = parse(arguments, [each.name for each in catalogue])
    chosen = [each for each in catalogue if not options.only or each.name in options.only]
    options.folder.mkdir(parents=True, exist_ok=True)
    try:  # a page that cannot take the table shows before an hour of work
        write_table(options.page, options.folder, catalogue)
    except (OSError, ValueError) as error:
        say(f"bench: {error}")
        return 2
    failed = 0
    for place, benchmark in enumerate(chosen, 1):
        record = measured(benchmark, options.repeats or benchmark.repeats, f"[{place}/{len(chosen)}]", here)
        failed += "failed" in record
        path = options.folder / f"{benchmark.name}.json"
        write_atomically(path, json.dumps(record, indent=1).encode() + b"\n")
        write_table(options.page, options.folder, catalogue)
    say(f"{len(chosen) - failed} of {len(chosen)} benchmarks ran; the table is in {options.page}")
    return int(failed > 0)


def parse(arguments: Sequence[str] | None, names: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names, help=f"some of: {', '.join(names)}")
    parser.add_argument("--repeats", type=positive, metavar="N", help="runs of each, instead of its own number")
    parser.add_argument("--folder", type=Path, default=ROOT / "results/published/benchmarks", help="of the JSON files")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/performance.md", help="with the table's markers")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    """A number of runs."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of runs; it must be at least 1")
    return int(text)


def measured(benchmark: Benchmark, repeats: int, place: str, here: Path) -> dict[str, Any]:
    """Run a benchmark so many times; what its file will hold."""
    found: dict[str, list[float]] = {}
    loads: list[float] = []
    stolen: list[float] = []
    record = {"benchmark": benchmark.name, "command": benchmark.command, "threads": benchmark.threads}
    record |= {"machine": machine(), "versions": versions(PACKAGES)}
    for number in range(1, repeats + 1):
        loads.append(round(os.getloadavg()[0], 1))
        say(f"{place} {benchmark.name}, run {number} of {repeats}, load {loads[-1]}: {benchmark.command}")
        begun, others = time.monotonic(), taken_by_others()
        try:
            said = one_run(benchmark, here)
        except FailedError as error:
            say(f"{place} {benchmark.name} failed: {error}")
            return record | {"failed": str(error), "load": loads}
        seconds = time.monotonic() - begun
        stolen.append(round((taken_by_others() - others) / seconds / (os.cpu_count() or 1), 3))
        say(f"{place} {benchmark.name}, {seconds:.0f} s, of which the host gave {stolen[-1]:.1%} to other machines")
        for what, values in said.items():
            found.setdefault(what, []).extend(values)
    return record | {"repeats": repeats, "load": loads, "stolen": stolen, "figures": summaries(benchmark, found)}


def summaries(benchmark: Benchmark, found: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Median and spread of every figure, and whether it is as it was wanted."""
    rows = {figure.key: figure for figure in benchmark.figures}
    summary: dict[str, dict[str, Any]] = {}
    for what, values in found.items():
        middle = {"median": statistics.median(values), "least": min(values), "greatest": max(values), "values": values}
        row = rows.get(what)
        wanted = {"wanted": row.wanted, "met": row.met(values)} if row and row.wanted else {}
        summary[what] = middle | wanted
    return summary


def one_run(benchmark: Benchmark, here: Path) -> dict[str, list[float]]:
    """One run of one benchmark, in a process of its own.

    Raises:
        FailedError: It did not say every figure of the table, ended badly, or took too long.
    """
    threads = {} if benchmark.threads is None else {"OMP_NUM_THREADS": str(benchmark.threads)}
    environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **threads, **benchmark.variables}
    if benchmark.threads is None:
        environ.pop("OMP_NUM_THREADS", None)
    process = subprocess.Popen(
        [sys.executable, here / f"{benchmark.script}.py", *benchmark.arguments],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise FailedError(f"took longer than {PATIENCE / 60:.0f} minutes") from None
    finally:
        end(process)
    try:
        said = read(out, benchmark.script)
    except (ValueError, KeyError, TypeError) as error:
        last = (err.strip() or out.strip() or str(error)).splitlines()[-1]
        say(err)
        raise FailedError(f"exit code {process.returncode}: {anonymous(last)}") from None
    if missing := [figure.key for figure in benchmark.figures if not said.get(figure.key)]:
        raise FailedError(f"exit code {process.returncode}: it did not say {', '.join(missing)}")
    if process.returncode not in ENDED:
        say(err)
        raise FailedError(f"exit code {process.returncode}, though it said its figures")
    return said


def end(process: subprocess.Popen[str]) -> None:
    """End a run with all that it has started, where it has not ended by itself."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def anonymous(text: str) -> str:
    """A line without the folders of this machine, and not too long to be read."""
    return re.sub(r"(?:/[^\s/'\":]+)+/([^\s/'\":]*)", r"\1", text)[:200]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def taken_by_others() -> float:
    """Seconds of all cores that a virtual machine wanted and its host gave to others; 0 where nobody counts them."""
    return float(getattr(psutil.cpu_times(), "steal", 0.0))


def processor() -> str:
    """Name of the processor with what of its instructions decides speed here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    units = [each for each in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{each}\b", text)]
    return f"{name[1].strip() if name else platform.machine()} ({', '.join(units) or 'no AVX2'})"


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Ended like this, it ends what it has started too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("bench: ended; the benchmarks before this one are written, and --only goes on with others")
        sys.exit(130)
