"""From the rows of a synthetic run to its report, with everything on disk that `report` needs to say it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...results.design import ALPHA, L0_TOLERANCE
from ...results.outcome import CheckReport, Manifest, Skip
from ...results.store import Store, content_key
from ...suites.synthetic import expected_max_cosine
from ..design import left_out_nulls
from ..estimate import expected_in_worlds
from ..lock import locked
from ..progress import Progress
from ..record import RULE_VERSION, RunRecord, WorldFacts, save_record, single_report, versions
from ..timing import timed
from .config import PRESETS, SyntheticSettings, check_rates
from .design import MARGIN, METRIC, synthetic_design
from .memory import refuse_what_does_not_fit
from .run import Measured, SyntheticRunner, Watch, synthetic_plan

if TYPE_CHECKING:
    from ..plan import Plan


def run_synthetic(
    settings: SyntheticSettings, folder: Path | None, progress: Progress, *, watch: Watch | None = None
) -> CheckReport:
    """Run or resume a synthetic recipe and return its report, which is judged from what is on disk.

    Args:
        settings: the resolved settings.
        folder: results folder; None for the default one.
        progress: told about every stage.
        watch: told about every step of training.

    Raises:
        UsageError: for bad input or a world that does not fit into memory; nothing has been written then.
        StoreError: for a results folder that belongs to another configuration or cannot be written.
    """
    plan = refuse_what_cannot_run(settings)
    folder = folder or default_folder(settings)
    Store(folder).claim(config_hash(settings), identity(settings))
    with locked(folder), timed(progress, expected_in_worlds(settings)) as told:
        measured = SyntheticRunner(settings, folder, told, watch).run()
    record = record_of(settings, plan, measured, folder)
    save_record(folder, record)
    return single_report(folder, record)


def refuse_what_cannot_run(settings: SyntheticSettings, available: int | None = None) -> Plan:
    """Plan a run, and refuse one that would fail later; nothing is written.

    Args:
        settings: the resolved settings.
        available: bytes that it may use; all that are free by default.

    Raises:
        UsageError: for a run that does not fit into memory, or worlds whose rates cannot be.
    """
    plan = synthetic_plan(settings)
    refuse_what_does_not_fit(settings, plan, available)
    check_rates(settings)  # after it: rates of a world that does not fit would not fit either
    return plan


def add_to_check(settings: SyntheticSettings, folder: Path, record: RunRecord, progress: Progress) -> RunRecord:
    """Run the suite in the folder of a check, and put its cells and design beside those of the other suites.

    Raises:
        UsageError: for a world that does not fit into memory.
    """
    plan = synthetic_plan(settings)
    measured = SyntheticRunner(settings, folder, progress).run()
    design = synthetic_design(plan, measured.facts, record.design.policy)
    manifest = record.manifest.model_copy(
        update={
            "hashes": record.manifest.hashes | {f"weights/{name}": sha for name, sha in measured.hashes.items()},
            "notes": (*record.manifest.notes, *(f"synthetic: {note}" for note in notes(settings))),
        }
    )
    both = replace(
        record.design,
        suites=(*record.design.suites, *design.suites),
        facts=(*record.design.facts, *design.facts),
    )
    return replace(
        record,
        design=both,
        cells=(*record.cells, *measured.cells),
        manifest=manifest,
        skipped=_once((*record.skipped, *plan.skipped, *left_out_nulls(plan, design))),
        world=world_facts(settings),
    )


def _once(skips: Sequence[Skip]) -> tuple[Skip, ...]:
    """Suites of one check leave the same arms out for the same reasons."""
    return tuple(skip for i, skip in enumerate(skips) if skip not in skips[:i])


def identity(settings: SyntheticSettings) -> dict[str, object]:
    """Everything that can be chosen and decides a verdict."""
    rule = {
        "alpha": ALPHA,
        "l0_tolerance": L0_TOLERANCE,
        "version": RULE_VERSION,
        "margins": {"synthetic": [METRIC, MARGIN]},
    }
    return settings.model_dump(mode="json") | {"rule": rule, "target": target(settings)}


def config_hash(settings: SyntheticSettings) -> str:
    """Hash of `identity`."""
    return content_key(identity(settings))


def target(settings: SyntheticSettings) -> str:
    """What the report says was checked: a recipe."""
    return f"{settings.architecture} in {settings.world} worlds"


def default_folder(settings: SyntheticSettings) -> Path:
    """One results folder per configuration, so that the same command finds its own results again."""
    name = f"synthetic-{settings.world}-{settings.architecture}-{settings.preset}-{config_hash(settings)[:8]}"
    return Path("sae-sanity-results") / name


def command_line(settings: SyntheticSettings, folder: Path) -> str:
    """Return the command that reproduces a run: the flags that differ from the preset's defaults."""
    before = SyntheticSettings.model_validate(PRESETS[settings.preset]).model_dump()
    parts = ["sae-sanity", "synthetic", "--world", settings.world, "--preset", settings.preset]
    for name, value in settings.model_dump().items():
        if name not in ("world", "preset") and value != before[name]:
            shown = ",".join(f"{v}" for v in value) if isinstance(value, tuple) else f"{value}"
            parts += [f"--{name.replace('_', '-')}", shown]
    return shlex.join([*parts, "--results", str(folder)])


def record_of(settings: SyntheticSettings, plan: Plan, measured: Measured, folder: Path) -> RunRecord:
    """All of a finished run but its rows."""
    shown = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.model_dump(mode="json").items()}
    manifest = Manifest(
        command=command_line(settings, folder),
        config_hash=config_hash(settings),
        settings=shown,
        versions=versions(),
        hashes=measured.hashes,
        notes=notes(settings),
    )
    design = synthetic_design(plan, measured.facts)
    skipped = (*plan.skipped, *left_out_nulls(plan, design))
    return RunRecord(target(settings), design, measured.cells, manifest, skipped, world_facts(settings))


def world_facts(settings: SyntheticSettings) -> WorldFacts:
    """What the report says about the worlds."""
    chance = expected_max_cosine(settings.d_in, settings.width)
    return WorldFacts(settings.world, settings.n_features, settings.d_in, settings.world_l0, chance)


def notes(settings: SyntheticSettings) -> tuple[str, ...]:
    """What a reader must know that no table says."""
    steps = settings.samples // settings.batch_size
    return (
        f"{settings.worlds} worlds; every arm: {steps} steps of {settings.batch_size} new samples, lr {settings.lr:g}",
        "@oracle and @chance: the true and a random dictionary in the untrained, tied encoder of the architecture, L0 "
        "matched, with the one decoder scale that reconstructs best; a trained encoder may do better than @oracle",
    )
