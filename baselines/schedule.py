"""How long and how fast every arm of a check is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Optimisation settings that all arms share."""

    steps: int
    """Optimiser steps."""
    batch_size: int = 2048
    """Tokens per step."""
    lr: float = 3e-3
    """Peak learning rate of Adam."""
    warm_up: float = 0.05
    """Share of the steps over which the rate rises from 0."""
    decay: float = 0.2
    """Share of the steps, the last ones, over which it falls to 0."""
    dead_after: int = 100
    """Steps without firing after which a latent counts as dead for the auxiliary loss."""

    def rate(self, step: int) -> float:
        """Learning rate at a step (0-based): linear warm-up, constant, linear decay."""
        rising = (step + 1) / max(1, round(self.warm_up * self.steps))
        falling = (self.steps - step) / max(1, round(self.decay * self.steps))
        return self.lr * min(1.0, rising, falling)
