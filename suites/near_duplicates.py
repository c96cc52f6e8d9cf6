"""Finding texts that share a passage, whatever their spacing, case and punctuation."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from jaxtyping import UInt64

RUN = 64
"""Bytes that one hash covers."""
WINDOW = 17
"""Of that many neighbouring hashes the smallest is kept."""
SHARED = RUN + WINDOW - 1
"""Two texts that share this many normalised bytes in a row (80) are near-duplicates."""

# Odd, so that it has an inverse modulo 2**64: the rolling hash divides by its powers.
_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xD6E8FEB86659FD93)
_TABLE = bytes(code if chr(code).isalnum() and code < 128 else 32 for code in bytes(range(256)).lower())


def normalised(text: str) -> bytes:
    """The English letters and digits of a text in lower case, with one space for whatever lies between them."""
    return b" ".join(text.encode().translate(_TABLE).split())


def fingerprints(text: str) -> list[int]:
    """Hashes that stand for every passage of 80 bytes of a text; two texts that share one are near-duplicates.

    Winnowing (Schleimer, Wilkerson and Aiken, SIGMOD 2003): of the rolling hashes of all runs of 64 bytes the minimum
    of each window of 17 is kept. A shared run of 80 bytes is a shared window, hence a shared minimum: it is always
    found. Two texts that share no 64 bytes share a fingerprint only by a collision of 64-bit hashes. Texts of fewer
    than 80 bytes are compared whole.
    """
    raw = normalised(text)
    if len(raw) < SHARED:
        return [int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")]
    return np.unique(_window_minima(_rolling_hashes(raw))).tolist()


def _window_minima(hashes: UInt64[np.ndarray, " runs"]) -> UInt64[np.ndarray, " windows"]:
    """Minimum of every WINDOW neighbours, by spans that double."""
    span = 1
    while span < WINDOW:
        step = min(span, WINDOW - span)
        hashes = np.minimum(hashes[:-step], hashes[step:])
        span += step
    return hashes


def _rolling_hashes(raw: bytes) -> UInt64[np.ndarray, " runs"]:
    """Hash of every run of RUN bytes, modulo 2**64: sums of byte x power, brought to the same power."""
    powers, inverses = _powers(1 << len(raw).bit_length())
    # Unsigned NumPy arithmetic wraps around, which is the modulus that is wanted.
    terms = (np.frombuffer(raw, dtype=np.uint8).astype(np.uint64) + np.uint64(1)) * powers[: len(raw)]
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(terms, dtype=np.uint64)])
    hashes = (sums[RUN:] - sums[:-RUN]) * inverses[: len(raw) - RUN + 1]
    # The low bits of such a hash depend on few bytes, and the minimum has to be a fair draw.
    hashes = (hashes ^ (hashes >> np.uint64(32))) * _MIX
    return hashes ^ (hashes >> np.uint64(32))


@lru_cache(maxsize=32)
def _powers(length: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of the base and of its inverse, modulo 2**64."""
    inverse = pow(_BASE, -1, 2**64)
    factors = [np.full(length, base, dtype=np.uint64) for base in (_BASE, inverse)]
    for factor in factors:
        factor[0] = 1
    return np.cumprod(factors[0], dtype=np.uint64), np.cumprod(factors[1], dtype=np.uint64)
