"""What `plan` and `list` print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.table import Table

from ..baselines import ARCHITECTURES, CONTROLS, baseline_classes
from ..results.design import Design
from ..results.outcome import Skip
from ..suites.suite import suite_classes
from .baseline_store import BaselineStore
from .check import Task, find_tasks, results_folder
from .config import Settings
from .design import make_design
from .errors import UsageError, unknown
from .estimate import LOCAL_TOKENS_PER_SECOND, Estimate, estimate, judge_cost, seconds_in_worlds
from .judging import asks_judge
from .measures import SYNTHETIC, site_suites
from .plan import RESERVED, Plan
from .profiles import PROFILES
from .synthetic.config import of_check
from .synthetic.design import MARGIN, METRIC, UNIT, synthetic_design
from .synthetic.run import synthetic_plan
from .targets import releases, saes


def clusters_of(settings: Settings) -> dict[str, int]:
    """Clusters that each suite of the settings will have."""
    found = {name: suite_classes()[name].clusters(settings.model_dump()) for name in site_suites(settings)}
    return found | ({SYNTHETIC: of_check(settings).worlds} if SYNTHETIC in settings.suites else {})


def _design(plan: Plan, settings: Settings) -> Design:
    """All comparisons of a check, before any score exists."""
    design = make_design(plan, [suite_classes()[name] for name in site_suites(settings)])
    if SYNTHETIC not in settings.suites:
        return design
    worlds = synthetic_design(synthetic_plan(of_check(settings)))
    return replace(design, suites=(*design.suites, *worlds.suites))


def _worlds_row(settings: Settings) -> tuple[str, str]:
    own = of_check(settings)
    size = f"{own.n_features} features in {own.d_in} dimensions, L0 {own.target_l0:g}, d_sae {own.width}"
    steps = own.samples // own.batch_size
    return "worlds", f"{own.worlds} {own.world} worlds of {size}; every arm anew: {steps} steps of {own.batch_size}"


def _estimated(task: Task) -> tuple[Estimate, dict[str, int]]:
    clusters = clusters_of(task.settings)
    d_in = task.located.recipe.get("d_in") if task.located else None
    return estimate(task.plan, clusters, d_in, _seconds_in_worlds(task.settings)), clusters


def _seconds_in_worlds(settings: Settings) -> float:
    if SYNTHETIC not in settings.suites:
        return 0.0
    own = of_check(settings)
    plan = synthetic_plan(own)
    return seconds_in_worlds(own, len(plan.trained) * own.starts, len(plan.saes()))


def plan_as_json(settings: Settings) -> str:
    """Return the plan as JSON: one object for one SAE, else a list of them under `saes`."""
    tasks, skips = find_tasks(settings)
    plans = [_as_data(task, settings) for task in tasks]
    skipped = [skip.model_dump() for skip in skips]
    found = plans[0] if len(plans) == 1 and not skips else {"saes": plans, "skipped": skipped}
    return json.dumps(found, indent=1)


def _as_data(task: Task, asked: Settings) -> dict[str, Any]:
    cost, clusters = _estimated(task)
    return {
        "sae": task.located.name if task.located else "",
        "settings": task.settings.model_dump(mode="json"),
        "recipe": task.recipe,
        "results": str(results_folder(asked)),
        "arms": [f"{sae.arm}/{sae.seed}" for sae in task.plan.saes()],
        "cells": cost.cells,
        "tokens": cost.tokens,
        "steps": task.plan.steps,
        "seconds": round(cost.seconds),
        "clusters": clusters,
        "judge": asdict(judge_cost(task.plan)) if asks_judge(task.settings) else None,
        "detectable": {k: round(v, 4) for k, v in cost.detectable.items()},
        "skipped": [skip.model_dump() for skip in task.plan.skipped],
    }


def plan_as_table(settings: Settings) -> Iterator[Table]:
    """Return the plan as tables for the terminal, one for each SAE."""
    tasks, skips = find_tasks(settings)
    for task in tasks:
        yield _as_table(task, settings)
    if skips:
        yield _skip_table(skips)


def _skip_table(skips: tuple[Skip, ...]) -> Table:
    table = Table(title="cannot be checked", show_header=False, title_justify="left")
    for skip in skips:
        table.add_row(skip.what, skip.reason)
    return table


def _as_table(task: Task, asked: Settings) -> Table:
    (cost, clusters), plan, settings = _estimated(task), task.plan, task.settings
    design = _design(plan, settings)
    name = f" {task.located.name}" if task.located and task.located.name not in asked.target else ""
    title = f"plan: check {asked.target}{name} --profile {settings.profile}"
    table = Table(title=title, show_header=False, title_justify="left")
    l0 = "L0 as measured on it" if settings.l0 is None else f"L0 {settings.l0:g}"
    if site_suites(settings):
        table.add_row("site", f"{settings.hook_name}, {settings.architecture}, d_sae {settings.d_sae}, {l0}")
    for line in task.recipe.items():
        table.add_row(f"recipe: {line[0]}", line[1])
    if plan.given:
        table.add_row("arm", f"{plan.under_test}: the SAE as it is")
    for baseline, seeds in [(b, plan.seeds) for b in plan.trained] + [(b, plan.random_seeds) for b in plan.untrained]:
        table.add_row("arm", f"{baseline.arm} x {len(seeds)} seeds: {baseline.summary}")
    table.add_row("controls", f"{', '.join(plan.controls)} x {len(plan.test_seeds)} seeds")
    for skip in plan.skipped:
        table.add_row("left out", f"{skip.what}: {skip.reason}")
    for suite in design.suites:
        needed = f"{clusters[suite.suite]} clusters, margin {suite.margin:g}, must beat {', '.join(suite.required)}"
        sees = f"sees a difference of about {cost.detectable[suite.suite]:.3f} (80 % power)"
        table.add_row(suite.suite, f"{needed}; {sees}")
    if SYNTHETIC in settings.suites:
        table.add_row(*_worlds_row(settings))
    if site_suites(settings):
        table.add_row("training", f"{plan.steps} steps of {settings.batch_size} tokens, all arms from one stream")
        table.add_row("tokens read", f"about {cost.tokens:,}")
    table.add_row("cells", f"{cost.cells} (suite x SAE), {len(plan.saes())} SAEs")
    as_fast = " if its language model is as fast as the demo's" if plan.given else ""
    table.add_row("time", f"about {cost.seconds / 60:.0f} min on two CPU cores with nothing cached{as_fast}")
    table.add_row("judge cost", _judge_row(plan))
    table.add_row("results", str(results_folder(asked)))
    return table


def _judge_row(plan: Plan) -> str:
    """What the judge is asked; what that costs is for the user to say (`--judge-price`), for prices go out of date."""
    if not asks_judge(plan.settings):
        return "0: no suite of this plan asks a judge"
    cost = judge_cost(plan)
    asked = (
        f"about {cost.questions:,} questions with {cost.prompt_tokens:,} tokens, {cost.completion_tokens:,} answered"
    )
    if plan.settings.judge == "local":
        return f"nothing but time: {asked}, {cost.tokens / LOCAL_TOKENS_PER_SECOND / 60:.0f} min on two cores"
    if plan.settings.judge == "token_statistics":
        return f"nothing: about {cost.questions:,} questions to a scorer that is no language model"
    return f"{asked}; times your prices, and `check` stops at --max-judge-tokens or --max-cost"


def _stored() -> dict[str, str]:
    """Trained baselines that are kept, one line each."""
    return {
        f"{kept.group} {kept.arm}/{kept.seed}": (
            f"{kept.recipe.get('model')}, {kept.recipe.get('hook_name')}, {kept.recipe.get('architecture')}, "
            f"d_sae {kept.recipe.get('d_sae')}, L0 {kept.l0:.4g}, {kept.recipe.get('tokens'):,} tokens"
        )
        for kept in BaselineStore.of_user().arms()
    }


def listing(what: str, of: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and one line each.

    Args:
        what: kind of thing.
        of: for `saes`: which release.

    Raises:
        UsageError: for something that cannot be listed.
    """
    kinds: Mapping[str, Any] = {
        "suites": lambda: (
            {n: f"{c.metric}, margin {c.margin:g}; {c.unit}" for n, c in suite_classes().items()}
            | {SYNTHETIC: f"{METRIC}, margin {MARGIN:g}; {UNIT}"}
        ),
        "baselines": lambda: {n: c.summary for n, c in baseline_classes().items() if n not in RESERVED} | _stored(),
        "controls": lambda: {n: c.summary for n, c in CONTROLS.items()},
        "architectures": lambda: dict.fromkeys(ARCHITECTURES, "SAELens training architecture"),
        "profiles": lambda: {
            n: f"{p['tokens']:,} tokens, d_sae {p['d_sae']}, {p['seeds']} seeds" for n, p in PROFILES.items()
        },
        "settings": lambda: {n: f.description or "" for n, f in Settings.model_fields.items()},
        "releases": lambda: dict(releases()),
        "saes": lambda: dict(saes(of)),
    }
    if what not in kinds:
        raise unknown("list", what, kinds)
    if what == "saes" and not of:
        raise UsageError("list saes needs a release: `list saes RELEASE`; `list releases` shows them")
    yield from kinds[what]().items()
