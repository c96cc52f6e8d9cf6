"""Is the plan right? Predicted time, disk and judge tokens against what then happens, as ratios.

    python benchmarks/plan_accuracy.py [--cases check synthetic ...] [--full] [--keep FOLDER]

Every case runs twice, each time in a fresh cache: first planned by rules of thumb alone, then by what the first run
took on this machine (only the record of its speeds is carried over). Cases: `sweep` (two recipes that differ in L0),
`synthetic` (preset smoke), `judge` (autointerp against a server on loopback that answers at once and counts tokens with
the demo model's tokenizer) and, where it is asked for, `check` (the demo's smoke profile; with --full the demo itself),
of which `demo.py` says the same.

Wall time is what a plan promises, and neighbours take from it: beside each ratio are the CPU time, its share
of the wall time and the load. `adjusted` is the second run's ratio if both runs had had the same share.
"""

# The rooms are mapped to sae_sanity.* at install time, which pyright does not follow from outside the four folders.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from figures import MEASURED, emit

TARGET = 0.25
"""Largest share by which a prediction may be off (issue 8, point 5)."""

SYNTHETIC_PLAN = """
import json
from sae_sanity.harness.estimate import estimate_worlds
from sae_sanity.harness.speeds import Speeds
from sae_sanity.harness.synthetic.config import resolve_synthetic
found = estimate_worlds(resolve_synthetic({"preset": "smoke"}), Speeds.of_user())
print(json.dumps({"seconds": found.seconds, "bytes": {"results": found.results_bytes, "cache": found.cache_bytes}}))
"""
"""`plan` is of checks; a synthetic run is asked for its estimate directly."""

SWEEP = """
[defaults]
profile = "smoke"
suites = ["reconstruction"]
[[run]]
target = "demo"
l0 = [16.0, 32.0]
"""


@dataclass(frozen=True)
class Case:
    """What is planned and then run."""

    plan: list[str]
    """Arguments of Python that print the plan as JSON."""
    run: list[str]
    """Arguments of the command line."""
    results: Path
    """Where it writes."""
    environment: dict[str, str] = field(default_factory=dict)
    """Further variables."""
    codes: tuple[int, ...] = MEASURED
    """Exit codes of a run that counts."""


@dataclass(frozen=True)
class Ran:
    """One prediction and what happened."""

    predicted: dict[str, float]
    """Seconds, bytes and tokens as planned."""
    actual: dict[str, float]
    """The same as it was."""
    busy: float
    """CPU seconds for each second of wall time."""
    load: float
    """Load of the machine at the end, over a minute."""

    @property
    def ratios(self) -> dict[str, float]:
        """Predicted by actual, of what there was any."""
        return {k: self.predicted[k] / v for k, v in self.actual.items() if v and k in self.predicted}


def command(*arguments: str | Path) -> list[str]:
    """Arguments of Python for the command line."""
    return ["-c", "import sys; from sae_sanity.harness.cli import main; sys.exit(main())", *map(str, arguments)]


def cases(root: Path, *, full: bool) -> dict[str, Callable[[], Case]]:
    """Every case by its name, made when it is its turn."""
    profile = "demo" if full else "smoke"

    def check() -> Case:
        flags = ["demo", "--profile", profile]
        return Case(command("plan", *flags, "--json"), command("check", *flags), root / "check")

    def sweep() -> Case:
        (root / "sweep.toml").write_text(SWEEP)
        asked = ["sweep", root / "sweep.toml"]
        return Case(command(*asked, "--plan", "--json"), command(*asked), root / "sweep")

    def synthetic() -> Case:
        return Case(["-c", SYNTHETIC_PLAN], command("synthetic", "--preset", "smoke"), root / "synthetic")

    def judge() -> Case:
        flags = ["demo", "--profile", "smoke", "--suites", "autointerp", "--judge", "instant", "--judge-url", serve()]
        key = {"OPENAI_API_KEY": "none-is-needed"}
        # a judge that answers at once knows nothing: INVALID is what comes of it
        codes = (*MEASURED, 4)
        return Case(command("plan", *flags, "--json"), command("check", *flags), root / "judge", key, codes)

    return {"check": check, "sweep": sweep, "synthetic": synthetic, "judge": judge}


