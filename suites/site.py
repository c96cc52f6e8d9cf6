"""The site: one language model, one hook in it, and how texts become tokens and activations there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from nnsight import NNsight
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .activations import ActivationSet
from .collector import Collector, Progress
from .hooks import HookPoint, decoder_layers, is_on_stream, resolve_hook
from .shard_file import Precision
from .texts import TextSet

Edit = Callable[[torch.Tensor], torch.Tensor]
"""Maps activations `[n, d_in]` (float32) to what takes their place."""


@dataclass(frozen=True, eq=False)
class Site:
    """A language model and one hook in it, read and edited through nnsight.

    Raises:
        ValueError: The model has no such hook, or a size is not positive.
    """

    model: PreTrainedModel
    """Any causal language model of `transformers`, in evaluation mode; its dtype is the dtype of the run."""
    tokenizer: PreTrainedTokenizerBase
    """The tokenizer that belongs to the model."""
    hook_name: str
    """A TransformerLens hook name (`blocks.12.hook_resid_post`) or a module path of the model."""
    context_size: int
    """Tokens per document, the BOS token included; longer documents are cut."""
    bos_token_id: int | None
    """Token put before every document; None puts none. Position 0 is never kept either way."""
    cache: Path
    """Folder for activations on disk; one folder per content key inside it."""
    batch_size: int = 32
    """Documents per forward pass."""
    centre: bool = False
    """Whether every activation is taken minus its mean over `d_in`, as a residual stream is whose writing weights were
    centred (TransformerLens' `center_writing_weights`). Sound only where every reader of the stream is a LayerNorm."""
    precision: Precision = "bfloat16"
    """How activations are kept on disk; float32 is twice as large, and rounds nothing of a float32 model."""

    def __post_init__(self) -> None:
        if self.centre and not is_on_stream(self.hook_name):
            raise ValueError(f"hook {self.hook_name!r} cannot be centred: it is not on the residual stream")
        if self.context_size < 2 or self.batch_size < 1:
            msg = f"context_size {self.context_size} must be at least 2 and batch_size {self.batch_size} at least 1"
            raise ValueError(msg)
        self.model.eval()
        _ = self.hook  # an unknown hook is bad input: it shows here, not after an hour of work

    @cached_property
    def hook(self) -> HookPoint:
        """The module and side that `hook_name` means in this model."""
        return resolve_hook(self.model, self.hook_name)

    @cached_property
    def d_in(self) -> int:
        """Width of the activations at the hook."""
        # Asked of the model itself, since a module path may lead to any width.
        return self.raw_activations(torch.zeros(1, 2, dtype=torch.long)).shape[-1]

    @property
    def arithmetic(self) -> str:
        """Type that the language model computes in, by torch's name: what `arithmetic=auto` came to."""
        return str(self.model.dtype).removeprefix("torch.")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides an activation, given the text: 64 hexadecimal digits.

        Covers weights, configuration, tokenizer, hook, context size, BOS token, dtype, precision on disk, device, the
        versions of what computes, and batch size (in 16-bit arithmetic the last digits of an activation depend on its
        batch).
        """
        return hashlib.sha256(_describe(self) + self.weights_sha256.encode()).hexdigest()

    @cached_property
    def weights_sha256(self) -> str:
        """Hash of the language model's weights alone, the same on every machine: 64 hexadecimal digits.

        Weights in float32 that are all bfloat16 numbers are hashed as such: `arithmetic` does not show in it.
        """
        digest = hashlib.sha256()
        weights = self.model.state_dict()
        rounded = all(w.dtype == torch.float32 and torch.equal(w, w.bfloat16().float()) for w in weights.values())
        for name, found in sorted(weights.items()):
            weight = found.bfloat16() if rounded else found  # one at a time: a copy of all may not fit
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)};".encode())
            digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: BOS first if the site has one, cut to `context_size`."""
        if not texts:
            return []
        bos = [] if self.bos_token_id is None else [self.bos_token_id]
        length = self.context_size - len(bos)
        ids = self.tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=length)
        return [bos + row for row in ids["input_ids"]]  # pyright: ignore[reportOperatorIssue]

    def pad(
        self, rows: Sequence[Sequence[int]]
    ) -> tuple[Int[torch.Tensor, "batch pos"], Bool[torch.Tensor, "batch pos"]]:
        """Rows of token ids as one rectangle, padded on the right, and which of its cells are real tokens."""
        width = max((len(row) for row in rows), default=0)
        tokens = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.as_tensor(row, dtype=torch.long)
            mask[index, : len(row)] = True
        return tokens, mask

    def activations(
        self, tokens: Int[torch.Tensor, "batch pos"], mask: Bool[torch.Tensor, "batch pos"] | None = None
    ) -> Float[torch.Tensor, "batch pos d_in"]:
        """Activations at the hook in float32, on the model's device; the model runs no further than the hook.

        Args:
            tokens: Token ids, padded on the right.
            mask: Which cells are real tokens; None for all. Values at padding mean nothing.
        """
        return self._centred(self.raw_activations(tokens, mask).float())

    def raw_activations(
        self, tokens: Int[torch.Tensor, "batch pos"], mask: Bool[torch.Tensor, "batch pos"] | None = None
    ) -> Float[torch.Tensor, "batch pos d_in"]:
        """What the model computes at the hook, in its own dtype and never centred: `upstream` of `token_losses`."""
        # OPT's last layer of an MLP sees all tokens in one row.
        return _tensor_of(self._hook_value(tokens, mask)).reshape(*tokens.shape, -1)

    def token_losses(
        self,
        tokens: Int[torch.Tensor, "batch pos"],
        edit: Edit | None,
        where: Bool[torch.Tensor, "batch pos"],
        *,
        mask: Bool[torch.Tensor, "batch pos"] | None = None,
        upstream: Float[torch.Tensor, "batch pos d_in"] | None = None,
    ) -> Float[torch.Tensor, "batch pos-1"]:
        """Cross-entropy of each next token in nats, with the hook's activations edited.

        Args:
            tokens: Token ids, padded on the right.
            edit: Maps the activations at `where`, `[n, d_in]` in float32 and in row-major order, to what is put
                in their place; None for a clean run.
            where: The cells that are edited.
            mask: Which cells are real tokens; None for all.
            upstream: `raw_activations(tokens, mask)`, if it is at hand: the layers up to the hook are then not
                run again, where the hook is what a decoder layer returns. Same numbers, less time.

        Returns:
            In column t the loss of token t + 1 given tokens 0..t, float32. Losses of padding mean nothing.
        """
        envoy = self._traced.get(self.hook.module)
        change = None if edit is None else _on_centred(edit) if self.centre else edit
        below = self._layers_below if upstream is not None else ()
        inputs = self._inputs(tokens, mask)
        on_input = self.hook.side == "input"
        where = where.to(self.model.device)
        with torch.no_grad():  # noqa: SIM117
            with self._traced.trace(**inputs):
                for layer in below:
                    layer.skip(upstream)
                if change is not None and on_input:
                    envoy.input = _edited(envoy.input, change, where)
                elif change is not None:
                    envoy.output = _edited(envoy.output, change, where)
                logits = self._traced.output.logits.save()
        return _next_token_losses(logits, inputs["input_ids"])

    def collect(
        self, texts: TextSet, *, norm_cap: float | None = None, progress: Progress | None = None
    ) -> ActivationSet:
        """Activations of a set of texts, computed once and kept on disk under `cache`.

        Args:
            texts: The documents; their index in it is the document index of every row.
            norm_cap: Tokens with a larger norm are dropped. None sets it to ten times the median norm of the
                set's first shard; pass one set's `norm_cap` on to the others so that all sets share it.
            progress: Called with (documents done, documents in all) after every shard.

        Returns:
            The set. What an interrupted run had finished is kept; a corrupt shard is computed again.
        """
        return Collector(self, texts, norm_cap).run(progress)

    def _centred(self, acts: torch.Tensor) -> torch.Tensor:
        return _without_mean(acts) if self.centre else acts

    def _hook_value(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> Any:  # noqa: ANN401
        envoy = self._traced.get(self.hook.module)
        inputs = self._inputs(tokens, mask)
        with torch.no_grad():  # noqa: SIM117  (nnsight wants its `with` alone on the line)
            with self._traced.trace(**inputs) as tracer:
                value = (envoy.input if self.hook.side == "input" else envoy.output).save()
                tracer.stop()
        return value

    @cached_property
    def _traced(self) -> Any:  # noqa: ANN401  (an envoy's children are known at run time only)
        return NNsight(self.model)

    @cached_property
    def _layers_below(self) -> tuple[Any, ...]:
        """The decoder layers that `upstream` makes needless: all up to the hook, if that is what a layer returns."""
        path, n_layers = decoder_layers(self.model)
        names = [f"{path}.{layer}" for layer in range(n_layers)]
        if self.hook.side == "input" or self.hook.module not in names:
            return ()
        # Where layers return tuples (GPT-J does), what stands in for one would have to be such a tuple.
        if isinstance(self._hook_value(torch.zeros(1, 2, dtype=torch.long), None), tuple):
            return ()
        return tuple(self._traced.get(name) for name in names[: names.index(self.hook.module) + 1])

    def _inputs(self, tokens: torch.Tensor, mask: torch.Tensor | None) -> dict[str, Any]:
        inputs: dict[str, Any] = {"input_ids": tokens.to(self.model.device), "use_cache": False}
        # Without padding no mask is passed, and attention may take its faster causal path.
        if mask is not None and not bool(mask.all()):
            inputs["attention_mask"] = mask.to(self.model.device).long()
        return inputs


def _describe(site: Site) -> bytes:
    """Everything of a site but its weights that decides an activation."""
    config: Mapping[str, Any] = site.model.config.to_dict()
    # Where a model was loaded from, and what once wrote its config, says nothing about what it computes here.
    config = {k: v for k, v in config.items() if k not in {"_name_or_path", "transformers_version"}}
    parts = (site.hook, site.context_size, site.bos_token_id, site.model.dtype, site.batch_size, site.model.device.type)
    # Sets and scores of before there was a choice keep their keys.
    parts += (site.centre,) if site.precision == "bfloat16" else (site.centre, site.precision)
    parts += tuple(version(name) for name in ("torch", "transformers", "nnsight"))
    tokenizer = _describe_tokenizer(site.tokenizer)
    return json.dumps([config, tokenizer, [repr(part) for part in parts]], sort_keys=True, default=repr).encode()


def _describe_tokenizer(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return tokenizer.get_vocab()
    # These two are left over from the last call, whatever it was.
    return json.loads(backend.to_str()) | {"truncation": None, "padding": None}


def _without_mean(acts: torch.Tensor) -> torch.Tensor:
    return acts - acts.mean(dim=-1, keepdim=True)


def _on_centred(edit: Edit) -> Edit:
    """The edit of centred activations, for activations as the model has them."""
    # The mean is not put back: a LayerNorm subtracts it again, so that nothing downstream can see it.
    return lambda rows: edit(_without_mean(rows))


def _tensor_of(value: Any) -> torch.Tensor:  # noqa: ANN401
    """The activations in what a module returns: attention returns a tuple, transformers 4 layers too."""
    return value[0] if isinstance(value, tuple) else value


def _edited(value: Any, edit: Edit, where: torch.Tensor) -> Any:  # noqa: ANN401
    """What a module returns, with the activations at `where` replaced by their edit."""
    hidden = _tensor_of(value).clone(memory_format=torch.contiguous_format)
    rows = hidden.view(*where.shape, -1)
    # In the model's own dtype, so that everything downstream runs as it does in a clean run.
    rows[where] = edit(rows[where].float()).to(rows)
    return (hidden, *value[1:]) if isinstance(value, tuple) else hidden


def _next_token_losses(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    # Row by row: a float32 copy of all logits at once is batch x context x vocabulary x 4 bytes.
    rows = zip(logits[:, :-1], tokens[:, 1:], strict=True)
    return torch.stack([functional.cross_entropy(row.float(), target, reduction="none") for row, target in rows])
