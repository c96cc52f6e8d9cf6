"""Does `torch.compile` pay for the step that goes through SAELens' own forward pass?

    python benchmarks/compiled_step.py [--architectures standard jumprelu ...] [--steps 10] [--d-sae 1024]

One run, both sides in turn on the same batch and weights: the step of `Learner` with SAELens'
`training_forward_pass` as it comes, and with that method compiled by torch's default backend (which needs a C++
compiler). The first compiled step is printed apart, for a short run pays that too. The ratio is eager by compiled.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from sae_sanity.baselines import Learner, Schedule, Shape, measure_moments, new_learner, parse_arm

D_IN, BATCH, L0 = 576, 2048, 32.0
SCHEDULE, STEP = Schedule(120), 60
"""Of the demo, in the middle: every step is at the same rate."""


def main() -> None:
    """Print one line for each architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ["standard", "jumprelu", "gated", "topk", "batchtopk", "matryoshka_batchtopk"]
    parser.add_argument("--architectures", nargs="+", default=known, choices=known)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--d-sae", type=int, default=1024)
    options = parser.parse_args()
    print(f"d_sae {options.d_sae}, batches of {BATCH} x {D_IN}, {torch.get_num_threads()} threads")
    for architecture in options.architectures:
        torch.compiler.reset()
        plain, compiled = (learner(architecture, options.d_sae) for _ in range(2))
        compiled.sae.training_forward_pass = torch.compile(compiled.sae.training_forward_pass)
        batch = torch.randn(BATCH, D_IN, generator=torch.Generator().manual_seed(1))
        timed(plain, batch)
        first = timed(compiled, batch)[0]
        taken = [(timed(plain, batch), timed(compiled, batch)) for _ in range(options.steps)]
        ratios = [a[0] / b[0] for a, b in taken]
        a, b = (statistics.median(1e3 * each[side][0] for each in taken) for side in (0, 1))
        apart = max(abs(x[1] - y[1]) / abs(x[1]) for x, y in taken)
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(
            f"{architecture:21s} eager {a:6.0f} ms, compiled {b:6.0f} ms a step, ratio {statistics.median(ratios):.2f} "
            f"({spread}); first compiled step {first:.0f} s; losses apart by {apart:.1e}",
            flush=True,
        )


def learner(architecture: str, d_sae: int) -> Learner:
    """A trained arm at step 0, the same on both sides."""
    draws = torch.randn(4 * BATCH, D_IN, generator=torch.Generator().manual_seed(0))
    moments = measure_moments(draws.split(BATCH))
    return new_learner(parse_arm("trained"), Shape(architecture, D_IN, d_sae, L0), moments, 0, draws[:BATCH])


def timed(one: Learner, batch: torch.Tensor) -> tuple[float, float]:
    """Seconds and loss of one step."""
    begun = time.perf_counter()
    loss = one.step(batch, SCHEDULE, STEP)
    return time.perf_counter() - begun, loss


if __name__ == "__main__":
    main()
