"""What a finished run writes beside its cells, so that `report` can say it again without a model."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from ..results import hard_probing, synthetic
from ..results.analysis import analyse, conclude, with_holm
from ..results.decision import LockStatus, RunComparison
from ..results.design import ALPHA, L0_TOLERANCE, Design
from ..results.files import write_atomically
from ..results.latents_seen import DamagedLatents, LatentSeen, SideBySide, choose, latents_path, read_latents
from ..results.outcome import CheckReport, Manifest, Skip, SuiteResult
from ..results.policy import Policy
from ..results.scores import COLUMNS
from ..results.store import CorruptCell, Store, content_key
from .adopt import DECIDED_BY_SAE
from .config import FLAGS, Settings, flat_policy
from .errors import UsageError

if TYPE_CHECKING:
    from .policies import Ruling

FILE = "run.json"
SEVERAL = "saes.json"
LATENTS = "latents"
"""Folder of what people may look at, a file for each cell."""
_NO_VERDICT = frozenset({"second_judge", "second_judge_url", "second_share", "policy"})
_POLICY_OF_VERDICT = frozenset(f"policy.{name}" for name in ("suites", "baselines", "seeds", "random_seeds"))
_AS_BEFORE = {"arithmetic": "auto", "activation_precision": "bfloat16"}
"""Settings that came later, at what was done before there was a choice: checks and plans of then keep their hashes."""
RULE_VERSION = 3
"""Raised when a change of `results/` or of which arms are nulls can change a verdict."""
PACKAGES = (
    *("sae-sanity", "torch", "numpy", "scipy", "transformers", "nnsight"),
    *("sae-lens", "sae-probes", "scikit-learn"),
)
"""Packages whose versions decide the numbers."""


@dataclass(frozen=True)
class WorldFacts:
    """The worlds of a synthetic run."""

    kind: str
    """Kind of world."""
    n_features: int
    """True features of each."""
    d_in: int
    """Dimensions that they live in."""
    l0: float
    """Expected number of active features per sample."""
    chance_cosine: float
    """Expected largest cosine of a true feature with a random dictionary of the arms' size."""


@dataclass(frozen=True)
class RunRecord:
    """A finished run without its rows."""

    target: str
    """What was checked."""
    design: Design
    """How the rows are judged, with L0 and dead share of every arm."""
    cells: tuple[str, ...]
    """Keys of the cells that belong to the run."""
    manifest: Manifest
    """How to reproduce."""
    skipped: tuple[Skip, ...] = ()
    """What was not measured."""
    world: WorldFacts | None = None
    """The worlds of the synthetic suite, where the run has it."""
    lock: LockStatus | None = None
    """The plan that was registered before the run, and where the run departed from it."""
    asked: dict[str, Any] = field(default_factory=dict)
    """`identity` of the settings as they were given, before an SAE said anything of itself; empty in older records."""


@dataclass(frozen=True)
class Several:
    """A finished check of several SAEs: each has a finished run of its own in a subfolder."""

    target: str
    """What was checked."""
    members: dict[str, str]
    """Subfolder of each SAE, by its name."""
    skipped: tuple[Skip, ...]
    """SAEs that could not be checked."""
    manifest: Manifest
    """How to reproduce."""
    policy: Policy = field(default_factory=Policy)
    """What follows from the verdict."""
    lock: LockStatus | None = None
    """The plan that was registered before the run, and where the run departed from it."""
    asked: dict[str, Any] = field(default_factory=dict)
    """`identity` of the settings as they were given, before an SAE said anything of itself; empty in older records."""


_ADAPTER = TypeAdapter(RunRecord)
_SEVERAL = TypeAdapter(Several)


def identity(settings: Settings) -> dict[str, Any]:
    """Everything that a user or a developer can choose and that decides a verdict: settings, margins, decision rule."""
    from ..suites.suite import suite_classes  # late: it loads torch, which `report` does without
    from .synthetic.design import MARGIN, METRIC

    known = suite_classes()
    own = {name: (known[name].metric, known[name].margin) for name in settings.suites if name in known}
    own |= {synthetic.SUITE: (METRIC, MARGIN)} if synthetic.SUITE in settings.suites else {}
    margins = {name: [metric, settings.policy.margin(name, margin)] for name, (metric, margin) in own.items()}
    rule = {"alpha": ALPHA, "l0_tolerance": L0_TOLERANCE, "version": RULE_VERSION, "margins": margins}
    # A second judge enters no score: a check that is given one goes on with the answers that it has.
    shown = {name: value for name, value in settings.model_dump(mode="json").items() if name not in _NO_VERDICT}
    shown = {name: value for name, value in shown.items() if (name, value) not in _AS_BEFORE.items()}
    # What follows from a verdict is no part of it, and a policy that asks for nothing is none.
    shown |= {name: value for name, value in flat_policy(settings.policy).items() if name in _POLICY_OF_VERDICT}
    # A value that was given wins over what an SAE says of itself, the same value by default does not.
    return shown | {"rule": rule, "given": overrides(settings)}


