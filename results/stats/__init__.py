"""Statistics of METHOD section 5 that neither scipy nor statsmodels has whole. Pure functions of arrays."""

from .components import Components
from .crossed import Claim, CrossedT, crossed_t, paired_t
from .effect import d_z, superiority
from .equivalence import tost
from .matrix import ArmScores, arm_scores, mismatch
from .multiple import benjamini_hochberg, holm
from .permutation import sign_flip, wilcoxon
from .power import clusters_needed, mde, seeds_needed

__all__ = [
    "ArmScores",
    "Claim",
    "Components",
    "CrossedT",
    "arm_scores",
    "benjamini_hochberg",
    "clusters_needed",
    "crossed_t",
    "d_z",
    "holm",
    "mde",
    "mismatch",
    "paired_t",
    "seeds_needed",
    "sign_flip",
    "superiority",
    "tost",
    "wilcoxon",
]
