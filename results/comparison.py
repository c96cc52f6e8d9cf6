"""One comparison as data: trained against one arm, in numbers and a verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from .frozen import Frozen


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


class ClusterDifference(Frozen):
    """What one cluster says of a comparison: a point of the paired-difference plot."""

    cluster: str
    """Name of the cluster."""
    difference: float
    """Trained − baseline, both averaged over seeds, in score units."""


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
    clusters: tuple[ClusterDifference, ...] = ()
    """What every cluster says, in their order; empty where nothing is paired and for an exploratory comparison."""
