"""Several sets of activations read as one, so that texts which a check has read already are not read anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from .activations import ActivationSet, SpliceBatch


@dataclass(frozen=True, eq=False)
class JoinedSets:
    """Sets of one site with one norm cap, one behind the other: documents are counted on from set to set.

    Raises:
        ValueError: There is no set, or they differ in width or norm cap.
    """

    sets: tuple[ActivationSet, ...]
    """In the order in which their documents are counted."""

    def __post_init__(self) -> None:
        alike = {(each.d_in, each.norm_cap) for each in self.sets}
        if len(alike) != 1:
            raise ValueError(f"sets to be joined must have one width and norm cap, and have {sorted(alike)}")

    @property
    def keys(self) -> tuple[str, ...]:
        """Content key of each set."""
        return tuple(each.key for each in self.sets)

    @property
    def n_documents(self) -> int:
        """Documents of all sets."""
        return sum(each.n_documents for each in self.sets)

    @property
    def n_tokens(self) -> int:
        """Tokens kept of all sets."""
        return sum(each.n_tokens for each in self.sets)

    def chunks(
        self, max_tokens: int = 16_384
    ) -> Iterator[tuple[Float[torch.Tensor, "n d_in"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
        """As `ActivationSet.chunks`; no chunk holds documents of two sets."""
        before = 0
        for each in self.sets:
            for acts, document, position in each.chunks(max_tokens):
                yield acts, document + before, position
            before += each.n_documents

    def splice_batches(self, batch_size: int = 8) -> Iterator[SpliceBatch]:
        """All documents as `ActivationSet.splice_batches` has them; no batch holds documents of two sets."""
        for each in self.sets:
            yield from each.splice_batches(each.n_documents, batch_size)
