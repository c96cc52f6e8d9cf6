"""Score rows as the AutoInterp suite would give them: latents of each SAE, strata of firing rate, a judge on trial."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sae_sanity.results.design import Design, SuiteDesign
from sae_sanity.results.scores import COLUMNS

SUITE = SuiteDesign(
    suite="autointerp",
    metric="detection",
    margin=0.02,
    unit="an item is a latent, a cluster is a stratum of firing rate",
    required=("random", "frozen_encoder@iso"),
    shown=("frozen_decoder@iso",),
    controls=("permuted_decoder",),
    must_equal=("permuted_decoder",),
    floor="none",
    chance="none",
    ceiling="planted",
    exploratory=("detection_saebench",),
    sampled=True,
)
BY_STRATUM = np.array([0.06, 0.0, -0.06])
"""What a stratum adds to the score of a latent, in every arm."""
MIXES = {"trained": (600, 300, 100)}
OTHER_MIX = (100, 300, 600)


TRIAL = {"shuffled": 0.5, "nothing": 0.5}


def rows(trained=0.75, *, trained_seeds=1, seeds=4, n=40, rng=0, judge=0.95, seed_sd=0.003, blank=TRIAL, **levels):
    """A frame of one run; `levels` gives the mean of an arm by its name before the @, `blank` where nothing is."""
    generator = np.random.default_rng(rng)
    arms = {"trained": (trained, trained_seeds)}
    for name in ("random", "frozen_encoder@iso", "frozen_decoder@iso"):
        arms[name] = (levels.get(name.split("@")[0], 0.65), seeds)
    made = [r for arm, (m, k) in arms.items() for s in range(k) for r in _sae(generator, arm, s, m, n, seed_sd)]
    made += [(*r[:3], "permuted_decoder", *r[4:]) for r in made if r[3] == "trained" and r[4] == 0]
    made += _trial(generator, judge, TRIAL | blank)
    return pd.DataFrame([("autointerp", *r) for r in made], columns=list(COLUMNS))


def with_shares(frame, **shares):
    """The same with what part of each arm's latents is dead, ineligible and outside: shares of all, by the arm."""
    seeds = frame.loc[frame["metric"].eq("detection"), ["arm", "seed"]].drop_duplicates()
    names = ("dead_share", "ineligible_share", "outside_share")
    added = [
        ("autointerp", name, "all", "all", arm, seed, value)
        for arm, seed in seeds.itertuples(index=False)
        if arm[0] != "@"
        for name, value in zip(names, shares.get(arm.split("@")[0], (0.1, 0.2, 0.02)), strict=True)
    ]
    return pd.concat([frame, pd.DataFrame(added, columns=list(COLUMNS))], ignore_index=True)


def design(**changes):
    from dataclasses import replace

    return Design(suites=(replace(SUITE, **changes),))


def _sae(generator, arm, seed, mean, n, seed_sd):
    luck, mix = generator.normal(0, seed_sd), MIXES.get(arm, OTHER_MIX)
    for h, effect in enumerate(BY_STRATUM):
        yield ("alive", f"f{h}", f"f{h}", arm, seed, float(mix[h]))
        for i in generator.choice(10_000, n, replace=False):
            score = float(np.clip(generator.normal(mean + effect + luck, 0.06), 0, 1))
            yield ("detection", f"latent {i}", f"f{h}", arm, seed, score)
            yield ("detection_saebench", f"latent {i}", f"f{h}", arm, seed, score / 2)
            yield ("missing", f"latent {i}", f"f{h}", arm, seed, 0.0)
            yield ("sequence", f"latent {i}/0", f"f{h}", arm, seed, np.nan)
    yield ("detection_with_dead", "all", "all", arm, seed, mean - 0.1)


def _trial(generator, judge, blank):
    made = []
    for i in range(8):
        planted, noise = ("planted", "@planted", 0), float(generator.normal(0, 0.02))
        made.append(("detection", f"planted {i}", *planted, min(judge + noise, 1.0)))
        made.append(("yes_rate", f"planted {i}", *planted, 0.45))
        made.append(("repeat", f"planted {i}", *planted, 1.0 if i else 0.0))
        for name, level in blank.items():
            made.append(("detection", f"{name} {i}", "planted", f"@{name}", 0, level + noise))
            made.append(("chance_sd", f"{name} {i}", "planted", f"@{name}", 0, 0.05))
        made.append(("detection", f"planted {i}", "planted", "@none", 0, 0.5))
    return made
