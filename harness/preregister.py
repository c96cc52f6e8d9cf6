"""A plan that is registered before the run: `plan --lock` writes it, `check` and `report` hold the run against it.

A lock says what was meant to be done; it never changes what is done, where results lie, or a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ..results.decision import LockStatus
from ..results.files import write_atomically, write_output
from ..results.frozen import Frozen
from ..results.store import CorruptCell, Store, content_key
from .config import profile_defaults
from .errors import UsageError
from .profiles import PROFILES
from .record import SEVERAL, load_record, load_several

if TYPE_CHECKING:
    from pathlib import Path

    from ..results.design import Design, SuiteDesign
    from .policies import Ruling
    from .record import RunRecord, Several

NOT_CHOSEN = frozenset({"device"})
"""Settings that are no choice of an analysis: a plan may be registered on a machine that has no GPU."""

_JUDGED = ("metric", "margin", "votes", "required")
"""What is registered of how a suite is judged."""

KNOWN = "registered.json"
"""File of a results folder that says which registered plan the run knew before its first score."""

_LONGEST = 80
"""Longer values are cut in a departure: it is one line."""


class PlannedSuite(Frozen):
    """What is registered of one suite on one SAE."""

    metric: str
    """Primary metric."""
    margin: float
    """Equivalence margin, in score units."""
    votes: bool
    """Whether the verdict of the check needs BEATS here."""
    required: tuple[str, ...]
    """Arms that must be beaten."""
    arms: dict[str, int]
    """Seeds of every arm that is compared."""
    clusters: int
    """Clusters (documents, families, entities, worlds; latents of each SAE where they are sampled)."""
    detectable: float | None
    """Smallest difference that it was expected to find with 80 % power; null where nothing was known of variances."""


class Lock(Frozen):
    """A registered plan."""

    schema_version: Literal[1] = 1
    """Version of this file's layout."""
    config_hash: str
    """Hash of the configuration, as results folders and reports show it."""
    identity: dict[str, Any]
    """Everything that decides a verdict: settings, margins, decision rule."""
    saes: dict[str, dict[str, PlannedSuite]]
    """Suites by SAE; the name is empty for a recipe."""
    sha256: str = ""
    """Hash of all the rest."""

    def content_hash(self) -> str:
        """sha256 of the canonical content, whatever the layout of the file."""
        return content_key(self.model_dump(mode="json", exclude={"sha256"}))


def read_lock(path: Path) -> Lock:
    """Read a registered plan.

    Raises:
        UsageError: when it is missing, damaged, or was changed after it was registered.
    """
    try:
        lock = Lock.model_validate_json(path.read_bytes())
        whole = lock.content_hash()
    except OSError as error:
        how = f"`sae-sanity plan TARGET … --lock {path}` writes one"
        raise UsageError(f"registered plan {path} cannot be read ({error.strerror}); {how}") from None
    except (ValidationError, ValueError):  # without its words: they would quote a file that may be anything
        raise UsageError(f"registered plan {path} is damaged, or not what `plan --lock` wrote") from None
    if lock.sha256 != whole:
        raise UsageError(
            f"registered plan {path} was changed after it was registered: its sha256 is of another content"
        )
    return lock


def write_lock(path: Path, lock: Lock) -> bool:
    """Register a plan, once.

    Returns:
        Whether the file was written; False where it held the same plan, which is left as it is.

    Raises:
        UsageError: when the file holds another plan, no plan, or cannot be written.
    """
    if path.exists():
        if difference := next(_differences(read_lock(path), lock), ""):
            raise UsageError(f"--lock is {path}, which holds another registered plan: {difference}; name another file")
        return False
    whole = lock.model_copy(update={"sha256": lock.content_hash()})
    try:
        write_output(path, whole.model_dump_json(indent=1).encode() + b"\n")
    except OSError as error:
        raise UsageError(f"--lock is {path}: it cannot be written ({error.strerror})") from None
    return True


def note_plan(lock: Lock | None, folder: Path) -> None:
    """Keep in a results folder that its run knows a registered plan; nothing where it has scores already.

    A run that was begun without a plan may have been seen by whoever wrote one.
    """
    if lock is None or any(chain(folder.glob("cells/*.json"), folder.glob("*/cells/*.json"))):
        return
    write_atomically(folder / KNOWN, json.dumps({"sha256": lock.sha256}).encode() + b"\n")


def _knew(lock: Lock, folder: Path) -> bool:
    try:
        return json.loads((folder / KNOWN).read_bytes())["sha256"] == lock.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return False


