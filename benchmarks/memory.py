"""Peak memory of a real check as `--tokens` grows tenfold: it has to stay flat, and under 6 GiB.

python benchmarks/memory.py [--profile smoke] [--factor 10]
Runs `sae-sanity check demo` twice in processes of their own, from nothing cached, and prints peak RSS, time and ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from figures import MEASURED, emit

from sae_sanity.harness.profiles import PROFILES

FLAGS = ["--suites", "reconstruction", "--baselines", "random"]


def peak_gib(profile: str, tokens: int, folder: Path) -> tuple[float, float]:
    """Peak resident memory in GiB, and seconds, of one check."""
    script = Path(sysconfig.get_path("scripts")) / "sae-sanity"
    command = [script, "check", "demo", "--profile", profile, "--tokens", str(tokens), *FLAGS]
    environ = os.environ | {"SAE_SANITY_CACHE": str(folder / "cache")}
    begun = time.monotonic()
    process = subprocess.Popen([*command, "--results", str(folder / "results")], env=environ, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if (code := os.waitstatus_to_exitcode(status)) not in MEASURED:
        sys.exit(f"the check of {tokens:,} tokens ended with exit code {code}")
    return usage.ru_maxrss / 2**20, time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="smoke", choices=list(PROFILES))
    parser.add_argument("--factor", type=int, default=10)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base = PROFILES[options.profile]["tokens"]
    peaks: list[float] = []
    for tokens in (base, base * options.factor):
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds = peak_gib(options.profile, tokens, Path(folder))
        peaks.append(peak)
        print(f"{tokens:>10,} tokens  peak {peak:5.2f} GiB  {seconds:5.0f} s", flush=True)
    print(f"ratio {peaks[1] / peaks[0]:.2f} for {options.factor} times the tokens")
    emit("memory", {"peak": peaks[1], "ratio": peaks[1] / peaks[0]})


if __name__ == "__main__":
    main()
