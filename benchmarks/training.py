"""Co-training of all arms against SAELens' own trainer, one arm after another, on the same batches.

python benchmarks/training.py [--d-sae 1024] [--steps 20] [--texts | --activations FOLDER] [--step sparse] [--threads 1]
                              [--matmul highest] [--rounds 1] [--architecture batchtopk] [--json FILE]
                              [--device cpu] [--autocast] [--d-in 576] [--k 32]
One run, the two sides in turn: `train_together` with four arms on one stream against `SAETrainer.fit` called once for
every arm. Same starts, batches, steps, schedule, clipping and dead-latent window. SAELens cannot freeze or project: its
side is given `requires_grad_(False)` and a hook behind its optimiser's step, as a user would write them. Its matrix
products are as it comes (`highest`); `--matmul medium` lets them use bfloat16 units, as `train_together` does.
`--step dense` measures the step that goes through SAELens' own forward pass, which is that of checks on a GPU.
`--autocast`, with that step, has both sides take bfloat16 products; ours does so on a GPU anyhow. The paper's size on
a GPU would be `--device cuda --step dense --autocast --d-in 2304 --d-sae 73728 --k 160`: never run.

Explained variance is that of the arms after the last of these steps, on rows of the same texts that were not trained
on (a set too small for that is refused), with the sparsity of training.
Wall-clock is what a user waits for; CPU seconds are the same on a machine that others use too. FLOP and bytes are those
that the sparse step cannot do without, over what a plain matrix product and a plain copy reach here in the same run.
With `--texts` the activations are those of the demo's texts, kept in the user's cache, with `--activations` those of a
folder of it; without either there are random ones, whose explained variance says little.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from figures import emit
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.registry import get_sae_training_class
from sae_lens.saes.sae import TrainingSAE
from sae_lens.training.sae_trainer import SAETrainer

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
from sae_sanity.baselines.cpu import has_bfloat16_units
from sae_sanity.baselines.training import fast_matmul
from sae_sanity.harness.baseline_store import cache_folder
from sae_sanity.suites._malloc import keep_big_buffers
from sae_sanity.suites.activations import BUFFER_ROWS, ActivationSet
from sae_sanity.suites.corpus import demo_texts
from sae_sanity.suites.probe_data import DEMO
from sae_sanity.suites.smollm2 import demo_site

ARMS = ("trained", "frozen_decoder", "soft_frozen@0.8", "frozen_encoder")
D_IN, BATCH, HELD_OUT = 576, 2048, 8
TEXT_TOKENS = 145_000
"""Collected at least, so that short runs find one set in the cache."""


class Side(NamedTuple):
    """What one side came to in one round."""

    wall: float
    """Seconds of training all arms."""
    cpu: float
    """CPU seconds of it, of all threads."""
    explained: tuple[float, ...]
    """Explained variance of every arm, in the order of `ARMS`."""


class Task(NamedTuple):
    """What both sides are given."""

    shape: Shape
    moments: Moments
    schedule: Schedule
    train: list[torch.Tensor]
    held_out: torch.Tensor
    sparse: bool
    matmul: str
    device: str = "cpu"
    autocast: bool = False

    def learners(self) -> list[Learner]:
        """All arms at step 0, the same every time."""
        first = self.moments.seen(self.train[0])
        made = [new_learner(parse_arm(arm), self.shape, self.moments, 0, first) for arm in ARMS]
        for learner in made:
            learner.mixed |= self.autocast
        return [sparse_learner(learner) for learner in made] if self.sparse else made


def rows_entered(n_batches: int) -> int:
    """Rows that enter the buffer of `ActivationSet.batches`; no row comes twice in a set that has as many."""
    half = BUFFER_ROWS // 2 // BATCH
    return BUFFER_ROWS + (n_batches - 1) // half * half * BATCH


def activations(collected: ActivationSet | None, n_batches: int, d_in: int = D_IN) -> list[torch.Tensor]:
    """Batches of which no row is in two.

    Raises:
        SystemExit: The set has too few rows for that, or others than `d_in` wide.
    """
    if collected is not None:
        if collected.d_in != d_in:
            raise SystemExit(f"--d-in is {d_in}; these activations are {collected.d_in} wide")
        if collected.n_tokens < (least := rows_entered(n_batches)):
            raise SystemExit(
                f"{n_batches} batches without a row twice need {least:,} tokens, not {collected.n_tokens:,}"
            )
        return list(collected.batches(BATCH, seed=0, n_batches=n_batches))
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(d_in, d_in, generator=generator) * torch.logspace(0, -2, d_in)[:, None]
    return [torch.randn(BATCH, d_in, generator=generator) @ mix + 1.0 for _ in range(n_batches)]


def of_texts(n_batches: int) -> ActivationSet:
    """Activations of some of the demo's training texts, in the user's cache."""
    site = demo_site(cache_folder(), hook_name="blocks.12.hook_resid_post")
    texts = demo_texts(
        n_train_tokens=max(TEXT_TOKENS, round(1.1 * rows_entered(n_batches))),
        n_calibration_tokens=1000,
        n_held_out_docs=100,
        exclude_datasets=DEMO,
        tokenizer=site.tokenizer,
        seed=0,
    )
    return site.collect(texts.train)


@torch.no_grad()
def explained(sae: TrainingSAE[Any], x: torch.Tensor) -> float:
    """1 - squared error / centred sum of squares, in batches as large as those of training (BatchTopK)."""
    error = sum(float((sae.decode(sae.encode(part)) - part).square().sum()) for part in x.split(BATCH))
    return 1 - error / float((x - x.mean(0)).square().sum())


def timed(train: Callable[[], Any]) -> tuple[float, float]:
    wait()
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    wait()
    return time.perf_counter() - wall, time.process_time() - cpu


def wait() -> None:
    """Until a GPU has done what it was told."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def ours(task: Task) -> Side:
    learners = task.learners()
    seconds = timed(
        lambda: train_together(learners, lambda start: iter(task.train[start:]), task.moments, task.schedule)
    )
    held_out = task.moments.seen(task.held_out)
    return Side(*seconds, tuple(explained(learner.sae, held_out) for learner in learners))