def status_of_run(lock: Lock, folder: Path, record: RunRecord) -> LockStatus:
    """Hold a registered plan against the finished run of one SAE or recipe, as that is judged.

    Raises:
        UsageError: when a cell is damaged.
    """
    differing = _identities(lock, folder, record)
    lines = list(differing.values())
    if len(lock.saes) == 1:
        lines += _departures(next(iter(lock.saes.values())), lock, folder, record, differing)
    else:
        lines.append(f"{len(lock.saes)} SAEs registered, one checked")
    return LockStatus(sha256=lock.sha256, departures=tuple(lines), before=_knew(lock, folder))


def status_of_several(lock: Lock, folder: Path, several: Several, rules: Ruling | None = None) -> LockStatus:
    """Hold a registered plan against a finished check of several SAEs.

    Args:
        lock: The plan.
        folder: Results folder.
        several: What lies in it.
        rules: The policy by which it is judged, where that is not its own.

    Raises:
        UsageError: when a run is not finished or a cell is damaged.
    """
    differing = _identities(lock, folder, several)
    lines = list(differing.values())
    for name, planned in lock.saes.items():
        if name in several.members:
            place = folder / several.members[name]
            record = load_record(place)
            record = rules.over(record) if rules else record
            lines += [f"{_plain(name)}: {line}" for line in _departures(planned, lock, place, record, differing)]
        else:
            lines.append(f"{_plain(name)}: registered, not checked")
    lines += [f"{_plain(name)}: checked, not registered" for name in several.members if name not in lock.saes]
    return LockStatus(sha256=lock.sha256, departures=tuple(lines), before=_knew(lock, folder))


def status_in(lock: Lock, folder: Path, rules: Ruling | None = None) -> LockStatus:
    """Hold a registered plan against a results folder, whether or not the run knew of it.

    Args:
        lock: The plan.
        folder: Results folder.
        rules: The policy by which it is judged, where that is not its own.

    Raises:
        UsageError: when the folder holds no finished run, or a damaged one.
    """
    if (folder / SEVERAL).is_file():
        return status_of_several(lock, folder, load_several(folder / SEVERAL), rules)
    record = load_record(folder)
    return status_of_run(lock, folder, rules.over(record) if rules else record)


def _identities(lock: Lock, folder: Path, record: RunRecord | Several) -> dict[str, str]:
    """What was asked otherwise than registered, one line each by its name."""
    # Older records do not say what was asked, but the folder says what it belongs to: the same, for a recipe.
    asked = record.asked or _claimed(folder)
    return {
        name: f"{name}: registered {there}, run with {here}" for name, there, here in _differing(lock.identity, asked)
    }


def _claimed(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "store.json").read_bytes())["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder} does not say by which settings it was run: its store.json is damaged") from None


def _departures(
    planned: Mapping[str, PlannedSuite], lock: Lock, folder: Path, record: RunRecord, said: Container[str]
) -> Iterator[str]:
    """What was measured or is judged otherwise than registered, one line each, without what `said` has already."""
    yield from _judged_otherwise(planned, lock, record.design, said)
    yield from _unscored(planned, folder, record)
    yield from _clusters(planned, folder, record)


def _judged_otherwise(
    planned: Mapping[str, PlannedSuite], lock: Lock, design: Design, said: Container[str]
) -> Iterator[str]:
    rule = lock.identity.get("rule")
    alpha = rule.get("alpha") if isinstance(rule, Mapping) else None
    if alpha != design.alpha and "rule.alpha" not in said:
        yield f"alpha: registered {_cut(json.dumps(alpha))}, judged with {design.alpha}"
    judged = {suite.suite: suite for suite in design.suites}
    for name, plan in planned.items():
        if name not in judged:
            yield f"{_plain(name)}: registered, not judged"
            continue
        there, here = plan.model_dump(mode="json"), {field: getattr(judged[name], field) for field in _JUDGED}
        for field in _JUDGED:
            if f"{field} of {name}" not in said and _sorted(there[field]) != _sorted(here[field]):
                yield f"{_plain(name)}: {field} registered {_value(there, field)}, judged with {_value(here, field)}"
    if "suites" not in said:
        yield from (f"{_plain(name)}: judged, not registered" for name in judged if name not in planned)


def _sorted(value: object) -> object:
    return sorted(value) if isinstance(value, list | tuple) else value


