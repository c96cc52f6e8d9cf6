"""How an SAE is made random: one file per baseline, co-training, L0 matching."""

from .architecture import ARCHITECTURES, Shape, new_sae, recipe_options
from .baseline import Baseline, Control
from .calibration import calibrate_l0, fit_scale, measure_sparsity
from .inference import to_inference
from .interface import AnySAE
from .learner import Learner, new_learner
from .moments import Moments, measure_moments, random_directions
from .oracle import Oracle
from .registry import CONTROLS, baseline_classes, parse_arm
from .schedule import Schedule
from .sparse_learner import SparseLearner, sparse_learner
from .training import train_together

__all__ = [
    "ARCHITECTURES",
    "CONTROLS",
    "AnySAE",
    "Baseline",
    "Control",
    "Learner",
    "Moments",
    "Oracle",
    "Schedule",
    "Shape",
    "SparseLearner",
    "baseline_classes",
    "calibrate_l0",
    "fit_scale",
    "measure_moments",
    "measure_sparsity",
    "new_learner",
    "new_sae",
    "parse_arm",
    "random_directions",
    "recipe_options",
    "sparse_learner",
    "to_inference",
    "train_together",
]
