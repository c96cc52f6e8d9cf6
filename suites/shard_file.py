"""One shard on disk: a safetensors file, of which any rows are read without the others."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import BFloat16, Float32, Int16
from safetensors.torch import save

ROWS = "activations"
"""Name of the tensor of activations."""
INDEX = ("document", "position", "lengths", "tokens")
"""Names of the others, int32: of each row its document and its position in it, of each document its number of tokens,
and all tokens in a row."""
BYTES_PER_SHARD = 1_500
"""Of a shard besides its tensors: the header, and its entries in two JSON files."""

Precision = Literal["bfloat16", "float32"]
"""How activations are stored."""


class Stored(NamedTuple):
    """What a precision is to those who write and read it."""

    written: torch.dtype
    """Of the rows that `shard_bytes` takes."""
    read: type[np.number[Any]]
    """Of the rows that `read_rows` gives: the bits of a bfloat16 as int16, for NumPy does not know it."""
    name: str
    """In the header of a safetensors file."""
    n_bytes: int
    """Of one value."""


STORED: Mapping[Precision, Stored] = {
    "bfloat16": Stored(torch.bfloat16, np.int16, "BF16", 2),
    "float32": Stored(torch.float32, np.float32, "F32", 4),
}


def as_float(rows: np.ndarray) -> Float32[torch.Tensor, "n d_in"]:
    """Rows of `read_rows` as numbers; for float32 a view of the same memory."""
    found = torch.from_numpy(rows)
    return found.view(torch.bfloat16).float() if found.dtype == torch.int16 else found


def shard_bytes(
    rows: BFloat16[torch.Tensor, "n d_in"] | Float32[torch.Tensor, "n d_in"], index: Mapping[str, np.ndarray]
) -> bytes:
    """The file of a shard; the same tensors give the same bytes."""
    return save({ROWS: rows.contiguous()} | {name: torch.from_numpy(index[name]) for name in INDEX})


def bytes_of_shard(d_in: int, n_rows: int, n_tokens: int, n_documents: int, precision: Precision = "bfloat16") -> int:
    """About what a shard takes on disk: the tensors of `shard_bytes`, and a little besides.

    Args:
        d_in: width of the activations.
        n_rows: tokens kept.
        n_tokens: all tokens.
        n_documents: documents.
        precision: of the activations.
    """
    return n_rows * (STORED[precision].n_bytes * d_in + 2 * 4) + 4 * (n_tokens + n_documents) + BYTES_PER_SHARD


def read_rows(
    path: Path, sha256: str, shape: tuple[int, int], precision: Precision, start: int, stop: int
) -> Int16[np.ndarray, "n d_in"] | Float32[np.ndarray, "n d_in"]:
    """Some rows, for `as_float`: those of bfloat16 are its bits, for NumPy does not know it.

    Read, never mapped: mapped pages would count as memory of this process.

    Args:
        path: of the file.
        sha256: its hash, by which its header is remembered.
        shape: rows and width that its set says it has.
        precision: how its set says they are stored.
        start: first row.
        stop: end of the rows.

    Raises:
        ValueError: The file is shorter than it says, or of another shape.
        OSError: It cannot be read.
    """
    (begin, _), width, kind = _places(path, sha256, shape, precision)[ROWS], shape[1], STORED[precision]
    with path.open("rb") as file:
        offset = begin + kind.n_bytes * start * width
        found = np.fromfile(file, kind.read, count=(stop - start) * width, offset=offset)
    if len(found) != (stop - start) * width:
        raise ValueError(f"{path} is truncated")
    return found.reshape(-1, width)


@lru_cache(maxsize=2)
def read_index(path: Path, sha256: str, shape: tuple[int, int], precision: Precision) -> dict[str, np.ndarray]:
    """Everything but the activations; the hash is there for the cache, since a corrupt file may be computed again.

    Raises:
        ValueError: The file is shorter than it says, or of another shape.
        OSError: It cannot be read.
    """
    # Two shards' worth stay in memory: neighbouring documents are asked for one after the other.
    places = _places(path, sha256, shape, precision)
    found: dict[str, np.ndarray] = {}
    with path.open("rb") as file:
        for name in INDEX:
            begin, end = places[name]
            file.seek(begin)
            found[name] = np.fromfile(file, np.int32, count=(end - begin) // 4)
            if found[name].nbytes != end - begin:
                raise ValueError(f"{path} is truncated")
    return found


@lru_cache(maxsize=64)
def _places(path: Path, sha256: str, shape: tuple[int, int], precision: Precision) -> dict[str, tuple[int, int]]:
    """Where each tensor begins and ends in a file: 8 bytes of length, a header in JSON, then the data."""
    with path.open("rb") as file:
        room = os.fstat(file.fileno()).st_size - 8
        size = int.from_bytes(file.read(8), "little")
        if size > room:
            raise ValueError(f"{path} is truncated")
        text = file.read(size)
    try:
        header = json.loads(text)
        kinds = {ROWS: (STORED[precision].name, STORED[precision].n_bytes)} | dict.fromkeys(INDEX, ("I32", 4))
        places = {name: _place(header[name], kind) for name, kind in kinds.items()}
        lengths = [header[name]["shape"] for name in INDEX[:2]]
        begins, ends = zip(*sorted(places.values()), strict=True)
        # As the format has it: one behind the other, and nothing else.
        whole = (*begins, room - size) == (0, *ends)
        right = whole and header[ROWS]["shape"] == list(shape) and lengths == [[shape[0]]] * 2
    except (KeyError, TypeError, ValueError, RecursionError):
        right, places = False, {}
    if not right:
        raise ValueError(f"{path} has not the header of its set")
    return {name: (8 + size + begin, 8 + size + end) for name, (begin, end) in places.items()}


def _place(entry: dict[str, Any], kind: tuple[str, int]) -> tuple[int, int]:
    """Begin and end of one tensor in the data, as its entry in the header has them.

    Raises:
        ValueError: They are not those of its shape and type.
        KeyError, TypeError: It is no entry at all.
    """
    (begin, end), shape, (dtype, width) = entry["data_offsets"], entry["shape"], kind
    if entry["dtype"] != dtype or not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("another type, or no whole numbers")
    if end - begin != width * math.prod(shape):
        raise ValueError("another length")
    return begin, end
