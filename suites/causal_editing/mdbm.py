"""Multi-task differential binary masking: which latents carry an attribute, learned from pairs of prompts.

The mathematics is that of SAEBench's `ravel.mdbm` (after Huang et al. 2024, arXiv 2402.17700); the data flow is not:
codes of all prompts are at hand before, so that a step is one decoding and one run of the upper layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

Decode = Callable[[torch.Tensor], torch.Tensor]
"""Maps codes `[m, d_sae]` to rows `[m, d_in]`, differentiably: `decode` of an SAE."""


@runtime_checkable
class Runs(Protocol):
    """Runs of a language model with vectors put at the place of the edit of chosen prompts: an `Editor`."""

    def logits(self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"]) -> Float[torch.Tensor, "m vocab"]:
        """Logits after the last token of each prompt of `which`, differentiable in `rows`."""
        ...

    def generate(
        self, which: Sequence[int], rows: Float[torch.Tensor, "m d_in"] | None, n_tokens: int
    ) -> Int[torch.Tensor, "m n_tokens"]:
        """Continue each prompt of `which` greedily; without `rows` nothing is edited."""
        ...


@dataclass(frozen=True)
class Wanted:
    """What edits should do: one entry per pair of prompts in each field.

    Raises:
        ValueError: when the fields differ in length, or there is no pair.
    """

    base: tuple[int, ...]
    """Index of the prompt that is edited."""
    source: tuple[int, ...]
    """Index of the prompt whose latents are put in."""
    token: tuple[int, ...]
    """First token wanted after the edit: the source's own for cause, the base's own for isolation."""

    def __post_init__(self) -> None:
        lengths = [len(self.base), len(self.source), len(self.token)]
        if len(set(lengths)) > 1 or not lengths[0]:
            raise ValueError(f"pairs need base, source and token each, and at least one pair; got {lengths} of them")

    def __len__(self) -> int:
        return len(self.base)

    def at(self, pairs: Sequence[int]) -> Wanted:
        """Return some of the pairs, in the order given."""
        chosen = (tuple(field[i] for i in pairs) for field in (self.base, self.source, self.token))
        return Wanted(*chosen)

    def loss(self, runs: Runs, rows: Float[torch.Tensor, "m d_in"]) -> Float[torch.Tensor, ""]:
        """Mean cross entropy of the wanted tokens in nats, with one row put into each pair's base prompt."""
        logits = runs.logits(self.base, rows)
        return functional.cross_entropy(logits, torch.tensor(self.token, device=logits.device))


def edited(
    base_codes: Float[torch.Tensor, "m d_sae"],
    source_codes: Float[torch.Tensor, "m d_sae"],
    mask: Bool[torch.Tensor, " d_sae"] | Float[torch.Tensor, " d_sae"],
    decode: Decode,
    error: Float[torch.Tensor, "m d_in"] | None = None,
) -> Float[torch.Tensor, "m d_in"]:
    """Return the base's activations with the latents of the mask taken from the source.

    Args:
        base_codes: What the SAE makes of the base's activations.
        source_codes: What it makes of the source's.
        mask: 1 where a latent is the source's, 0 where it is the base's; between them a mix.
        decode: The SAE's `decode`.
        error: What the SAE leaves of the base's activations (activation minus reconstruction), added to the
            result; None drops it, as SAEBench does.
    """
    mask = mask.to(base_codes.dtype)
    rows = decode((1 - mask) * base_codes + mask * source_codes)
    return rows if error is None else rows + error


def train_mask(
    runs: Runs,
    wanted: Wanted,
    codes: Float[torch.Tensor, "n_prompts d_sae"],
    decode: Decode,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    generator: torch.Generator,
    error: Float[torch.Tensor, "n_prompts d_in"] | None = None,
) -> Bool[torch.Tensor, " d_sae"]:
    """Learn which latents to swap; arguments and errors are those of `mask_values`, whose sign this is.

    A latent that is silent on every prompt has no gradient, stays at 0 and is never in the mask. One that fires but
    moves no logit is in or out by the sign of a rounding error, which Adam makes a step of: a mask is an upper bound
    on what carries the attribute.
    """
    values = mask_values(
        runs, wanted, codes, decode, epochs=epochs, lr=lr, batch_size=batch_size, generator=generator, error=error
    )
    return values > 0


def mask_values(
    runs: Runs,
    wanted: Wanted,
    codes: Float[torch.Tensor, "n_prompts d_sae"],
    decode: Decode,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    generator: torch.Generator,
    error: Float[torch.Tensor, "n_prompts d_in"] | None = None,
) -> Float[torch.Tensor, " d_sae"]:
    """Learn one number per latent, positive where it should be swapped.

    As SAEBench's `train_mdbm`: numbers start at 0, the mask of a step is sigmoid(number / temperature), the
    temperature falls from 1 to 1e-4 evenly in its logarithm over all steps, and Adam follows the cross entropy. The
    pairs are shuffled once and every epoch goes through them in that order. Unlike there the last batch, which may be
    smaller, is used too. Nothing but the numbers gets a gradient: not the SAE, not the model.

    Args:
        runs: The language model.
        wanted: Pairs, as indices into `codes`; one token each.
        codes: What the SAE makes of every prompt. Only a batch of them is ever copied.
        decode: The SAE's `decode`. An SAE that normalises at run time needs `coded.Coded`.
        epochs: Passes through the pairs.
        lr: Step size of Adam.
        batch_size: Pairs per step.
        generator: On the CPU; decides the order of the pairs, the only chance in it.
        error: Reconstruction error of every prompt where it is kept; None where it is dropped.

    Raises:
        ValueError: when `epochs` or `batch_size` is not positive.
    """
    batches = list(in_batches(wanted, epochs, batch_size, generator))
    with gradients():
        values = torch.zeros(codes.shape[1], device=codes.device, requires_grad=True)
        adam = torch.optim.Adam([values], lr=lr)
        for temperature, batch in zip(temperatures(len(batches)), batches, strict=True):
            base, source = list(batch.base), list(batch.source)
            own_error = None if error is None else error[base]
            mask = torch.sigmoid(values / temperature)
            descend(adam, values, batch.loss(runs, edited(codes[base], codes[source], mask, decode, own_error)))
    return values.detach()


def temperatures(steps: int) -> list[float]:
    """Temperature of each step: from 1 down to 1e-4, evenly in the logarithm; one step alone has 1."""
    return torch.logspace(0, -4, steps).tolist()


def in_batches(wanted: Wanted, epochs: int, batch_size: int, generator: torch.Generator) -> Iterator[Wanted]:
    """Pairs of every step: shuffled once, in the same order every epoch; the last batch of an epoch may be smaller.

    Raises:
        ValueError: when `epochs` or `batch_size` is not positive.
    """
    if epochs < 1 or batch_size < 1:
        raise ValueError(f"epochs {epochs} and batch_size {batch_size} must be at least 1")
    order = torch.randperm(len(wanted), generator=generator)
    batches = [wanted.at(part.tolist()) for part in order.split(batch_size)]
    return (batch for _ in range(epochs) for batch in batches)


def descend(optimiser: torch.optim.Optimizer, parameter: torch.Tensor, loss: Float[torch.Tensor, ""]) -> None:
    """Take one step on one parameter; nothing else that the loss depends on gets a gradient."""
    (parameter.grad,) = torch.autograd.grad(loss, parameter)
    optimiser.step()


@contextmanager
def gradients() -> Iterator[None]:
    """Gradients even where the caller has switched them off: suites measure in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
