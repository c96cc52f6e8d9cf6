"""What a sweep will do and take: every check, what they share, and the totals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..baselines.wrap import shape_of
from ..results.store import content_key
from ..suites.shelf import in_words
from .baseline_store import BaselineStore
from .check import Task
from .estimate import D_IN, JudgeCost, judge_cost, reading_share, sae_bytes
from .judging import asks_judge
from .measures import site_suites
from .show_plan import estimated, minutes
from .sweep import Sweep
from .timing import READING

_ONCE = ("start",)
"""Stages that a sweep has once, however many checks it runs."""


@dataclass(frozen=True)
class Share:
    """What one check of a sweep takes, less what an earlier one leaves it."""

    stages: Mapping[str, float]
    """Seconds by stage."""
    measured: frozenset[str]
    """Stages whose time is known from earlier runs on this machine."""
    tokens: int
    """Tokens that the language model reads."""
    cells: int
    """Suite x SAE."""
    trainings: int
    """SAEs that are trained."""
    saved: int
    """Trained SAEs that an earlier check of the sweep leaves."""
    results_bytes: int
    """Disk of its results folder; SAEs that an earlier check leaves are links into the kept baselines."""
    cache_bytes: int
    """Disk of its activations."""
    judge: JudgeCost | None
    """What its judges are asked."""

    @property
    def seconds(self) -> float:
        """Wall time."""
        return sum(self.stages.values())


def shares(sweep: Sweep) -> Iterator[Share]:
    """Estimate every check of a sweep, in its order."""
    trained: set[str] = set()
    read: set[str] = set()
    for number, member in enumerate(sweep.members):
        (whole, clusters), plan = estimated(member.task), member.task.plan
        on_site = bool(site_suites(member.task.settings))
        arms = set(_trainings(member.task, number)) if on_site else set[str]()
        new = arms - trained
        needed = _activations(member.task)
        again = on_site and needed <= read
        trained |= arms
        read |= needed
        stages = dict(whole.stages)
        stages["training"] = stages.get("training", 0.0) * len(new) / max(1, len(arms))
        if again:
            stages["activations"] = 0.0
            for name in stages:
                stages[name] *= 1 - reading_share(name, plan, clusters)
        if number:
            stages |= dict.fromkeys(_ONCE, 0.0)
        yield Share(
            stages,
            whole.measured,
            0 if again else whole.tokens,
            whole.cells,
            len(new),
            len(arms) - len(new),
            whole.results_bytes - (len(arms) - len(new)) * sae_bytes(_d_in(member.task), member.task.settings.d_sae),
            0 if again else whole.cache_bytes,
            judge_cost(plan) if asks_judge(member.settings) else None,
        )


def _d_in(task: Task) -> int:
    return (task.located.recipe.get("d_in") if task.located else None) or D_IN


def _texts(task: Task) -> str:
    """Name of the activations that SAEs are trained and measured on: those of hard probing leave more tables out."""
    s = task.settings
    where = [
        s.model or s.target,
        s.hook_name,
        s.texts,
        s.context_size,
        s.prepend_bos,
        s.device,
        s.arithmetic,
        s.activation_precision,
    ]
    how_many = [s.tokens, s.calibration_tokens, s.held_out_documents, s.probe_datasets, s.probe_prompts, s.seed]
    return content_key({"where": where, "how_many": how_many, "hard": "hard_probing" in s.suites})


def _activations(task: Task) -> set[str]:
    """Names of all activations that a check reads, those of single suites too; the cache keeps them."""
    texts = _texts(task)
    return {texts, *(f"{texts} {suite}" for suite in READING.intersection(task.settings.suites))}


def _trainings(task: Task, number: int) -> Iterator[str]:
    """Names of the SAEs that a check trains: two of one name are the same SAE, which is trained once and kept.

    The L0 of a given SAE is measured when its check begins, unless it is set: then nobody knows whom it fits.
    """
    s, plan = task.settings, task.plan
    shape: object = [s.architecture, s.d_sae, s.l0]
    if task.located is not None and s.l0 is not None:
        shape = vars(shape_of(task.located.recipe.with_values("setting", architecture=s.architecture), l0=s.l0))
    alone = BaselineStore.of_user().folder is None or s.l0 is None
    how = {"shape": shape, "steps": plan.steps, "batch": s.batch_size, "lr": s.lr, "order": s.seed}
    how |= {"activations": _texts(task), "alone": number if alone else None}
    for baseline in plan.trained:
        for seed in plan.seeds:
            yield content_key(how | {"arm": baseline.arm, "seed": seed})


@dataclass(frozen=True)
class Total:
    """What a whole sweep takes."""

    seconds: float
    tokens: int
    cells: int
    trainings: int
    saved: int
    results_bytes: int
    cache_bytes: int
    judge: JudgeCost | None
    source: str
    """From where the time is known."""


def total(found: Sequence[Share]) -> Total:
    """Add the checks of a sweep up."""
    asked = [each.judge for each in found if each.judge]
    judge = JudgeCost(
        sum(j.questions for j in asked), sum(j.prompt_tokens for j in asked), sum(j.completion_tokens for j in asked)
    )
    seconds = sum(each.seconds for each in found)
    known = sum(value for each in found for name, value in each.stages.items() if name in each.measured)
    return Total(
        seconds,
        sum(each.tokens for each in found),
        sum(each.cells for each in found),
        sum(each.trainings for each in found),
        sum(each.saved for each in found),
        sum(each.results_bytes for each in found),
        sum(each.cache_bytes for each in found),
        judge if asked else None,
        f"{known / seconds:.0%} of it by earlier runs on this machine, the rest by rules of thumb for two CPU cores"
        if known
        else "by rules of thumb for two CPU cores; the next plan knows what this machine took",
    )


def sweep_as_json(sweep: Sweep, folder: Path) -> str:
    """The plan of a sweep as JSON."""
    found = list(shares(sweep))
    checks = [
        {
            "name": member.name,
            "results": str(folder / member.place),
            "settings": member.settings.model_dump(mode="json"),
        }
        | _as_data(share)
        for member, share in zip(sweep.members, found, strict=True)
    ]
    whole = asdict(total(found)) | {"seconds": round(total(found).seconds)}
    skipped = [skip.model_dump() for skip in sweep.skipped]
    return json.dumps({"checks": checks, "skipped": skipped, "total": whole, "results": str(folder)}, indent=1)


def _as_data(share: Share) -> dict[str, Any]:
    data = asdict(share) | {"seconds": round(share.seconds), "measured": sorted(share.measured)}
    return data | {"stages": {name: round(seconds, 1) for name, seconds in share.stages.items()}}


def sweep_as_tables(sweep: Sweep, folder: Path) -> Iterator[Table]:
    """The plan of a sweep for a terminal: a line for each check, what cannot be checked, the totals."""
    found = list(shares(sweep))
    yield _checks_table(sweep, found)
    if sweep.skipped:
        skipped = Table(title="cannot be checked", show_header=False, title_justify="left")
        for skip in sweep.skipped:
            skipped.add_row(Text(skip.what), Text(skip.reason))
        yield skipped
    yield _total_table(total(found), len(found), folder)


def _checks_table(sweep: Sweep, found: Sequence[Share]) -> Table:
    table = Table(title=Text(f"plan: sweep {sweep.path}"), title_justify="left")
    for name in ("SAE", "suites", "site", "d_sae", "L0", "trainings", "time"):
        table.add_column(name, justify="left" if name in ("SAE", "suites", "site") else "right")
    for member, share in zip(sweep.members, found, strict=True):
        s = member.task.settings
        table.add_row(
            Text(member.name),
            ", ".join(s.suites),
            Text(s.hook_name if site_suites(s) else s.world),
            str(s.d_sae),
            "measured" if s.l0 is None else f"{s.l0:g}",
            f"{share.trainings}" + (f" (+{share.saved} kept)" if share.saved else ""),
            minutes(share.seconds),
        )
    return table


def _total_table(whole: Total, checks: int, folder: Path) -> Table:
    table = Table(title=f"in all: {checks} checks", show_header=False, title_justify="left")
    table.add_row("tokens read", f"about {whole.tokens:,}")
    table.add_row("cells", f"{whole.cells:,} (suite x SAE)")
    table.add_row("SAEs trained", f"{whole.trainings:,}; {_saved(whole)}")
    table.add_row("time", f"about {minutes(whole.seconds)} one after another with nothing cached, {whole.source}")
    table.add_row("disk", f"{in_words(whole.results_bytes)} of results, {in_words(whole.cache_bytes)} of cache")
    table.add_row("judges", _judges(whole.judge))
    table.add_row("results", Text(str(folder)))
    return table


def _saved(whole: Total) -> str:
    if whole.saved:
        return f"{whole.saved:,} more would be the same SAEs and are taken from the baselines that are kept"
    return "none of them twice (baselines are shared by SAEs of one site, width and L0; `l0` sets it)"


def _judges(cost: JudgeCost | None) -> str:
    if cost is None:
        return "no suite of this sweep asks a judge"
    asked = f"about {cost.questions:,} questions with {cost.prompt_tokens:,} tokens"
    return f"{asked}, {cost.completion_tokens:,} answered; --max-judge-tokens and --max-cost hold over all checks"
