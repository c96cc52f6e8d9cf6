"""Samples per second of the worlds' own sampler against `sae_lens.synthetic`, at the same firing rates.

python benchmarks/synthetic_sampler.py [--device cpu] [--threads 1] [--batch-size 1024] [--d-in 100] [--l0 20]
One run, the two in turn; the number of features grows and L0 does not, so the cost of drawing only what fires should
stay flat. SAELens is asked for the same: sparse codes of given rates, times a dictionary.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from figures import emit
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary

from sae_sanity.suites.synthetic import PAPER, World, make_world

SIZES = (800, 3200, 12_800, 51_200)


def theirs(world: World, batch_size: int) -> Callable[[int], torch.Tensor]:
    """SAELens' way to draw from a world of the same rates and features."""
    device = world.features.device
    generator = ActivationGenerator(
        world.spec.n_features,
        world.rates.float(),
        std_firing_magnitudes=world.spec.magnitude_sigma,
        device=device,
    )
    dictionary = FeatureDictionary(world.spec.n_features, world.spec.d_in, initializer=None, device=device)
    dictionary.feature_vectors.data = world.features

    @torch.no_grad()
    def draw(_: int) -> torch.Tensor:
        return dictionary(generator.sample(batch_size))

    return draw


def seconds(draw: Callable[[int], torch.Tensor], device: str, budget: float) -> float:
    """Median time of a batch."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < budget:
        start = time.perf_counter()
        draw(len(times))
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--d-in", type=int, default=100)
    parser.add_argument("--l0", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each number")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"batch {options.batch_size}, d_in {options.d_in}, L0 {options.l0:g}, {options.device} ({options.threads})")
    figures: dict[str, float] = {}
    print("world      features  ours ms  sae_lens ms  samples/s ours   ratio")
    for kind in PAPER:
        for n_features in SIZES:
            spec = replace(PAPER[kind], n_features=n_features, d_in=options.d_in, l0=options.l0)
            world = make_world(spec, 0, device=options.device)
            ours = seconds(
                lambda step, world=world: world.sample(options.batch_size, seed=step).activations,
                options.device,
                options.seconds,
            )
            other = seconds(theirs(world, options.batch_size), options.device, options.seconds)
            figures[f"{kind} {n_features}"] = other / ours
            print(
                f"{kind:9} {n_features:9,} {ours * 1e3:8.2f} {other * 1e3:12.2f} {options.batch_size / ours:15,.0f}"
                f" {other / ours:7.1f}",
                flush=True,
            )
    emit("synthetic_sampler", figures)


if __name__ == "__main__":
    main()