def overrides(settings: Settings) -> list[str]:
    """Settings that the user gave and a given SAE would else decide; none where the target is a recipe."""
    from .subject import TARGETS

    return [] if settings.target in TARGETS else sorted(settings.given & DECIDED_BY_SAE)


def config_hash(settings: Settings) -> str:
    """Hash of `identity`."""
    return content_key(identity(settings))


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and of `packages`; "not installed" for one that is missing."""
    return {"python": platform.python_version()} | {name: _version(name) for name in packages}


def command_line(settings: Settings, defaults: Settings, results: Path) -> str:
    """Return the command that reproduces a run: the flags that differ from the profile's defaults."""
    flags = ["sae-sanity", "check", settings.target, "--profile", settings.profile]
    before = defaults.model_dump()
    for name, value in settings.model_dump(exclude={"policy"}).items():
        if name not in ("target", "profile") and (value != before[name] or name in overrides(settings)):
            shown = ",".join(f"{v}" for v in value) if isinstance(value, tuple) else f"{value}"
            flags += [f"--{name.replace('_', '-')}", shown] if name in FLAGS else ["--set", f"{name}={shown}"]
    for name, value in flat_policy(settings.policy).items():
        flags += ["--set", f"{name}={','.join(value) if isinstance(value, list) else value}"]
    return shlex.join([*flags, "--results", str(results)])


def make_manifest(
    settings: Settings,
    command: tuple[Settings, Settings, Path],
    hashes: Mapping[str, str],
    notes: tuple[str, ...],
    recipe: Mapping[str, str],
) -> Manifest:
    """Collect what another person needs to get the same numbers.

    Args:
        settings: what was run, with what the SAE says of itself.
        command: what was asked for, the defaults of its profile, and the results folder.
        hashes: sha256 of models, texts and weights.
        notes: what was excluded.
        recipe: what is known of how the SAE was made, and from where.
    """
    return Manifest(
        command=command_line(*command),
        config_hash=config_hash(settings),
        settings=settings.model_dump(mode="json", exclude={"policy"}) | flat_policy(settings.policy),
        versions=versions(),
        hashes=dict(hashes),
        notes=notes,
        recipe=dict(recipe),
    )


def save_record(folder: Path, record: RunRecord) -> None:
    """Write the record atomically."""
    write_atomically(folder / FILE, _ADAPTER.dump_json(record, indent=1) + b"\n")


def save_several(folder: Path, several: Several) -> None:
    """Write the list of SAEs atomically."""
    write_atomically(folder / SEVERAL, _SEVERAL.dump_json(several, indent=1) + b"\n")


def load_record(folder: Path) -> RunRecord:
    """Read the record of a finished run.

    Raises:
        UsageError: when the folder holds none, or a damaged one.
    """
    path = folder / FILE
    if not path.is_file():
        how = f"finish it with `sae-sanity check … --results {folder}`"
        raise UsageError(f"{folder} holds no finished run: there is no {FILE} in it; {how}")
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path} is damaged ({error.error_count()} errors); run the same check again") from None


def report_of(
    folder: Path,
    *,
    lock: LockStatus | None = None,
    since: RunComparison | None = None,
    rules: Ruling | None = None,
) -> CheckReport:
    """Judge the stored rows of a finished run, or of all runs of a check of several SAEs.

    Args:
        folder: Results folder.
        lock: A registered plan in the place of the one that the run was held against.
        since: The same against an earlier run.
        rules: A policy in the place of the one that the run was made with.

    Raises:
        UsageError: when the run is not finished, a cell is damaged, or the policy asks for what was not run.
    """
    several = (folder / SEVERAL).is_file()
    record = load_several(folder / SEVERAL) if several else load_record(folder)
    record = replace(record, lock=lock or _lock_under(rules, folder, record))
    if isinstance(record, Several):
        return several_report(folder, record, since=since, rules=rules)
    return single_report(folder, rules.over(record) if rules else record, since=since)


def _lock_under(rules: Ruling | None, folder: Path, record: RunRecord | Several) -> LockStatus | None:
    """What was found of the registered plan, and what another policy has judged otherwise."""
    if rules is None or record.lock is None:
        return record.lock
    if isinstance(record, Several):
        runs = {f"{name}: ": load_record(folder / place) for name, place in record.members.items()}
    else:
        runs = {"": record}
    lines = [f"{prefix}{line}" for prefix, run in runs.items() for line in rules.departures(run)]
    return record.lock.model_copy(update={"departures": (*record.lock.departures, *lines)})