def trainer_of(learner: Learner, task: Task) -> SAETrainer[Any, Any]:
    """SAELens' own class as it comes, in its own trainer, with the arm's start and what is frozen."""
    sae = get_sae_training_class(task.shape.architecture)[0](copy.deepcopy(learner.sae.cfg))
    sae.load_state_dict(learner.sae.state_dict())
    sae.to(task.device)
    for name in learner.baseline.frozen:
        getattr(sae, name).requires_grad_(False)
    schedule, warm_up = task.schedule, round(task.schedule.warm_up * task.schedule.steps)
    cfg = SAETrainerConfig(
        total_training_samples=schedule.steps * BATCH,
        train_batch_size_samples=BATCH,
        lr=schedule.lr,
        lr_end=schedule.lr,
        lr_warm_up_steps=warm_up if warm_up > 1 else 0,
        lr_decay_steps=max(1, round(schedule.decay * schedule.steps)),
        dead_feature_window=schedule.dead_after,
        device=task.device,
        autocast=task.autocast,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=cfg, sae=sae, data_provider=seen(task))
    trainer.optimizer.register_step_post_hook(lambda *_: learner.baseline.after_step(sae, learner.start))
    return trainer


def seen(task: Task) -> Iterator[torch.Tensor]:
    return (task.moments.seen(batch) for batch in task.train)


def theirs(task: Task) -> Side:
    trainers = [trainer_of(learner, task) for learner in task.learners()]

    def train() -> None:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            for trainer in trainers:
                trainer.fit()

    torch.set_float32_matmul_precision(task.matmul)
    seconds = timed(train)
    torch.set_float32_matmul_precision("highest")
    held_out = task.moments.seen(task.held_out)
    return Side(*seconds, tuple(explained(trainer.sae, held_out) for trainer in trainers))


def best(work: Callable[[], Any], repeats: int = 7) -> float:
    """Least seconds of some repeats: of CPU, which neighbours do not lengthen, but on a GPU those of the clock."""
    work()
    return min(timed(work)[0 if torch.cuda.is_initialized() else 1] for _ in range(repeats))


def ceilings(task: Task) -> dict[str, float]:
    """What this machine reaches: products of the encoder's size (GFLOP/s), a copy of 64 MB (GB/s).

    A product in bfloat16 is left out where it would be emulated, at 1 GFLOP/s.
    """
    d_in, d_sae = task.shape.d_in, task.shape.d_sae
    with torch.device(task.device):
        x, weights, big = torch.randn(BATCH, d_in), torch.randn(d_in, d_sae), torch.randn(1 << 24)
        out, rough, target = torch.empty(BATCH, d_sae), torch.empty(BATCH, d_sae).bfloat16(), torch.empty_like(big)
    halves, work = (x.bfloat16(), weights.bfloat16()), 2e-9 * BATCH * d_in * d_sae
    found = {"float32": work / best(lambda: torch.mm(x, weights, out=out))}
    with fast_matmul():
        found["medium"] = work / best(lambda: torch.mm(x, weights, out=out))
    if task.device != "cpu" or has_bfloat16_units():
        found["bfloat16"] = work / best(lambda: torch.mm(*halves, out=rough))
    return found | {"copy": 8e-9 * big.numel() / best(lambda: target.copy_(big))}


def needs(shape: Shape) -> tuple[float, float]:
    """GFLOP of the encoders and GB of all else that one step of all arms cannot do without.

    A decoding, a product of each entry with its error and, for each matrix that learns, a transposed sum: each reads
    a row for every entry. Adam reads a matrix, its gradient and two moments and writes three of them.
    """
    learned = sum(2 - len(parse_arm(arm).frozen) for arm in ARMS)
    rows = (2 * len(ARMS) + learned) * BATCH * shape.l0 * shape.d_in
    work = 2e-9 * len(ARMS) * BATCH * shape.d_in * shape.d_sae
    return work, 4e-9 * (rows + learned * 7 * shape.d_sae * shape.d_in)


