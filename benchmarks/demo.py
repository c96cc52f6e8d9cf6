"""The demo from nothing cached, its smoke profile and itself: minutes, peak memory, and whether the plan was right.

python benchmarks/demo.py [--profiles smoke demo]
Runs `sae-sanity check demo` in a process of its own with an empty cache, installation excluded, and prints wall time,
CPU time, peak RSS and the exit code, which must be 0, 1 or 3. Each profile is planned first, by rules of thumb alone
and by what those before it took on this machine, as a user does who tries smoke first; predicted by actual is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from figures import MEASURED, emit
from plan_accuracy import bytes_in, command, predictions


class Ran(NamedTuple):
    """What one check took."""

    seconds: float
    """Wall time."""
    cpu: float
    """CPU seconds of all threads."""
    gib: float
    """Peak resident memory."""
    code: int
    """Exit code."""
    planned: dict[str, float]
    """Predicted by actual: `seconds`, bytes of `results` and of `cache`; `seconds, thumbs` by rules of thumb alone."""


def environment(cache: Path) -> dict[str, str]:
    """Variables of a user who has nothing but this cache."""
    environ = os.environ | {"SAE_SANITY_CACHE": str(cache)}
    environ.pop("SAE_SANITY_BASELINES", None)
    return environ


def plan(profile: str, cache: Path) -> dict[str, float]:
    """What a plan says with what a cache knows."""
    planning = [sys.executable, *command("plan", "demo", "--profile", profile, "--json")]
    run = subprocess.run(planning, env=environment(cache), check=True, stdout=subprocess.PIPE)
    return predictions(json.loads(run.stdout))


def check(profile: str, folder: Path, speeds: Path) -> Ran:
    """Plan the demo and run it with nothing cached but a record of speeds, which it adds to."""
    results, cache = folder / profile / "results", folder / profile / "cache"
    cache.mkdir(parents=True)
    predicted = by_thumb = plan(profile, cache)
    if speeds.exists():
        shutil.copy(speeds, cache)
        predicted = plan(profile, cache)
    begun = time.monotonic()
    run = [sys.executable, *command("check", "demo", "--profile", profile, "--results", results)]
    process = subprocess.Popen(run, env=environment(cache), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in MEASURED:
        sys.exit(f"the check of profile {profile} ended with exit code {process.returncode}")
    actual = {"seconds": seconds, "results": bytes_in(results), "cache": bytes_in(cache / "activations")}
    planned = {what: predicted[what] / value for what, value in actual.items()}
    planned["seconds, thumbs"] = by_thumb["seconds"] / seconds
    shutil.copy(cache / "speeds.json", speeds)
    return Ran(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, process.returncode, planned)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profiles", nargs="+", default=["smoke", "demo"], choices=["smoke", "demo"])
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for profile in parser.parse_args().profiles:
            ran = check(profile, Path(folder), Path(folder) / "speeds.json")
            took = f"{ran.seconds / 60:5.1f} min  CPU {ran.cpu:6,.0f} s  peak {ran.gib:.2f} GiB  exit {ran.code}"
            ratios = "  ".join(f"{what} {ratio:.2f}" for what, ratio in ran.planned.items())
            print(f"{profile:<6}{took}; predicted / actual: {ratios}", flush=True)
            figures |= {f"{profile} minutes": ran.seconds / 60, f"{profile} CPU": ran.cpu, f"{profile} memory": ran.gib}
            figures |= {f"{profile} {what}, planned": ratio for what, ratio in ran.planned.items()}
    emit("demo", figures)


if __name__ == "__main__":
    main()
