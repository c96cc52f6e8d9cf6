"""Libraries that draw from the process's global generators, made to draw the same each time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Start all global random numbers from `seed`, and let them go on outside as if nothing had happened."""
    before = random.getstate()
    with torch.random.fork_rng(), own_numpy_randomness(seed):
        random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)


@contextmanager
def own_numpy_randomness(seed: int) -> Iterator[None]:
    """The same of NumPy alone, for what never asks torch: its generators on a GPU would have to be started."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
