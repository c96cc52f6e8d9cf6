"""Reconstruction: how much of the activations, and of the language model's predictions, survives the SAE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sae_lens.evals import ExplainedVarianceCalculator

from ..results.scores import Row
from .suite import SuiteContext
from .texts import TextSet

if TYPE_CHECKING:
    from sae_lens.saes.sae import SAE

    from .site import Site

Edit = Callable[[Float[torch.Tensor, "n d_in"]], Float[torch.Tensor, "n d_in"]]


class _Document(NamedTuple):
    """One held-out document: its name and its kept activations."""

    name: str
    acts: Float[torch.Tensor, "n d_in"]


class _Spliced(NamedTuple):
    """Some documents, and what the layers below the hook make of them."""

    tokens: torch.Tensor
    kept: torch.Tensor
    mask: torch.Tensor
    lengths: list[int]
    upstream: torch.Tensor


class Reconstruction:
    """Explained variance per document, cross entropy recovered by splicing, L0 and dead latents.

    Explained variance is SAELens' `ExplainedVarianceCalculator` (centred, 1 - residual / variance) over one
    document's tokens; the field's habit of one figure over all tokens is the same calculator on their union.
    Cross entropy recovered is (CE_ablated - CE_spliced) / (CE_ablated - CE_clean) per document, where ablated
    replaces every kept activation by the mean of the held-out activations. Position 0 (BOS) and tokens of outlier
    norm are in neither figure: they are not measured and, when splicing, keep their own activation.
    """

    name = "reconstruction"
    metric = "explained_variance"
    metrics = ("explained_variance", "ce_recovered", "l0", "dead_share")
    exploratory = ("ce_recovered",)
    reads: Literal["encoder", "both"] = "both"
    unit = "item = cluster = held-out document"
    margin = 0.02
    note = "position 0 (BOS) and tokens of outlier norm are excluded; explained variance is centred, per document"
    floor, chance, ceiling = "random", "mean_ablation", "identity"
    version = 1

    def __init__(self, site: Site, held_out: TextSet, *, ce_documents: int, norm_cap: float | None) -> None:
        """Fix the texts.

        Args:
            site: where activations come from.
            held_out: documents that no arm was trained or calibrated on.
            ce_documents: how many of them (the first ones) are spliced into the language model.
            norm_cap: norm above which a token is left out, the one that the training activations had.
        """
        self.site, self.held_out = site, held_out
        self.ce_documents, self.norm_cap = ce_documents, norm_cap

    @classmethod
    def build(cls, context: SuiteContext) -> Reconstruction:
        """Make the suite of a check from its option `ce_documents`."""
        documents = context.options["ce_documents"]
        return cls(context.site, context.held_out, ce_documents=documents, norm_cap=context.norm_cap)

    @classmethod
    def clusters(cls, options: Mapping[str, Any]) -> int:
        """Return the number of documents that a check with these options measures."""
        return options["held_out_documents"]

    def settings(self) -> dict[str, Any]:
        """Return everything that decides the numbers, for the cell's key."""
        return {
            "texts": self.held_out.sha256,
            "ce_documents": self.ce_documents,
            "activations": self._activations.key,
        }

    def references(self) -> tuple[str, ...]:
        """Return the names of the references that can be measured."""
        return (self.chance, self.ceiling)

    def measure(self, sae: SAE[Any], site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure one SAE; rows per document, and one row for the share of dead latents."""
        ever = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
        rows: list[Row] = []
        with torch.inference_mode():
            for doc in self._documents():
                latents = sae.encode(doc.acts)
                ever |= (latents != 0).any(0)
                l0 = float((latents != 0).sum()) / len(doc.acts)
                rows += [
                    Row("explained_variance", doc.name, doc.name, explained(sae.decode(latents), doc.acts)),
                    Row("l0", doc.name, doc.name, l0),
                ]
        rows.append(Row("dead_share", "all documents", "all documents", float((~ever).double().mean())))
        return rows + self._recovered(lambda acts: sae.decode(sae.encode(acts.to(sae.device))))

    def measure_reference(self, name: str, site: Site, rng: np.random.Generator) -> list[Row]:
        """Measure `mean_ablation` (every activation becomes the mean) or `identity` (nothing changes)."""
        edit: Edit = self._ablate if name == self.chance else lambda acts: acts
        rows = [Row("explained_variance", d.name, d.name, explained(edit(d.acts), d.acts)) for d in self._documents()]
        return rows + self._recovered(edit)

    @cached_property
    def _activations(self) -> Any:  # noqa: ANN401  # ActivationSet, whose import would be circular
        return self.site.collect(self.held_out, norm_cap=self.norm_cap)

    def _documents(self) -> Iterator[_Document]:
        for acts, document, _ in self._activations.chunks():
            for index in np.unique(document):
                yield _Document(f"{self.held_out.name}-{index:05d}", acts[torch.from_numpy(document == index)])

    @cached_property
    def _mean(self) -> Float[torch.Tensor, " d_in"]:
        total, count = torch.zeros(self.site.d_in, dtype=torch.float64), 0
        for acts, _, _ in self._activations.chunks():
            total, count = total + acts.double().sum(0), count + len(acts)
        return (total / count).float()

    def _ablate(self, acts: Float[torch.Tensor, "n d_in"]) -> Float[torch.Tensor, "n d_in"]:
        return self._mean.expand_as(acts)

    @cached_property
    def _spliced(self) -> tuple[_Spliced, ...]:
        # The layers below the hook run once for all arms: token_losses skips them where it gets their output.
        batches: list[_Spliced] = []
        for tokens, kept, lengths in self._activations.splice_batches(self.ce_documents):
            mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths)[:, None]
            batches.append(_Spliced(tokens, kept, mask, lengths, self.site.raw_activations(tokens, mask)))
        return tuple(batches)

    def _losses(self, edit: Edit | None) -> Float[np.ndarray, " docs"]:
        """Mean next-token cross entropy of each spliced document, in nats."""
        losses: list[float] = []
        for tokens, kept, mask, lengths, upstream in self._spliced:
            per_token = self.site.token_losses(tokens, edit, kept, mask=mask, upstream=upstream)
            losses += [float(row[: n - 1].double().mean()) for row, n in zip(per_token, lengths, strict=True)]
        return np.array(losses)

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        # Once per process, not once per arm: they do not depend on the SAE.
        with torch.inference_mode():
            return self._losses(None), self._losses(self._ablate)

    def _recovered(self, edit: Edit) -> list[Row]:
        clean, ablated = self._bounds
        with torch.inference_mode():
            share = (ablated - self._losses(edit)) / (ablated - clean)
        names = [f"{self.held_out.name}-{i:05d}" for i in range(len(share))]
        return [Row("ce_recovered", n, n, float(v)) for n, v in zip(names, share, strict=True)]


def explained(reconstruction: Float[torch.Tensor, "n d_in"], acts: Float[torch.Tensor, "n d_in"]) -> float:
    """Centred explained variance of some activations, by SAELens' calculator."""
    calculator = ExplainedVarianceCalculator()
    calculator.add_batch(reconstruction, acts)
    return calculator.compute()
