"""The header of a safetensors file, checked against the file before anything is allocated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import BadSAE, short
from .strict_json import parse_object

MAX_HEADER = 1_000_000
"""Longest header in bytes; an SAE's has a few hundred."""

MAX_FILE = 256 * 2**30
"""Largest file of weights in bytes: 256 GiB, two million latents of width 8,192 in float64."""

ITEM_BYTES: Mapping[str, int] = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes per number of the dtypes that weights may have."""

_IMPOSTORS = {
    b"PK\x03\x04": "a zip archive (as torch.save writes), which may hold a pickle; it is never read",
    b"\x80": "a pickle, which can run code when it is read; it is never read",
    b"\x93NUMPY": "a NumPy file",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"version https://git-lfs": "a Git LFS pointer: the file itself was never downloaded",
    b"<": "a web page or XML: the download went wrong",
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the header."""

    dtype: str
    """safetensors' name of the dtype."""
    shape: tuple[int, ...]
    """Its shape."""
    start: int
    """First byte, counted from the end of the header."""
    end: int
    """One past its last byte."""


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read and check the header of a safetensors file; the tensors themselves are not read.

    Raises:
        BadSAE: the file is something else, its header is too long or not JSON, a tensor has a dtype other than those
            of `ITEM_BYTES`, or the tensors do not fill the file from end to end without holes and overlaps.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(32)
            length = _header_length(first, size, path)
            file.seek(8)
            header = file.read(length)
    except OSError as error:
        raise BadSAE(f"{path}: cannot be read: {error.strerror}") from None
    entries = parse_object(header, f"{path} (header)")
    _check_metadata(entries.pop("__metadata__", {}), path)
    tensors = {name: _tensor(name, entry, path) for name, entry in entries.items()}
    _check_layout(tensors, size - 8 - length, path)
    return tensors


def _header_length(first: bytes, size: int, path: Path) -> int:
    for magic, what in _IMPOSTORS.items():
        # A safetensors header is JSON: its ninth byte is a brace. A length may begin with any byte.
        if first.startswith(magic) and first[8:9] != b"{":
            raise BadSAE(f"{path}: not safetensors but {what}")
    if size > MAX_FILE:
        raise BadSAE(f"{path}: {size} bytes; at most {MAX_FILE} are read")
    if size < 10:
        raise BadSAE(f"{path}: {size} bytes; too short for a safetensors file")
    length = int.from_bytes(first[:8], "little")
    if length > min(MAX_HEADER, size - 8):
        limit = f"the file has {size} bytes" if length > size - 8 else f"at most {MAX_HEADER} are read"
        raise BadSAE(f"{path}: the header claims {length} bytes; {limit} (not safetensors, cut short, or hostile)")
    return length


def _check_metadata(value: object, path: Path) -> None:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise BadSAE(f"{path} (header): __metadata__ is {short(value)}; an object of texts is needed")


def _tensor(name: str, entry: Any, path: Path) -> TensorInfo:  # noqa: ANN401
    where = f"{path} (header): tensor {short(name)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadSAE(f"{where} is {short(entry)}; dtype, shape and data_offsets are needed, and nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise BadSAE(f"{where} has dtype {short(dtype)}; one of {', '.join(ITEM_BYTES)} is needed")
    if not _are_sizes(shape) or len(shape) > 4:
        raise BadSAE(f"{where} has shape {short(shape)}; a list of at most 4 sizes is needed")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise BadSAE(f"{where} has data_offsets {short(offsets)}; two numbers are needed")
    wanted = math.prod(shape) * ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != wanted:
        raise BadSAE(f"{where} takes bytes {offsets[0]} to {offsets[1]}; its shape and dtype need {wanted} bytes")
    return TensorInfo(dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_layout(tensors: Mapping[str, TensorInfo], data_bytes: int, path: Path) -> None:
    at = 0
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)):
        if info.start != at:
            raise BadSAE(f"{path} (header): tensor {short(name)} starts at byte {info.start}; {at} would be right")
        at = info.end
    if at != data_bytes:
        why = "cut short" if at > data_bytes else "longer than its header says"
        raise BadSAE(f"{path}: {why}: the tensors take {at} bytes and the file holds {data_bytes}")