def single_report(folder: Path, record: RunRecord, *, since: RunComparison | None = None) -> CheckReport:
    """Judge the stored rows of one finished run.

    Raises:
        UsageError: when a cell is damaged.
    """
    suites = judged(folder, record)
    return conclude(
        suites,
        target=record.target,
        skipped=record.skipped,
        manifest=record.manifest,
        policy=record.design.policy,
        lock=record.lock,
        since=since,
        latents=chosen_latents(folder, record),
    )


def several_report(
    folder: Path, several: Several, *, since: RunComparison | None = None, rules: Ruling | None = None
) -> CheckReport:
    """Judge all SAEs of a check together: one verdict, Holm across all of their suites.

    An SAE that could not be checked leaves the check incomplete, whatever the others say.

    Raises:
        UsageError: when a run is not finished or a cell is damaged.
    """
    suites: list[SuiteResult] = []
    skipped: list[Skip] = list(several.skipped)
    notes: dict[str, None] = {}
    hashes: dict[str, str] = {}
    recipe: dict[str, str] = {}
    for name, place in several.members.items():
        record = load_record(folder / place)
        record = rules.over(record) if rules else record
        suites += [s.model_copy(update={"subject": name}) for s in judged(folder / place, record)]
        skipped += [Skip(what=f"{name}: {skip.what}", reason=skip.reason) for skip in record.skipped]
        notes |= dict.fromkeys(record.manifest.notes)
        hashes |= {f"{name}: {what}": value for what, value in record.manifest.hashes.items()}
        recipe |= {f"{name}: {what}": value for what, value in record.manifest.recipe.items()}
    manifest = several.manifest.model_copy(update={"notes": tuple(notes), "hashes": hashes, "recipe": recipe})
    return conclude(
        with_holm(suites),
        target=several.target,
        skipped=skipped,
        manifest=manifest,
        policy=rules.policy if rules else several.policy,
        lock=several.lock,
        since=since,
        incomplete=tuple(skip.what for skip in several.skipped),
    )


def judged(folder: Path, record: RunRecord) -> tuple[SuiteResult, ...]:
    """Analyse the rows of one finished run.

    Raises:
        UsageError: when a cell is damaged.
    """
    rows = rows_of(folder, record)
    results = analyse(rows, record.design)
    return tuple(_with_detail(result, rows, record.world) for result in results)


def rows_of(folder: Path, record: RunRecord) -> pd.DataFrame:
    """Score rows of one finished run, columns as in `scores.COLUMNS`.

    Raises:
        UsageError: when a cell is damaged.
    """
    store = Store(folder)
    try:
        frames: list[Any] = [store.read(key) for key in record.cells]
    except CorruptCell as error:
        raise UsageError(str(error)) from None
    # Without any cell where the only suite's judge could not be asked.
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=pd.Index(COLUMNS))


def latents_of(folder: Path) -> tuple[LatentSeen, ...]:
    """What people may look at of a finished run, in the order of its cells.

    Raises:
        UsageError: when the run is not finished, asked no judge, or a file is damaged.
    """
    if seen := _latents(folder, load_record(folder)):
        return seen
    raise UsageError(f"{folder} holds no latents to look at: only a check with --suites autointerp leaves some")


def chosen_latents(folder: Path, record: RunRecord) -> tuple[SideBySide, ...]:
    """The latents that a report shows; none where no judge was asked.

    Raises:
        UsageError: when a file is damaged.
    """
    seen = _latents(folder, record)
    return tuple(choose(seen)) if seen else ()


def _latents(folder: Path, record: RunRecord) -> tuple[LatentSeen, ...]:
    paths = [latents_path(folder / LATENTS, key) for key in record.cells]
    try:
        seen = [read_latents(path) for path in paths if path.is_file()]
    except DamagedLatents as error:
        raise UsageError(str(error)) from None
    return tuple(one for each in seen for one in each)


def _with_detail(result: SuiteResult, rows: pd.DataFrame, world: WorldFacts | None) -> SuiteResult:
    """Add what the suites `hard_probing` and `synthetic` show beside their verdicts."""
    if result.suite == hard_probing.SUITE:
        return hard_probing.with_gains(result, rows)
    if world is None or result.suite != synthetic.SUITE:
        return result
    detail = synthetic.summarise(
        rows,
        world=world.kind,
        n_features=world.n_features,
        d_in=world.d_in,
        true_l0=world.l0,
        chance_mean_cosine=world.chance_cosine,
    )
    return result.model_copy(update={"detail": detail})


def load_several(path: Path) -> Several:
    """Read the list of SAEs of a finished check.

    Raises:
        UsageError: when it is damaged.
    """
    try:
        return _SEVERAL.validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path} is damaged ({error.error_count()} errors); run the same check again") from None
