"""From tables of prompts to the features of problems: activations collected once, pooled as they are needed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from ..pooling import Encode, pool
from ..probe_data import Sampling
from .attention import max_pool
from .problems import Problem, prompts

if TYPE_CHECKING:
    from ..activations import ActivationSet
    from ..site import Site

How = Literal["mean", "max"]
"""How a document's tokens become one vector."""
KEPT_BYTES, FEWEST_KEPT = 2**28, 4
"""What is kept of the features that one encoder was pooled to: a table is asked for several problems, shifts to it and
wrong labels in it. However wide, those of one dataset are kept: by mean and by maximum, and of two shifted tables."""


class Posed(NamedTuple):
    """One problem with features."""

    problem: Problem
    """Its labels, and which rows of which table."""
    x_train: Float[np.ndarray, "train width"]
    """Features of the training rows."""
    x_test: Float[np.ndarray, "test width"]
    """Features of the test rows."""


class Features:
    """Activations of tables, each collected once for all SAEs, and what is pooled from them."""

    def __init__(self, sampling: Sampling, norm_cap: float | None) -> None:
        """Fix which prompts there are and which tokens count.

        Args:
            sampling: Which prompts of a dataset are used.
            norm_cap: Norm above which a token is left out.
        """
        self.sampling, self.norm_cap = sampling, norm_cap
        self._collected: dict[tuple[str, str], ActivationSet] = {}
        self._pooled: OrderedDict[tuple[str, str, How], np.ndarray] = OrderedDict()
        self._encode: Encode | None = None

    def activations(self, site: Site, table: str) -> ActivationSet:
        """Activations of the prompts of one table."""
        key = (site.fingerprint, table)
        if key not in self._collected:
            self._collected[key] = site.collect(prompts(table, self.sampling), norm_cap=self.norm_cap)
        return self._collected[key]

    def pooled(self, site: Site, table: str, encode: Encode, how: How = "mean") -> Float[np.ndarray, "docs width"]:
        """One vector for each prompt of a table; the latest ones are kept (`KEPT_BYTES`)."""
        if encode is not self._encode:
            self._encode = encode
            self._pooled.clear()
        key = (site.fingerprint, table, how)
        if key not in self._pooled:
            acts = self.activations(site, table)
            with torch.inference_mode():
                self._pooled[key] = (pool(acts, encode, "mean") if how == "mean" else max_pool(acts, encode)).numpy()
        self._pooled.move_to_end(key)
        found = self._pooled[key]
        while len(self._pooled) > FEWEST_KEPT and sum(each.nbytes for each in self._pooled.values()) > KEPT_BYTES:
            self._pooled.popitem(last=False)
        return found

    def forget(self) -> None:
        """Let go of the last encoder and what was pooled by it: an SAE may be large, and the next is another."""
        self._encode = None
        self._pooled.clear()

    def of(self, site: Site, encode: Encode, wanted: Iterable[tuple[Problem, How]]) -> Iterator[Posed]:
        """Features of problems in their order."""
        for problem, how in wanted:
            train, test = (self.pooled(site, table, encode, how) for table in (problem.table, problem.test_table))
            yield Posed(problem, train[problem.train], test[problem.test])


def as_is(acts: Float[torch.Tensor, "n d_in"]) -> Float[torch.Tensor, "n d_in"]:
    """What stands for an SAE where the activations themselves are the features."""
    return acts
