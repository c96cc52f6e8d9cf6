"""A small frame of scores with a known answer, and the design that judges it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from sae_sanity.results.design import ArmFacts, Design, SuiteDesign
from sae_sanity.results.scores import COLUMNS

SUITE = SuiteDesign(
    suite="probing",
    metric="accuracy",
    margin=0.02,
    unit="dataset in family",
    required=("random", "frozen_encoder@iso"),
    shown=("frozen_decoder@iso",),
    controls=("permuted_encoder", "permuted_decoder"),
    must_lose=("permuted_encoder",),
    must_equal=("permuted_decoder",),
    chance="shuffled_labels",
    ceiling="dense_probe",
    exploratory=("auc",),
)
LEVELS = {
    "random": 0.6,
    "frozen_encoder@iso": 0.62,
    "frozen_decoder@iso": 0.68,
    "permuted_encoder": 0.55,
    "@shuffled_labels": 0.5,
    "@dense_probe": 0.9,
}
CLUSTERS, ITEMS, SEEDS = 12, 3, 5


def scores(trained=0.7, *, trained_seeds=1, seeds=SEEDS, clusters=CLUSTERS, suite="probing", rng=0, **levels):
    """Score rows. `levels` overrides the mean of an arm, by its name with other signs as underscores."""
    generator = np.random.default_rng(rng)
    base = generator.normal(0, 0.05, (clusters, ITEMS))
    plain = {name.translate(str.maketrans("@", "_")): name for name in LEVELS}
    means = LEVELS | {plain[name]: value for name, value in levels.items()}
    one_seed = {"permuted_encoder"} | {name for name in LEVELS if name.startswith("@")}
    tables = {"trained": _arm(generator, base, trained, trained_seeds)}
    tables |= {name: _arm(generator, base, m, 1 if name in one_seed else seeds) for name, m in means.items()}
    tables["permuted_decoder"] = tables["trained"][..., :1]
    return pd.concat([_rows(suite, name, table) for name, table in tables.items()], ignore_index=True)


def design(*suites, facts=(), **changes):
    return Design(suites=tuple(suites) or (replace(SUITE, **changes),), facts=tuple(facts))


def facts(frame, *, off=()):
    """Matched L0 for every arm and seed but those in `off`."""
    pairs = frame[["arm", "seed"]].drop_duplicates().itertuples(index=False)
    return [ArmFacts(arm, int(seed), 30.0 if arm in off else 20.0, 20.0, 0.1) for arm, seed in pairs if arm[0] != "@"]


def _arm(generator, base, mean, seeds):
    shift = generator.normal(0, 0.003, seeds) if seeds > 1 else np.zeros(1)
    return base[..., None] + mean + shift + generator.normal(0, 0.01, (*base.shape, seeds))


def _rows(suite, arm, table):
    return pd.DataFrame(
        [
            (suite, metric, f"i{i}", f"c{c:02d}", arm, s, float(value) / (1 if metric == "accuracy" else 2))
            for metric in ("accuracy", "auc")
            for (c, i, s), value in np.ndenumerate(table)
        ],
        columns=list(COLUMNS),
    )
