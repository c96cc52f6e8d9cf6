"""The design of a comparison, fixed before any score exists: what is compared with what, by which margin."""

from __future__ import annotations

from dataclasses import dataclass, field

from .policy import Policy

ALPHA = 0.05
"""One-sided level of every test; the interval is 1 − 2·ALPHA."""

L0_TOLERANCE = 0.05
"""Largest relative L0 error at which an arm counts as matched (METHOD section 2)."""


@dataclass(frozen=True)
class SuiteDesign:
    """How one suite's rows are to be judged."""

    suite: str
    """Name of the suite."""
    metric: str
    """Primary metric."""
    margin: float
    """Equivalence margin delta of the primary metric, in score units."""
    unit: str
    """What an item and a cluster are, in words."""
    required: tuple[str, ...]
    """Arms that are nulls for what this suite reads: each must be beaten."""
    shown: tuple[str, ...] = ()
    """Further baselines, compared but not required."""
    controls: tuple[str, ...] = ()
    """Arms measured for the gate only."""
    must_lose: tuple[str, ...] = ()
    """Controls that must come out below trained, or the assay is INVALID."""
    must_equal: tuple[str, ...] = ()
    """Controls whose every row must equal the trained row of the same seed exactly."""
    floor: str = "random"
    """Arm whose mean is the floor (zero of the normalised score)."""
    chance: str = ""
    """Reference with no information; trained must be above it."""
    ceiling: str = ""
    """Reference that bounds the score from above."""
    note: str = ""
    """What a reader must know to judge this suite."""
    exploratory: tuple[str, ...] = ()
    """Other metrics to compare, without a verdict."""
    nested: bool = False
    """Whether seeds are nested in clusters: starts of one world. Start 0 of one world has nothing to do with start 0 of
    another, so worlds are the replicates of the recipe and starts are averaged inside them."""
    sampled: bool = False
    """Whether items are drawn anew from each SAE: latents. Items of different SAEs are then no pairs; SAEs are the
    replicates, standardised to the trained SAE's mix over clusters, which are strata of firing rate."""
    trials: bool = False
    """Whether each SAE is tried several times, with luck that is the trial's and not the SAE's: masks that are trained.
    A given SAE is then no better known than its trials agree; trials are named at the end of items (`scores.TRIAL`)."""
    strata: bool = False
    """Whether items lie in strata that count alike, named at the beginning of items (`scores.STRATUM`): attributes."""
    votes: bool = True
    """Whether the verdict of the check needs BEATS here; False where the policy requires other suites."""
    control_metric: str = ""
    """Metric in which `must_lose` controls must lose, where the primary one cannot tell; `must_equal` is then held in
    the primary metric alone. Empty: the primary metric and every metric."""


@dataclass(frozen=True)
class ArmFacts:
    """What is known of one arm and seed besides its scores."""

    arm: str
    """Name of the arm."""
    seed: int
    """Its seed."""
    l0: float
    """Mean active latents per token on held-out text."""
    target_l0: float
    """What L0 should be."""
    dead_share: float
    """Share of latents that never fire on the held-out text."""
    note: str = ""
    """What a reader must know, e.g. why L0 could not be matched."""
    cluster: str = ""
    """The world that the seed is a start of, where seeds are nested in clusters; else empty."""

    @property
    def matched(self) -> bool:
        """Whether L0 is within L0_TOLERANCE of the target."""
        return abs(self.l0 - self.target_l0) <= L0_TOLERANCE * self.target_l0


@dataclass(frozen=True)
class Design:
    """The design of a whole check."""

    suites: tuple[SuiteDesign, ...]
    """One per suite, in the order of the report."""
    trained: str = "trained"
    """Name of the arm under test."""
    recipe: str = ""
    """Arm that stands for the way of training, where the arm under test is a given SAE; else empty."""
    alpha: float = ALPHA
    """One-sided level."""
    facts: tuple[ArmFacts, ...] = field(default=())
    """L0, dead share of every arm and seed."""
    policy: Policy = field(default_factory=Policy)
    """What follows from the verdict."""
