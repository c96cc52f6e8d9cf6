"""Two results folders, compared: first whether they measured the same, then item by item."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..results.decision import RunComparison
from ..results.run_comparison import NotComparable, RunScores, compare_runs
from ..results.synthetic import SUITE as SYNTHETIC
from .adopt import DECIDED_BY_SAE
from .errors import UsageError, unknown
from .record import SEVERAL, RunRecord, load_record, load_several, rows_of

if TYPE_CHECKING:
    from .config import Settings

COMMON = ("hook_name", "context_size", "prepend_bos", "seed", "arithmetic", "activation_precision")
"""Settings that decide the items of every suite at a site of a language model."""

BY_SUITE: Mapping[str, tuple[str, ...]] = {
    "reconstruction": ("held_out_documents",),
    "sparse_probing": ("probe_datasets", "probe_prompts"),
    "hard_probing": ("probe_datasets", "probe_prompts", "probe_conditions"),
    "autointerp": ("judge", "detection_examples", "hard_negatives", "early_stop"),
    "causal_editing": (
        *("ravel", "ravel_entity", "ravel_attributes"),
        *("editing_entities", "editing_pairs", "editing_sources", "masks", "error_term"),
    ),
}
"""Settings that decide what one suite asks and how it scores."""

TEXTS: Mapping[str, tuple[str, ...]] = {
    "reconstruction": ("texts/held_out",),
    "autointerp": ("texts/held_out", "texts/calibration"),
}
"""Texts that a suite reads. Those that an SAE was trained on are part of how it was made."""

OF_THE_SAE = ("target", "architecture", "d_sae", "l0", "tokens", "batch_size", "lr", "calibration_tokens", "device")
"""Settings that may differ: they are what is compared. A reader is told of each."""

COMPUTING = ("torch", "transformers", "nnsight")
"""Packages whose versions are in the fingerprint of a site, and alter only the last digits of an activation."""

WORLD = ("kind", "n_features", "d_in", "l0")
"""What makes two synthetic worlds the same, besides their seed."""


@dataclass(frozen=True)
class Pair:
    """One SAE in two runs."""

    name: str
    """The SAE, where checks have several; else empty."""
    folders: tuple[Path, Path]
    """Results folders, ours first."""
    records: tuple[RunRecord, RunRecord]
    """What the runs left beside their rows."""


def compare_folders(ours: Path, theirs: Path, *, suites: Collection[str] = ()) -> RunComparison:
    """Compare the SAEs under test of two finished checks: ours minus theirs.

    Args:
        ours: A results folder.
        theirs: The other one.
        suites: Suites to compare; all that both have where it is empty.

    Raises:
        UsageError: When both are one folder, a run is not finished or damaged, or texts, probes, prompts, language
            model or judge differ: in one line, naming what and both values.
    """
    check_two_runs(ours, theirs)
    pairs, skipped = _pairs(ours, theirs)
    _known_suites(pairs, suites)
    names = _names(ours, theirs)
    notes: list[str] = []
    for pair in pairs:
        shared = _shared(pair, suites)
        _refuse(pair, names, shared)
        notes += _notes(pair, names, shared)
    try:
        scores = [tuple(_scores(pair, i, names) for i in (0, 1)) for pair in pairs]
        return compare_runs(
            [(mine, other) for mine, other in scores],
            ours=names[0],
            theirs=names[1],
            skipped=skipped,
            notes=notes,
            suites=suites,
        )
    except NotComparable as error:
        raise _different(str(error)) from None


def check_two_runs(ours: Path, theirs: Path) -> None:
    """Refuse to hold a results folder against itself, which finds every SAE the same.

    The default folder is named by the configuration, without the weights: another release of the same target, checked
    alike, goes to the folder of the one before.

    Raises:
        UsageError: When both are one folder, by whatever names.
    """
    if ours.resolve() == theirs.resolve():
        raise UsageError(
            f"{theirs} is the run's own results folder, so there is nothing to compare it with; "
            "give each release a folder of its own with --results"
        )


def since(folder: Path, other: Path) -> RunComparison:
    """What `--baseline-run` shows: the check in a folder against an earlier one.

    Raises:
        UsageError: as for `compare_folders`.
    """
    return compare_folders(folder, other)


def check_comparable(settings: Settings, other: Path) -> None:
    """Refuse a baseline run that settings alone show to be another measurement, before anything is computed.

    What an SAE says of itself, and what only data show, is asked again afterwards by `since`.

    Args:
        settings: of the check that is about to run.
        other: results folder of the earlier run.

    Raises:
        UsageError: When the earlier run is not finished, or a setting that decides the items differs.
    """
    from .subject import TARGETS

    ours = settings.model_dump(mode="json")
    open_yet = set() if settings.target in TARGETS else DECIDED_BY_SAE - settings.given
    for name, _, record in _members(other):
        shared = [suite.suite for suite in record.design.suites if suite.suite in settings.suites]
        theirs = record.manifest.settings
        for setting, _ in _settings_of(shared):
            if setting not in open_yet and setting in theirs and not _same(ours[setting], theirs[setting]):
                where = f"{other} ({name})" if name else f"{other}"
                raise _different(_both(setting, ours[setting], "here", theirs[setting], where))


def _members(folder: Path) -> Iterator[tuple[str, Path, RunRecord]]:
    """Every SAE of a check, by its name."""
    if not (folder / SEVERAL).is_file():
        yield "", folder, load_record(folder)
        return
    for name, place in load_several(folder / SEVERAL).members.items():
        yield name, folder / place, load_record(folder / place)


def _pairs(ours: Path, theirs: Path) -> tuple[list[Pair], list[str]]:
    """SAEs of the same name in both, and a line for each of the others."""
    mine, other = ({name: (path, record) for name, path, record in _members(folder)} for folder in (ours, theirs))
    if ("" in mine) != ("" in other):
        several, one, found = (theirs, ours, other) if "" in mine else (ours, theirs, mine)
        place = next(iter(found.values()))[0]
        raise UsageError(
            f"{several} is a check of {len(found)} SAEs and {one} of one; name one of them, such as {place}"
        )
    both = [name for name in mine if name in other]
    pairs = [Pair(name, (mine[name][0], other[name][0]), (mine[name][1], other[name][1])) for name in both]
    lonely = [(name, ours) for name in mine if name not in other] + [(n, theirs) for n in other if n not in mine]
    return pairs, [f"{name}: only in {folder}" for name, folder in lonely]


def _names(ours: Path, theirs: Path) -> tuple[str, str]:
    """What the two are called: their folders, which differ even where the target is the same."""
    return str(ours), str(theirs)


def _known_suites(pairs: list[Pair], suites: Collection[str]) -> None:
    known = {suite.suite for pair in pairs for record in pair.records for suite in record.design.suites}
    for name in suites:
        if name not in known:
            raise unknown("suite of these runs", name, known)


def _shared(pair: Pair, suites: Collection[str]) -> list[str]:
    """Suites that both runs have and that are asked for."""
    mine, other = ({suite.suite for suite in record.design.suites} for record in pair.records)
    return sorted(name for name in mine & other if not suites or name in suites)


def _settings_of(shared: Collection[str]) -> list[tuple[str, str]]:
    """Settings that must agree for these suites, each with the suite that asks for it."""
    found = {setting: suite for suite in shared for setting in BY_SUITE.get(suite, ())}
    at_site = next((suite for suite in shared if suite != SYNTHETIC), "")
    return [*((setting, at_site) for setting in COMMON if at_site), *found.items()]


def _refuse(pair: Pair, names: tuple[str, str], shared: Collection[str]) -> None:
    """Raise where the two did not measure the same."""
    mine, other = (record.manifest for record in pair.records)
    which = f"{pair.name}: " if pair.name else ""
    for setting, suite in _settings_of(shared):
        both = mine.settings.get(setting), other.settings.get(setting)
        # Older records lack settings that came later; the rows are paired exactly in any case.
        if setting in mine.settings and setting in other.settings and not _same(*both):
            raise _different(f"{which}{suite}: {_both(setting, both[0], names[0], both[1], names[1])}")
    if any(suite != SYNTHETIC for suite in shared):
        _refuse_site(pair, names, which)
    for suite in shared:
        for text in TEXTS.get(suite, ()):
            hashes = [manifest.hashes.get(text) for manifest in (mine, other)]
            if None not in hashes and hashes[0] != hashes[1]:
                raise _different(
                    f"{which}{suite}: {_both(f'sha256 of {text}', hashes[0], names[0], hashes[1], names[1])}"
                )
    if "autointerp" in shared:
        _refuse_judge(pair, names, which)
    if SYNTHETIC in shared:
        _refuse_world(pair, names, which)


def _refuse_site(pair: Pair, names: tuple[str, str], which: str) -> None:
    """The fingerprint of a site covers weights, tokenizer, hook, versions and device: only the last two may differ."""
    mine, other = (record.manifest for record in pair.records)
    sites = [manifest.hashes.get("site") for manifest in (mine, other)]
    if None in sites or sites[0] == sites[1] or _computed_otherwise(pair):
        return
    models = [manifest.settings.get("model") for manifest in (mine, other)]
    if None not in models and models[0] != models[1]:
        raise _different(f"{which}{_both('model', models[0], names[0], models[1], names[1])}")
    what = "sha256 of site (language model, its arithmetic, tokenizer and hook)"
    raise _different(f"{which}{_both(what, sites[0], names[0], sites[1], names[1])}")


def _computed_otherwise(pair: Pair) -> list[str]:
    """What besides the language model may have altered the fingerprint, in words."""
    mine, other = (record.manifest for record in pair.records)
    found = [
        f"{name} {mine.versions.get(name)} and {other.versions.get(name)}"
        for name in COMPUTING
        if mine.versions.get(name) != other.versions.get(name)
    ]
    devices = [str(manifest.settings.get("device")) for manifest in (mine, other)]
    return [*found, f"device {' and '.join(devices)}"] if devices[0] != devices[1] else found


def _refuse_judge(pair: Pair, names: tuple[str, str], which: str) -> None:
    """Another address may be the same judge: then the same model answered."""
    mine, other = (record.manifest for record in pair.records)
    urls = [manifest.settings.get("judge_url") for manifest in (mine, other)]
    answered = [_answered(record) for record in pair.records]
    if urls[0] != urls[1] and answered[0] != answered[1]:
        raise _different(f"{which}autointerp: {_both('judge_url', urls[0], names[0], urls[1], names[1])}")


def _answered(record: RunRecord) -> str:
    """Who has answered as the judge, as the run has noted it."""
    return next((note for note in record.manifest.notes if note.startswith("judge: ") and "answered as" in note), "")


def _refuse_world(pair: Pair, names: tuple[str, str], which: str) -> None:
    worlds = [record.world for record in pair.records]
    for field in WORLD:
        both = [getattr(world, field, None) for world in worlds]
        if both[0] != both[1]:
            raise _different(f"{which}synthetic: {_both(f'world {field}', both[0], names[0], both[1], names[1])}")


def _notes(pair: Pair, names: tuple[str, str], shared: Collection[str]) -> list[str]:
    """What differs and may."""
    mine, other = (record.manifest for record in pair.records)
    which = f"{pair.name}: " if pair.name else ""
    lines = [
        _both(setting, mine.settings[setting], names[0], other.settings[setting], names[1])
        for setting in OF_THE_SAE
        if setting in mine.settings and setting in other.settings and mine.settings[setting] != other.settings[setting]
    ]
    versions = sorted({*mine.versions, *other.versions})
    lines += [
        _both(f"version of {name}", mine.versions.get(name), names[0], other.versions.get(name), names[1])
        for name in versions
        if mine.versions.get(name) != other.versions.get(name)
    ]
    answered = [_answered(record) for record in pair.records]
    if "autointerp" in shared and answered[0] != answered[1]:
        lines.append(_both("who answered as the judge", answered[0], names[0], answered[1], names[1]))
    return [which + line for line in lines]


def _scores(pair: Pair, i: int, names: tuple[str, str]) -> RunScores:
    record = pair.records[i]
    return RunScores(names[i], record.design, rows_of(pair.folders[i], record), pair.name)


def _same(ours: object, theirs: object) -> bool:
    return _plain(ours) == _plain(theirs)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _both(what: str, ours: object, here: str, theirs: object, there: str) -> str:
    return f"{what} is {_shown(ours)} in {here} and {_shown(theirs)} in {there}".replace(" in here ", " here ")


def _shown(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return f"{text[:13]}…'" if len(text) == 66 else text


def _different(what: str) -> UsageError:
    return UsageError(f"the runs cannot be compared: {what}; measure both SAEs alike, or name other --suites")
