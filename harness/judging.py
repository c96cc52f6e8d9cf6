"""The judge of a check: made from its settings before anything is computed, so that a slip costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .config import Settings
from .errors import UsageError
from .progress import Progress

if TYPE_CHECKING:
    from ..suites.judges.budget import Budget
    from ..suites.suite import Judging

JUDGED = ("autointerp",)
"""Suites that ask a judge."""
ANSWERS = "answers.sqlite"
"""File of the kept answers in a results folder."""


@dataclass(frozen=True)
class Limits:
    """What a run may spend on its judge; it decides when a run stops, never its numbers."""

    max_tokens: int | None = None
    """Tokens of questions and answers together."""
    max_cost: float | None = None
    """Money, in the currency of `price`."""
    price: str | None = None
    """Price of a million tokens, `IN,OUT`: in questions and in answers."""

    def budget(self) -> Budget:
        """The same in the words of the judges.

        Raises:
            UsageError: for a cost without a price, or numbers out of range.
        """
        from ..suites.judges.budget import Budget, Price

        try:
            return Budget(self.max_tokens, self.max_cost, Price.parse(self.price) if self.price else None)
        except ValueError as error:
            raise UsageError(str(error)) from None


def parse_limits(max_tokens: int | None, max_cost: float | None, price: str | None) -> Limits:
    """Read the flags.

    Raises:
        UsageError: for a price that is not two numbers, or limits that cannot be.
    """
    limits = Limits(max_tokens, max_cost, price)
    limits.budget()
    return limits


def asks_judge(settings: Settings) -> bool:
    """Whether a suite of these settings asks a judge."""
    return any(name in settings.suites for name in JUDGED)


def check_judge(settings: Settings) -> None:
    """Refuse what cannot be asked, before anything is computed.

    Raises:
        UsageError: for a suite without a judge, a judge without its package or key, or an address with a secret in it.
    """
    if not asks_judge(settings):
        return
    if not settings.judge:
        raise UsageError(
            "judge is not set, and autointerp needs one: --judge MODEL with --judge-url URL for a server, "
            "--judge local for a small one on this machine, or --judge token_statistics for a scorer that is no LLM"
        )
    address = urlsplit(settings.judge_url)
    if settings.judge_url and address.scheme not in ("http", "https"):
        raise UsageError(f"judge_url is {settings.judge_url!r}; it must begin with http:// or https://")
    if address.username or address.password or address.query:
        raise UsageError("judge_url holds a user, password or query; a key belongs into OPENAI_API_KEY alone")
    if _is_server(settings) and not (settings.judge_url or os.environ.get("OPENAI_API_KEY")):
        raise UsageError(f"judge is {settings.judge!r}, but neither OPENAI_API_KEY nor judge_url is set")
    _check_packages()


def _check_packages() -> None:
    try:
        import sae_bench.evals.autointerp.main  # noqa: F401
    except ImportError:
        raise UsageError("autointerp asks by SAEBench's prompts; pip install 'sae-sanity[saebench]'") from None


def _is_server(settings: Settings) -> bool:
    from ..suites.judges.registry import judge_points

    return settings.judge not in judge_points()


@contextmanager
def judging(settings: Settings, folder: Path, limits: Limits, progress: Progress) -> Iterator[Judging | None]:
    """Make the judge of a check, and let it go; None where no suite asks one.

    Raises:
        UsageError: for a judge that cannot be made.
    """
    if not asks_judge(settings):
        yield None
        return
    from ..suites.judges.answers import AnswerStore
    from ..suites.judges.budget import Spent
    from ..suites.judges.judge import JudgeUnavailable
    from ..suites.judges.registry import make_judge
    from ..suites.suite import Judging

    try:
        judge = make_judge(settings.judge, settings.judge_url or None)
    except (JudgeUnavailable, ValueError) as error:
        raise UsageError(str(error)) from None
    with closing(judge):
        try:
            store = AnswerStore(folder / ANSWERS)
        except ValueError as error:
            raise UsageError(str(error)) from None
        with closing(store):
            yield Judging(judge, store, Spent(limits.budget()), _Stages(progress))


class _Stages:
    """Tells a progress of stages that are only known by their names."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.stage = progress, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say how far a stage is; 0 of it begins it, all of it ends it."""
        if stage != self.stage:
            self.progress.start(stage, total)
            self.stage = stage
        self.progress.advance(done)
        if done == total:
            self.progress.finish()
            self.stage = ""
