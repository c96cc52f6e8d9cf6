"""One check from settings to report: find the SAEs, validate, prepare, run, judge."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..baselines import ARCHITECTURES
from ..results.design import Design
from ..results.outcome import CheckReport, Skip
from ..results.store import Store
from .adopt import adopt, explain
from .baseline_store import cache_folder
from .compare_runs import check_comparable, check_two_runs, since
from .config import Settings, profile_defaults
from .design import check_policy, left_out_nulls
from .errors import UsageError, unknown
from .estimate import clusters_of, estimate, expected
from .judging import Limits, check_judge, judging
from .limits import check_cache, check_device, check_l0
from .lock import InUseError
from .measures import SYNTHETIC, check_suites, make_suites, site_suites
from .plan import Plan, make_plan
from .preregister import Lock, note_plan, read_lock, status_of_run, status_of_several
from .progress import Progress
from .record import (
    FILE,
    RunRecord,
    Several,
    config_hash,
    identity,
    make_manifest,
    save_record,
    save_several,
    several_report,
    single_report,
)
from .run import Runner
from .shards import OtherSiteError, Shard, Turns, Unfinished, one_prepares
from .shared_baselines import check_place
from .subject import TARGETS, Subject, make_subject
from .synthetic.config import of_check
from .synthetic.judge import add_to_check, refuse_what_cannot_run
from .targets import locate
from .timing import timed

if TYPE_CHECKING:
    from ..baselines.wrap import Artefact
    from ..results.decision import RunComparison
    from ..suites.judges.budget import Spent
    from .executors.executor import Executor
    from .targets import Located


@dataclass(frozen=True)
class Task:
    """One SAE of a check, or one recipe."""

    settings: Settings
    """Settings with what the SAE says of itself."""
    plan: Plan
    """What will be done."""
    located: Located | None = None
    """Where the SAE is; None for a recipe."""

    @property
    def recipe(self) -> dict[str, str]:
        """What is known of how the SAE was made, from where, and what is used instead, in words."""
        return explain(self.located.recipe, self.settings) if self.located else {}


@dataclass(frozen=True)
class Run:
    """What a user asked for, and how it is done."""

    asked: Settings
    """The settings as given."""
    progress: Progress
    """Told about every stage."""
    spent: Spent
    """What judges have used and may use, over all SAEs of the command."""
    lock: Lock | None = None
    """The plan that was registered; None without one, and for one SAE of several."""
    executor: Executor | None = None
    """Who measures the cells; this process by default."""
    shard: Shard | None = None
    """Which of several processes with the same command this is; None for the only one."""
    earlier: Path | None = None
    """Results folder of an earlier run, than which this one should be no worse."""


def results_folder(settings: Settings) -> Path:
    """Default results folder: one per configuration, so that the same command finds its own results again."""
    # Of a path or an address only the last part: the hash tells the rest apart.
    name = re.sub(r"[^\w.-]+", "-", settings.target.rstrip("/").rpartition("/")[2]).strip("-.") or "target"
    return Path("sae-sanity-results") / f"{name}-{settings.profile}-{config_hash(settings)[:8]}"


def find_tasks(settings: Settings) -> tuple[tuple[Task, ...], tuple[Skip, ...]]:
    """Find what a target names and plan it, before any weight is loaded or anything is written.

    Returns:
        One task for each SAE that can be checked, and the reasons for the others.

    Raises:
        UsageError: for an unknown target, or settings that cannot run.
    """
    check_suites(settings)
    check_policy(settings)
    check_judge(settings)
    check_device(settings.device)
    check_place(settings.baselines_from)
    if settings.target in TARGETS:
        return (_recipe_task(settings),), ()
    located = _located(settings)
    return _planned(settings, located)


def _planned(settings: Settings, located: Sequence[Located]) -> tuple[tuple[Task, ...], tuple[Skip, ...]]:
    """Plan every SAE; of several, one that cannot be checked does not stop the others."""
    tasks: list[Task] = []
    skips: list[Skip] = []
    for each in located:
        name = each.name or settings.target
        if each.skip:
            skips.append(Skip(what=name, reason=each.skip))
            continue
        try:
            tasks.append(_released_task(settings, each))
        except UsageError as error:
            if len(located) == 1:
                raise
            skips.append(Skip(what=name, reason=str(error)))
    return tuple(tasks), tuple(skips)


def _located(settings: Settings) -> tuple[Located, ...]:
    try:
        return locate(settings.target, settings.sae_id)
    except UsageError:
        # What is neither found nor an address may be a recipe's name with a slip in it.
        if difflib.get_close_matches(settings.target, TARGETS, n=1, cutoff=0.7):
            raise unknown("target", settings.target, TARGETS) from None
        raise


def _recipe_task(settings: Settings) -> Task:
    for name in ("sae_id", "model", "texts"):
        if getattr(settings, name):
            raise UsageError(f"{name} is {getattr(settings, name)!r}, but {settings.target} has its own; leave it out")
    return Task(settings, validate(settings))


def _released_task(settings: Settings, located: Located) -> Task:
    adopted = adopt(settings, located.recipe)
    # An object of a class that SAELens does not know has a recipe that names no saved form.
    given = located.recipe.get("saved_as", "foreign")
    return Task(adopted, validate(adopted, given=given), located)


def _loaded(task: Task, asked: Settings) -> tuple[Task, Artefact | None]:
    """Load the SAE, whose weights may say more of its recipe than its files did."""
    if task.located is None:
        return task, None
    artefact = task.located.load()
    return _released_task(asked, replace(task.located, recipe=artefact.recipe)), artefact


def validate(settings: Settings, *, given: str = "") -> Plan:
    """Refuse what cannot run, before anything is loaded or written.

    Args:
        settings: of one check.
        given: what a given SAE is saved as; see `make_plan`.

    Raises:
        UsageError: for an unknown architecture or baseline, or sizes that contradict each other.
    """
    if settings.architecture not in ARCHITECTURES:
        raise unknown("architecture", settings.architecture, ARCHITECTURES)
    if settings.l0 is not None:
        check_l0(settings.architecture, settings.l0, settings.d_sae)
    elif not given:
        raise UsageError("l0 is not set; a recipe needs one")
    if settings.tokens < settings.batch_size:
        raise UsageError(f"tokens is {settings.tokens}; it must be at least batch_size, {settings.batch_size}")
    return make_plan(settings, given=given)


def _claim(settings: Settings, folder: Path, *, only_look: bool) -> None:
    if only_look and not (folder / "store.json").exists():
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"results folder {folder} cannot be written: {nearest} is not a writable folder")
        return
    Store(folder).claim(config_hash(settings), identity(settings))


def run_check(
    settings: Settings,
    folder: Path | None,
    progress: Progress,
    *,
    limits: Limits | None = None,
    lock: Path | None = None,
    earlier: Path | None = None,
    executor: Executor | None = None,
    shard: Shard | None = None,
) -> CheckReport:
    """Run or resume a check and return its report, which is judged from what is on disk.

    Args:
        settings: the resolved settings.
        folder: results folder; None for the default one.
        progress: told about every stage.
        limits: what may be spent on judges, over all SAEs.
        lock: registered plan to hold the run against; by default the one that the policy names.
        earlier: results folder of an earlier run, than which this one should be no worse.
        executor: who measures the cells; this process by default.
        shard: which of several processes that share the folder this is; None for the only one.

    Raises:
        UsageError: for bad input; nothing has been written then.
        Unfinished: for a shard that is not the last: there is no report yet.
        StoreError: for a results folder that belongs to another configuration or cannot be written.
    """
    registered = registered_plan(settings, lock)
    if earlier is not None:
        check_two_runs(folder or results_folder(settings), earlier)
        check_comparable(settings, earlier)
    tasks, skips = find_tasks(settings)
    folder = folder or results_folder(settings)
    run = Run(settings, progress, (limits or Limits()).spent(), registered, executor, shard, earlier)
    if len(tasks) == 1 and not skips:
        return _run_task(tasks[0], run, folder)
    return _run_several(tasks, skips, run, folder)


def _since(run: Run, folder: Path) -> RunComparison | None:
    """The finished check against the earlier run, where one is named."""
    return since(folder, run.earlier) if run.earlier is not None else None


def registered_plan(settings: Settings, lock: Path | None = None) -> Lock | None:
    """The plan that was registered: that of a file, else of the policy's; None where neither names one.

    Raises:
        UsageError: for a file that is missing or damaged.
    """
    path = lock or (Path(settings.policy.lock) if settings.policy.lock else None)
    return read_lock(path) if path else None


def _run_task(task: Task, run: Run, folder: Path) -> CheckReport:
    """Check one SAE, and keep for the next plan how long its stages took."""
    task, artefact = _loaded(task, run.asked)
    with timed(run.progress, expected(task.plan, artefact.sae.cfg.d_in if artefact else None)) as progress:
        return _run_loaded(task, artefact, replace(run, progress=progress), folder)


def _run_loaded(task: Task, artefact: Artefact | None, run: Run, folder: Path) -> CheckReport:
    settings = task.settings
    worlds = of_check(settings) if SYNTHETIC in settings.suites else None
    if worlds is not None:
        refuse_what_cannot_run(worlds)
    _claim(settings, folder, only_look=True)
    if site_suites(settings):
        d_in = artefact.sae.cfg.d_in if artefact else None
        planned = estimate(task.plan, clusters_of(settings), d_in)
        check_cache(planned.cache_bytes, cache_folder() / "activations")
    # A recipe alone is judged without a language model.
    subject = _subject(settings, artefact, run) if site_suites(settings) else None
    _claim(settings, folder, only_look=False)
    note_plan(run.lock, folder)
    with Turns(folder, run.shard, run.progress) as turns:
        record = _record(task, subject, run, folder, turns)
        if worlds is not None:
            record = add_to_check(worlds, folder, record, run.progress)
        record = replace(record, asked=identity(run.asked))
        if run.lock is not None:
            record = replace(record, lock=status_of_run(run.lock, folder, record))
        save_record(folder, record)
    return single_report(folder, record, since=_since(run, folder))


def _subject(settings: Settings, artefact: Artefact | None, run: Run) -> Subject:
    cache = cache_folder()
    try:
        with one_prepares(run.shard, cache, config_hash(settings), run.progress):
            return make_subject(settings, artefact, cache, run.progress)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error


def _record(task: Task, subject: Subject | None, run: Run, folder: Path, turns: Turns) -> RunRecord:
    """Measure the suites that need a language model, if there are any."""
    command = (run.asked, profile_defaults(run.asked.profile), folder)
    plan, settings = task.plan, task.settings
    if subject is None:
        turns.finish(0)
        manifest = make_manifest(settings, command, {}, (), task.recipe)
        design = Design((), recipe=plan.recipe, policy=settings.policy)
        return RunRecord(settings.target, design, (), manifest, plan.skipped)
    with judging(settings, folder, run.spent, run.progress) as judge:
        suites = make_suites(settings, subject, judge)
        runner = Runner(plan, subject, suites, folder, run.progress, executor=run.executor, turns=turns)
        outcome = runner.run()
    hashes = subject.hashes | {f"weights/{name}": value for name, value in outcome.hashes.items()}
    notes = (*subject.notes, *outcome.notes)
    manifest = make_manifest(settings, command, hashes, notes, task.recipe)
    skipped = (*plan.skipped, *outcome.skipped, *left_out_nulls(plan, outcome.design))
    return RunRecord(settings.target, outcome.design, outcome.cells, manifest, skipped)


def _run_several(tasks: Sequence[Task], skips: Sequence[Skip], run: Run, folder: Path) -> CheckReport:
    """Check the SAEs one after another, each in a folder of its own, and judge them together."""
    settings = run.asked
    # Each SAE's own L0, hook and model are in its recipe.
    shown = settings if "l0" in settings.given else settings.model_copy(update={"l0": None})
    manifest = make_manifest(shown, (settings, profile_defaults(settings.profile), folder), {}, (), {})
    asked = identity(settings)
    several = Several(settings.target, {}, tuple(skips), manifest, policy=settings.policy, asked=asked)
    if not tasks:
        return several_report(folder, _held(several, run, folder), since=_since(run, folder))
    _claim(settings, folder, only_look=True)
    _claim(settings, folder, only_look=False)
    note_plan(run.lock, folder)
    with Turns(folder, run.shard, run.progress) as turns:
        for task in tasks:
            several = _one_of_several(several, task, run, folder)
        turns.finish(_without_report(several, folder))
        if not several.members:
            first = several.skipped[len(skips)]
            raise UsageError(f"none of the {len(tasks)} SAEs could be checked; {first.what}: {first.reason}")
        several = _held(several, run, folder)
        save_several(folder, several)
    return several_report(folder, several, since=_since(run, folder))


def _held(several: Several, run: Run, folder: Path) -> Several:
    """With what the registered plan says of it, where there is one."""
    return replace(several, lock=status_of_several(run.lock, folder, several)) if run.lock else several


def _one_of_several(several: Several, task: Task, run: Run, folder: Path) -> Several:
    assert task.located is not None  # noqa: S101
    name = task.located.name
    try:
        alone = replace(run, asked=run.asked.model_copy(update={"sae_id": (name,)}), lock=None, earlier=None)
        _run_task(task, alone, folder / slug(name))
    except Unfinished:
        pass  # whoever is last with this SAE makes its report
    except (InUseError, OtherSiteError):
        raise
    except UsageError as error:
        # The others are worth no less.
        return replace(several, skipped=(*several.skipped, Skip(what=name, reason=str(error))))
    return replace(several, members=several.members | {name: slug(name)})


def _without_report(several: Several, folder: Path) -> int:
    """How many SAEs are with other shards still."""
    return sum(not (folder / place / FILE).is_file() for place in several.members.values())


def slug(name: str) -> str:
    """A folder's name for an SAE's name; different names stay different, and none is hidden."""
    return re.sub(r"[^\w.-]|^\.", lambda match: f"%{ord(match[0]):02x}", name)
