"""Run SAEBench's code so that it leaves no trace in the process: noise, modes, seeds and hashes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import torch
from tqdm.std import tqdm

from ..randomness import own_randomness


@contextmanager
def contained(log: Path, seed: int) -> Iterator[None]:
    """Contain what runs inside.

    Prints and progress bars go to `log`; random numbers start from `seed` (absorption and core set none) and go on
    outside as if nothing had happened, as does the autograd mode, which SAEBench's evals turn on and off for good.

    Args:
        log: Text file that is appended to.
        seed: Seed of `random`, NumPy and torch.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file, ExitStack() as stack:
        stack.enter_context(redirect_stdout(file))
        stack.enter_context(_bars_to(file))
        stack.enter_context(own_randomness(seed))
        stack.enter_context(torch.set_grad_enabled(True))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


@contextmanager
def versioned(main: Any) -> Iterator[None]:  # noqa: ANN401
    """Write SAEBench's version as its commit: it would write the commit of whatever repository one stands in."""
    with patch.object(main, "get_sae_bench_version", lambda: f"sae-bench {version('sae-bench')}"):
        yield


@contextmanager
def _bars_to(file: TextIO) -> Iterator[None]:
    make: Callable[..., None] = tqdm.__init__

    def quiet(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        make(self, *args, **kwargs | {"file": file})

    with patch.object(tqdm, "__init__", quiet):
        yield
