"""Documents of a dataset on the Hugging Face hub, streamed; code of a dataset is never run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .hub_errors import hub_reason
from .text_files import text_column


def hub_documents(name: str) -> Iterator[str]:
    """Documents of the split `train` of a dataset, in its order, downloaded as they are read.

    Args:
        name: `org/name`, or `org/name:config` where a dataset has several.

    Raises:
        ValueError: There is no such dataset, it cannot be had, needs its own code to be run, or has no text; one line.
    """
    repo_id, _, config = name.partition(":")
    column = None
    for row in _rows(repo_id, config or None):
        column = column or text_column(row, f"dataset {name!r}")
        if isinstance(row.get(column), str):
            yield row[column]


def _rows(repo_id: str, config: str | None) -> Iterator[dict[str, Any]]:
    # Imported late: it takes seconds, and most runs read no dataset of the hub.
    import datasets

    shown = datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # stderr belongs to the caller's own progress
    try:
        found = datasets.load_dataset(repo_id, config, split="train", streaming=True, trust_remote_code=False)
        yield from found  # pyright: ignore[reportReturnType]
    except Exception as error:  # datasets raises of every kind: what is in a repo is what a stranger put there
        raise ValueError(f"dataset {repo_id!r} cannot be read: {_why(error)}") from None
    finally:
        if not shown:
            datasets.enable_progress_bars()


def _why(error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text or "dataset script" in text.lower():
        return "it needs code from its repo to be run, which is never done; name a dataset of plain files"
    if "Config name is missing" in text:
        return f"it has several configurations; name one as org/name:config ({' '.join(text.split())[:200]})"
    return hub_reason(error) or f"{type(error).__name__}: {' '.join(text.split())[:200]}"
