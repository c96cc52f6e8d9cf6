"""Co-training of all arms against SAELens' own MultiSAETrainer on the same batches.

python benchmarks/training.py [--steps 12] [--d-sae 1024]
Prints seconds per step and arm, and the ratio. SAELens cannot freeze, project or resume without unpickling; the same
unconstrained SAEs are trained on both sides, so that the work is the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import torch
from sae_lens.config import LoggingConfig, SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from sae_lens.saes.sae import TrainingSAE
from sae_lens.training.multi_sae_trainer import MultiSAETrainer

from sae_sanity.baselines import Schedule, Shape, measure_moments, new_learner, parse_arm, train_together

D_IN, BATCH, K, ARMS = 576, 2048, 32, 3


def activations(seed: int) -> torch.Tensor:
    return torch.randn(BATCH, D_IN, generator=torch.Generator().manual_seed(seed)) + 1.0


def ours(steps: int, d_sae: int) -> float:
    moments = measure_moments([activations(0)])
    shape = Shape("batchtopk", D_IN, d_sae, float(K))
    learners = [new_learner(parse_arm("trained"), shape, moments, s, activations(0)) for s in range(ARMS)]
    data = [activations(i) for i in range(steps)]
    begun = time.perf_counter()
    train_together(learners, lambda start: iter(data[start:]), moments, Schedule(steps=steps, batch_size=BATCH))
    return (time.perf_counter() - begun) / steps / ARMS


def saelens(steps: int, d_sae: int) -> float:
    def make() -> BatchTopKTrainingSAE:
        return BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(d_in=D_IN, d_sae=d_sae, k=float(K)))

    def stream() -> Iterator[dict[str, torch.Tensor]]:
        yield from ({"hook": batch} for batch in data)

    data = [activations(i) for i in range(steps)]
    cfg = SAETrainerConfig(
        total_training_samples=steps * BATCH,
        train_batch_size_samples=BATCH,
        lr=1e-3,
        lr_end=1e-3,
        device="cpu",
        logger=LoggingConfig(log_to_wandb=False),
    )
    saes: dict[str, TrainingSAE[Any]] = {f"arm{i}": make() for i in range(ARMS)}
    trainer = MultiSAETrainer(cfg, saes, dict.fromkeys(saes, "hook"), stream())
    begun = time.perf_counter()
    trainer.fit()
    return (time.perf_counter() - begun) / steps / ARMS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--d-sae", type=int, default=1024)
    options = parser.parse_args()
    ours(2, options.d_sae)  # warm-up
    mine, theirs = ours(options.steps, options.d_sae), saelens(options.steps, options.d_sae)
    print(f"sae-sanity       {mine * 1000:7.1f} ms per step and arm")
    print(f"MultiSAETrainer  {theirs * 1000:7.1f} ms per step and arm")
    print(f"ratio            {theirs / mine:7.2f} (above 1: sae-sanity is faster)")


if __name__ == "__main__":
    main()
