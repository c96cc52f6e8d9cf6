"""Score rows as the synthetic suite would give them: worlds with known rates, arms that recover what fires often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sae_sanity.results.design import ArmFacts, Design, SuiteDesign
from sae_sanity.results.scores import COLUMNS

SUITE = SuiteDesign(
    suite="synthetic",
    metric="matched_cosine",
    margin=0.05,
    unit="an item is a true feature, a cluster is a world",
    required=("frozen_decoder@iso", "frozen_encoder@iso", "random"),
    shown=("soft_frozen@0.8",),
    must_lose=("permuted_decoder",),
    must_equal=("permuted_decoder",),
    chance="mean_direction",
    ceiling="oracle",
    exploratory=("explained_variance",),
    nested=True,
    control_metric="explained_variance",
)
LOW, HIGH = -5.5, -1.2
CHANCE_COSINE, CHANCE_SD = 0.348, 0.029


@dataclass(frozen=True)
class Fake:
    """How one arm behaves."""

    ev: float
    knee: float = 9.0
    """log10 firing rate at which half of the features are recovered; 9: none is."""
    cap: float = 0.0
    """Cosine that every feature reaches at least (a soft cap)."""
    starts: int = 1
    l0: float = 20.0
    top: float = 0.93
    """Cosine of a recovered feature."""


ARMS = {
    "trained": Fake(0.706, -1.9, starts=1),
    "frozen_decoder@iso": Fake(0.655),
    "soft_frozen@0.8": Fake(0.701, -1.6, cap=0.52),
    "frozen_encoder@iso": Fake(0.668, -1.35),
    "random": Fake(0.604, starts=5),
    "permuted_decoder": Fake(-0.21, -1.9),
    "@oracle": Fake(0.752, -99.0, top=1.0),
    "@chance": Fake(0.604),
    "@mean_direction": Fake(0.0, l0=0.0),
}


def rows(*, worlds=3, n_features=3200, arms=None, constant=False, seed=0, world_sd=0.004, start_sd=0.002):
    """A frame of score rows of one run."""
    made, first = [], 101
    for world in range(first, first + worlds):
        rng = np.random.default_rng([seed, world])
        rates = np.full(n_features, 0.00625) if constant else 10.0 ** rng.uniform(LOW, HIGH, n_features)
        luck = rng.normal(0, world_sd)
        made.append(_frame(world, "@world", 0, {"firing_rate": rates}))
        for name, fake in (arms or ARMS).items():
            # A permuted decoder has the rows of the trained one.
            stream = np.random.default_rng([seed, world, list(ARMS).index(name.replace("permuted_decoder", "trained"))])
            for start in range(fake.starts):
                shift = luck + stream.normal(0, start_sd)
                made.append(_frame(world, name, start, _metrics(stream, rates, fake, name, shift)))
    return pd.concat(made, ignore_index=True)


def facts(frame, *, off=()):
    """L0 of every arm, world and start but the references."""
    saes = frame.loc[~frame["arm"].str.startswith("@"), ["arm", "seed", "cluster"]].drop_duplicates()
    return tuple(
        ArmFacts(arm, int(seed), 30.0 if (arm, cluster) in off else 20.0, 20.0, 0.01, cluster=cluster)
        for arm, seed, cluster in saes.itertuples(index=False)
    )


def design(frame=None, **changes):
    from dataclasses import replace

    return Design(suites=(replace(SUITE, **changes),), facts=() if frame is None else facts(frame))


def _metrics(rng, rates, fake, name, shift):
    n = len(rates)
    chance = rng.normal(CHANCE_COSINE, CHANCE_SD, n)
    if name == "@mean_direction":
        chance = rng.normal(0.0, 0.1, n)
    best = np.maximum(chance, rng.normal(fake.cap, 0.03, n) if fake.cap else chance)
    found = rng.random(n) < 1 / (1 + np.exp(-6 * (np.log10(rates) - fake.knee + 10 * shift)))
    top = np.ones(n) if fake.top == 1 else np.clip(rng.normal(fake.top, 0.03, n), 0, 0.999)
    best = np.where(found, top, best)
    matched = np.where(found & (rng.random(n) < 0.97), best, best - 0.04)
    if fake.top == 1:
        matched = best
    precision, recall = np.where(found, 0.9, 0.05), np.where(found, 0.85, 0.1)
    per_feature = {"best_cosine": best, "matched_cosine": matched}
    per_feature |= {f"recovered_{c}": (best > c).astype(float) for c in (0.8, 0.9)}
    per_feature |= {f"matched_{c}": (matched > c).astype(float) for c in (0.8, 0.9)}
    per_feature |= {
        "firing_precision": precision,
        "firing_recall": recall,
        "firing_f1": 2 * precision * recall / (precision + recall),
    }
    ev = fake.ev + (0 if name == "@mean_direction" else shift)
    whole = {"explained_variance": ev, "l0": fake.l0, "dead_share": 0.0125, "uniqueness": float(found.mean()) + 0.3}
    whole |= {"weighted_recovery_0.8": float((rates * (best > 0.8)).sum() / rates.sum()), "mcc": float(matched.mean())}
    if name in ("@oracle", "@chance"):
        ls, omp = (0.760, 0.939) if name == "@oracle" else (0.663, 0.904)
        whole |= {"explained_variance_ls": ls + shift, "explained_variance_omp": omp + shift}
    return per_feature | {key: np.array([value]) for key, value in whole.items()}


def _frame(world, arm, start, metrics):
    frames = []
    for metric, values in metrics.items():
        items = [f"{world}/{i:05d}" for i in range(len(values))] if len(values) > 1 else [f"world-{world}"]
        frames.append(
            pd.DataFrame(
                {
                    "suite": "synthetic",
                    "metric": metric,
                    "item": items,
                    "cluster": f"world-{world}",
                    "arm": arm,
                    "seed": start,
                    "value": values,
                },
                columns=list(COLUMNS),
            )
        )
    return pd.concat(frames, ignore_index=True)
