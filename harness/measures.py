"""The suites of a check, made from its settings and its subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..results.synthetic import SUITE
from ..suites.suite import Checking, SuiteContext, suite_classes
from .config import Settings
from .errors import UsageError, unknown

if TYPE_CHECKING:
    from ..suites.suite import Judging, Suite
    from .subject import Subject


SYNTHETIC = SUITE
"""The suite that judges a recipe in worlds of its own: it needs no language model and measures no given SAE."""


def site_suites(settings: Settings) -> tuple[str, ...]:
    """Suites that measure SAEs on a language model, in the order of the settings."""
    return tuple(name for name in dict.fromkeys(settings.suites) if name != SYNTHETIC)


def check_suites(settings: Settings) -> None:
    """Refuse suites that do not exist, or cannot run.

    Raises:
        UsageError: naming the first of them, or for one that cannot run by these settings.
    """
    known: Mapping[str, object] = suite_classes()
    for name in site_suites(settings):
        if name not in known:
            raise unknown("suite", name, [*known, SYNTHETIC])
    for suite in map(known.get, site_suites(settings)):
        if isinstance(suite, Checking):
            try:
                suite.check(settings.model_dump())
            except ValueError as error:
                raise UsageError(str(error)) from None


def make_suites(settings: Settings, subject: Subject, judging: Judging | None = None) -> tuple[Suite, ...]:
    """Make the suites in the order of the settings.

    Args:
        settings: of the check.
        subject: what is measured on.
        judging: who answers the questions of suites that have some.
    """
    context = SuiteContext(
        site=subject.site,
        held_out=subject.held_out,
        interpretation=subject.interpretation,
        norm_cap=subject.train.norm_cap,
        options=settings.model_dump(),
        judge=judging,
    )
    known = suite_classes()
    return tuple(known[name].build(context) for name in site_suites(settings))
