"""Why an eval cannot run here."""

from __future__ import annotations


class Unavailable(Exception):  # noqa: N818 - no error of ours: the eval cannot run here, and its text says why
    """An eval cannot run here: no dataset, no judge, no such hook. One line; it holds for every SAE of the run."""
