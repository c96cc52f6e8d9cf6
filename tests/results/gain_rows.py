"""Rows of the suite `hard_probing` from a generator of random numbers, and what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sae_sanity.results.analysis import analyse
from sae_sanity.results.design import Design, SuiteDesign
from sae_sanity.results.hard_probing import with_gains
from sae_sanity.results.scores import COLUMNS

CONDITIONS = ("standard 0", "scarcity 15", "scarcity 56", "noise 0.3")
ARMS = {"trained": (0, 1), "random": (0, 1, 2), "@clean_probe": (0,), "@dense_quiver": (0,)}


def made(families=5, seed=0, conditions=CONDITIONS):
    """Two datasets of each family under every condition, for every arm and seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for arm, seeds in ARMS.items():
        for arm_seed in seeds:
            for family in range(families):
                for name in range(2):
                    for condition in conditions:
                        item, gain = f"{name}_f{family} {condition} seed 42", rng.normal(0.01, 0.02)
                        gain = gain if rng.random() < 0.5 else 0.0
                        key = (item, f"f{family}", arm, arm_seed)
                        rows.append(("hard_probing", "quiver_gain", *key, gain))
                        rows.append(("hard_probing", f"gain_{condition.split()[0]}", *key, gain))
                        if not arm.startswith("@"):
                            rows.append(("hard_probing", "chosen", *key, float(gain != 0)))
    rows.append(("hard_probing", "precision_at_n", "87_glue_cola errors 0.1 seed 42", "cola", "trained", 0, 0.3))
    item = "110_aimade_humangpt3 last character seed 42"
    rows.append(("hard_probing", "spurious_at_n", item, "aimade", "trained", 0, 0.4))
    rows.append(("sparse_probing", "auc_k5", "x", "f0", "trained", 0, 0.9))
    return pd.DataFrame(rows, columns=list(COLUMNS))


DESIGN = Design(
    suites=(
        SuiteDesign(
            suite="hard_probing",
            metric="quiver_gain",
            margin=0.01,
            unit="item",
            required=("random",),
            ceiling="@clean_probe",
        ),
    )
)


def judged(scores):
    """The suite's result with everything that a report shows of it."""
    (result,) = analyse(scores, DESIGN)
    return with_gains(result, scores)
