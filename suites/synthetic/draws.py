"""Random numbers that depend on a key alone: no global generator is read or moved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float


@runtime_checkable
class Draws(Protocol):
    """A source of random numbers on one device."""

    def uniform(self, n: int) -> Float[torch.Tensor, " n"]:
        """Uniform on [0, 1), float64, 53 bits."""
        ...

    def normal(self, n: int) -> Float[torch.Tensor, " n"]:
        """Standard normal, float32."""
        ...


class _CpuDraws:
    """PCG64 of 128 bits: of torch's 32 bits two among 10,000 batches would have the same in one run of 86."""

    def __init__(self, key: str) -> None:
        self._uniform = np.random.default_rng(number_of(key))
        # Five times faster than numpy's; two batches with the same magnitudes at other places would do no harm.
        self._normal = torch.Generator().manual_seed(seed_of(key))

    def uniform(self, n: int) -> Float[torch.Tensor, " n"]:
        return torch.from_numpy(self._uniform.random(n))

    def normal(self, n: int) -> Float[torch.Tensor, " n"]:
        return torch.randn(n, generator=self._normal)


class _DeviceDraws:
    """Philox of the device, seeded with 63 bits."""

    def __init__(self, key: str, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed_of(key))

    def uniform(self, n: int) -> Float[torch.Tensor, " n"]:
        return torch.rand(n, generator=self._generator, device=self._device, dtype=torch.float64)

    def normal(self, n: int) -> Float[torch.Tensor, " n"]:
        return torch.randn(n, generator=self._generator, device=self._device)


def draws_of(key: str, device: torch.device) -> Draws:
    """Random numbers of a key; another device gives others."""
    return _CpuDraws(key) if device.type == "cpu" else _DeviceDraws(key, device)


def number_of(key: str) -> int:
    """128 bits of a key."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16).digest(), "little")


def seed_of(key: str) -> int:
    """63 bits of a key: a seed as torch takes it."""
    return number_of(key) >> 65


@contextmanager
def isolated(key: str, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators in the block, for code that knows no other, and put them back after it."""
    devices = [] if device.type == "cpu" else [device.index or 0]
    with torch.random.fork_rng(devices=devices, device_type="cuda" if device.type == "cpu" else device.type):
        torch.default_generator.manual_seed(seed_of(key))
        if devices:
            torch.get_device_module(device).manual_seed(seed_of(key))
        yield
