"""The judges of a check: made from its settings before anything is computed, so that a slip costs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Settings
from .errors import UsageError
from .progress import Progress

if TYPE_CHECKING:
    from ..suites.judges.budget import Budget, Spent
    from ..suites.judges.judge import Judge
    from ..suites.suite import Judging

JUDGED = ("autointerp",)
"""Suites that ask a judge."""
ANSWERS = "answers.sqlite"
"""File of the kept answers in a results folder."""
KEY, SECOND_KEY = "OPENAI_API_KEY", "SECOND_JUDGE_API_KEY"
"""Variables in which the keys are: of the judge, and of the second one where it has another server."""


@dataclass(frozen=True)
class Limits:
    """What a command may spend on its judges; it decides when a run stops, never its numbers."""

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

    def spent(self) -> Spent:
        """A count from zero that knows these limits.

        Raises:
            UsageError: as `budget`.
        """
        from ..suites.judges.budget import Spent

        return Spent(self.budget())


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
    """Refuse what cannot be asked, before anything is computed or written.

    Raises:
        UsageError: for a suite without a judge, a judge without its package or key, an address with a secret in it, or
            one to which a key would go in clear text.
    """
    for asked in _asked(settings):
        _check_address(asked)  # asked or not: settings are written down
    if not asks_judge(settings):
        return
    if not settings.judge:
        raise UsageError(
            "judge is not set, and autointerp needs one: --judge MODEL with --judge-url URL for a server, "
            "--judge local for a small one on this machine, or --judge token_statistics for a scorer that is no LLM"
        )
    for asked in _asked(settings):
        _check_asked(asked)
    if len(set(_asked(settings))) < len(_asked(settings)):
        raise UsageError(f"second_judge is {settings.second_judge!r} at the address of judge: it would agree by itself")
    _check_packages()


@dataclass(frozen=True)
class _Asked:
    """A judge as the settings name it."""

    model: str
    url: str
    setting: str = field(compare=False)
    """Name of its setting; `_url` behind it is that of its address."""
    from_file: bool = field(compare=False)
    """Whether its address was read in a file."""
    keys: tuple[str, ...] = field(compare=False)
    """Variables that may hold its key; the first that does counts."""

    def is_server(self) -> bool:
        """Whether it is a model that a server has, and none of the judges with a name."""
        from ..suites.judges.registry import judge_points

        return self.model not in judge_points()

    def key_variable(self) -> str | None:
        """Variable whose value is sent, set or not; None to send none.

        A file may come with a folder that somebody else has made. Its address gets no key, unless it is OpenAI's: by a
        flag or a variable a user has said that it may.
        """
        from ..suites.judges.address import is_openai

        if self.url and self.from_file and not is_openai(self.url):
            return None
        return next((name for name in self.keys if os.environ.get(name)), self.keys[0])


def _asked(settings: Settings) -> list[_Asked]:
    """The judges of a check: the judge, and the second one if there is one."""
    s, from_file = settings, settings.from_file
    first = _Asked(s.judge, s.judge_url, "judge", "judge_url" in from_file, (KEY,))
    if not s.second_judge:
        return [first]
    # The first one's key is for its server, and for OpenAI's: another server has not been trusted with it.
    keys = (SECOND_KEY, KEY) if s.second_judge_url in ("", s.judge_url) else (SECOND_KEY,)
    second = _Asked(s.second_judge, s.second_judge_url, "second_judge", "second_judge_url" in from_file, keys)
    return [first, second]


def _check_address(asked: _Asked) -> None:
    from ..suites.judges.address import checked_url

    if asked.url:
        try:
            checked_url(asked.url, f"{asked.setting}_url")
        except ValueError as error:
            raise UsageError(str(error)) from None


def _check_asked(asked: _Asked) -> None:
    from ..suites.judges.address import in_clear_text

    name, variable = f"{asked.setting}_url", asked.key_variable() if asked.url else None
    if not asked.is_server():
        if asked.url:
            raise UsageError(f"{name} is set, but {asked.setting} is {asked.model!r}, which has no address")
        return
    if variable and os.environ.get(variable) and in_clear_text(asked.url):
        raise UsageError(f"{name} is plain http, and {variable} would go there in clear text; use https, or unset it")
    if not asked.url and not any(os.environ.get(each) for each in asked.keys):
        raise UsageError(f"{asked.setting} is {asked.model!r}, but neither {asked.keys[0]} nor {name} is set")


def _check_packages() -> None:
    try:
        import sae_bench.evals.autointerp.main  # noqa: F401
    except ImportError:
        raise UsageError("autointerp asks by SAEBench's prompts; pip install 'sae-sanity[saebench]'") from None


@contextmanager
def judging(settings: Settings, folder: Path, spent: Spent, progress: Progress) -> Iterator[Judging | None]:
    """Make the judges of a check, and let them go; None where no suite asks one.

    Raises:
        UsageError: for a judge that cannot be made.
    """
    if not asks_judge(settings):
        yield None
        return
    from ..suites.judges.answers import AnswerStore
    from ..suites.suite import Judging

    with ExitStack() as stack:
        judges = [stack.enter_context(closing(_made(asked))) for asked in _asked(settings)]
        try:
            store = stack.enter_context(closing(AnswerStore(folder / ANSWERS)))
        except ValueError as error:
            raise UsageError(str(error)) from None
        second = judges[1] if len(judges) > 1 else None
        yield Judging(judges[0], store, spent, _Stages(progress), second, settings.second_share)


def _made(asked: _Asked) -> Judge:
    from ..suites.judges.judge import JudgeUnavailable
    from ..suites.judges.registry import make_judge

    options = {"key_variable": asked.key_variable()} if asked.is_server() else {}
    try:
        return make_judge(asked.model, asked.url or None, **options)
    except (JudgeUnavailable, ValueError) as error:
        raise UsageError(str(error)) from None


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
