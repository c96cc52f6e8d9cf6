"""The synthetic experiment of Korznikov et al. 2026, run again: four architectures, two worlds, theirs beside ours."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ...results.files import write_atomically
from ...results.replication import (
    ArmLine,
    CurvePoint,
    Published,
    Replication,
    VerdictLine,
    arm_lines,
    compare_with,
    per_world,
    published_numbers,
    verdict_lines,
)
from ...results.store import Store
from ...suites.synthetic import best_cosines
from ..errors import UsageError
from ..progress import Progress, Silent
from ..record import load_record, report_of
from .config import SyntheticSettings, resolve_synthetic
from .judge import refuse_what_cannot_run, run_synthetic
from .memory import available_bytes

if TYPE_CHECKING:
    from ...baselines import Learner
    from ...suites.synthetic import World

PAPER = "korznikov2026-synthetic"
"""Name of the experiment, as on the command line."""

WORLDS = ("constant", "variable")
ARCHITECTURES = ("batchtopk", "jumprelu", "topk", "matryoshka_batchtopk")
"""The four of the paper's section 3 and appendix B."""

FILE, CURVE = "replication.json", "curve.json"

POINTS = 24
"""Points of a curve of recovery against training length, evenly spaced in the logarithm."""


@dataclass(frozen=True)
class Part:
    """One architecture in one kind of world."""

    settings: SyntheticSettings
    """What is run."""
    folder: Path
    """Its results folder."""

    @property
    def name(self) -> str:
        """World and architecture."""
        return f"{self.settings.world}/{self.settings.architecture}"


def parts_of(folder: Path, flags: dict[str, Any]) -> tuple[Part, ...]:
    """Every part of the experiment.

    Args:
        folder: results folder of the whole.
        flags: settings that all parts share.

    Raises:
        UsageError: for a setting that does not exist or a value out of range.
    """
    return tuple(
        Part(resolve_synthetic({"worlds": 3, **flags, "world": w, "architecture": a}), folder / w / a)
        for w in WORLDS
        for a in ARCHITECTURES
    )


