"""What a check concludes, as data: one pydantic model per table of the report, for terminal and JSON alike."""

from __future__ import annotations

from typing import Literal

from .comparison import ClusterDifference, Comparison, Estimate, Verdict
from .decision import Decision, LockStatus, RunComparison
from .frozen import Frozen
from .hard_probing import Gain
from .latents_seen import SideBySide
from .synthetic_detail import SyntheticDetail

__all__ = [
    "ArmSummary",
    "CheckReport",
    "ClusterDifference",
    "Comparison",
    "Estimate",
    "GateCheck",
    "Manifest",
    "RecipeClaim",
    "Skip",
    "SuiteResult",
    "Verdict",
]

SCHEMA_VERSION = 1


class ArmSummary(Frozen):
    """One line of a suite's table."""

    arm: str
    """Name of the arm."""
    role: Literal["trained", "recipe", "baseline", "control", "floor", "ceiling", "chance"]
    """What the arm is for."""
    seeds: int
    """Seeds measured."""
    score: float
    """Mean over clusters, then seeds, of the primary metric; where items are sampled, over SAEs of the mean
    standardised to the trained SAE's frequencies."""
    seed_sd: float | None
    """Standard deviation of the seed means; null with one seed. Where seeds are starts nested in worlds: that of the
    world means, or of starts inside a world if that is larger."""
    normalised: float | None
    """(score − floor) / (ceiling − floor)."""
    secondary: dict[str, float]
    """Means of the other metrics."""
    l0: float | None
    """Mean number of active latents per token on held-out text; null for a reference."""
    dead_share: float | None
    """Share of latents that never fire on the held-out text."""
    matched: bool | None
    """Whether every seed's L0 is within 5 % of the target."""
    note: str = ""
    """What a reader must know of this arm."""


class GateCheck(Frozen):
    """One question of the assay gate (METHOD section 4)."""

    name: str
    """`range`, `controls`, `seeds` or `off_floor`; with a judge also `judge` and `complete`."""
    passed: bool
    """Whether the assay passes."""
    detail: str
    """One line with the numbers."""


class RecipeClaim(Frozen):
    """What a suite says of the way of training, beside what it says of a released SAE (METHOD sections 2 and 5.7).

    Judged on SAEs of the same recipe, trained on the very tokens that the baselines had: a released SAE that beats
    them may owe that to more tokens.
    """

    arm: str
    """Name of the arm that stands for the recipe."""
    verdict: Verdict
    """An intersection over `comparisons`, as for the SAE itself."""
    reason: str
    """One sentence saying why."""
    p: float | None
    """Intersection-union p."""
    p_holm: float | None
    """`p` adjusted by Holm over the recipes of all suites and SAEs."""
    comparisons: tuple[Comparison, ...]
    """The arm against each required baseline."""


class SuiteResult(Frozen):
    """Everything one suite says."""

    subject: str = ""
    """The SAE, where a check has several; else empty."""
    suite: str
    """Name of the suite."""
    metric: str
    """Primary metric, fixed before the run."""
    votes: bool = True
    """Whether the verdict of the check needs BEATS here; False where the policy requires other suites."""
    verdict: Verdict
    """The suite's verdict: an intersection over its required comparisons."""
    reason: str
    """One sentence saying why."""
    p: float | None
    """Intersection-union p: the largest p over the required comparisons."""
    p_holm: float | None
    """`p` adjusted over the suites by Holm."""
    unit: str
    """What an item and a cluster are, in words."""
    note: str
    """What a reader must know to judge this suite."""
    floor: float | None
    """Score of the floor: a random dictionary."""
    chance: float | None
    """Score with no information at all."""
    ceiling: float | None
    """Score of the ceiling."""
    arms: tuple[ArmSummary, ...]
    """Trained, baselines, controls, references."""
    comparisons: tuple[Comparison, ...]
    """Trained against each arm on the primary metric."""
    recipe: RecipeClaim | None = None
    """The same question of the recipe; null where the trained arm is the recipe itself."""
    exploratory: tuple[Comparison, ...]
    """Other metrics; BH-adjusted, carry no verdict of the suite."""
    gate: tuple[GateCheck, ...]
    """Whether the assay could have told."""
    detail: SyntheticDetail | None = None
    """What only a known ground truth shows: recovery by firing rate, cosines, ceilings; null for the other suites."""
    gains: tuple[Gain, ...] = ()
    """What SAEs add to a quiver of probes, by regime and by its levels; empty for every suite but `hard_probing`."""

    @property
    def label(self) -> str:
        """Suite, with its SAE where a check has several."""
        return f"{self.subject}: {self.suite}" if self.subject else self.suite


class Skip(Frozen):
    """Something that was not measured, and why."""

    what: str
    """Suite, arm or cell."""
    reason: str
    """Why."""


class Manifest(Frozen):
    """What another person needs to get the same numbers."""

    command: str
    """The command line that reproduces the run."""
    config_hash: str
    """Hash of everything that decides the numbers, margins and decision rule included."""
    settings: dict[str, str | int | float | bool | list[str] | list[float] | list[int] | None]
    """The resolved settings."""
    versions: dict[str, str]
    """Versions of Python and the packages that compute."""
    hashes: dict[str, str]
    """sha256 of the model file, the texts, the trained weights."""
    notes: tuple[str, ...] = ()
    """What was excluded or recalibrated, with counts."""
    recipe: dict[str, str] = {}  # noqa: RUF012 (pydantic copies a default)
    """What is known of how a given SAE was made, and from where; what the check used instead where it differs."""


class CheckReport(Frozen):
    """The whole answer of one check."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    target: str
    """What was checked."""
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
    """PASS: every suite BEATS. FAIL: a suite concluded that trained does not. Else INVALID before INCONCLUSIVE."""
    exit_code: Literal[0, 1, 3, 4]
    """0 PASS, 1 FAIL, 3 INCONCLUSIVE, 4 INVALID or incomplete."""
    headline: str
    """The verdict in one sentence."""
    claim: Literal["artefact", "recipe"]
    """What the verdict is about."""
    recipe: Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"] | None = None
    """The same for the recipe of a given SAE; null where the verdict itself is about a recipe or none was retrained."""
    suites: tuple[SuiteResult, ...]
    """One entry per suite."""
    skipped: tuple[Skip, ...]
    """What was not measured."""
    advice: tuple[str, ...]
    """What would change the verdict."""
    manifest: Manifest
    """How to reproduce."""
    decision: Decision = Decision()
    """What the policy makes of it."""
    lock: LockStatus | None = None
    """The plan that was registered before the run, and where the run departed from it; null without one."""
    since: RunComparison | None = None
    """The same SAE against that of an earlier run; null without one."""
    latents: tuple[SideBySide, ...] = ()
    """Latents of all arms side by side, a few at random and the most different; empty where no judge was asked."""
