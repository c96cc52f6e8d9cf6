"""How well L0 is matched: every architecture times every arm, on the real demo site, through the real command.

Usage: python benchmarks/l0_matching.py [--architectures gated,topk] [--profile smoke] [--tokens N] [--results DIR]

Runs `sae-sanity check demo --suites reconstruction` once per architecture and prints the Markdown table of
docs/architectures.md: mean L0 measured on held-out texts, and the largest relative error over the SAEs of an arm.
A folder that is finished already is read, not run again. Where a check failed, or left an arm that exists for its
architecture without an SAE, the last line says so and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from figures import MEASURED, emit

from sae_sanity.baselines import ARCHITECTURES, CONTROLS, parse_arm
from sae_sanity.results.design import ArmFacts

ARMS = ("trained", "frozen_decoder@iso", "soft_frozen@0.8", "frozen_encoder@iso", "random", "permuted_encoder")
"""Columns: the arms that are calibrated."""
HEADER = (f"| architecture | {' | '.join(f'`{arm}`' for arm in ARMS)} |", "|---|" + "--:|" * len(ARMS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--tokens", type=int, help="training tokens of every arm instead of the profile's")
    parser.add_argument("--results", type=Path, help="folder to keep the checks in (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.results or Path(temporary)
        print("\n".join(HEADER))
        errors: list[float] = []
        problems: list[str] = []
        for architecture in options.architectures.split(","):
            more = ["--tokens", str(options.tokens)] if options.tokens else []
            failed = check(architecture, folder / architecture, ["--profile", options.profile, *more])
            facts = read_facts(folder / architecture)
            print(row(architecture, facts, failed), flush=True)
            problems += [f"{architecture}: {each}" for each in (failed, *missing(architecture, facts)) if each]
            errors += [abs(s.l0 / s.target_l0 - 1) for arm in ARMS for s in facts.get(arm, ())]
        if problems:
            sys.exit("; ".join(problems))
        emit("l0_matching", {"greatest error": max(errors)})


def missing(architecture: str, facts: Mapping[str, Sequence[ArmFacts]]) -> list[str]:
    """Say which arms exist for an architecture but have no finished SAE."""
    exist = [arm for arm in ARMS if not (CONTROLS.get(arm) or parse_arm(arm)).applies_to(architecture)]
    return [f"no SAE of {arm}" for arm in exist if not facts.get(arm)]


def check(architecture: str, folder: Path, more: Sequence[str]) -> str:
    """Run one check; return "" or the last line of what went wrong."""
    command = [str(Path(sys.executable).with_name("sae-sanity")), "check", "demo", "--suites", "reconstruction"]
    begun = time.monotonic()
    run = subprocess.run(
        [*command, "--architecture", architecture, "--results", str(folder), *more],
        env={"SAE_SANITY_BASELINES": "none", "OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    print(f"{architecture}: exit {run.returncode} after {time.monotonic() - begun:.0f} s", file=sys.stderr)
    said = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
    return "" if run.returncode in MEASURED else said[-1]


def read_facts(folder: Path) -> Mapping[str, Sequence[ArmFacts]]:
    """Return the facts of every finished SAE of a check, by arm."""
    facts: dict[str, list[ArmFacts]] = defaultdict(list)
    for path in sorted(folder.glob("arms/*/seed-*/arm.json")):
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        facts[record["facts"]["arm"]].append(ArmFacts(**record["facts"]))
    return facts


def row(architecture: str, facts: Mapping[str, Sequence[ArmFacts]], failed: str) -> str:
    """One row of the table: a cell for each arm."""
    cells = [cell(facts[arm]) if arm in facts else "–" for arm in ARMS]
    return f"| `{architecture}` | {' | '.join(cells)} |{f' failed: {failed}' if failed else ''}"


def cell(saes: Sequence[ArmFacts]) -> str:
    """Mean L0 and the largest error; bold where one of the SAEs is not matched."""
    worst = max((s.l0 / s.target_l0 - 1 for s in saes), key=abs)
    text = f"{fmean(s.l0 for s in saes):.2f} ({worst:+.1%})"
    return text if all(s.matched for s in saes) else f"**{text}**"


if __name__ == "__main__":
    main()
