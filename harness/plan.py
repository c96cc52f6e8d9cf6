"""The plan of a check: which arms and seeds, which cells, how long, and how small a difference could be seen."""

from __future__ import annotations

from dataclasses import dataclass

from ..baselines import CONTROLS, Baseline, parse_arm
from .config import Settings
from .errors import UsageError


@dataclass(frozen=True)
class ArmSeed:
    """One SAE of the check."""

    arm: str
    """Name of the arm."""
    seed: int
    """Its seed."""


@dataclass(frozen=True)
class Plan:
    """What a check will do, before anything is started."""

    settings: Settings
    """The resolved settings."""
    trained: tuple[Baseline, ...]
    """Arms that are trained, the one under test first."""
    untrained: tuple[Baseline, ...]
    """Arms that are only calibrated."""

    @property
    def steps(self) -> int:
        """Optimiser steps of every trained arm."""
        return max(1, self.settings.tokens // self.settings.batch_size)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the trained arms."""
        return tuple(range(self.settings.seed, self.settings.seed + self.settings.seeds))

    @property
    def random_seeds(self) -> tuple[int, ...]:
        """Seeds of the untrained arms."""
        return tuple(range(self.settings.seed, self.settings.seed + self.settings.random_seeds))

    @property
    def controls(self) -> tuple[str, ...]:
        """Controls derived from the trained SAEs."""
        return tuple(CONTROLS)

    def saes(self) -> tuple[ArmSeed, ...]:
        """Every SAE that is measured, in the order of measuring."""
        learned = [ArmSeed(b.arm, s) for b in self.trained for s in self.seeds]
        drawn = [ArmSeed(b.arm, s) for b in self.untrained for s in self.random_seeds]
        broken = [ArmSeed(c, s) for c in self.controls for s in self.seeds]
        return (*learned, *drawn, *broken)


def make_plan(settings: Settings) -> Plan:
    """Turn settings into arms.

    Raises:
        UsageError: for an unknown baseline.
    """
    try:
        arms = [parse_arm(name) for name in settings.arms()]
    except ValueError as error:
        raise UsageError(str(error)) from None
    names = [arm.arm for arm in arms]
    if "trained" in names:
        raise UsageError("baselines contain 'trained', which is the arm under test; leave it out")
    trains = [a for i, a in enumerate(arms) if a.trains and a.arm not in names[:i]]
    return Plan(settings, (parse_arm("trained"), *trains), tuple(a for a in arms if not a.trains))
