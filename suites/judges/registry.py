"""The judges by name; any other name is a model behind an OpenAI-compatible server."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..points import by_name
from .judge import GROUP, Judge

BUILT_IN = (
    EntryPoint("local", f"{__package__}.local:LocalJudge", GROUP),
    EntryPoint("token_statistics", f"{__package__}.token_statistics:TokenStatistics", GROUP),
)
"""The judges of this package that have a name; entry points rather than imports, so that naming one loads nothing."""


def judge_points() -> dict[str, EntryPoint]:
    """Entry points of all named judges, none of them imported; the built-in ones first.

    Raises:
        ValueError: Two packages give judges of the same name.
    """
    return by_name("judge", (*BUILT_IN, *entry_points(group=GROUP)))


def make_judge(name: str, url: str | None = None, **options: Any) -> Judge:  # noqa: ANN401  (each judge has its own)
    """Make a judge: one of the named ones, or the model `name` at `url` (without a url, at OpenAI).

    `options` go to the judge's class, which for a model is `OpenAIJudge`.

    Raises:
        ValueError: a named judge has no url; or the name looks like a misspelled one; or the url is not one.
        JudgeUnavailable: the judge cannot be asked: no key, no server.
    """
    points = judge_points()
    if name in points:
        if url is not None:
            raise ValueError(f"judge {name!r} takes no url; with one, name the model that the server has")
        return points[name].load()(**options)
    close = difflib.get_close_matches(name, points, n=1, cutoff=0.8)
    if close and url is None:
        raise ValueError(f"no such judge: {name!r}; did you mean {close[0]}? (a model of that name needs its url)")
    from .openai_judge import OpenAIJudge

    return OpenAIJudge(name, url, **options)
