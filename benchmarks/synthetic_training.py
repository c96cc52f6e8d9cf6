"""All arms together on one stream against SAELens' own toy training, one arm after another.

python benchmarks/synthetic_training.py [--steps 150] [--rounds 2] [--architectures batchtopk topk] [--threads 1]
One run, the two sides in turn: `train_together` on `suites.synthetic.stream` against SAELens' `train_toy_sae`, called
once for every arm. Same features, rates, starts, lr, batch size and steps; a constant learning rate, as SAELens'.
Two differences are in its favour: its magnitudes are Gaussian (of the same mean and spread), and its soft-frozen arm is
not projected. One is not: `train_together` lets float32 products use bfloat16 units; `--matmul medium` lets it too.
The explained variance is that of the trained arm of each side, on the same samples, with the sparsity of training.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from figures import emit
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAE
from sae_lens.synthetic import ActivationGenerator, FeatureDictionary, train_toy_sae

from sae_sanity.baselines import (
    Learner,
    Moments,
    Schedule,
    Shape,
    measure_moments,
    new_learner,
    parse_arm,
    sparse_learner,
    train_together,
)
from sae_sanity.suites.synthetic import PAPER, World, make_world, stream

ARMS = ("trained", "frozen_decoder", "soft_frozen@0.8", "frozen_encoder")
BATCH = 1024


class Side(NamedTuple):
    """What one side came to in one round."""

    seconds: float
    """Wall clock of training all arms."""
    explained: float
    """Explained variance of the trained arm."""
    l0: float
    """Its active latents per sample."""


class Task(NamedTuple):
    """What both sides are given."""

    world: World
    architecture: str
    steps: int
    lr: float
    moments: Moments
    held_out: torch.Tensor

    @property
    def schedule(self) -> Schedule:
        """A constant rate, as SAELens' toy trainer has it."""
        # dead_after is SAELens' too: the auxiliary loss begins at the same step
        return Schedule(self.steps, BATCH, self.lr, warm_up=0.0, decay=0.0, dead_after=1000)

    def learners(self) -> list[Learner]:
        """All arms at step 0, the same every time."""
        spec = self.world.spec
        shape = Shape(self.architecture, spec.d_in, spec.n_features, spec.l0)
        first = self.moments.seen(next(stream(self.world, BATCH, seed=0, n_batches=1)(0)))
        return [sparse_learner(new_learner(parse_arm(arm), shape, self.moments, 0, first)) for arm in ARMS]


@torch.no_grad()
def scored(seconds: float, sae: TrainingSAE[Any], x: torch.Tensor) -> Side:
    """1 - squared error / centred sum of squares, in batches as large as those of training (BatchTopK)."""
    parts = x.split(BATCH)
    codes = [sae.encode(part) for part in parts]
    error = sum(float((sae.decode(code) - part).square().sum()) for code, part in zip(codes, parts, strict=True))
    active = sum(int((code != 0).sum()) for code in codes)
    return Side(seconds, 1 - error / float((x - x.mean(0)).square().sum()), active / len(x))


def ours(task: Task) -> Side:
    batches = stream(task.world, BATCH, seed=0, n_batches=task.steps)
    learners = task.learners()
    begun = time.perf_counter()
    train_together(learners, batches, task.moments, task.schedule)
    return scored(time.perf_counter() - begun, learners[0].sae, task.moments.seen(task.held_out))


def theirs_of(learner: Learner, architecture: str) -> TrainingSAE[Any]:
    """SAELens' own class as it comes, with the arm's config, start and frozen parameters."""
    sae = get_sae_training_class(architecture)[0](copy.deepcopy(learner.sae.cfg))
    sae.load_state_dict(learner.sae.state_dict())
    for name in learner.baseline.frozen:
        getattr(sae, name).requires_grad_(False)
    return sae


def theirs(task: Task) -> Side:
    spec, scale = task.world.spec, task.moments.scale
    # Both train on activations of norm sqrt(d_in), so that one lr means one thing: here magnitudes are scaled.
    variance = torch.tensor(spec.magnitude_sigma**2, dtype=torch.float64).exp()
    mean, std = float(variance.sqrt()), float((variance * (variance - 1)).sqrt())
    generator = ActivationGenerator(
        spec.n_features,
        task.world.rates.float(),
        std_firing_magnitudes=scale * std,
        mean_firing_magnitudes=scale * mean,
    )
    dictionary = FeatureDictionary(spec.n_features, spec.d_in, initializer=None)
    dictionary.feature_vectors.data = task.world.features
    saes = [theirs_of(learner, task.architecture) for learner in task.learners()]
    torch.manual_seed(0)
    begun = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        for sae in saes:
            train_toy_sae(sae, dictionary, generator, task.steps * BATCH, BATCH, task.lr)
    return scored(time.perf_counter() - begun, saes[0], task.moments.seen(task.held_out))


def rounds(task: Task, n: int) -> Iterator[tuple[Side, Side]]:
    for index in range(n):
        sides = {}
        for side in (ours, theirs) if index % 2 == 0 else (theirs, ours):
            sides[side] = side(task)
        yield sides[ours], sides[theirs]


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def report(task: Task, n: int) -> dict[str, list[float]]:
    """Print both sides; the ratio and the difference of explained variance of every round."""
    done = list(rounds(task, n))
    work = task.steps * BATCH * len(ARMS)
    for name, sides in (("ours", [a for a, _ in done]), ("sae_lens", [b for _, b in done])):
        rate, ev = [work / s.seconds for s in sides], [s.explained for s in sides]
        l0 = spread([s.l0 for s in sides], 1)
        print(f"{task.architecture:20} {name:9} {spread(rate, 0):>26} {spread(ev, 4):>24} {l0:>18}")
    ratio = [b.seconds / a.seconds for a, b in done]
    gap = [a.explained - b.explained for a, b in done]
    print(f"{task.architecture:20} {'ratio':9} {spread(ratio, 2):>26} {spread(gap, 4):>24}", flush=True)
    return {f"{task.architecture} ratio": ratio, f"{task.architecture} explained variance": gap}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--architectures", nargs="+", default=["batchtopk", "topk"])
    parser.add_argument("--world", default="constant", choices=sorted(PAPER))
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--matmul", default="highest", choices=["highest", "medium"], help="precision of SAELens' side")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.matmul)
    world = make_world(PAPER[options.world], 0)
    moments = measure_moments(stream(world, BATCH, seed=1, n_batches=16)(0))
    held_out = world.sample(8 * BATCH, seed=0).activations
    print(
        f"{options.world} world, {len(ARMS)} arms, {options.steps} steps of {BATCH}, lr {options.lr:g},"
        f" {options.threads} threads, sae_lens matmul {options.matmul};"
        f" {options.rounds} rounds: median (least-greatest)"
    )
    heads = ("architecture", "side", "samples x arms per second", "EV of the trained arm", "its L0")
    print("{:20} {:9} {:>26} {:>24} {:>18}".format(*heads))
    figures: dict[str, list[float]] = {}
    for architecture in options.architectures:
        task = Task(world, architecture, options.steps, options.lr, moments, held_out)
        ours(task._replace(steps=2))  # warm-up
        figures |= report(task, options.rounds)
    emit("synthetic_training", figures)


if __name__ == "__main__":
    main()
