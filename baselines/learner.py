"""One arm in training: SAELens' own losses, Adam, the arm's projection and its L0 controller."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE
from sae_lens.saes.gated_sae import GatedTrainingSAE
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE
from sae_lens.saes.sae import TrainingSAE, TrainStepInput
from sae_lens.saes.standard_sae import StandardTrainingSAE

from .architecture import SPARSITY_COEFFICIENT, Shape
from .baseline import Baseline
from .batch_topk import kth_largest
from .moments import Moments
from .schedule import Schedule

CONTROLLER_GAIN = 0.03
"""Step of the log of what is controlled per unit of log(L0 / target): about 30 steps, slower than Adam settles."""

CLIP_NORM = 1.0
"""Gradient norm at which SAELens' trainer clips."""


def has_half_units(device: torch.device | str) -> bool:
    """Whether arms learn in mixed precision on a device: a GPU with units for bfloat16 (Ampere and later).

    On a CPU they are float32 products that may use its bfloat16 units (`fast_matmul`).
    """
    device = torch.device(device)
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def log_error(l0: float, target: float) -> float:
    """log(L0 / target), bounded so that one odd batch cannot throw the coefficient."""
    return max(-1.0, min(1.0, math.log(max(l0, 1e-3) / target)))


@dataclass(eq=False)
class Learner:
    """The state of one arm and seed while it trains; everything needed to resume is in `state`."""

    baseline: Baseline
    """How the arm is constrained."""
    seed: int
    """Seed of its start."""
    sae: TrainingSAE[Any]
    """The SAE in training, on activations of norm about sqrt(d_in) (`Moments.seen`)."""
    start: Float[torch.Tensor, "d_sae d_in"]
    """`W_dec` at step 0."""
    target_l0: float
    """What the controller of the sparsity coefficient (JumpReLU: of the thresholds) aims at."""
    since_fired: torch.Tensor
    """Steps since each latent fired, [d_sae]."""
    optimizer: torch.optim.Adam
    """Adam over what is not frozen."""
    coefficient: float = 1.0
    """Current sparsity coefficient (unused by TopK and its kin, constant for JumpReLU: its thresholds move)."""
    mixed: bool = False
    """Whether the forward pass and its gradients take bfloat16 products, as `autocast` of SAELens' trainer does;
    weights, their gradients and Adam's moments are float32 either way."""

    @property
    def name(self) -> str:
        """Arm and seed, as a file name."""
        return f"{self.baseline.arm}-{self.seed}"

    def step(self, batch: Float[torch.Tensor, "batch d_in"], schedule: Schedule, step: int) -> float:
        """Take one optimiser step on activations from `Moments.seen` and return the loss."""
        self.sae.train()
        self.optimizer.param_groups[0]["lr"] = schedule.rate(step)
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=self.mixed):
            output = self.sae.training_forward_pass(
                TrainStepInput(
                    sae_in=batch,
                    coefficients={SPARSITY_COEFFICIENT.get(self.sae.cfg.architecture(), ""): self.coefficient},
                    dead_neuron_mask=self.since_fired > schedule.dead_after,
                    n_training_steps=step,
                    is_logging_step=False,
                )
            )
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.baseline.after_step(self.sae, self.start)
        self._count(output.feature_acts.detach())
        return float(output.loss.detach())

    def _count(self, acts: torch.Tensor) -> None:
        active = acts != 0
        self.since_fired += 1
        self.since_fired[active.any(0)] = 0
        self._control(float(active.sum()) / len(acts))

    def _control(self, l0: float) -> None:
        """Move what sets the L0 by what the last batch's L0 was off."""
        factor = math.exp(CONTROLLER_GAIN * log_error(l0, self.target_l0))
        if isinstance(self.sae, JumpReLUTrainingSAE):
            # Its coefficient reaches L0 only through thresholds that Adam moves by lr a step, and only for
            # pre-activations inside the bandwidth: too slow for a short run. So the thresholds themselves are moved.
            self.sae.threshold.data.mul_(factor)
        else:
            self.coefficient *= factor

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that changes while training, as tensors (safetensors can hold it; nothing is pickled).

        Copies on the CPU: those of all arms would not fit beside them on a GPU.
        """
        tensors = {f"sae.{k}": _copied(v) for k, v in self.sae.state_dict().items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": _copied(torch.as_tensor(v)) for k, v in slots.items()}
        tensors["since_fired"] = _copied(self.since_fired)
        tensors["coefficient"] = torch.tensor(self.coefficient, dtype=torch.float64)
        return tensors

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` returned."""
        self.sae.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("sae.")})
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam."):
                _, index, name = key.split(".")
                slots.setdefault(int(index), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.since_fired = tensors["since_fired"].to(self.since_fired.device)
        self.coefficient = float(tensors["coefficient"])


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def new_learner(
    baseline: Baseline, shape: Shape, moments: Moments, seed: int, first: Float[torch.Tensor, "batch d_in"]
) -> Learner:
    """Make an arm at step 0.

    Args:
        baseline: how the arm is constrained.
        shape: size, sparsity, architecture.
        moments: of the training activations.
        seed: of the random directions.
        first: one batch from `moments.seen`, on which thresholds are set so that every arm starts at the target L0;
            the arm learns on its device, in mixed precision where `has_half_units`.
    """
    sae = baseline.start(shape, moments, seed).to(first.device)
    set_first_threshold(sae, first, shape.l0)
    free = [p for p in sae.parameters() if p.requires_grad]
    # fused Adam: a quarter of the time of the looped one on a CPU
    optimizer = torch.optim.Adam(free, lr=0.0, betas=(0.9, 0.999), fused=True)
    start = sae.W_dec.detach().clone()
    fired = torch.zeros(shape.d_sae, dtype=torch.int64, device=first.device)
    mixed = has_half_units(first.device)
    return Learner(baseline, seed, sae, start, shape.l0, fired, optimizer, mixed=mixed)


@torch.no_grad()
def set_first_threshold(sae: TrainingSAE[Any], batch: Float[torch.Tensor, "batch d_in"], l0: float) -> None:
    """Set JumpReLU's threshold, BatchTopK's inference threshold, Standard's bias or the gate's so that L0 is met.

    Gated: only the gate's bias moves, so that magnitudes are those of the projection. The TopK family and matching
    pursuit have k.

    In a short run neither Adam (about lr per step) nor SAELens' moving average gets there from its default.
    """
    _, hidden = sae.encode_with_hidden_pre(batch)
    threshold = kth_largest(hidden, max(1, round(l0 * len(batch))))
    if isinstance(sae, JumpReLUTrainingSAE):
        sae.threshold.fill_(threshold)
    if isinstance(sae, BatchTopKTrainingSAE):
        sae.topk_threshold.fill_(threshold)
    if isinstance(sae, StandardTrainingSAE):
        sae.b_enc.sub_(threshold)
    if isinstance(sae, GatedTrainingSAE):
        sae.b_gate.sub_(threshold)
