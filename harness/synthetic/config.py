"""Settings of synthetic runs: a world described by a few numbers, a recipe, and how often both are drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..config import Count, Settings
from ..errors import UsageError, unknown
from ..profiles import PROFILES

if TYPE_CHECKING:
    from ...suites.synthetic import WorldSpec

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "n_features": 192,
        "d_in": 24,
        "world_l0": 4.0,
        "samples": 80_000,
        "batch_size": 256,
        "worlds": 3,
        "evaluation_samples": 4000,
        "calibration_samples": 4000,
    },
    "small": {
        "n_features": 800,
        "d_in": 50,
        "world_l0": 8.0,
        "samples": 1_200_000,
        "lr": 3e-3,
        "worlds": 5,
        "evaluation_samples": 20_000,
        "calibration_samples": 10_000,
    },
    "paper": {
        "n_features": 3200,
        "d_in": 100,
        "world_l0": 20.0,
        "samples": 10_000_000,
        "worlds": 3,
        "evaluation_samples": 50_000,
        "calibration_samples": 20_000,
    },
}
"""`smoke`: does it run (a minute); `small`: the paper's answer in minutes; `paper`: 3,200 features in R^100."""


class SyntheticSettings(BaseModel):
    """Everything that decides the numbers of a synthetic run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    world: str = "variable"
    """Kind of world: constant, variable, correlated, hierarchical or synthsaebench."""
    preset: str = "small"
    """Which set of defaults: smoke (a minute), small (minutes) or paper (hours)."""
    n_features: Count
    """True features."""
    d_in: Annotated[int, Field(ge=2)]
    """Dimensions that they live in."""
    world_l0: Annotated[float, Field(gt=0)]
    """Expected number of active features per sample."""
    architecture: str = "batchtopk"
    """SAELens training architecture of every arm."""
    d_sae: Count | None = None
    """Latents of every arm; as many as there are features by default."""
    l0: Annotated[float, Field(gt=0)] | None = None
    """Target active latents per sample; the world's own by default."""
    worlds: Annotated[int, Field(ge=2)]
    """Worlds, drawn from as many seeds: what the statistics resample."""
    starts: Count = 1
    """Starts of every trained arm in every world."""
    random_starts: Annotated[int, Field(ge=3)] = 3
    """Starts of every untrained arm in every world."""
    samples: Annotated[int, Field(ge=4096)]
    """Samples that every arm is trained on; no sample is seen twice."""
    batch_size: Count = 1024
    """Samples per optimiser step."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    baselines: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "frozen_decoder",
        "soft_frozen",
        "frozen_encoder",
        "random",
    )
    """Baselines to compare with; `random` is always measured."""
    tau: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.8,)
    """Rungs of the soft-frozen ladder."""
    evaluation_samples: Annotated[int, Field(ge=100)]
    """Samples that scores are taken on, none of them trained on."""
    calibration_samples: Annotated[int, Field(ge=100)]
    """Samples on which thresholds are set so that L0 matches."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the first world; the others count up from it."""
    device: str = "cpu"
    """Torch device that samples are drawn and arms learn on; scores are taken on the CPU."""

    @property
    def spec(self) -> WorldSpec:
        """What the worlds are drawn from."""
        from ...suites.synthetic import WorldSpec  # late: it loads torch, which `--help` does without

        return WorldSpec(self.world, self.n_features, self.d_in, self.world_l0)

    @property
    def width(self) -> int:
        """Latents of every arm."""
        return self.d_sae or self.n_features

    @property
    def target_l0(self) -> float:
        """Active latents per sample that every arm is matched to."""
        return self.l0 or self.world_l0

    @property
    def world_seeds(self) -> tuple[int, ...]:
        """Seeds of the worlds."""
        return tuple(range(self.seed, self.seed + self.worlds))

    def of_arms(self) -> Settings:
        """The settings by which the arms of one world are made, in the words of a check."""
        return Settings.model_validate(
            PROFILES["smoke"]  # a check's other suites have settings of their own, which no synthetic arm reads
            | {
                "target": "synthetic",
                "suites": ("synthetic",),
                "architecture": self.architecture,
                "hook_name": f"synthetic.{self.world}",
                "prepend_bos": False,
                "d_sae": self.width,
                "l0": self.target_l0,
                "seeds": self.starts,
                "random_seeds": self.random_starts,
                "tokens": self.samples,
                "batch_size": self.batch_size,
                "lr": self.lr,
                "baselines": self.baselines,
                "tau": self.tau,
                "held_out_documents": 2,
                "ce_documents": 1,
                "calibration_tokens": max(1024, self.calibration_samples),
            }
        )