def reproduce(folder: Path, flags: dict[str, Any], progress: Progress, *, jobs: int = 1) -> Replication:
    """Run or resume the experiment and hold the paper's numbers against ours.

    Args:
        folder: results folder; every part has a folder of its own in it.
        flags: settings that all parts share.
        progress: told about every stage of a part, or with several processes about every part that ends.
        jobs: processes; each works on one part with its share of the cores. With as many threads in each the bytes are
            the same for any number of them.

    Raises:
        UsageError: for bad input; nothing has been written then.
    """
    parts = parts_of(folder, flags)
    side_by_side = min(jobs, len(parts))
    for part in parts:
        refuse_what_cannot_run(part.settings, available_bytes() // side_by_side)
    if side_by_side == 1:
        for part in parts:
            _run_part(part, progress)
    else:
        _run_in_processes(parts, progress, side_by_side)
    found = replication_of(parts)
    write_atomically(folder / FILE, (found.model_dump_json(indent=1) + "\n").encode())
    return found


def _run_in_processes(parts: Sequence[Part], progress: Progress, jobs: int) -> None:
    # spawn: a forked copy of a process whose OpenMP threads have run would hang
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // jobs)
    before = multiprocessing.active_children()
    progress.start(f"{len(parts)} recipes in synthetic worlds", len(parts))
    with ProcessPoolExecutor(jobs, context, initializer=_begin_worker, initargs=(threads,)) as pool:
        futures = [pool.submit(_run_part, part, Silent()) for part in parts]
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                progress.advance(done)
        except BaseException:
            # Nobody waits hours for the other parts; what they have finished is on disk.
            for process in set(multiprocessing.active_children()) - set(before):
                process.terminate()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    progress.finish()


def _begin_worker(threads: int) -> None:
    """Prepare a worker: its share of the cores, and its end when the parent is gone, however that ended.

    A worker that outlived a killed parent would hold its part's folder for hours.
    """
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _run_part(part: Part, progress: Progress) -> str:
    curve = Curve(part)
    run_synthetic(part.settings, part.folder, progress, watch=curve.watch)
    return part.name


class Curve:
    """Recovery at some steps of training, kept in a file beside the run: a resumed run goes on with it."""

    def __init__(self, part: Part) -> None:
        """Take up what an earlier run of the part has written."""
        self.path, settings = part.folder / CURVE, part.settings
        steps = settings.samples // settings.batch_size
        self.batch_size = settings.batch_size
        self.steps = {int(step) for step in np.geomspace(max(1, steps // 200), steps, POINTS).round()}
        self.points = _read_curve(self.path)

    def watch(self, world: World, step: int, learners: Sequence[Learner]) -> None:
        """Take a point of every arm, at the steps that have one."""
        if step not in self.steps:
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")  # training may use bfloat16 products, a cosine at .8 may not
        for learner in learners:
            cosine = best_cosines(world.features.cpu(), learner.sae.W_dec.detach().cpu())[0]
            key = f"{world.seed}/{learner.baseline.arm}/{learner.seed}/{step * self.batch_size}"
            self.points[key] = float((cosine > 0.8).float().mean())
        torch.set_float32_matmul_precision(before)
        write_atomically(self.path, json.dumps(self.points, indent=0).encode())


def _read_curve(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        raise UsageError(f"{path} is damaged; delete the folder {path.parent} and run the same command again") from None


def curve_points(part: Part) -> tuple[CurvePoint, ...]:
    """Recovery against training length of one part, mean over starts, then worlds."""
    points = _read_curve(part.folder / CURVE)
    if not points:
        return ()
    rows = [(*key.split("/"), value) for key, value in points.items()]
    names = pd.Index(["world", "arm", "start", "samples", "value"])
    frame = pd.DataFrame(rows, columns=names).astype({"samples": int})
    means = frame.groupby(["arm", "samples", "world"])["value"].mean()
    return tuple(
        CurvePoint(
            world=part.settings.world,
            architecture=part.settings.architecture,
            arm=str(arm),
            samples=int(samples),
            recovered=float(worlds.mean()),
            by_world=tuple(float(value) for value in worlds),
        )
        for (arm, samples), worlds in means.groupby(level=["arm", "samples"])  # type: ignore[misc]
    )


def replication_of(parts: Sequence[Part]) -> Replication:
    """Judge the finished parts; one that was not run is said to be so."""
    finished = {(p.settings.world, p.settings.architecture): p for p in parts if (p.folder / "run.json").is_file()}
    numbers, same_size = published_numbers(), of_published_size(parts[0].settings)
    values: dict[Published, tuple[float, ...]] = {}
    arms: list[ArmLine] = []
    verdicts: list[VerdictLine] = []
    for (world, architecture), part in finished.items():
        rows = _rows(part)  # those of one part at a time: millions at full size
        arms += arm_lines(rows, world=world, architecture=architecture)
        verdicts += verdict_lines(report_of(part.folder), world=world, architecture=architecture)
        mine = [n for n in numbers if (n.world, n.architecture) == (world, architecture)]
        values |= {number: per_world(rows, "trained", number.metric) for number in mine}
    n_features = parts[0].settings.n_features
    return Replication(
        paper=PAPER,
        preset=parts[0].settings.preset,
        published_size=same_size,
        lines=tuple(compare_with(n, values.get(n, ()), n_features=n_features, same_size=same_size) for n in numbers),
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        curves=tuple(point for part in finished.values() for point in curve_points(part)),
        manifests={part.name: load_record(part.folder).manifest for part in finished.values()},
    )


def of_published_size(settings: SyntheticSettings) -> bool:
    """Whether the worlds and widths are the paper's."""
    ours = (settings.n_features, settings.d_in, settings.world_l0, settings.width, settings.target_l0)
    return ours == (3200, 100, 20.0, 3200, 20.0)


def _rows(part: Part) -> pd.DataFrame:
    store: Callable[[str], pd.DataFrame] = Store(part.folder).read
    return pd.concat([store(key) for key in load_record(part.folder).cells], ignore_index=True)
