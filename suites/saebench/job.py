"""What one run of an eval is given, and what it gives back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_lens.saes.sae import SAE

from .language_model import LanguageModel
from .unavailable import Unavailable


@dataclass(frozen=True, eq=False)
class Job:
    """One SAE through one eval."""

    name: str
    """What SAEBench calls the SAE: it decides every path, so it has to differ between SAEs."""
    sae: SAE[Any]
    """An SAE of one's own: SAEBench writes to its `cfg`."""
    config: Any
    """SAEBench's configuration, a copy of one's own: some evals write to it."""
    language: LanguageModel
    """The language model under the SAE."""
    device: str
    """Torch device."""
    output: Path
    """Folder for SAEBench's JSON file."""
    artefacts: Path
    """Folder for what all SAEs of this configuration share: activations, probes, tokens."""
    work: Path
    """Folder for what this SAE alone leaves; empty at the start."""
    judge_model: str = ""
    """Model to ask for in place of SAEBench's fixed one; empty for that one."""

    @property
    def result(self) -> Path:
        """Where SAEBench writes its JSON file."""
        return self.output / f"{self.name}_custom_sae_eval_results.json".replace("/", "_")

    @property
    def hook_name(self) -> str:
        """Hook of the SAE, a TransformerLens name."""
        return str(self.sae.cfg.metadata.hook_name)


@dataclass(frozen=True)
class Found:
    """What an eval left."""

    file: Path
    """SAEBench's JSON file."""
    metrics: Mapping[str, float | None]
    """Every metric of it as `category.metric`; None for a number that is not finite."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know."""


def read_result(file: Path) -> dict[str, float | None]:
    """Metrics in a result file of SAEBench, as `category.metric`; those that SAEBench left empty are not in it.

    Raises:
        RuntimeError: when there is no file: SAEBench has evals that fail without saying so.
    """
    if not file.exists():
        raise RuntimeError(f"SAEBench ended without writing {file.name}")
    categories = json.loads(file.read_text(encoding="utf-8"))["eval_result_metrics"]
    pairs = ((f"{c}.{m}", value) for c, metrics in categories.items() for m, value in metrics.items())
    return {name: value if math.isfinite(value) else None for name, value in pairs if value is not None}


def transformer_lens_hook(job: Job) -> None:
    """Refuse a hook that SAEBench cannot read: it takes TransformerLens' names, and the layer from the first number.

    Raises:
        Unavailable: for a module path.
    """
    if not re.match(r"blocks\.\d+\.", job.hook_name):
        raise Unavailable(f"SAEBench reads hooks by their TransformerLens names, and this SAE is on {job.hook_name}")


def resid_post_only(job: Job) -> None:
    """Refuse a hook that an eval would overlook: some read `blocks.N.hook_resid_post` whatever the SAE says.

    Raises:
        Unavailable: for an SAE on any other hook.
    """
    if not job.hook_name.endswith(".hook_resid_post"):
        raise Unavailable(
            f"it reads blocks.N.hook_resid_post whatever the SAE says, and this SAE is on {job.hook_name}"
        )
