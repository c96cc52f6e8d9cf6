"""A process of a Ray cluster that loads the site of a check once and measures the cells that it is named."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...results.store import StoreError
from ...suites.suite import NotMeasurable
from ..errors import USERS_TO_MEND, UsageError

if TYPE_CHECKING:
    from ...baselines.wrap import Artefact
    from ..config import Settings
    from ..plan import ArmSeed, Plan
    from ..progress import Progress
    from ..subject import Subject
    from .executor import Bench, Cell, Found


@dataclass(frozen=True)
class Blueprint:
    """What a worker makes its site and suites from: small, and nothing secret is in it."""

    plan: Plan
    """Settings and arms."""
    suites: tuple[str, ...]
    """Suites whose cells are measured by workers."""
    recipe: Callable[[Settings, Path, Progress], Subject] | None
    """Makes the subject of a recipe; None where the SAE under test exists already."""
    artefact: Artefact | None
    """The SAE under test where it exists already."""
    results: Path
    """Results folder, on a path that every node has."""
    cache: Path
    """Folder of converted models and activations; a node that has none computes its own."""
    threads: int
    """Threads of torch: the last digits of a sum depend on them."""
    versions: dict[str, str]
    """Packages of the coordinator, which must be the worker's too."""


@dataclass(frozen=True)
class Refusal:
    """An error that a user can mend, as a value: Ray would wrap it in its own."""

    reason: str
    """One line."""
    suite: str = ""
    """The suite that cannot measure here; empty where everything has to stop."""


class Worker:
    """Lives as long as the run, or until its process or node dies."""

    def __init__(self) -> None:
        """Take the place; `load` does the work, so that its errors come back as values."""
        self.bench: Bench | None = None
        self.cells: dict[str, Cell] = {}

    def load(self, blueprint: Blueprint) -> Refusal | None:
        """Make the site and the suites as the coordinator did; None where all is well."""
        import torch

        from ..record import versions

        torch.set_num_threads(blueprint.threads)
        here = versions()
        for name, wanted in blueprint.versions.items():
            if here.get(name) != wanted:
                return self._refusal(f"{name} is {here.get(name)}, but {wanted} where the check was started")
        if not (blueprint.results / "store.json").is_file():
            return self._refusal(f"there is no {blueprint.results}; results must be on a path that all nodes share")
        try:
            self._make(blueprint)
        except (UsageError, StoreError, ValueError, OSError) as error:
            return self._refusal(str(error))
        return None

    def measure(self, suite: str, sae: ArmSeed, key: str) -> Found | Refusal:
        """Measure one cell; its key is computed here again, so that nothing else can be measured in its place."""
        assert self.bench is not None  # noqa: S101
        cell = self.cells.get(key)
        if cell is None:
            what = f"{suite} of {sae.arm} seed {sae.seed} has another content key"
            return self._refusal(f"{what}: results folder, language model or device are not the same there")
        try:
            return self.bench.measure(cell)
        except NotMeasurable as error:
            return Refusal(str(error), suite)
        except (UsageError, StoreError) as error:
            return self._refusal(str(error))
        except OSError as error:
            if error.errno not in USERS_TO_MEND:
                raise
            return self._refusal(f"cannot write {error.filename or 'the cache or results folder'}: {error.strerror}")

    def _make(self, blueprint: Blueprint) -> None:
        from ..measures import make_suites
        from ..progress import Silent
        from ..run import Runner

        settings = blueprint.plan.settings
        subject = _subject(blueprint, settings, Silent())
        suites = make_suites(settings.model_copy(update={"suites": blueprint.suites}), subject)
        runner = Runner(blueprint.plan, subject, suites, blueprint.results, Silent())
        _ = runner.maker  # it makes SAEs again that SAELens could not save
        self.bench = runner.bench
        self.cells = {cell.key: cell for cell in runner.cells()}

    def _refusal(self, reason: str) -> Refusal:
        return Refusal(f"Ray worker on {platform.node()}: {reason}")


def _subject(blueprint: Blueprint, settings: Settings, progress: Progress) -> Subject:
    from ..subject import released

    if blueprint.recipe is not None:
        return blueprint.recipe(settings, blueprint.cache, progress)
    assert blueprint.artefact is not None  # noqa: S101
    return released(settings, blueprint.artefact, blueprint.cache, progress)