OF_PROFILE = {"smoke": "smoke", "demo": "small", "release": "paper"}
"""Preset of the suite `synthetic` in a check of each profile."""


def of_check(settings: Settings) -> SyntheticSettings:
    """Settings of the suite `synthetic` in a check: its architecture and baselines in a world of the profile's size.

    Raises:
        UsageError: for settings that no synthetic run can have.
    """
    return resolve_synthetic(
        {
            "world": settings.world,
            "preset": OF_PROFILE[settings.profile],
            "architecture": settings.architecture,
            "baselines": settings.baselines,
            "tau": settings.tau,
            "device": settings.device,
        }
    )


def resolve_synthetic(flags: Mapping[str, Any]) -> SyntheticSettings:
    """Merge a preset and flags.

    Args:
        flags: what was given on the command line; None means not given.

    Raises:
        UsageError: for an unknown preset, world, architecture, device or name, or a value out of range.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    preset = given.get("preset", "small")
    if preset not in PRESETS:
        raise unknown("preset", str(preset), PRESETS)
    try:
        settings = SyntheticSettings.model_validate(PRESETS[preset] | given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise unknown("setting", name, SyntheticSettings.model_fields) from None
        raise UsageError(f"{name} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    from ...baselines import ARCHITECTURES
    from ...suites.synthetic import KINDS
    from ..limits import check_device, check_l0  # late: it loads torch

    if settings.world not in KINDS:
        raise unknown("world", settings.world, KINDS)
    if settings.architecture not in ARCHITECTURES:
        raise unknown("architecture", settings.architecture, ARCHITECTURES)
    if settings.samples < settings.batch_size:
        raise UsageError(f"samples is {settings.samples}; it must be at least batch_size, {settings.batch_size}")
    if settings.world_l0 * settings.evaluation_samples < 1000:
        raise UsageError(
            f"world_l0 is {settings.world_l0:g}: in {settings.evaluation_samples} evaluation samples fewer than 1,000 "
            "features would fire; take more samples"
        )
    _check_world(settings)
    check_l0(settings.architecture, settings.target_l0, settings.width)
    check_device(settings.device)
    if settings.device.partition(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"device is {settings.device!r}; a synthetic world takes cpu or cuda")
    return settings


def _check_world(settings: SyntheticSettings) -> None:
    from ...suites.synthetic.spec import check_spec

    with _own_words():
        check_spec(settings.spec)


def check_rates(settings: SyntheticSettings) -> None:
    """Draw the firing rates of every world, for one that cannot be is to be found before the others ran for hours.

    Raises:
        UsageError: the rates of one of the worlds cannot sum to its L0.
    """
    from ...suites.synthetic.primitives import log_uniform_rates

    with _own_words():
        for seed in settings.world_seeds if settings.world == "variable" else ():
            log_uniform_rates(settings.spec, seed)


@contextmanager
def _own_words() -> Iterator[None]:
    """What `suites` says of a world, with a world's own `l0` by its name here."""
    try:
        yield
    except ValueError as error:
        raise UsageError(re.sub(r"^l0 ", "world_l0 ", str(error))) from None
