"""A report of several SAEs with known differences, as a sweep has it."""

from __future__ import annotations

from gate_reports import blind, report, suite

from sae_sanity.results.analysis import with_holm
from sae_sanity.results.sweep import SweepOverview, SweptSAE, overview

LEVELS = {"good": {}, "broken": {"trained": 0.5}, "worse": {"trained": 0.61}}


def swept(name: str, *, layer: int = 3, d_sae: int = 512) -> SweptSAE:
    hook = f"blocks.{layer}.hook_resid_post"
    return SweptSAE(name=name, folder=name, model="m", hook_name=hook, architecture="topk", d_sae=d_sae)


def sweep_of(saes: dict[str, SweptSAE] | None = None, **skips) -> SweepOverview:
    """Three SAEs with two suites each: one beats random, one is broken, one is worse; the first has a blind suite."""
    saes = saes or {name: swept(name, layer=3 * n, d_sae=512 * 2**n) for n, name in enumerate(LEVELS)}
    suites = [
        suite(kind, **levels).model_copy(update={"subject": name})
        for name, levels in zip(saes, LEVELS.values(), strict=True)
        for kind in ("probing", "reconstruction")
    ]
    suites.append(blind().model_copy(update={"subject": next(iter(saes))}))
    return overview(report(*with_holm(suites), **skips), saes)
