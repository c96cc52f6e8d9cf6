"""SAEBench's own evals on all arms of a finished check, and our results in SAEBench's format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..results.files import write_atomically
from ..results.outcome import Skip
from ..results.saebench_format import SaebenchSummary, to_json, to_saebench
from ..results.store import Store
from .errors import UsageError, unknown
from .library import on_disk
from .lock import locked
from .plan import ArmSeed
from .progress import Progress
from .record import FILE, SEVERAL, RunRecord, load_record, report_of

if TYPE_CHECKING:
    from ..suites.saebench import Evaluation, LanguageModel

FOLDER = "saebench"
SUMMARY = "summary.json"


def run_saebench(
    results: Path,
    evals: Sequence[str],
    progress: Progress,
    *,
    out: Path | None = None,
    arms: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    language_model: LanguageModel | None = None,
    device: str = "",
    judge_model: str = "",
) -> SaebenchSummary:
    """Run evals of SAEBench on the arms of a finished check; what is finished is not run again.

    Args:
        results: Folder of the check.
        evals: Names in `suites.saebench.EVALS`.
        progress: Told about every eval.
        out: Where to; `results/saebench` by default. It gets SAEBench's own JSON files in a folder per eval, what the
            SAEs share in `artefacts`, and `summary.json`.
        arms: Only these arms; all by default.
        options: Values for SAEBench's configurations, as `{"sparse_probing": {"k_values": [1, 5]}}`.
        language_model: By default the check's own.
        device: By default the check's own.
        judge_model: What AutoInterp asks the judge's server for; SAEBench's `gpt-4o-mini` by default.

    Returns:
        What was measured, in this run or before, and what could not be; it is in `summary.json` too.

    Raises:
        UsageError: An eval, an arm or an option that does not exist, or no finished check; nothing is written then.
    """
    record, options = _one_record(results), options or {}
    wanted = _evaluations(evals)
    saes = _wanted_saes(record, arms)
    missing = _validated(wanted, options)
    out = (out or results / FOLDER).absolute()
    _make(out)
    with locked(out):
        from .saebench_cells import Cells, Place

        place = Place(results, record, out, device or str(record.manifest.settings.get("device") or "cpu"))
        cells = Cells(place, [s for s in saes if on_disk(results, s)], options, progress, language_model, judge_model)
        summary = SaebenchSummary(
            target=record.target,
            cells=tuple(cell for e in wanted if e.name not in missing for cell in cells.run(e)),
            skipped=(*missing.values(), *_not_on_disk(results, saes), *cells.skipped),
        )
        write_atomically(out / SUMMARY, to_json(summary).encode())
    return summary


def write_saebench(folder: Path, out: Path) -> tuple[Path, ...]:
    """Write the results of a finished check in SAEBench's eval-output format, one file per suite, arm and seed.

    Args:
        folder: Folder of the check; of a check of several SAEs, all of them are written.
        out: Where to; there is a folder per suite in it, as SAEBench has one per eval.

    Returns:
        The files.

    Raises:
        UsageError: When the check is not finished or damaged, or `out` cannot be written.
    """
    return tuple(file for name, member in _members(folder) for file in _write_one(member, name, out))


def _one_record(results: Path) -> RunRecord:
    members = [place for _, place in _members(results)]
    if members != [results]:
        raise UsageError(
            f"{results} holds a check of {len(members)} SAEs; name the folder of one, such as {members[0]}"
        )
    return load_record(results)


def _evaluations(names: Sequence[str]) -> list[Evaluation]:
    from ..suites.saebench import EVALS

    for name in names:
        if name not in EVALS:
            raise unknown("SAEBench eval", name, EVALS)
    if not names:
        raise UsageError(f"no SAEBench eval is named; name some of {', '.join(EVALS)}")
    return [EVALS[name] for name in dict.fromkeys(names)]


def _wanted_saes(record: RunRecord, arms: Sequence[str]) -> list[ArmSeed]:
    saes = [ArmSeed(f.arm, f.seed) for f in record.design.facts]
    known = dict.fromkeys(s.arm for s in saes)
    for arm in arms:
        if arm not in known:
            raise unknown("arm of this check", arm, known)
    return [s for s in saes if not arms or s.arm in arms]


def _validated(wanted: Sequence[Evaluation], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Skip]:
    """Refuse options that do not exist before anything is written; say which evals cannot be imported."""
    from ..suites.saebench import NotInstalledError, OptionError, make_config

    names = [e.name for e in wanted]
    for name in options:
        if name not in names:
            raise unknown("eval in this run, to set options of", name, names)
    missing = {}
    for evaluation in wanted:
        try:
            make_config(evaluation, options.get(evaluation.name, {}), "any")
        except OptionError as error:
            raise UsageError(str(error)) from None
        except NotInstalledError as error:
            missing[evaluation.name] = Skip(what=evaluation.name, reason=str(error))
    return missing


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None


def _not_on_disk(results: Path, saes: Sequence[ArmSeed]) -> Iterator[Skip]:
    for sae in saes:
        if not on_disk(results, sae):
            yield Skip(what=f"{sae.arm} seed {sae.seed}", reason="SAELens cannot save its class, so it is not on disk")


def _members(folder: Path) -> list[tuple[str, Path]]:
    """Name and folder of each SAE of a check; the name is empty where there is one."""
    several = folder / SEVERAL
    if not several.is_file():
        return [("", folder)]
    return [(name, folder / place) for name, place in json.loads(several.read_bytes())["members"].items()]


def _write_one(folder: Path, name: str, out: Path) -> Iterator[Path]:
    record, report = load_record(folder), report_of(folder)
    rows = pd.concat([Store(folder).read(key) for key in record.cells], ignore_index=True)
    if name:
        report = report.model_copy(update={"target": f"{report.target}/{name}"})
    finished = (folder / FILE).stat().st_mtime_ns // 1_000_000
    configs = _configs(folder, record)
    for output in to_saebench(report, rows, finished_millis=finished, facts=record.design.facts, configs=configs):
        path = out / output.eval_type_id / output.file_name
        _make(path.parent)
        write_atomically(path, to_json(output).encode())
        yield path


def _configs(folder: Path, record: RunRecord) -> dict[tuple[str, int], dict[str, Any]]:
    saes = [(f.arm, f.seed) for f in record.design.facts]
    paths = {sae: folder / "arms" / sae[0] / f"seed-{sae[1]}" / "cfg.json" for sae in saes}
    return {sae: json.loads(path.read_text(encoding="utf-8")) for sae, path in paths.items() if path.is_file()}
