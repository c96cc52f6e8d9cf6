"""Statistics of METHOD section 5 that neither scipy nor statsmodels has whole. Pure functions of arrays."""

from .anytime import Anytime, anytime
from .components import Components
from .crossed import Claim, CrossedT, crossed_t, paired_t
from .effect import d_z, rank_superiority, superiority
from .equivalence import tost
from .matrix import ArmScores, arm_scores, mismatch, stratified
from .multiple import benjamini_hochberg, holm
from .permutation import sign_flip, wilcoxon
from .power import clusters_needed, mde, seeds_needed
from .two_sample import (
    Latents,
    SaeMean,
    TwoSample,
    common_weights,
    label_permutation,
    mean_above,
    standardise,
    two_sample,
)

__all__ = [
    "Anytime",
    "ArmScores",
    "Claim",
    "Components",
    "CrossedT",
    "Latents",
    "SaeMean",
    "TwoSample",
    "anytime",
    "arm_scores",
    "benjamini_hochberg",
    "clusters_needed",
    "common_weights",
    "crossed_t",
    "d_z",
    "holm",
    "label_permutation",
    "mde",
    "mean_above",
    "mismatch",
    "paired_t",
    "rank_superiority",
    "seeds_needed",
    "sign_flip",
    "standardise",
    "stratified",
    "superiority",
    "tost",
    "two_sample",
    "wilcoxon",
]
