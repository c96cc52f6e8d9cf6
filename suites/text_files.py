"""Documents out of files of text, JSON lines and Parquet, one after the other with bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SEPARATOR = "<|endoftext|>"
"""Alone on a line of a `.txt` file, it ends a document."""
MAX_CHARACTERS = 2**24
"""A longer line of a file, or document, is refused: nothing here is that long, and memory is bounded."""
TEXT = "text"
"""The column that is read where a table has it."""
TOKENS = ("input_ids", "tokens")
"""Columns that say that a table holds no text but token ids."""


def file_documents(path: Path) -> Iterator[str]:
    """Documents of a file, or of all files of a folder and the folders in it, in the order of their names.

    Args:
        path: A `.txt`, `.jsonl` or `.parquet` file, or a folder with such files; hidden ones are passed over.

    Raises:
        ValueError: There is no such file, or one of them cannot be read or has no text; one line, with its name.
    """
    files = _files(path)
    if not files:
        raise ValueError(f"no texts in {path}: it must be, or hold, files of {', '.join(SUFFIXES)}")
    return (document for file in files for document in SUFFIXES[file.suffix](file))


def text_column(row: Mapping[str, Any], source: str) -> str:
    """Name of the column of a table that holds its texts: `text`, or the only one of text.

    Raises:
        ValueError: There is none, or it is not clear which; one line that says what there is.
    """
    named = [name for name, value in row.items() if isinstance(value, str)]
    if TEXT in named or len(named) == 1:
        return TEXT if TEXT in named else named[0]
    if tokens := [name for name in TOKENS if name in row]:
        right = "pass texts with --texts"
        raise ValueError(f"{source} is tokenised already (column {tokens[0]!r}), and its texts are lost; {right}")
    columns = ", ".join(map(repr, list(row)[:8])) or "none"
    raise ValueError(f"{source} has no column {TEXT!r}, nor a single one of text; its columns: {columns}")


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.is_file() and path.suffix in SUFFIXES else []
    found = (file for suffix in SUFFIXES for file in path.rglob(f"*{suffix}"))
    seen = (file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))
    return sorted(file for file in seen if file.is_file())


def _of_text(path: Path) -> Iterator[str]:
    lines: list[str] = []
    length = 0
    for line in _lines(path):
        if line.strip() == SEPARATOR:
            yield "".join(lines)
            lines, length = [], 0
            continue
        lines.append(line)
        length += len(line)
        if length > MAX_CHARACTERS:
            right = f"put {SEPARATOR} alone on a line between documents"
            raise ValueError(f"{path} has a document of over {MAX_CHARACTERS:,} characters; {right}")
    yield "".join(lines)


def _of_json_lines(path: Path) -> Iterator[str]:
    column = None
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        row = _json_object(line, f"line {number} of {path}")
        column = column or text_column(row, str(path))
        value = row.get(column)
        if not isinstance(value, str):
            raise ValueError(f"line {number} of {path} has {column}={str(value)[:40]!r}; it must be text")
        yield value


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {str(error)[:100]}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where} is {type(row).__name__}; it must be an object with a column of text")
    return row


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", errors="strict") as file:
            while line := file.readline(MAX_CHARACTERS):
                if len(line) == MAX_CHARACTERS:
                    raise ValueError(f"{path} has a line of over {MAX_CHARACTERS:,} characters")
                yield line
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error.reason} at byte {error.start:,}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _of_parquet(path: Path) -> Iterator[str]:
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            types = {name: "" if _is_text(schema.field(name).type) else None for name in schema.names}
            column = text_column(types, str(path))
            for batch in file.iter_batches(batch_size=256, columns=[column]):
                yield from (value for value in batch.column(0).to_pylist() if value is not None)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0][:100]}") from None


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


SUFFIXES: Mapping[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _of_text,
    ".jsonl": _of_json_lines,
    ".parquet": _of_parquet,
}
"""Readers by ending of the file's name."""
