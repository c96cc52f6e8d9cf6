"""What a suite is, and which suites there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from .points import by_name

if TYPE_CHECKING:
    import numpy as np
    from sae_lens.saes.sae import SAE

    from ..results.outcome import Skip
    from ..results.scores import Row
    from .judges.answers import AnswerStore
    from .judges.budget import Spent
    from .judges.judge import Judge
    from .site import Site
    from .texts import TextSet

GROUP = "sae_sanity.suites"
"""Entry point group by which another package adds a suite: name = suite, value = `module:class`."""

BUILT_IN = (
    EntryPoint("reconstruction", f"{__package__}.reconstruction:Reconstruction", GROUP),
    EntryPoint("sparse_probing", f"{__package__}.sparse_probing:SparseProbing", GROUP),
    EntryPoint("hard_probing", f"{__package__}.hard_probing.suite:HardProbing", GROUP),
    EntryPoint("causal_editing", f"{__package__}.causal_editing.suite:CausalEditing", GROUP),
    EntryPoint("autointerp", f"{__package__}.autointerp.suite:AutoInterp", GROUP),
)
"""The suites of this package; entry points rather than imports, so that naming a suite does not load torch."""


class NotMeasurable(RuntimeError):  # noqa: N818  (a value in the report, named for what it is)
    """A suite cannot measure what it is for, here: one line that says why. The check goes on and reports it."""


@dataclass(frozen=True)
class Judging:
    """A judge, and everything around asking it."""

    judge: Judge
    """Who answers."""
    store: AnswerStore
    """Where answers are kept: what is in it is not asked again."""
    spent: Spent
    """What was spent, and what may be; nothing is asked beyond it."""
    told: Callable[[str, int, int], None] = lambda stage, done, total: None
    """Told of every stage, and of every answer."""
    second: Judge | None = None
    """Another judge that is asked some of the same, to see whether two agree; its answers enter no score."""
    second_share: float = 0.1
    """Share of the items that it is asked about."""


@dataclass(frozen=True)
class SuiteContext:
    """What a suite may be built from; it holds nothing about arms."""

    site: Site
    """Language model and hook."""
    held_out: TextSet
    """Documents that no arm was trained or calibrated on."""
    norm_cap: float | None
    """Norm above which a token is left out, the one that the training activations had."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the check by name; a suite reads those that it knows."""
    interpretation: tuple[TextSet, ...] = ()
    """Sets of documents that no arm was trained on, those on which thresholds were set among them: more than are held
    out. In a check the site has read them, with this norm cap."""
    judge: Judging | None = None
    """Who answers the questions of a suite that has some, and what it may cost."""


@runtime_checkable
class Suite(Protocol):
    """Measures one SAE at a time, and never learns which arm that SAE is.

    The same input gives the same rows, bit for bit on one machine: what is random comes from the `rng` argument
    or from a seed among the settings.
    """

    name: str
    """Name of the suite, as in `--suites`."""
    metric: str
    """Primary metric, fixed before the run."""
    metrics: tuple[str, ...]
    """Every metric in the rows, the primary one first."""
    exploratory: tuple[str, ...]
    """Further metrics to compare, without a verdict."""
    reads: Literal["encoder", "both"]
    """Which part of the SAE decides the rows; it decides which baselines are nulls (METHOD section 2)."""
    unit: str
    """What an item and a cluster are, in words."""
    margin: float
    """Equivalence margin of the primary metric, in score units."""
    note: str
    """What a reader must know to judge the scores."""
    floor: str
    """Arm whose mean is the zero of the normalised score."""
    chance: str
    """Reference that has no information, without `@`."""
    ceiling: str
    """Reference that bounds the score from above, without `@`."""
    version: int
    """Code version, part of the cell's key: raise it when a change alters the numbers."""

    @classmethod
    def build(cls, context: SuiteContext) -> Suite:
        """Make the suite for one check."""
        ...

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return how many clusters a check with these settings would have; `plan` asks before anything is loaded."""
        ...

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, JSON-able, for the cell's key."""
        ...

    def measure(self, sae: SAE[Any], site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure one SAE."""
        ...

    def references(self) -> tuple[str, ...]:
        """Return the names of what `measure_reference` can measure."""
        ...

    def measure_reference(self, name: str, site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure a floor or a ceiling that needs no SAE."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A suite with something to say of how it went, once it has measured."""

    def notes(self) -> tuple[str, ...]:
        """Return lines for the report."""
        ...


@runtime_checkable
class Skipping(Protocol):
    """A suite that may have to leave out single items, of every SAE or of one."""

    def skipped(self) -> tuple[Skip, ...]:
        """Return what the last SAE or reference was not measured on: item, and why, one row each."""
        ...


@runtime_checkable
class Checking(Protocol):
    """A suite that can say from the settings alone that it cannot run."""

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Refuse what cannot run, before anything is loaded.

        Raises:
            ValueError: in one line, with what would help.
        """
        ...


@dataclass(frozen=True)
class Together:
    """What a joint suite found, by the position of each SAE."""

    rows: tuple[list[Row], ...]
    """Rows of each SAE."""
    references: Mapping[str, list[Row]]
    """Rows of each reference."""
    seen: tuple[tuple[dict[str, Any], ...], ...] = ()
    """For people to look at: JSON-able records of each SAE."""
    notes: tuple[str, ...] = ()
    """What a reader must know of how it went."""


@runtime_checkable
class JointSuite(Protocol):
    """A suite that has to see every SAE of a check before it can measure one, and still learns no arm.

    What it asks about is drawn fairly over all of them, and its questions go through one queue. In everything else it
    is a `Suite`, but that it has neither `measure` nor `measure_reference`.
    """

    def measure_together(
        self,
        saes: Sequence[Callable[[], SAE[Any]]],
        rng: np.random.Generator,
        decided: Callable[[Sequence[Sequence[float]]], bool] | None = None,
    ) -> Together:
        """Measure SAEs that are known by their position alone, each loaded when it is asked for.

        Args:
            saes: loads each.
            rng: decides what is random.
            decided: told the primary score of each step so far, of every SAE by position, it says whether that is
                enough; None where everything is to be measured.
        """
        ...


def suite_points() -> dict[str, EntryPoint]:
    """Entry points of all suites by name, none of them imported; the built-in ones first.

    Raises:
        ValueError: Two packages give suites of the same name.
    """
    return by_name("suite", (*BUILT_IN, *entry_points(group=GROUP)))


def suite_classes() -> dict[str, type[Suite]]:
    """Classes of all suites by name; this imports them.

    Raises:
        ValueError: Two packages give suites of the same name.
    """
    return {name: point.load() for name, point in suite_points().items()}
