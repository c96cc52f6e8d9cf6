"""Synthetic worlds so small that a recipe is trained and judged in all of them within seconds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from sae_sanity.harness.progress import Silent
from sae_sanity.harness.record import load_record
from sae_sanity.harness.synthetic.config import SyntheticSettings, resolve_synthetic
from sae_sanity.results.store import Store

# Matrices of a few rows: threads only wait for each other.
torch.set_num_threads(1)

TINY_WORLDS = {
    "preset": "smoke",
    "n_features": 48,
    "d_in": 12,
    "world_l0": 3.0,
    "samples": 10_000,
    "batch_size": 128,
    "lr": 1e-2,
    "worlds": 2,
    "evaluation_samples": 2000,
    "calibration_samples": 4000,
}
"""Settings of a run of seconds."""


def tiny_worlds(**changes: object) -> SyntheticSettings:
    return resolve_synthetic(TINY_WORLDS | changes)


def flags_of(**changes: object) -> list[str]:
    """The same as flags of the command line."""
    pairs = ((f"--{name.replace('_', '-')}", str(value)) for name, value in (TINY_WORLDS | changes).items())
    return [part for pair in pairs for part in pair]


class Interrupted(Silent):
    """Ctrl-C: in the n-th stage of that name, when so many units are done."""

    def __init__(self, stage: str, *, number: int, done: int) -> None:
        self.name, self.number, self.done = stage, number, done
        self.seen, self.at_work = 0, False

    def start(self, stage: str, total: int) -> None:
        self.at_work = stage.startswith(self.name)
        self.seen += self.at_work

    def advance(self, done: int) -> None:
        if self.at_work and self.seen == self.number and done == self.done:
            raise KeyboardInterrupt


class Told(Silent):
    """Keeps what it was told: (stage, done)."""

    def __init__(self) -> None:
        self.stage, self.lines = "", []

    def start(self, stage: str, total: int) -> None:
        self.stage = stage

    def advance(self, done: int) -> None:
        self.lines.append((self.stage, done))


def results_of(folder: Path) -> dict[str, bytes]:
    """Every file that holds a result; the record names the folder in its command line."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths if p.name not in (".lock", "run.json")}


def rows_of(folder: Path) -> pd.DataFrame:
    store = Store(folder)
    return pd.concat([store.read(key) for key in load_record(folder).cells], ignore_index=True)


def values(rows: pd.DataFrame, arm: str, metric: str) -> pd.Series:
    """Scores of one arm in one metric."""
    return rows.loc[(rows["arm"] == arm) & (rows["metric"] == metric), "value"]
