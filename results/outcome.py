"""What a check concludes, as data: one pydantic model per table of the report, for terminal and JSON alike."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from .frozen import Frozen
from .synthetic_detail import SyntheticDetail

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """The six verdicts of METHOD section 5."""

    BEATS = "BEATS"
    NEGLIGIBLE = "NEGLIGIBLE"
    EQUIVALENT = "EQUIVALENT"
    WORSE = "WORSE"
    INCONCLUSIVE = "INCONCLUSIVE"
    INVALID = "INVALID"


class Estimate(Frozen):
    """One comparison in numbers (METHOD section 5, 1-5).

    Where items are sampled from each SAE (`Comparison.sampled`) nothing is paired: the interval is Welch's over SAEs,
    and clusters are the latents of one SAE.
    """

    difference: float
    """Mean over clusters of trained − baseline, in score units; sampled: of the frequency-standardised SAE means."""
    lo: float | None
    """Lower end of the 90 % crossed-t interval (sampled: Welch's); null when the seed variance is unknown (one
    baseline seed)."""
    hi: float | None
    """Upper end of the 90 % interval."""
    standard_error: float | None
    """Square root of the crossed (two-way random) variance of the difference; sampled: of Welch's."""
    df: float | None
    """Satterthwaite degrees of freedom."""
    p_crossed: float | None
    """One-sided p of the crossed t (H0: difference <= 0); sampled: of Welch's t."""
    p_signflip: float | None
    """One-sided sign-flip permutation p over clusters, seeds taken as fixed. Sampled: permutation of the labels of the
    SAEs; null for a given SAE, which has no label to exchange."""
    p_wilcoxon: float | None
    """One-sided Wilcoxon signed-rank p over cluster means (the Demšar line); null where nothing is paired."""
    p_tost: float | None
    """TOST p: the larger of the two one-sided p values against −margin and +margin."""
    d_z: float | None
    """Mean over standard deviation of the cluster differences; null where the deviation is 0 or nothing is paired."""
    superiority: float
    """Share of clusters in which trained is higher; ties count half. Sampled: probability that a latent of a trained
    SAE is above one of a baseline SAE, the median over pairs of SAEs."""
    p_superiority: float | None = None
    """Sampled: TOST p that this probability lies in [.45, .55], the median over pairs of SAEs; else null."""
    mde: float | None
    """Smallest true difference found with 80 % power by the one-sided 5 % test at this n and these seeds."""
    clusters_needed: int | None
    """Clusters at which the MDE reaches the margin, seeds as they are; null where no number does. Sampled: latents of
    each SAE."""
    seeds_needed: int | None
    """Baseline seeds at which the MDE reaches the margin, clusters as they are; null where no number does."""
    n_clusters: int
    """Clusters that were paired; sampled: latents of one SAE, on average."""
    n_trained: int
    """Trained seeds."""
    n_baseline: int
    """Baseline seeds."""


class Comparison(Frozen):
    """Trained against one arm, on one metric of one suite."""

    metric: str
    """The metric compared."""
    baseline: str
    """The arm that trained is compared with."""
    required: bool
    """Whether the suite's verdict needs BEATS here (the arm is a null for what this suite reads)."""
    claim: Literal["artefact", "recipe"]
    """`artefact`: the trained SAEs at hand; `recipe`: this way of training (3 or more trained seeds)."""
    margin: float
    """Equivalence margin delta, fixed before the run."""
    verdict: Verdict
    """The verdict of this comparison."""
    estimate: Estimate | None
    """Null where the comparison could not be made."""
    p_adjusted: float | None = None
    """Benjamini-Hochberg adjusted p of an exploratory comparison; null for a required one."""
    nested: bool = False
    """Whether seeds are starts nested in clusters: clusters are then worlds, the replicates of the recipe."""
    sampled: bool = False
    """Whether items are drawn anew from each SAE: latents, which are no pairs."""
    anytime: bool = False
    """Whether latents were asked about step by step until a verdict was there: interval and p are then anytime-valid,
    `standard_error` and `df` are of the luck of the seeds alone, and `n_clusters` are steps."""
    reason: str = ""
    """Why there is no ordinary verdict: unmatched L0, one seed, missing rows."""


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
