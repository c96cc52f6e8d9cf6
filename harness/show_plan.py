"""What `plan` and `list` print."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from ..baselines import ARCHITECTURES, CONTROLS, baseline_classes
from ..results.design import Design, SuiteDesign
from ..results.outcome import Skip
from ..suites.shelf import VARIABLE, in_words
from ..suites.suite import suite_classes
from .baseline_store import BaselineStore
from .check import Task, find_tasks, results_folder, slug
from .config import Settings, described
from .design import make_design
from .errors import UsageError, unknown
from .estimate import LOCAL_TOKENS_PER_SECOND, Estimate, clusters_of, estimate, judge_cost
from .judging import asks_judge
from .limits import cache_limit
from .measures import SYNTHETIC, site_suites
from .plan import RESERVED, Plan
from .power import SuitePower, known_variances, power_of
from .preregister import Lock, PlannedSuite
from .profiles import PROFILES
from .record import FILE, config_hash, identity
from .speeds import Speeds
from .synthetic.config import of_check
from .synthetic.design import MARGIN, METRIC, UNIT, synthetic_design
from .synthetic.run import synthetic_plan
from .targets import releases, saes


@dataclass(frozen=True)
class Wish:
    """What a user wants to know of a plan besides what it is."""

    effect: float | None = None
    """Difference that the run should find; None for the margin of each suite."""
    components_from: Path | None = None
    """Results folder of a finished run like the planned one, whose variances are taken; None for the nearest."""

    def __post_init__(self) -> None:
        """Refuse an effect that no run finds.

        Raises:
            UsageError: if it is not above 0.
        """
        if self.effect is not None and not 0 < self.effect < float("inf"):
            raise UsageError(f"--effect is {self.effect:g}; it must be above 0, in score units")


NO_WISH = Wish()


def _design(plan: Plan, settings: Settings) -> Design:
    """All comparisons of a check, before any score exists."""
    design = make_design(plan, [suite_classes()[name] for name in site_suites(settings)])
    if SYNTHETIC not in settings.suites:
        return design
    worlds = synthetic_design(synthetic_plan(of_check(settings)), policy=settings.policy)
    return replace(design, suites=(*design.suites, *worlds.suites))


def _worlds_row(settings: Settings) -> tuple[str, str]:
    own = of_check(settings)
    size = f"{own.n_features} features in {own.d_in} dimensions, L0 {own.target_l0:g}, d_sae {own.width}"
    steps = own.samples // own.batch_size
    return "worlds", f"{own.worlds} {own.world} worlds of {size}; every arm anew: {steps} steps of {own.batch_size}"


def estimated(task: Task) -> tuple[Estimate, dict[str, int]]:
    """What the check of one SAE will take, and the clusters of its suites."""
    clusters = clusters_of(task.settings)
    d_in = task.located.recipe.get("d_in") if task.located else None
    return estimate(task.plan, clusters, d_in, speeds=Speeds.of_user()), clusters


def powers(task: Task, asked: Settings, wish: Wish = NO_WISH) -> dict[str, SuitePower]:
    """What each suite of a plan could see.

    Raises:
        UsageError: for a folder to take variances from that holds no finished run.
    """
    known, clusters = known_variances(_own_results(task, asked), wish.components_from), clusters_of(task.settings)
    design = _design(task.plan, task.settings)
    return {
        suite.suite: power_of(
            synthetic_plan(of_check(task.settings)) if suite.nested else task.plan,
            suite,
            clusters=clusters[suite.suite],
            variance=known.get(suite.suite),
            alpha=design.alpha,
            effect=wish.effect,
        )
        for suite in design.suites
    }


def _own_results(task: Task, asked: Settings) -> Path:
    """Where the results of this SAE are, if there are any."""
    folder = results_folder(asked)
    own = folder / slug(task.located.name) if task.located else folder
    return own if (own / FILE).is_file() else folder


def register(settings: Settings, wish: Wish = NO_WISH) -> Lock:
    """The plan as it is registered.

    Raises:
        UsageError: for bad input.
    """
    tasks, skips = find_tasks(settings)
    if skips:
        others = "register a plan of others, named with --sae-id"
        raise UsageError(f"{skips[0].what} cannot be checked ({skips[0].reason}); {others}")
    return Lock(
        config_hash=config_hash(settings),
        identity=identity(settings),
        saes={task.located.name if task.located else "": _planned(task, settings, wish) for task in tasks},
    )


def _planned(task: Task, asked: Settings, wish: Wish) -> dict[str, PlannedSuite]:
    clusters, sees = clusters_of(task.settings), powers(task, asked, wish)
    found = {}
    for suite in _design(task.plan, task.settings).suites:
        plan = synthetic_plan(of_check(task.settings)) if suite.nested else task.plan
        seeds = Counter(sae.arm for sae in plan.saes())
        compared = (plan.under_test, *suite.required, *suite.shown)
        found[suite.suite] = PlannedSuite(
            metric=suite.metric,
            margin=suite.margin,
            votes=suite.votes,
            required=suite.required,
            arms={arm: seeds[arm] for arm in compared},
            clusters=clusters[suite.suite],
            detectable=sees[suite.suite].detectable,
        )
    return found


def plan_as_json(settings: Settings, wish: Wish = NO_WISH) -> str:
    """Return the plan as JSON: one object for one SAE, else a list of them under `saes`."""
    tasks, skips = find_tasks(settings)
    plans = [_as_data(task, settings, wish) for task in tasks]
    skipped = [skip.model_dump() for skip in skips]
    found = plans[0] if len(plans) == 1 and not skips else {"saes": plans, "skipped": skipped}
    return json.dumps(found, indent=1)


def _as_data(task: Task, asked: Settings, wish: Wish) -> dict[str, Any]:
    (cost, clusters), sees = estimated(task), powers(task, asked, wish)
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
        "seconds_by_stage": {name: round(seconds, 1) for name, seconds in cost.stages.items()},
        "measured_here": sorted(cost.measured),
        "bytes": {"results": cost.results_bytes, "cache": cost.cache_bytes},
        "clusters": clusters,
        "judge": asdict(judge_cost(task.plan)) if asks_judge(task.settings) else None,
        "detectable": {name: one.detectable for name, one in sees.items()},
        "power": {name: asdict(one) for name, one in sees.items()},
        "skipped": [skip.model_dump() for skip in task.plan.skipped],
    }


def plan_as_table(settings: Settings, wish: Wish = NO_WISH) -> Iterator[Table]:
    """Return the plan as tables for the terminal, one for each SAE."""
    tasks, skips = find_tasks(settings)
    for task in tasks:
        yield _as_table(task, settings, wish)
    if skips:
        yield _skip_table(skips)


def _skip_table(skips: tuple[Skip, ...]) -> Table:
    table = Table(title="cannot be checked", show_header=False, title_justify="left")
    for skip in skips:
        table.add_row(skip.what, skip.reason)
    return table


def _as_table(task: Task, asked: Settings, wish: Wish) -> Table:
    (cost, clusters), plan, settings = estimated(task), task.plan, task.settings
    design, sees = _design(plan, settings), powers(task, asked, wish)
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
        shown_only = "" if suite.votes else "shown only, the policy requires other suites; "
        table.add_row(suite.suite, f"{shown_only}{needed}")
        for line in _power_lines(sees[suite.suite], suite):
            table.add_row("", line)
    if SYNTHETIC in settings.suites:
        table.add_row(*_worlds_row(settings))
    if site_suites(settings):
        table.add_row("training", f"{plan.steps} steps of {settings.batch_size} tokens, all arms from one stream")
        table.add_row("tokens read", f"about {cost.tokens:,}")
    table.add_row("cells", f"{cost.cells} (suite x SAE), {len(plan.saes())} SAEs")
    table.add_row("time", f"about {minutes(cost.seconds)} with nothing cached, {cost.source}{_as_fast(task, cost)}")
    table.add_row("disk", f"{in_words(cost.results_bytes)} of results, {in_words(cost.cache_bytes)} of cache{_most()}")
    table.add_row("judge cost", _judge_row(plan))
    table.add_row("results", str(results_folder(asked)))
    return table


def _most() -> str:
    """What the cache may take, where there is a limit."""
    most = cache_limit()
    return f", which may take {in_words(most)} ({VARIABLE})" if most is not None else ""


def _as_fast(task: Task, cost: Estimate) -> str:
    """The rules of thumb know one language model, that of the demo."""
    known = task.located is None or "activations" in cost.measured
    return "" if known else ", if its language model is as fast as the demo's"


def minutes(seconds: float) -> str:
    """A time as people read it: no plan is right to the second."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _power_lines(power: SuitePower, suite: SuiteDesign) -> Iterator[str]:
    """What a suite could see, what would see the wanted difference, and from where that is known."""
    if power.detectable is None:
        yield f"what it could see is not known: {power.reason}"
        return
    yield f"sees a difference of about {power.detectable:.3g} (80 % power, against {power.against})"
    unit = "worlds" if suite.nested else "latents of each SAE" if suite.sampled else "clusters"
    clusters = f"{power.clusters_needed:,} {unit}" if power.clusters_needed else f"no number of {unit} is enough"
    seeds = f"{power.seeds_needed:,} baseline seeds" if power.seeds_needed else "no number of baseline seeds is enough"
    yield f"to see {power.effect:g}: {clusters} (seeds as planned)" + (
        "" if suite.nested else f"; {seeds} ({unit} as planned)"
    )
    yield f"variance: {power.source}{f' ({power.note})' if power.note else ''}"


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
        "settings": described,
        "releases": lambda: dict(releases()),
        "saes": lambda: dict(saes(of)),
    }
    if what not in kinds:
        raise unknown("list", what, kinds)
    if what == "saes" and not of:
        raise UsageError("list saes needs a release: `list saes RELEASE`; `list releases` shows them")
    yield from kinds[what]().items()
