"""Train all arms and seeds together: one stream of activations, every arm takes the same batch in turn."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .learner import Learner
from .moments import Moments
from .schedule import Schedule

Stream = Callable[[int], Iterator[Float[torch.Tensor, "batch d_in"]]]
"""Given a step, the batches from that step on (raw activations)."""

CHECKPOINT_SECONDS = 60.0
"""Least time between checkpoints: what a kill loses at most."""


@contextmanager
def fast_matmul() -> Iterator[None]:
    """Let float32 products use the CPU's bfloat16 units (or TF32) in the block, as mixed precision does."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def save_checkpoint(path: Path, learners: Sequence[Learner], step: int, key: str) -> None:
    """Write the state of all arms after `step` steps, atomically."""
    tensors = {f"{m.name}/{k}": v for m in learners for k, v in m.state().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    save_file(tensors, temporary, metadata={"progress": json.dumps({"step": step, "key": key})})
    os.replace(temporary, path)


def _states(names: Sequence[str], learners: Sequence[Learner]) -> list[list[str]]:
    """Names of the tensors of each arm; none where a checkpoint does not hold the arm."""
    return [[name for name in names if name.startswith(f"{learner.name}/")] for learner in learners]


def load_checkpoint(path: Path, learners: Sequence[Learner], key: str) -> int:
    """Restore the arms from a checkpoint of the same training and return its step; 0 where there is none."""
    try:
        return _restore(path, learners, key) if path.exists() else 0
    except SafetensorError:  # damaged: training starts again, which ends in the same bytes
        return 0


def _restore(path: Path, learners: Sequence[Learner], key: str) -> int:
    with safe_open(path, framework="pt") as file:
        progress = json.loads((file.metadata() or {}).get("progress", "{}"))
        if progress.get("key") != key:
            return 0
        states = _states(list(file.keys()), learners)
        if not all(states):
            return 0
        for learner, names in zip(learners, states, strict=True):
            learner.restore({name.removeprefix(f"{learner.name}/"): file.get_tensor(name) for name in names})
    return int(progress["step"])


def train_together(
    learners: Sequence[Learner],
    stream: Stream,
    moments: Moments,
    schedule: Schedule,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    on_step: Callable[[int], None] = lambda step: None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Train the arms in place, side by side on the same batches.

    A killed run goes on from its last checkpoint and ends with the same bytes as one that was not killed: what the
    stream yields depends on the step alone, and the checkpoint holds all other state.

    Args:
        learners: the arms; each takes every batch once.
        stream: batches of raw activations from a given step on.
        moments: `seen` of them is what the arms are given of every batch.
        schedule: steps and learning rate.
        checkpoint: file to keep the state in, or None.
        key: what the checkpoint belongs to; one with another key is ignored.
        on_step: called with the number of finished steps.
        clock: seconds; replaced in tests.
    """
    done = load_checkpoint(checkpoint, learners, key) if checkpoint else 0
    saved_at = clock()
    with fast_matmul():
        for step, batch in zip(range(done, schedule.steps), stream(done), strict=False):
            seen = moments.seen(batch)
            for learner in learners:
                learner.step(seen, schedule, step)
            on_step(step + 1)
            # The last step is always kept: what is done with the finished arms may be interrupted too.
            if checkpoint and (clock() - saved_at > CHECKPOINT_SECONDS or step + 1 == schedule.steps):
                save_checkpoint(checkpoint, learners, step + 1, key)
                saved_at = clock()
