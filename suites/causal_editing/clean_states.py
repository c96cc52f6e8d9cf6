"""What the model holds for every prompt without an edit: computed in one pass, kept as small as it can be."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch.nn import functional

from ..site import Site
from .passes import Passes
from .prefix import Prefixes
from .prompt import Prompt


class CleanStates:
    """Activations at the entity's last token of every prompt, and what goes into the first layer that an edit changes.

    Args:
        site: The model and the hook.
        prompts: The prompts.
        passes: The site's forward passes.
        prefixes: What the prompts share.
    """

    def __init__(self, site: Site, prompts: Sequence[Prompt], passes: Passes, prefixes: Prefixes) -> None:
        self._site = site
        self._prompts = prompts
        self._passes = passes
        self._prefixes = prefixes
        self._rows: dict[int, torch.Tensor] = {}
        self._suffixes: dict[int, torch.Tensor] = {}
        self._shared: dict[tuple[int, ...], torch.Tensor] = {}

    def compute(self, which: Sequence[int], batch_size: int, *, upstream: bool) -> None:
        """Run prompts up to the hook, in batches of equal length as far as may be; `upstream` keeps layer outputs."""
        order = sorted(which, key=lambda index: len(self._prompts[index].tokens))
        for start in range(0, len(order), batch_size):
            self._compute_batch(order[start : start + batch_size], upstream)

    def rows(self, which: Sequence[int]) -> Float[torch.Tensor, "m d_in"]:
        """Activations of computed prompts, float32, as `Site.activations` gives them."""
        return torch.stack([self._rows[index] for index in which])

    def upstream(self, which: Sequence[int], width: int) -> Float[torch.Tensor, "m width d_model"] | None:
        """Outputs of the last skipped layer at the last `width` tokens of computed prompts; None if none is skipped."""
        return torch.stack([self._ending(index, width) for index in which]) if self._passes.n_skipped else None

    def _ending(self, index: int, width: int) -> torch.Tensor:
        whole = torch.cat([self._shared[self._prefixes.prefix(index)], self._suffixes[index]])[-width:]
        return functional.pad(whole, (0, 0, width - len(whole), 0))

    def _compute_batch(self, which: Sequence[int], keep_upstream: bool) -> None:
        prompts = [self._prompts[index] for index in which]
        tokens, mask = self._site.pad([prompt.tokens for prompt in prompts])
        values, upstream = self._passes.states(tokens, mask)
        at_entities = values[torch.arange(len(prompts)), torch.tensor([prompt.position for prompt in prompts])]
        for row, (index, prompt) in enumerate(zip(which, prompts, strict=True)):
            self._rows[index] = self._site._centred(at_entities[row].float())
            if keep_upstream and upstream is not None:
                prefix = self._prefixes.prefix(index)
                # Copies: a view would keep its whole batch alive.
                self._suffixes[index] = upstream[row, len(prefix) : len(prompt.tokens)].clone()
                if prefix not in self._shared:
                    self._shared[prefix] = upstream[row, : len(prefix)].clone()