def run(case: Case, cache: Path) -> Ran:
    """Plan a case, run it, and measure."""
    environment = os.environ | case.environment | {"SAE_SANITY_CACHE": str(cache)}
    environment.pop("SAE_SANITY_BASELINES", None)
    # `plan` imports what `check` imports: it also fills the disk's cache, as it does for a user who plans first.
    plan = subprocess.run([sys.executable, *case.plan], env=environment, capture_output=True, text=True, check=True)
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *case.run, "--results", str(case.results)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cpu = cpu_seconds(child)
    seconds = time.perf_counter() - start
    if child.returncode not in case.codes:
        raise SystemExit(f"{case.run} ended with {child.returncode}")
    disk = {"results": float(bytes_in(case.results)), "cache": float(bytes_in(cache / "activations"))}
    actual = {"seconds": seconds, **disk, **tokens_in(case)}
    return Ran(predictions(json.loads(plan.stdout)), actual, cpu / seconds, os.getloadavg()[0])


def cpu_seconds(child: subprocess.Popen[bytes]) -> float:
    """Wait for a process; its CPU time, as far as it was seen."""
    process, found = psutil.Process(child.pid), 0.0
    while child.poll() is None:
        try:
            times = process.cpu_times()
            found = times.user + times.system
        except psutil.NoSuchProcess:
            break
        time.sleep(0.2)
    child.wait()
    return found


def predictions(plan: dict[str, Any]) -> dict[str, float]:
    """What a plan of either command says."""
    whole = plan.get("total", plan)
    sizes = whole.get("bytes") or {"results": whole["results_bytes"], "cache": whole["cache_bytes"]}
    asked = whole.get("judge") or {}
    tokens = {"judge tokens": asked["prompt_tokens"] + asked["completion_tokens"]} if asked else {}
    return {"seconds": whole["seconds"], **sizes, **tokens, **({"questions": asked["questions"]} if asked else {})}


