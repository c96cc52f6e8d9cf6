"""An arm in training whose step costs what its active latents cost: SAELens' losses, their gradients written out.

SAELens decodes and goes backward through all of [batch, d_sae], of which TopK and its kin use L0 / d_sae. Here only the
encoder's product is dense. Losses and gradients are those of SAELens' `training_forward_pass` (tests compare them).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE
from sae_lens.saes.jumprelu_sae import JumpReLUTrainingSAE
from sae_lens.saes.matryoshka_batchtopk_sae import MatryoshkaBatchTopKTrainingSAE
from sae_lens.saes.sae import TrainingSAE
from sae_lens.saes.topk_sae import TopKTrainingSAE

from .codes import Codes, Turned, above, largest_of_batch, largest_of_rows, products, transposed_sum, weighted_sum
from .learner import CLIP_NORM, Learner, log_error
from .rough_topk import largest_of_product, may_be_rough
from .schedule import Schedule

FAR_OFF = 0.3
"""log(L0 / target) beyond which JumpReLU's thresholds are moved directly."""


def has_sparse_step(sae: TrainingSAE[Any]) -> bool:
    """Whether the gradients of this SAE's losses are written out here."""
    if isinstance(sae, JumpReLUTrainingSAE):
        return sae.cfg.jumprelu_sparsity_loss_mode == "quadratic" and sae.cfg.pre_act_loss_coefficient is None
    if isinstance(sae, MatryoshkaBatchTopKTrainingSAE):
        return not sae.cfg.use_matryoshka_aux_loss
    return isinstance(sae, TopKTrainingSAE) and sae.cfg.architecture() in ("topk", "batchtopk")


class Part(NamedTuple):
    """Entries that write with one gradient of the reconstruction."""

    codes: Codes
    """Which latents of which samples."""
    values: Float[torch.Tensor, " nnz"]
    """What they write, times their row of `W_dec`."""
    target: Float[torch.Tensor, "batch d_in"]
    """Gradient of the loss in what this part writes."""


