"""Forward passes with one vector per prompt put in at the hook, through nnsight: a whole one and a short one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from transformers import PreTrainedModel

from ..hooks import decoder_layers
from ..site import Site, _tensor_of
from .prefix import SuffixBatch

Rows = Float[torch.Tensor, "batch d_in"]
"""What is put in, one vector per prompt of a batch."""


class Passes:
    """The forward passes of one site; all of them differentiable in `rows`, none in the model's weights."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._model: Any = site._traced
        self._hook: Any = self._model.get(site.hook.module)
        self._on_input = site.hook.side == "input"
        self._skipped = [self._model.get(name) for name in _layers_below(site)]
        options = inspect.signature(site.model.forward).parameters
        self._keeps_some = "logits_to_keep" in options
        self._takes_positions = "position_ids" in options

    @property
    def n_skipped(self) -> int:
        """Number of decoder layers that no edit can change, and that `suffix` need not run."""
        return len(self._skipped)

    def states(
        self, tokens: Int[torch.Tensor, "batch pos"], mask: Bool[torch.Tensor, "batch pos"]
    ) -> tuple[Float[torch.Tensor, "batch pos d_in"], Float[torch.Tensor, "batch pos d_model"] | None]:
        """Clean values in the model's dtype: at the hook, and behind the last layer that is skipped (None if none)."""
        below = self._skipped[-1] if self._skipped else None
        inputs = self._site._inputs(tokens, mask)
        upstream = None
        with torch.no_grad():  # noqa: SIM117  (nnsight wants its `with` alone on the line)
            with self._model.trace(**inputs) as tracer:
                if below is not None and below is not self._hook:
                    upstream = below.output.save()
                value = (self._hook.input if self._on_input else self._hook.output).save()
                tracer.stop()
        value = _tensor_of(value).reshape(*tokens.shape, -1)
        return value, value if below is self._hook else upstream

    def whole(
        self,
        tokens: Int[torch.Tensor, "batch pos"],
        mask: Bool[torch.Tensor, "batch pos"],
        where: Int[torch.Tensor, " batch"],
        rows: Rows | None,
    ) -> Float[torch.Tensor, "batch vocab"]:
        """Logits at each prompt's last token, float32; all tokens, padded on the right, through all layers.

        Args:
            tokens: Token ids.
            mask: Which of them are real.
            where: Column that is edited in each row.
            rows: What is put there; None for a clean run.
        """
        logits = self._run(self._site._inputs(tokens, mask), tokens.shape, where, rows, (), None)
        last = mask.sum(dim=1) - 1
        return logits[torch.arange(len(tokens)), last.to(logits.device)].float()

    def suffix(
        self, batch: SuffixBatch, rows: Rows | None, upstream: Float[torch.Tensor, "batch pos d_model"] | None
    ) -> Float[torch.Tensor, "batch vocab"]:
        """Logits at each prompt's last token, float32; suffixes only. Appends to `batch.past`.

        Args:
            batch: The suffixes and what precedes them.
            rows: What is put in at `batch.where`; None for a clean run.
            upstream: Clean output of the last skipped layer at the suffixes; None runs every layer.
        """
        inputs = self._suffix_inputs(batch.tokens, batch.mask, batch.position_ids, batch.past)
        below = () if upstream is None else self._skipped
        logits = self._run(inputs, batch.tokens.shape, batch.where, rows, below, upstream)
        return logits[:, -1].float()

    def step(self, batch: SuffixBatch, tokens: Int[torch.Tensor, "batch pos"]) -> Float[torch.Tensor, "batch vocab"]:
        """Logits behind the last of the tokens generated so far; those before it are in `batch.past`."""
        mask = torch.cat([batch.mask, torch.ones_like(tokens, dtype=torch.bool)], dim=1)
        positions = batch.position_ids[:, -1:] + tokens.shape[1]
        inputs = self._suffix_inputs(tokens[:, -1:], mask, positions, batch.past)
        with torch.no_grad():
            return self._site.model(**inputs).logits[:, -1].float()

    def _suffix_inputs(
        self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: object
    ) -> dict[str, Any]:
        inputs = {"input_ids": tokens, "attention_mask": mask.long(), "past_key_values": past, "use_cache": True}
        if self._keeps_some:
            # By index, which copies: of a slice, torch's backward pass multiplies with one copy of the head per prompt.
            inputs["logits_to_keep"] = torch.tensor([tokens.shape[1] - 1], device=tokens.device)
        # Models without such an argument (those with ALiBi) count the mask.
        return inputs | ({"position_ids": positions} if self._takes_positions else {})

    def _run(
        self,
        inputs: dict[str, Any],
        shape: Sequence[int],
        where: torch.Tensor,
        rows: torch.Tensor | None,
        below: Sequence[Any],
        upstream: torch.Tensor | None,
    ) -> torch.Tensor:
        with _gradients_to(rows, self._site.model):  # noqa: SIM117
            with self._model.trace(**inputs):
                for layer in below:
                    layer.skip(upstream)
                if rows is not None and self._on_input:
                    self._hook.input = _put(self._hook.input, shape, where, rows)
                elif rows is not None:
                    self._hook.output = _put(self._hook.output, shape, where, rows)
                logits = self._model.output.logits.save()
        return logits


def _put(value: Any, shape: Sequence[int], where: torch.Tensor, rows: torch.Tensor) -> Any:  # noqa: ANN401
    """What a module returns, with one vector in place of each row's activation at `where`."""
    hidden = _tensor_of(value).clone(memory_format=torch.contiguous_format)
    # OPT's last layer of an MLP sees all tokens in one row.
    cells = hidden.view(*shape, -1)
    cells[torch.arange(shape[0], device=hidden.device), where.to(hidden.device)] = rows.to(hidden)
    return (hidden, *value[1:]) if isinstance(value, tuple) else hidden


@contextmanager
def _gradients_to(rows: torch.Tensor | None, model: PreTrainedModel) -> Iterator[None]:
    """Let gradients reach `rows` if they need any, and never the weights."""
    wanted = rows is not None and rows.requires_grad and torch.is_grad_enabled()
    weights = [weight for weight in model.parameters() if weight.requires_grad] if wanted else []
    for weight in weights:
        weight.requires_grad_(False)
    try:
        with torch.set_grad_enabled(wanted):
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


def _layers_below(site: Site) -> list[str]:
    """Paths of the decoder layers that no edit at the hook can change."""
    path, _ = decoder_layers(site.model)
    match = re.fullmatch(rf"{re.escape(path)}\.(\d+)(\..+)?", site.hook.module)
    if match is None:
        return []
    behind_layer = match[2] is None and site.hook.side == "output"
    names = [f"{path}.{layer}" for layer in range(int(match[1]) + behind_layer)]
    # Where layers return tuples (GPT-J does), what stands in for one would have to be such a tuple.
    return [] if names and _returns_tuple(site, names[-1]) else names


def _returns_tuple(site: Site, module: str) -> bool:
    envoy = site._traced.get(module)
    with torch.no_grad():  # noqa: SIM117
        with site._traced.trace(**site._inputs(torch.zeros(1, 2, dtype=torch.long), None)) as tracer:
            value = envoy.output.save()
            tracer.stop()
    return isinstance(value, tuple)
