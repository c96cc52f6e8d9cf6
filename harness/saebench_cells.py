"""Cells of a SAEBench run: one eval on one SAE, kept under a content key, so that a finished one is not run again."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..results.files import write_atomically
from ..results.outcome import Skip
from ..results.saebench_format import SaebenchCell
from ..results.store import content_key
from ..suites.hub_errors import hub_reason
from ..suites.saebench import (
    Evaluation,
    Found,
    Job,
    LanguageModel,
    Unavailable,
    contained,
    lent,
    make_config,
    transformer_lens_hook,
)
from .arm_store import ArmStore
from .errors import UsageError
from .library import check_language_model, short_name
from .plan import ArmSeed
from .progress import Progress
from .record import PACKAGES, RunRecord, versions

_SAEBENCH = ("sae-bench", "transformer-lens", "datasets", "xgboost", "openai")
"""Packages that decide SAEBench's numbers, beside those of a check."""
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""Errors after which nothing else could be written either."""


@dataclass(frozen=True)
class Place:
    """Which check, and where SAEBench's files go."""

    results: Path
    """Folder of the check."""
    record: RunRecord
    """Its record."""
    out: Path
    """Folder for SAEBench, an absolute path: an eval may change the working directory."""
    device: str
    """Torch device."""

    def log(self, evaluation: Evaluation) -> Path:
        """Where SAEBench's prints and progress bars go."""
        return self.out / evaluation.name / "saebench.log"


