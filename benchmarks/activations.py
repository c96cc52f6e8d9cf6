"""Cost of collecting activations through the site, against a plain forward pass, in one run.

Usage: python benchmarks/activations.py [--tokens 40000] [--layer 12] [--cache DIR]

Prints tokens per second of `Site.collect` (nnsight, early stop, selection, files on disk), of a forward pass of
transformers with `output_hidden_states`, and of one that a plain hook stops at the layer; their ratios; what the early
stop saves between the first and the last layer; what `upstream` saves of spliced losses; the time of a batch
from files that are in the page cache (nothing here reads from a disk); and the peak memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from figures import emit

from sae_sanity.suites.corpus import demo_texts
from sae_sanity.suites.probe_data import DEMO
from sae_sanity.suites.site import Site
from sae_sanity.suites.smollm2 import demo_site
from sae_sanity.suites.texts import TextSet

T = TypeVar("T")


class _StopError(Exception):
    """Ends a forward pass at a plain hook."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--cache", type=Path, help="keeps the converted model; a temporary folder if not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run(options.cache or Path(temporary), Path(temporary), options.tokens, options.layer)


def run(cache: Path, scratch: Path, n_tokens: int, layer: int) -> None:
    site, seconds = timed(lambda: demo_site(cache, hook_name=f"blocks.{layer}.hook_resid_post"))
    print(f"model loaded, and converted if it was not yet: {seconds:.1f} s")
    site = replace(site, cache=scratch)
    texts = choose(site, n_tokens)
    rows = site.tokenise(texts.documents)
    batches = [site.pad(rows[start : start + site.batch_size]) for start in range(0, len(rows), site.batch_size)]
    forward(site, batches[:1])  # the first pass of a process is slower
    n_tokens = sum(map(len, rows))

    def rate(what: str, work: Callable[[], object]) -> float:
        _, seconds = timed(work)
        print(f"{what:<58} {n_tokens / seconds:8.0f} tokens/s")
        return n_tokens / seconds

    plain = rate("plain forward, all layers, output_hidden_states", lambda: forward(site, batches))
    stopped = rate(f"plain forward, stopped by a hook at layer {layer}", lambda: stopped_forward(site, batches))
    collect = rate(f"Site.collect at layer {layer}", lambda: site.collect(texts))
    print(f"collect / plain = {collect / plain:.2f}, collect / stopped = {collect / stopped:.2f}")
    last = site.model.config.num_hidden_layers - 1
    for number in (0, last):
        other = replace(site, hook_name=f"blocks.{number}.hook_resid_post")
        rate(f"Site.activations at layer {number}", lambda other=other: [other.activations(*b) for b in batches])
    losses(site, batches[: max(1, len(batches) // 4)])
    collected = site.collect(texts)
    _, waiting = timed(lambda: [None for _ in collected.batches(2048, seed=0, n_batches=100)])
    print(f"100 batches of 2,048 from files in the page cache: {waiting:.2f} s")
    print(f"kept and dropped: {collected.counts}, norm cap {collected.norm_cap:.0f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    emit(
        "activations",
        {"collect / plain": collect / plain, "collect / stopped": collect / stopped, "batches": 10 * waiting},
    )


def choose(site: Site, n_tokens: int) -> TextSet:
    """Some of the demo's training texts."""
    texts, seconds = timed(
        lambda: demo_texts(
            n_train_tokens=n_tokens,
            n_calibration_tokens=1000,
            n_held_out_docs=100,
            exclude_datasets=DEMO,
            tokenizer=site.tokenizer,
            seed=0,
        )
    )
    print(f"demo_texts: {seconds:.1f} s; {texts.notes[0]}")
    return texts.train


def forward(site: Site, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """What one would write without this package: all layers run, and all their states are kept."""
    with torch.no_grad():
        for tokens, mask in batches:
            site.model(tokens, attention_mask=mask.long(), output_hidden_states=True, use_cache=False)


def stopped_forward(site: Site, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """The least that has to be done: the layers up to the hook."""

    def stop(*_: object) -> None:
        raise _StopError

    handle = site.model.get_submodule(site.hook.module).register_forward_hook(stop)
    try:
        for tokens, mask in batches:
            try:
                forward(site, [(tokens, mask)])
            except _StopError:
                continue
    finally:
        handle.remove()


def losses(site: Site, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Spliced losses with the lower layers run again, and with `upstream`."""
    parts = [part for tokens, _ in batches for part in tokens.split(8)]
    batches = [(tokens, torch.ones_like(tokens, dtype=torch.bool)) for tokens in parts]
    upstream = [site.raw_activations(tokens) for tokens, _ in batches]
    n_tokens = sum(tokens.numel() for tokens, _ in batches)
    _, slow = timed(lambda: [site.token_losses(tokens, negative, where) for tokens, where in batches])
    cached = list(zip(batches, upstream, strict=True))
    _, quick = timed(lambda: [site.token_losses(t, negative, where, upstream=up) for (t, where), up in cached])
    print(f"{'Site.token_losses':<58} {n_tokens / slow:8.0f} tokens/s, with upstream {n_tokens / quick:.0f}")


def negative(acts: torch.Tensor) -> torch.Tensor:
    """An edit that costs nothing."""
    return -acts


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Result of some work, and the seconds that it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


if __name__ == "__main__":
    main()
