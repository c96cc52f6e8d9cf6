"""The plan of a check: which arms and seeds, which cells, how long, and how small a difference could be seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..baselines import CONTROLS, Baseline, parse_arm
from ..results.outcome import Skip
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
    """Arms that are trained here: the recipe's own (`trained`, or `retrained` beside a given SAE), then baselines."""
    untrained: tuple[Baseline, ...]
    """Arms that are only calibrated."""
    given: bool = False
    """Whether the SAE under test exists already and is only measured."""
    controls: tuple[str, ...] = tuple(CONTROLS)
    """Controls derived from the SAEs under test."""
    skipped: tuple[Skip, ...] = ()
    """Baselines and controls that do not exist for this architecture, and why."""

    @property
    def under_test(self) -> str:
        """Name of the arm under test."""
        return "trained"

    @property
    def recipe(self) -> str:
        """Arm that stands for the recipe beside a given SAE; empty where the arm under test does."""
        return self.trained[0].arm if self.given else ""

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """Every arm that is compared as a baseline, trained ones first."""
        return (*self.trained[1:], *self.untrained)

    @property
    def steps(self) -> int:
        """Optimiser steps of every trained arm."""
        return max(1, self.settings.tokens // self.settings.batch_size)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the arms that are trained here."""
        return tuple(range(self.settings.seed, self.settings.seed + self.settings.seeds))

    @property
    def test_seeds(self) -> tuple[int, ...]:
        """Seeds of the arm under test, and of the controls made from it: a given SAE is one draw of its recipe."""
        return self.seeds[:1] if self.given else self.seeds

    @property
    def random_seeds(self) -> tuple[int, ...]:
        """Seeds of the untrained arms."""
        return tuple(range(self.settings.seed, self.settings.seed + self.settings.random_seeds))

    def saes(self) -> tuple[ArmSeed, ...]:
        """Every SAE that is measured, in the order of measuring."""
        given = [ArmSeed(self.under_test, s) for s in self.test_seeds] if self.given else []
        learned = [ArmSeed(b.arm, s) for b in self.trained for s in self.seeds]
        drawn = [ArmSeed(b.arm, s) for b in self.untrained for s in self.random_seeds]
        broken = [ArmSeed(c, s) for c in self.controls for s in self.test_seeds]
        return (*given, *learned, *drawn, *broken)


RESERVED = ("trained", "retrained")
"""Arms that are no baselines."""


def make_plan(settings: Settings, *, given: str = "") -> Plan:
    """Turn settings into arms.

    Args:
        settings: The resolved settings; their architecture decides which baselines exist.
        given: What the SAE under test is saved as, where it exists already ("foreign" for a class that SAELens does not
            know); it decides which controls can be made from it. Empty where it is trained here.

    Raises:
        UsageError: for an unknown baseline.
    """
    try:
        arms = [parse_arm(name) for name in settings.arms()]
    except ValueError as error:
        raise UsageError(str(error)) from None
    for name in RESERVED:
        if any(arm.name == name for arm in arms):
            raise UsageError(f"baselines contain {name!r}, which is the arm under test; leave it out")
    arms = [arm for i, arm in enumerate(arms) if arm.arm not in [other.arm for other in arms[:i]]]
    kept, skipped = _that_exist(arms, settings.architecture)
    controls, missing = _that_exist(list(CONTROLS.values()), given or settings.architecture)
    own = parse_arm("retrained" if given else "trained")
    trains, untrained = [a for a in kept if a.trains], [a for a in kept if not a.trains]
    return Plan(
        settings,
        (own, *trains),
        tuple(untrained),
        given=bool(given),
        controls=tuple(control.arm for control in controls),
        skipped=(*skipped, *missing),
    )


def _that_exist(arms: Sequence[Any], architecture: str) -> tuple[list[Any], list[Skip]]:
    reasons = {arm.arm: arm.applies_to(architecture) for arm in arms}
    return [a for a in arms if not reasons[a.arm]], [Skip(what=n, reason=r) for n, r in reasons.items() if r]
