"""One check from settings to report: validate, prepare, run, judge."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from platformdirs import user_cache_path

from ..baselines import ARCHITECTURES
from ..results.outcome import CheckReport
from ..results.store import Store
from .config import Settings, profile_defaults
from .design import left_out_nulls
from .errors import UsageError, unknown
from .measures import check_suites, make_suites
from .plan import Plan, make_plan
from .progress import Progress
from .record import RunRecord, config_hash, identity, make_manifest, report_of, save_record
from .run import Runner
from .subject import TARGETS, make_subject


def cache_folder() -> Path:
    """Where converted models and activations are kept: SAE_SANITY_CACHE, or the user's cache folder."""
    return Path(os.environ.get("SAE_SANITY_CACHE") or user_cache_path("sae-sanity"))


def results_folder(settings: Settings) -> Path:
    """Default results folder: one per configuration, so that the same command finds its own results again."""
    return Path("sae-sanity-results") / f"{settings.target}-{settings.profile}-{config_hash(settings)[:8]}"


def validate(settings: Settings) -> Plan:
    """Refuse what cannot run, before anything is loaded or written.

    Raises:
        UsageError: for an unknown target, architecture, suite or baseline, or sizes that contradict each other.
    """
    if settings.target not in TARGETS:
        raise unknown("target", settings.target, TARGETS)
    if settings.architecture not in ARCHITECTURES:
        raise unknown("architecture", settings.architecture, ARCHITECTURES)
    check_suites(settings)
    if settings.l0 > settings.d_sae / 2:
        raise UsageError(f"l0 is {settings.l0:g} at d_sae {settings.d_sae}; it must be at most half of d_sae")
    if settings.architecture == "topk" and (settings.l0 < 1 or settings.l0 % 1):
        raise UsageError(f"l0 is {settings.l0:g} for topk, where it is k; it must be a whole number of at least 1")
    if settings.tokens < settings.batch_size:
        raise UsageError(f"tokens is {settings.tokens}; it must be at least batch_size, {settings.batch_size}")
    check_device(settings.device)
    return make_plan(settings)


def check_device(name: str) -> None:
    """Refuse a device that torch does not know or does not have.

    Raises:
        UsageError: saying which.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(".")[0]
        raise UsageError(f"device is {name!r}: {reason}; cpu always works") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a results folder, so that two checks cannot write it at once.

    Raises:
        UsageError: when another check holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"results folder {folder} is in use by another check; wait for it, or use another"
            ) from None
        yield


def _claim(settings: Settings, folder: Path, *, only_look: bool) -> None:
    if only_look and not (folder / "store.json").exists():
        nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise UsageError(f"results folder {folder} cannot be written: {nearest} is not a writable folder")
        return
    Store(folder).claim(config_hash(settings), identity(settings))


def run_check(settings: Settings, folder: Path | None, progress: Progress) -> CheckReport:
    """Run or resume a check and return its report, which is judged from what is on disk.

    Args:
        settings: the resolved settings.
        folder: results folder; None for the default one.
        progress: told about every stage.

    Raises:
        UsageError: for bad input; nothing has been written then.
        StoreError: for a results folder that belongs to another configuration or cannot be written.
    """
    plan = validate(settings)
    folder = folder or results_folder(settings)
    _claim(settings, folder, only_look=True)
    try:
        subject = make_subject(settings, cache_folder(), progress)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    _claim(settings, folder, only_look=False)
    with locked(folder):
        outcome = Runner(plan, subject, make_suites(settings, subject), folder, progress).run()
    hashes = subject.hashes | {f"weights/{name}": value for name, value in outcome.hashes.items()}
    manifest = make_manifest(settings, profile_defaults(settings.profile), folder, hashes, subject.notes)
    skipped = left_out_nulls(plan, outcome.design)
    save_record(folder, RunRecord(settings.target, outcome.design, outcome.cells, manifest, skipped))
    return report_of(folder)
