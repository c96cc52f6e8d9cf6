"""What `plan` and `list` print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from rich.table import Table

from ..baselines import ARCHITECTURES, CONTROLS, baseline_classes
from ..suites.suite import suite_classes
from .check import results_folder, validate
from .config import Settings
from .design import make_design
from .errors import unknown
from .estimate import Estimate, estimate
from .plan import Plan
from .profiles import PROFILES


def clusters_of(settings: Settings) -> dict[str, int]:
    """Clusters that each suite of the settings will have."""
    return {name: suite_classes()[name].clusters(settings.model_dump()) for name in settings.suites}


def _estimated(settings: Settings) -> tuple[Plan, Estimate, dict[str, int]]:
    plan, clusters = validate(settings), clusters_of(settings)
    return plan, estimate(plan, clusters), clusters


def plan_as_json(settings: Settings) -> str:
    """Return the plan as JSON."""
    plan, cost, clusters = _estimated(settings)
    return json.dumps(
        {
            "settings": settings.model_dump(mode="json"),
            "results": str(results_folder(settings)),
            "arms": [f"{sae.arm}/{sae.seed}" for sae in plan.saes()],
            "cells": cost.cells,
            "tokens": cost.tokens,
            "steps": plan.steps,
            "seconds": round(cost.seconds),
            "clusters": clusters,
            "detectable": {k: round(v, 4) for k, v in cost.detectable.items()},
        },
        indent=1,
    )


def plan_as_table(settings: Settings) -> Table:
    """Return the plan as a table for the terminal."""
    plan, cost, clusters = _estimated(settings)
    design = make_design(plan, [suite_classes()[name] for name in dict.fromkeys(settings.suites)])
    title = f"plan: check {settings.target} --profile {settings.profile}"
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_row("site", f"{settings.hook_name}, {settings.architecture}, d_sae {settings.d_sae}, L0 {settings.l0:g}")
    for baseline, seeds in [(b, plan.seeds) for b in plan.trained] + [(b, plan.random_seeds) for b in plan.untrained]:
        table.add_row("arm", f"{baseline.arm} x {len(seeds)} seeds: {baseline.summary}")
    table.add_row("controls", f"{', '.join(plan.controls)} x {len(plan.seeds)} seeds")
    for suite in design.suites:
        needed = f"{clusters[suite.suite]} clusters, margin {suite.margin:g}, must beat {', '.join(suite.required)}"
        sees = f"sees a difference of about {cost.detectable[suite.suite]:.3f} (80 % power)"
        table.add_row(suite.suite, f"{needed}; {sees}")
    table.add_row("training", f"{plan.steps} steps of {settings.batch_size} tokens, all arms from one stream")
    table.add_row("tokens read", f"about {cost.tokens:,}")
    table.add_row("cells", f"{cost.cells} (suite x SAE), {len(plan.saes())} SAEs")
    table.add_row("time", f"about {cost.seconds / 60:.0f} min on two CPU cores with nothing cached")
    table.add_row("judge cost", "0: no suite of this plan asks a judge")
    table.add_row("results", str(results_folder(settings)))
    return table


def listing(what: str) -> Iterator[tuple[str, str]]:
    """Yield names and one line each.

    Raises:
        UsageError: for something that cannot be listed.
    """
    kinds: Mapping[str, Mapping[str, str]] = {
        "suites": {n: f"{c.metric}, margin {c.margin:g}; {c.unit}" for n, c in suite_classes().items()},
        "baselines": {n: c.summary for n, c in baseline_classes().items() if n != "trained"},
        "controls": {n: c.summary for n, c in CONTROLS.items()},
        "architectures": dict.fromkeys(ARCHITECTURES, "SAELens training architecture"),
        "profiles": {n: f"{p['tokens']:,} tokens, d_sae {p['d_sae']}, {p['seeds']} seeds" for n, p in PROFILES.items()},
        "settings": {n: f.description or "" for n, f in Settings.model_fields.items()},
    }
    if what not in kinds:
        raise unknown("list", what, kinds)
    yield from kinds[what].items()
