"""What prompts begin with alike, run once: keys and values of shared prefixes, laid out for a batch of suffixes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from .prompt import Prompt

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""One layer's keys and values of one prefix, each `[1, heads, pos, d_head]`."""


@dataclass(frozen=True)
class SuffixBatch:
    """The last tokens of some prompts, all ending in the last column, behind the keys and values of what precedes them.

    Every row has as many suffix tokens as the longest needs: a shorter one takes back the end of its prefix. So no
    padding lies inside a row, only on the left, as in ordinary generation.
    """

    tokens: Int[torch.Tensor, "batch pos"]
    """Token ids of the suffixes."""
    mask: Bool[torch.Tensor, "batch all_pos"]
    """Which cells of prefix and suffix are real tokens."""
    position_ids: Int[torch.Tensor, "batch pos"]
    """Position of every suffix token in its whole prompt."""
    where: Int[torch.Tensor, " batch"]
    """Column of `tokens` with the entity's last token."""
    past: DynamicCache
    """Keys and values of the prefixes; this batch's own, so that a forward pass may append to it."""


class Prefixes:
    """The longest beginning that the prompts of a template share, never beyond an edited position."""

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Prompt]) -> None:
        self._model = model
        self._prompts = prompts
        self._of = _shared_prefixes(prompts)
        self._computed: dict[tuple[int, ...], list[KeysValues]] = {}

    def prefix(self, index: int) -> tuple[int, ...]:
        """Tokens that prompt `index` shares with all prompts of its template."""
        return self._of[index]

    def suffix_length(self, index: int) -> int:
        """Number of tokens of prompt `index` behind its prefix, at least one."""
        return len(self._prompts[index].tokens) - len(self._of[index])

    def batch(self, which: Sequence[int]) -> SuffixBatch:
        """The suffixes of some prompts, with fresh keys and values of their prefixes before them."""
        prompts = [self._prompts[index] for index in which]
        lengths = torch.tensor([len(prompt.tokens) for prompt in prompts])
        width = max(self.suffix_length(index) for index in which)
        kept = [max(len(prompt.tokens) - width, 0) for prompt in prompts]
        columns = torch.arange(max(kept) + width)
        rows = [(0,) * (width - len(p.tokens)) + p.tokens[-width:] for p in prompts]
        position = torch.tensor([prompt.position for prompt in prompts])
        device = self._model.device
        return SuffixBatch(
            tokens=torch.tensor(rows).to(device),
            mask=(columns >= max(kept) + width - lengths[:, None]).to(device),
            position_ids=(torch.arange(width) + lengths[:, None] - width).clamp(min=0).to(device),
            where=(position - lengths + width).to(device),
            past=self._past([(self._of[index], length) for index, length in zip(which, kept, strict=True)]),
        )

    def _past(self, rows: Sequence[tuple[tuple[int, ...], int]]) -> DynamicCache:
        cache = DynamicCache()
        width = max(length for _, length in rows)
        if width == 0:
            return cache
        distinct = list(dict.fromkeys(rows))
        index = torch.tensor([distinct.index(row) for row in rows]).to(self._model.device)
        layers = zip(*(self._keys_values(prefix) for prefix, _ in distinct), strict=True)
        for layer, parts in enumerate(layers):
            lengths = [length for _, length in distinct]
            keys, values = (_aligned([part[side] for part in parts], lengths, width) for side in (0, 1))
            # `update` copies, so no pass that appends to the cache can reach what is kept here.
            cache.update(keys[index], values[index], layer)
        return cache

    def _keys_values(self, prefix: tuple[int, ...]) -> list[KeysValues]:
        if prefix not in self._computed:
            self._computed[prefix] = _keys_values(self._model, prefix)
        return self._computed[prefix]


def _keys_values(model: PreTrainedModel, prefix: Sequence[int]) -> list[KeysValues]:
    # Made without the configuration, a cache keeps all tokens in sliding layers too; the mask does their sliding.
    cache = DynamicCache()
    with torch.no_grad():
        # One token if there is no prefix at all: cropped to nothing, it still says how many layers and heads there are.
        model(input_ids=torch.tensor([prefix or (0,)]).to(model.device), past_key_values=cache, use_cache=True)
    return [_of_layer(layer) for layer in cache.layers]


def _of_layer(layer: object) -> KeysValues:
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if type(layer) is not DynamicLayer or keys is None or values is None:
        raise ValueError(f"a layer keeps {type(layer).__name__}, not keys and values of every token")
    return keys, values


def _aligned(
    parts: Iterable[Float[torch.Tensor, "1 heads _ d_head"]], lengths: Sequence[int], width: int
) -> Float[torch.Tensor, "parts heads width d_head"]:
    """The first `length` positions of every part, padded with zeros on the left."""
    cut = zip(parts, lengths, strict=True)
    return torch.cat([functional.pad(part[:, :, :length], (0, 0, width - length, 0)) for part, length in cut])


def _shared_prefixes(prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
    groups: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        groups[prompt.template].append(prompt)
    shared = {template: _shared_prefix(group) for template, group in groups.items()}
    return [shared[prompt.template] for prompt in prompts]


def _shared_prefix(prompts: Sequence[Prompt]) -> tuple[int, ...]:
    columns = zip(*(prompt.tokens[: prompt.position] for prompt in prompts), strict=False)
    return tuple(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns))
