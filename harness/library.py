"""A finished check from Python: its SAEs, and its language model lent to code that would fetch one by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_lens.saes.sae import SAE

from .arm_store import ArmStore
from .baseline_store import cache_folder
from .plan import ArmSeed
from .record import RunRecord, load_record

if TYPE_CHECKING:
    from ..suites.saebench import LanguageModel
    from ..suites.site import Site


def load_arms(results: str | Path) -> dict[str, SAE[Any]]:
    """Load every SAE of a finished check, each checked against the hash that was written beside it.

    An SAE under test of a class that SAELens cannot save is not on disk, and so not among them; nor are its controls.

    Args:
        results: Folder of the check.

    Returns:
        SAELens' SAEs by arm and seed, such as `trained-0` and `frozen_decoder@iso-2`, in the order of the check.

    Raises:
        UsageError: When the check is not finished, or an SAE is not what was written.
    """
    store = ArmStore(Path(results) / "arms")
    saes = [ArmSeed(f.arm, f.seed) for f in load_record(Path(results)).design.facts]
    loaded = {f"{s.arm}-{s.seed}": store.load(s) for s in saes if on_disk(Path(results), s)}
    return {name: sae for name, sae in loaded.items() if isinstance(sae, SAE)}


def on_disk(results: Path, sae: ArmSeed) -> bool:
    """Whether an SAE of a check was saved: one of a foreign class has a record alone."""
    record = ArmStore(results / "arms").record(sae)
    return record is None or bool(record["files"])


@contextmanager
def lend_model(results: str | Path) -> Iterator[LanguageModel]:
    """Give out the check's own language model wherever TransformerLens is asked for one by name.

    Raises:
        UsageError: When the check is not finished.
        ValueError: When the language model cannot be had.
    """
    from ..suites.saebench import lent

    record = load_record(Path(results))
    device = str(record.manifest.settings.get("device") or "cpu")
    language = check_language_model(record, device)
    with lent(language, device):
        yield language


def check_language_model(record: RunRecord, device: str) -> LanguageModel:
    """Load the language model that a check ran on.

    Raises:
        ValueError: When it cannot be had, or is not the one that it was; one line.
    """
    from ..suites.saebench import LanguageModel

    site = _site(record, device)
    return LanguageModel(
        name=short_name(record),
        model=site.model,
        tokenizer=site.tokenizer,
        bos_token_id=site.bos_token_id,
        centre=site.centre,
    )


def short_name(record: RunRecord) -> str:
    """Name of a check's language model without its organisation or folder, as SAEBench names models."""
    return Path(_model_name(record)).name


def _model_name(record: RunRecord) -> str:
    from ..suites.language_model import PACKAGED

    return str(record.manifest.settings.get("model") or PACKAGED)


def _site(record: RunRecord, device: str) -> Site:
    from ..suites.language_model import load_site

    settings: dict[str, Any] = dict(record.manifest.settings)
    # What `auto` was depends on the CPU of the check, and older records do not say that it was `auto`.
    asked = settings.get("arithmetic", "auto")
    for arithmetic in (asked, "bfloat16", "float32") if asked == "auto" else (asked,):
        site = load_site(
            _model_name(record),
            hook_name=settings["hook_name"],
            context_size=settings["context_size"],
            prepend_bos=settings.get("prepend_bos", True),
            cache=cache_folder(),
            device=device,
            arithmetic=arithmetic,
        )
        site = dataclasses.replace(site, precision=settings.get("activation_precision", site.precision))
        if (found := _as_recorded(site, record)) is not None:
            return found
    same = "the weights, the tokenizer, the device, the arithmetic and the versions of torch, transformers and nnsight"
    raise ValueError(f"language model {_model_name(record)!r} is not the one of the check: {same} have to be the same")


def _as_recorded(site: Site, record: RunRecord) -> Site | None:
    """The site if it is that of the check; whether activations were centred is told by the fingerprint alone."""
    wanted = record.manifest.hashes.get("site")
    if wanted is None or site.fingerprint == wanted:
        return site
    try:
        centred = dataclasses.replace(site, centre=True)
        return centred if centred.fingerprint == wanted else None
    except ValueError:  # not on the residual stream, so it was not
        return None