def _clusters(planned: Mapping[str, PlannedSuite], folder: Path, record: RunRecord) -> Iterator[str]:
    """Suites with more or fewer clusters than registered, where their number is known before there is a score.

    It is not where latents are sampled, or entities must be known to the model.
    """
    for suite in record.design.suites:
        if suite.suite not in planned or suite.sampled or suite.trials:
            continue
        expected, measured = planned[suite.suite].clusters, _clusters_of(suite, folder, record)
        if measured and measured != expected:
            yield f"{_plain(suite.suite)}: registered with {expected} clusters, scored with {measured}"


def _clusters_of(suite: SuiteDesign, folder: Path, record: RunRecord) -> int:
    store, found = Store(folder), set()
    try:
        for key in record.cells:
            cell = store.manifest(key)
            if (cell.get("suite"), cell.get("arm")) == (suite.suite, record.design.trained):
                rows = store.read(key)
                found |= set(rows.loc[rows["metric"] == suite.metric, "cluster"])
    except CorruptCell as error:
        raise UsageError(str(error)) from None
    return len(found)


def _unscored(planned: Mapping[str, PlannedSuite], folder: Path, record: RunRecord) -> Iterator[str]:
    """Suites, arms and seeds that were registered and have no scores in the end, one line each."""
    store, found = Store(folder), {}
    try:
        for cell in map(store.manifest, record.cells):
            found.setdefault((cell.get("suite"), cell.get("arm")), set()).add(cell.get("seed"))
    except CorruptCell as error:
        raise UsageError(str(error)) from None
    for suite, plan in planned.items():
        if not any(name == suite for name, _ in found):
            yield f"{_plain(suite)}: registered, has no scores"
            continue
        for arm, seeds in plan.arms.items():
            measured = len(found.get((suite, arm), ()))
            if measured < seeds:
                yield f"{_plain(suite)}: {_plain(arm)} registered with {seeds} seeds, scored with {measured}"


def _differences(there: Lock, here: Lock) -> Iterator[str]:
    """What makes two plans different, one line each; what one expects to see of them is no part of the plan."""
    for name, old, new in _differing(there.identity, here.identity):
        yield f"{name} is {old} there and {new} here"
    plans = [
        {f"{sae} {suite}".strip(): one for sae, suites in lock.saes.items() for suite, one in suites.items()}
        for lock in (there, here)
    ]
    for name in sorted({*plans[0], *plans[1]}):
        both = [plan[name].model_dump(exclude={"detectable"}) if name in plan else {} for plan in plans]
        for field, old, new in _differing(*both):
            yield f"{field} of {_plain(name)} is {old} there and {new} here"


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Names whose values differ, with both values as one line shows them."""
    ours, theirs = _flat(here), _flat(there)
    suites = {name for name in ("suites",) if ours.get(name) != theirs.get(name)}
    for name in dict.fromkeys([*theirs, *ours]):
        # Where the suites differ, that says it; the margins of suites that only one has are no news.
        if suites and name.startswith(("margin of ", "metric of ")) and not (name in ours and name in theirs):
            continue
        if (name in ours) != (name in theirs) or ours.get(name) != theirs.get(name):
            yield _plain(name), _value(theirs, name), _value(ours, name)


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """One level of names, without what is no choice; margins by suite."""
    found = _defaults(identity) | {name: value for name, value in identity.items() if name != "rule"}
    found = {name: value for name, value in found.items() if name not in NOT_CHOSEN}
    rule = identity.get("rule")
    if not isinstance(rule, Mapping):
        return found
    for name, value in rule.items():
        if name == "margins" and isinstance(value, Mapping):
            for suite, pair in value.items():
                metric, margin = pair if isinstance(pair, list | tuple) and len(pair) == 2 else (None, pair)
                found |= {f"metric of {suite}": metric, f"margin of {suite}": margin}
        else:
            found[f"rule.{name}"] = value
    return found


def _defaults(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a version did not have are those of its profile: an update alone is no departure."""
    profile = identity.get("profile")
    known = profile_defaults(profile).model_dump(mode="json") if profile in PROFILES else {}
    return {name: value for name, value in known.items() if name not in ("policy", "target")}


def _value(values: Mapping[str, Any], name: str) -> str:
    """A value in one short line, control characters escaped."""
    return _cut(json.dumps(values[name])) if name in values else "nothing"


def _plain(name: str) -> str:
    """A name from a file, without what a terminal would obey."""
    return _cut(json.dumps(name)[1:-1])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