def spread(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def report(task: Task, rounds: list[tuple[Side, Side]]) -> dict[str, Any]:
    steps, work = task.schedule.steps, task.schedule.steps * len(ARMS)
    for name, sides in (("sae-sanity", [a for a, _ in rounds]), ("SAETrainer", [b for _, b in rounds])):
        rate = [work * BATCH / side.wall for side in sides]
        wall, cpu = ([1e3 * s / work for s in column] for column in zip(*(side[:2] for side in sides), strict=True))
        print(
            f"{name:11} tokens x arms per second {spread(rate, 0)};"
            f" ms per step and arm {spread(list(wall), 1)}, of CPU {spread(list(cpu), 1)}"
        )
    ratios = {kind: [getattr(b, kind) / getattr(a, kind) for a, b in rounds] for kind in ("wall", "cpu")}
    print(f"{'ratio':11} wall {spread(ratios['wall'])}, CPU {spread(ratios['cpu'])} (above 1: sae-sanity is faster)")
    mine, other = (rounds[-1][i].explained for i in (0, 1))
    for arm, a, b in zip(ARMS, mine, other, strict=True):
        print(f"EV {arm:18} {a:.4f} {b:.4f}  difference {a - b:+.4f}")
    machine, (flop, traffic) = ceilings(task), needs(task.shape)
    kind = "cpu" if task.device == "cpu" else "wall"
    seconds = statistics.median(getattr(a, kind) for a, _ in rounds) / steps
    print("machine     " + ", ".join(f"{k} {v:,.0f} {'GB' if k == 'copy' else 'GFLOP'}/s" for k, v in machine.items()))
    product = max((name for name in machine if name != "copy"), key=machine.__getitem__)
    bound = flop / machine[product], traffic / machine["copy"]
    print(
        f"a step      {1e3 * seconds:.1f} ms ({kind}) for all arms; encoders at the {product} ceiling"
        f" {1e3 * bound[0]:.1f} ms ({bound[0] / seconds:.0%}), sparse sums and Adam at the copy's"
        f" {1e3 * bound[1]:.1f} ms ({bound[1] / seconds:.0%});"
        f" {flop / seconds:,.0f} GFLOP/s, {traffic / seconds:,.0f} GB/s"
    )
    differences = [
        {arm: a - b for arm, a, b in zip(ARMS, *(s.explained for s in each), strict=True)} for each in rounds
    ]
    measured = {"machine": machine, "seconds_per_step": seconds}
    return {"ratios": ratios, "explained_variance_difference": differences} | measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d-sae", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--architecture", default="batchtopk", choices=["batchtopk", "topk"])
    parser.add_argument("--activations", type=Path, help="folder of an activation set, as wide as --d-in")
    parser.add_argument("--texts", action="store_true", help="activations of the demo's texts")
    parser.add_argument("--step", default="sparse", choices=["sparse", "dense"])
    parser.add_argument("--matmul", default="highest", choices=["highest", "medium"], help="of SAELens' side")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--autocast", action="store_true", help="bfloat16 products on both sides (dense step)")
    parser.add_argument("--d-in", type=int, default=D_IN)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args()
    if options.autocast and options.step != "dense":
        parser.error("--autocast is of the dense step; the sparse one has no such products")
    if options.texts and options.d_in != D_IN:
        parser.error(f"--d-in is {options.d_in}; activations of the demo's texts are {D_IN} wide")
    torch.set_num_threads(options.threads)
    keep_big_buffers()  # as the command line does; both sides gain
    n_batches = options.steps + HELD_OUT
    kept = ActivationSet.open(options.activations) if options.activations else None
    data = activations(of_texts(n_batches) if options.texts else kept, n_batches, options.d_in)
    moments = measure_moments(data[: min(32, options.steps)])
    data = [batch.to(options.device) for batch in data]
    train, held_out = data[: options.steps], torch.cat(data[options.steps :])
    shape = Shape(options.architecture, options.d_in, options.d_sae, float(options.k))
    schedule, sparse = Schedule(options.steps, BATCH), options.step == "sparse"
    task = Task(shape, moments, schedule, train, held_out, sparse, options.matmul, options.device, options.autocast)
    print(
        f"{shape.architecture}, {shape.d_in} x {shape.d_sae}, k {options.k}, {len(ARMS)} arms,"
        f" {options.steps} steps of {BATCH}, {options.step} step, {options.device}, {options.threads} threads,"
        f" SAELens' products {'autocast' if options.autocast else options.matmul}"
    )
    for side in (ours, theirs):  # warm-up
        side(task._replace(schedule=Schedule(2, BATCH)))
    rounds = []
    for index in range(options.rounds):
        order = (ours, theirs) if index % 2 == 0 else (theirs, ours)
        sides = {side: side(task) for side in order}
        rounds.append((sides[ours], sides[theirs]))
    figures = report(task, rounds)
    emit(
        "training",
        {
            "ratio": figures["ratios"]["wall"],
            "ratio of CPU": figures["ratios"]["cpu"],
            "explained variance": [max(map(abs, each.values())) for each in figures["explained_variance_difference"]],
        },
    )
    if options.json:
        options.json.write_text(json.dumps(vars(options) | figures, default=str, indent=1) + "\n")


if __name__ == "__main__":
    main()