@dataclass(eq=False)
class SparseLearner(Learner):
    """A `Learner` of an architecture for which `has_sparse_step`; any other is stepped as `Learner` does."""

    last_threshold: float = 0.0
    """Threshold of BatchTopK's last batch: where to look for the next."""

    def step(self, batch: Float[torch.Tensor, "batch d_in"], schedule: Schedule, step: int) -> float:
        """Take one optimiser step on activations from `Moments.seen` and return the loss."""
        if not has_sparse_step(self.sae):
            return super().step(batch, schedule, step)
        self.optimizer.param_groups[0]["lr"] = schedule.rate(step)
        loss, codes = self.gradients(batch, self.since_fired > schedule.dead_after)
        torch.nn.utils.clip_grad_norm_(self.sae.parameters(), CLIP_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.baseline.after_step(self.sae, self.start)
        self._count_entries(codes, len(batch))
        return loss

    @torch.no_grad()
    def gradients(self, batch: Float[torch.Tensor, "batch d_in"], dead: torch.Tensor) -> tuple[float, Codes]:
        """Put the loss's gradient into every free parameter's `.grad`; return the loss and the active entries."""
        sae: Any = self.sae
        sae_in = batch - sae.b_dec if sae.cfg.apply_b_dec_to_input else batch
        if isinstance(sae, JumpReLUTrainingSAE):
            return self._jumprelu(sae, batch, sae_in)
        return self._topk(sae, batch, sae_in, dead)

    def _topk(
        self, sae: TopKTrainingSAE, batch: torch.Tensor, sae_in: torch.Tensor, dead: torch.Tensor
    ) -> tuple[float, Codes]:
        # The norm decides which latents are chosen; in what they write it cancels, and so it does in the gradient.
        norm = sae.W_dec.norm(dim=-1) if sae.cfg.rescale_acts_by_decoder_norm else None
        codes, values = self._choose(sae, batch, sae_in, norm)
        if isinstance(sae, BatchTopKTrainingSAE):
            sae.update_topk_threshold(values if norm is None else values * norm[codes.columns])
        loss, parts, out = self._levels(sae, batch, codes, values)
        if (n_dead := int(dead.sum())) > 0:
            extra, part = _auxiliary(sae, batch - out, sae_in, norm, dead, n_dead)
            loss, parts = loss + extra, [*parts, part]
        _backward(sae, sae_in, parts)
        return loss, codes

    def _choose(
        self, sae: TopKTrainingSAE, batch: torch.Tensor, sae_in: torch.Tensor, norm: torch.Tensor | None
    ) -> tuple[Codes, torch.Tensor]:
        """The active entries and their pre-activations, all positive."""
        batched = isinstance(sae, BatchTopKTrainingSAE)
        if batched and may_be_rough(batch):
            centred, bias = _centred(sae, batch, sae_in)
            codes, values, self.last_threshold = largest_of_product(
                centred, sae.W_enc, bias, norm, sae.cfg.k, self.last_threshold
            )
            return codes, values
        hidden = torch.addmm(sae.b_enc, sae_in, sae.W_enc)
        ranked = hidden if norm is None else hidden * norm
        if batched:
            codes, self.last_threshold = largest_of_batch(ranked, sae.cfg.k, self.last_threshold)
        else:
            codes = largest_of_rows(ranked, sae.cfg.k)
        values = hidden[codes.rows, codes.columns]
        positive = values > 0
        return (codes, values) if bool(positive.all()) else (codes.only(positive), values[positive])

    def _levels(
        self, sae: TopKTrainingSAE, batch: torch.Tensor, codes: Codes, values: torch.Tensor
    ) -> tuple[float, list[Part], torch.Tensor]:
        """Squared errors of every nested level (one, for all but Matryoshka), and what each latent is to blame for."""
        widths = sae.cfg.matryoshka_widths if isinstance(sae, MatryoshkaBatchTopKTrainingSAE) else [sae.cfg.d_sae]
        bounds = list(zip([0, *widths], widths, strict=False))
        inside = [(codes.columns >= low) & (codes.columns < high) for low, high in bounds]
        members = [(codes, values)] if len(bounds) == 1 else [(codes.only(mask), values[mask]) for mask in inside]
        out, errors = sae.b_dec, []
        for chosen, own in members:
            out = out + weighted_sum(chosen, own, sae.W_dec, len(batch))
            errors.append(out - batch)
        loss = sum(float(error.square().sum()) for error in errors) / len(batch)
        parts, blame = [], torch.zeros(()).to(batch)
        # A latent of an inner level writes in every level outside of it too.
        for (chosen, own), error in zip(reversed(members), reversed(errors), strict=True):
            blame = blame + error * (2 / len(batch))
            parts.append(Part(chosen, own, blame))
        # b_dec is written in every level, once: as much as the innermost level's latents.
        _add_grad(sae.b_dec, blame.sum(0))
        return loss, parts, out

    def _jumprelu(self, sae: JumpReLUTrainingSAE, batch: torch.Tensor, sae_in: torch.Tensor) -> tuple[float, Codes]:
        hidden = torch.addmm(sae.b_enc, sae_in, sae.W_enc)
        sae.threshold.data.clamp_(min=0.0)
        target_l0 = float(sae.cfg.target_l0 or 0.0)  # `new_sae` always sets it
        # Latents a little under their threshold move it, though they write nothing.
        codes = above(hidden, sae.threshold - sae.bandwidth / 2)
        values = hidden[codes.rows, codes.columns]
        threshold = sae.threshold[codes.columns]
        active = (values > threshold).to(values)
        near = ((values - threshold).abs() < sae.bandwidth / 2).to(values) / sae.bandwidth
        out = sae.b_dec + weighted_sum(codes, values * active, sae.W_dec, len(batch))
        error = out - batch
        target = error * (2 / len(batch))
        blame = products(codes, target, sae.W_dec)
        over = torch.zeros(len(batch)).to(values).index_add_(0, codes.rows, active) - target_l0
        weight = self.coefficient / (target_l0 * len(batch))
        # SAELens: thresholds feel the reconstruction (JumpReLU) and the L0 penalty (Step) through a rectangle kernel.
        kernel = near * (threshold * blame + 4 * weight * over[codes.rows])
        _add_grad(sae.threshold, torch.zeros_like(sae.threshold).index_add_(0, codes.columns, -kernel))
        _add_grad(sae.b_dec, target.sum(0))
        given = active * blame + (kernel if sae.cfg.jumprelu_ste_to_input else 0.0)
        turned = codes.turned()
        _write_decoder(sae, turned, values * active, target)
        _write_encoder(sae, sae_in, codes, turned, given)
        loss = float(error.square().sum()) / len(batch) + 2 * weight * float(over.square().sum())
        return loss, codes.only(active > 0)

    def _control(self, l0: float) -> None:
        """As `Learner`, but JumpReLU's thresholds are moved only while L0 is far off; near it the penalty alone acts.

        A controller that always moves all thresholds alike holds L0 exactly, but then no latent feels the penalty: in
        long runs some thresholds fall, all others rise, and explained variance falls from .55 to .40 (measured, as for
        one that moves the penalty's coefficient). What is left at the end is taken by `calibrate_l0`.
        """
        if not isinstance(self.sae, JumpReLUTrainingSAE) or abs(log_error(l0, self.target_l0)) > FAR_OFF:
            super()._control(l0)

    def state(self) -> dict[str, torch.Tensor]:
        """As `Learner`; where the next threshold is looked for too, so that a resumed arm ends in the same bytes."""
        return super().state() | {"last_threshold": torch.tensor(self.last_threshold, dtype=torch.float64)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `state` returned."""
        super().restore(tensors)
        self.last_threshold = float(tensors["last_threshold"])

    def _count_entries(self, codes: Codes, n_rows: int) -> None:
        self.since_fired += 1
        self.since_fired[codes.columns] = 0
        self._control(len(codes.rows) / n_rows)


def sparse_learner(learner: Learner) -> SparseLearner:
    """Return the same arm in the same state, with the sparse step."""
    return SparseLearner(**{field.name: getattr(learner, field.name) for field in fields(learner)})


def _centred(sae: TopKTrainingSAE, batch: torch.Tensor, sae_in: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations without their centre, and the biases that give them the same pre-activations."""
    if sae.cfg.apply_b_dec_to_input:
        return sae_in, sae.b_enc
    return batch - sae.b_dec, torch.addmv(sae.b_enc, sae.W_enc.T, sae.b_dec)


def _auxiliary(
    sae: TopKTrainingSAE,
    residual: torch.Tensor,
    sae_in: torch.Tensor,
    norm: torch.Tensor | None,
    dead: torch.Tensor,
    n_dead: int,
) -> tuple[float, Part]:
    """SAELens' auxiliary loss: the likeliest dead latents are to write what the live ones left."""
    most = residual.shape[-1] // 2
    scale, k = sae.cfg.aux_loss_coefficient * min(n_dead / most, 1.0), min(most, n_dead)
    latents = dead.nonzero()[:, 0]
    hidden = torch.addmm(sae.b_enc[latents], sae_in, sae.W_enc[:, latents])
    found = largest_of_rows(hidden if norm is None else hidden * norm[latents], k)
    codes = Codes(found.rows, latents[found.columns])
    values = hidden[found.rows, found.columns]
    error = weighted_sum(codes, values, sae.W_dec, len(residual)) - residual
    target = error * (2 * scale / len(residual))
    return scale * float(error.square().sum()) / len(residual), Part(codes, values, target)


def _backward(sae: TopKTrainingSAE, sae_in: torch.Tensor, parts: list[Part]) -> None:
    for part in parts:
        turned = part.codes.turned()
        _write_decoder(sae, turned, part.values, part.target)
        _write_encoder(sae, sae_in, part.codes, turned, products(part.codes, part.target, sae.W_dec))


def _write_decoder(sae: TrainingSAE[Any], turned: Turned, values: torch.Tensor, target: torch.Tensor) -> None:
    if sae.W_dec.requires_grad:
        _add_grad(sae.W_dec, transposed_sum(turned, values, target, sae.cfg.d_sae))


def _write_encoder(
    sae: TopKTrainingSAE | JumpReLUTrainingSAE,
    sae_in: torch.Tensor,
    codes: Codes,
    turned: Turned,
    given: torch.Tensor,
) -> None:
    """Gradients from those in the pre-activations; `b_dec` has one here too where it is taken from the input."""
    bias = torch.zeros_like(sae.b_enc).index_add_(0, codes.columns, given)
    _add_grad(sae.b_enc, bias)
    if sae.W_enc.requires_grad:
        # fused Adam walks through memory: a gradient with the strides of a transpose would be read in the wrong order
        _add_grad(sae.W_enc, transposed_sum(turned, given, sae_in, sae.cfg.d_sae).T.contiguous())
    if sae.cfg.apply_b_dec_to_input:
        # Not `W_enc @ bias`, which torch rounds to bfloat16 where it may, and takes longer for.
        _add_grad(sae.b_dec, -(sae.W_enc * bias).sum(1))


def _add_grad(parameter: torch.Tensor, gradient: torch.Tensor) -> None:
    if parameter.requires_grad:
        # Every gradient here is a tensor of its own, so that it may be kept and added to in place.
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