class Cells:
    """Runs evals one after another on the same SAEs."""

    def __init__(
        self,
        place: Place,
        saes: Sequence[ArmSeed],
        options: Mapping[str, Mapping[str, Any]],
        progress: Progress,
        language: LanguageModel | None = None,
        judge_model: str = "",
    ) -> None:
        """Prepare; nothing is loaded before the first cell that is missing."""
        self.place, self.saes, self.options, self.progress = place, tuple(saes), options, progress
        self.arms = ArmStore(place.results / "arms")
        self.judge_model = judge_model
        self.skipped: list[Skip] = []
        self._language = language
        self._model_name = language.name if language else short_name(place.record)

    @property
    def language(self) -> LanguageModel:
        """The language model, loaded when it is first needed.

        Raises:
            ValueError: When it cannot be had.
        """
        if self._language is None:
            self._language = check_language_model(self.place.record, self.place.device)
        return self._language

    def run(self, evaluation: Evaluation) -> list[SaebenchCell]:
        """Run one eval on every SAE that it has not been run on; what cannot be run is added to `skipped`."""
        cells = {sae: self._finished(evaluation, sae) for sae in self.saes}
        missing = [sae for sae, cell in cells.items() if cell is None]
        self.progress.start(f"SAEBench {evaluation.name}: {len(missing)} of {len(cells)} SAEs", len(missing))
        try:
            cells |= self._measure(evaluation, missing)
        except (Unavailable, ValueError) as error:
            self.skipped.append(Skip(what=evaluation.name, reason=_one_line(error)))
            cells |= {sae: self._finished(evaluation, sae) for sae in missing}
        self.progress.finish()
        return [cell for cell in cells.values() if cell is not None]

    def _measure(self, evaluation: Evaluation, missing: Sequence[ArmSeed]) -> dict[ArmSeed, SaebenchCell | None]:
        found: dict[ArmSeed, SaebenchCell | None] = {}
        if missing:
            with lent(self.language, self.place.device):
                for done, sae in enumerate(missing, 1):
                    found[sae] = self._measure_one(evaluation, sae)
                    self.progress.advance(done)
        return found

    def _measure_one(self, evaluation: Evaluation, sae: ArmSeed) -> SaebenchCell | None:
        """Run one cell; where SAEBench fails, that is noted and costs this cell alone."""
        try:
            with _reasons():
                job = self._job(evaluation, sae)
                transformer_lens_hook(job)
                self._prepare(evaluation, sae, job.artefacts)
                with contained(self.place.log(evaluation), _seed(job)):
                    found = evaluation.run(job)
                return self._keep(evaluation, sae, found)
        except _Failure as error:
            what = f"{evaluation.name} {sae.arm} seed {sae.seed}"
            reason = f"{_one_line(error)}; what SAEBench printed is in {self.place.log(evaluation)}"
            self.skipped.append(Skip(what=what, reason=reason))
            return None

    def _prepare(self, evaluation: Evaluation, sae: ArmSeed, artefacts: Path) -> None:
        """Fill what all SAEs share, before the first of them comes."""
        if (artefacts / "complete").exists():
            return
        # Whatever a killed run has left may be half a file.
        shutil.rmtree(artefacts, ignore_errors=True)
        artefacts.mkdir(parents=True)
        if evaluation.prepare is not None:
            job = self._job(evaluation, sae)
            with _for_all(), contained(self.place.log(evaluation), _seed(job)):
                evaluation.prepare(job)
        (artefacts / "complete").touch()

    def _job(self, evaluation: Evaluation, sae: ArmSeed) -> Job:
        """A fresh SAE and a fresh configuration, because SAEBench writes to both."""
        model: Any = self.arms.load(sae)
        out = self.place.out
        work = out / "work" / evaluation.name / _name(sae)
        shutil.rmtree(work, ignore_errors=True)
        for folder in (out / evaluation.name, work):
            folder.mkdir(parents=True, exist_ok=True)
        return Job(
            name=_name(sae),
            sae=model,
            config=self._config(evaluation, sae),
            language=self.language,
            device=self.place.device,
            output=out / evaluation.name,
            artefacts=out / "artefacts" / f"{evaluation.name}-{content_key(self._shared(evaluation, sae))[:12]}",
            work=work,
            judge_model=self.judge_model,
        )

    def _config(self, evaluation: Evaluation, sae: ArmSeed) -> Any:  # noqa: ANN401
        cfg = json.loads((self.arms.path(sae) / "cfg.json").read_text(encoding="utf-8"))
        return make_config(evaluation, self.options.get(evaluation.name, {}), self._model_name, d_sae=cfg["d_sae"])

    def _shared(self, evaluation: Evaluation, sae: ArmSeed) -> dict[str, Any]:
        """All that decides what the SAEs share: the names of SAEBench's own files leave out most of it."""
        manifest = self.place.record.manifest
        return {
            "eval": evaluation.name,
            "code": evaluation.version,
            "config": json.loads(json.dumps(asdict(self._config(evaluation, sae)))),
            "site": manifest.hashes.get("site", ""),
            "hook": manifest.settings.get("hook_name"),
            "device": self.place.device,
            "versions": versions((*PACKAGES, *_SAEBENCH)),
        }

    def _key(self, evaluation: Evaluation, sae: ArmSeed) -> str:
        own = {"sae": self.arms.fingerprint(sae), "name": _name(sae), "judge": self.judge_model}
        return content_key(self._shared(evaluation, sae) | own)

    def _file(self, evaluation: Evaluation, sae: ArmSeed) -> Path:
        return self.place.out / evaluation.name / f"{_name(sae)}.cell.json"

    def _finished(self, evaluation: Evaluation, sae: ArmSeed) -> SaebenchCell | None:
        """The cell, where a run with the same content key has left it and SAEBench's file is as it was."""
        try:
            held = json.loads(self._file(evaluation, sae).read_text(encoding="utf-8"))
            cell = SaebenchCell.model_validate(held["cell"])
            same = held["sha256"] == _sha256(self.place.out / cell.file)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return cell if same and held["key"] == self._key(evaluation, sae) else None

    def _keep(self, evaluation: Evaluation, sae: ArmSeed, found: Found) -> SaebenchCell:
        cell = SaebenchCell(
            eval=evaluation.name,
            arm=sae.arm,
            seed=sae.seed,
            metrics=evaluation.main_metrics(found.metrics),
            file=str(found.file.relative_to(self.place.out)),
            notes=found.notes,
        )
        held = {"key": self._key(evaluation, sae), "sha256": _sha256(found.file), "cell": cell.model_dump(mode="json")}
        write_atomically(self._file(evaluation, sae), (json.dumps(held, indent=1) + "\n").encode())
        return cell


class _Failure(Exception):  # noqa: N818 - it ends as a value
    """SAEBench failed on one SAE."""


@contextmanager
def _reasons() -> Iterator[None]:
    """Sort what SAEBench raises: data that cannot be had end the eval, anything else costs one cell."""
    try:
        yield
    except (Unavailable, UsageError):
        raise
    except Exception as error:  # what SAEBench raises of its own accord may be anything
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        reason = hub_reason(error)
        if reason or isinstance(error, OSError):
            raise Unavailable(f"its data cannot be had: {reason or _one_line(error)}") from error
        raise _Failure(f"SAEBench raised {type(error).__name__}: {_one_line(error)}") from error


@contextmanager
def _for_all() -> Iterator[None]:
    """What fails before any SAE has come would fail for each of them."""
    try:
        with _reasons():
            yield
    except _Failure as error:
        raise Unavailable(str(error)) from error


def _seed(job: Job) -> int:
    return int(getattr(job.config, "random_seed", 0))


def _name(sae: ArmSeed) -> str:
    return f"{sae.arm}-seed-{sae.seed}"


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