def bytes_in(folder: Path) -> int:
    """Bytes of the files of a folder, linked ones once."""
    files = [path.stat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum({(s.st_dev, s.st_ino): s.st_size for s in files}.values())


def tokens_in(case: Case) -> dict[str, float]:
    """What the judge of a finished run says it was asked."""
    record = case.results / "run.json"
    notes = json.loads(record.read_text())["manifest"]["notes"] if record.is_file() else []
    asked = re.compile(r"(\d+) questions sent, ([\d,]+) tokens asked and ([\d,]+) answered")
    for note in notes:
        if found := asked.search(note):
            questions, prompt, answered = (int(number.replace(",", "")) for number in found.groups())
            return {"judge tokens": prompt + answered, "questions": questions}
    return {}


def serve() -> str:
    """Start a server that answers at once, and return its address; it ends with this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Instant)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


class Instant(BaseHTTPRequestHandler):
    """Answers every question at once, as long as a model would, and counts as the demo's model does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:  # noqa: D102
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = answer(body["messages"][-1]["content"])
        sent = sum(count(message["content"]) for message in body["messages"])
        usage = {"prompt_tokens": sent, "completion_tokens": count(text), "total_tokens": sent + count(text)}
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        data = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        raw = json.dumps(data | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def answer(question: str) -> str:
    """An explanation of usual length, or the numbers of half of the texts."""
    if not question.startswith("Here is the explanation"):
        return "This neuron activates on words that name people, places and the things that are done there"
    numbers = re.findall(r"^(\d+)\.", question, re.MULTILINE)
    return ", ".join(numbers[: len(numbers) // 2] or ["1"])


def count(text: str) -> int:
    """Tokens of a text by the demo model's tokenizer; four letters a token until it is there."""
    if TOKENIZER:
        return len(TOKENIZER[0].encode(text, add_special_tokens=False))
    return max(1, len(text) // 4)


TOKENIZER: list[Any] = []
"""The demo model's tokenizer, once an earlier case has put it into a cache."""


def load_tokenizer(cache: Path) -> None:
    """Take the tokenizer from a cache, if it is there."""
    from transformers import AutoTokenizer

    for folder in cache.glob("smollm2*"):
        if not TOKENIZER:
            TOKENIZER.append(AutoTokenizer.from_pretrained(folder))


def main() -> None:
    """Run the cases and print a line for each prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["sweep", "synthetic", "judge"])
    parser.add_argument("--full", action="store_true", help="`check` too, of the demo instead of its smoke profile")
    parser.add_argument("--keep", type=Path, help="folder to work in, kept afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        asked = dict.fromkeys((*options.cases, *(("check",) if options.full else ())))
        figures = {name: both(name, root, full=options.full) for name in asked}
    print(json.dumps({"target": TARGET, "figures": figures}))
    emit("plan_accuracy", dict(said(figures)))


def said(figures: dict[str, dict[str, Any]]) -> Iterator[tuple[str, float]]:
    """The ratios by what the table calls them: time by both ways to plan it; disk and tokens are the same in both."""
    for case, found in figures.items():
        yield f"{case} seconds, thumbs", found["thumbs"]["seconds"]
        yield f"{case} seconds, adjusted", found["adjusted"]
        for what, ratio in found["measured"].items():
            yield what if what.startswith(case) else f"{case} {what}", ratio


def both(name: str, root: Path, *, full: bool) -> dict[str, Any]:
    """Run one case by rules of thumb, then by what that run took."""
    runs: list[Ran] = []
    for turn in ("thumbs", "measured"):
        place, cache = root / turn / name, root / turn / f"{name}-cache"
        for folder in (place, cache):
            folder.mkdir(parents=True)
        if runs:
            shutil.copy(root / "thumbs" / f"{name}-cache" / "speeds.json", cache)
        runs.append(run(cases(place, full=full)[name](), cache))
        load_tokenizer(cache)
        show(name, turn, runs[-1])
    adjusted = runs[1].ratios["seconds"] * runs[0].busy / runs[1].busy
    print(f"{name:<10} measured  seconds, adjusted  {adjusted:14.2f}")
    found = {turn: one.ratios for turn, one in zip(("thumbs", "measured"), runs, strict=True)}
    return found | {"adjusted": adjusted, "busy": [one.busy for one in runs], "load": [one.load for one in runs]}


def show(name: str, turn: str, ran: Ran) -> None:
    """Print predicted, actual and their ratio."""
    for what, ratio in ran.ratios.items():
        mark = "" if abs(ratio - 1) <= TARGET else "  off"
        figures = f"predicted {ran.predicted[what]:>14,.0f}  actual {ran.actual[what]:>14,.0f}"
        print(f"{name:<10} {turn:<9} {what:<13} {figures}  ratio {ratio:5.2f}{mark}", flush=True)
    for what in ("results", "cache", "judge tokens"):
        if ran.predicted.get(what) and not ran.actual.get(what):
            print(f"{name:<10} {turn:<9} {what:<13} predicted {ran.predicted[what]:>14,.0f}  none found: no ratio")
    cpu = ran.actual["seconds"] * ran.busy
    print(f"{name:<10} {turn:<9} CPU seconds   {cpu:,.0f}: {ran.predicted['seconds'] / cpu:.2f} of them predicted")
    print(f"{name:<10} {turn:<9} computing {ran.busy:.0%} of the time, load {ran.load:.1f}", flush=True)


if __name__ == "__main__":
    main()
