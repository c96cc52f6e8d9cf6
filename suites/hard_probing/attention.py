"""A probe on all tokens of a document: attention pooling on activations, against pooled latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from ..pooling import ENCODE_ROWS
from .arrows import Missed, Shot, why_not

if TYPE_CHECKING:
    from ..activations import ActivationSet
    from ..pooling import Encode

STEPS, LEARNING_RATE = 100, 0.02
DECAYS = (1.0, 0.1, 0.01)
"""Weight decays that the validation rows choose among."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokens of some documents, one document after the other."""

    acts: Float[torch.Tensor, "tokens d"]
    """Activations, float32 on the CPU."""
    starts: Int[np.ndarray, " bounds"]
    """First token of each document, and the number of tokens: one more than there are documents."""

    @classmethod
    def of(cls, activations: ActivationSet) -> Tokens:
        """All kept tokens of a set; it is held in memory (500 prompts of 30 tokens at d_in 576: 35 MB)."""
        acts, counts = [torch.zeros(0, activations.d_in)], np.zeros(activations.n_documents, dtype=np.int64)
        for rows, document, _ in activations.chunks():
            acts.append(rows)
            counts += np.bincount(np.asarray(document), minlength=len(counts))
        return cls(torch.cat(acts), np.concatenate([[0], np.cumsum(counts)]))

    @property
    def lengths(self) -> Int[np.ndarray, " docs"]:
        """Tokens of each document."""
        return np.diff(self.starts)

    def take(self, rows: Int[np.ndarray, " docs"]) -> Tokens:
        """Documents `rows`, in that order."""
        parts = [np.arange(self.starts[row], self.starts[row + 1]) for row in rows]
        lengths = [len(part) for part in parts]
        picked = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        return Tokens(self.acts[torch.from_numpy(picked)], np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))


class _Probes(NamedTuple):
    """Probes that read the same tokens at the same time, one for each weight decay.

    A document's logit is the mean of `value` over its tokens, weighted by the softmax of `query`, plus a bias.
    """

    weights: list[torch.Tensor]
    """Query and value of each probe, `[d, 2]`."""
    bias: torch.Tensor
    """`[probes]`."""

    def logits(self, tokens: Tokens) -> Float[torch.Tensor, "docs probes"]:
        document = torch.from_numpy(np.repeat(np.arange(len(tokens.lengths)), tokens.lengths))
        # All probes in one product: reading the tokens is what takes the time.
        query, value = (tokens.acts @ torch.cat(self.weights, 1)).unflatten(1, (-1, 2)).unbind(2)
        zeros = query.new_zeros(len(tokens.lengths), query.shape[1])
        lowest = torch.full_like(zeros, -torch.inf)
        top = lowest.scatter_reduce(0, document[:, None].expand_as(query), query.detach(), "amax")
        weight = (query - top[document]).exp()
        total, sums = zeros.index_add(0, document, weight), zeros.index_add(0, document, weight * value)
        return sums / total.clamp(min=1e-9) + self.bias  # a document without tokens has the bias alone

    def aucs(self, tokens: Tokens, y: np.ndarray) -> list[float]:
        with torch.inference_mode():
            logits = self.logits(tokens).numpy()
        return [float(roc_auc_score(y, of_one)) for of_one in logits.T]


@dataclass(frozen=True, eq=False)
class AttentionAim:
    """The probe on all tokens at one problem; like `Aim`, it can be shot in another process."""

    train: Tokens
    """Tokens of the training documents."""
    y_train: Int[np.ndarray, " train"]
    """Their labels, 0 or 1."""
    test: Tokens
    """Tokens of the test documents."""
    y_test: Int[np.ndarray, " test"]
    """Their labels."""
    seed: int
    """Of the validation documents."""

    def shoot(self) -> Shot | Missed:
        """Shoot it, by one thread: problems run side by side, and the bits are the same however many do."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return shoot_attention(self.train, self.y_train, self.test, self.y_test, self.seed)
        finally:
            torch.set_num_threads(threads)


def shoot_attention(
    train: Tokens, y_train: Int[np.ndarray, " train"], test: Tokens, y_test: Int[np.ndarray, " test"], seed: int
) -> Shot | Missed:
    """Fit a probe with one query and one value vector on the tokens of the training documents.

    The multi-token baseline of arXiv 2502.16681: softmax over tokens of their product with the query weighs their
    product with the value. Tokens are standardised by the training tokens. The weight decay is chosen on a fifth of
    the training documents, drawn within the classes by `seed`, and the probe is fitted on all of them then.

    Returns:
        The shot; `Missed` where a class has fewer than five training documents, or for what stops any arrow.
    """
    finite = [
        np.zeros((len(y), 1)) if t.acts.isfinite().all() else np.full((len(y), 1), np.nan)
        for t, y in ((train, y_train), (test, y_test))
    ]
    if reason := why_not(finite[0], y_train, finite[1], y_test, seed):
        return Missed(reason)
    if (fewest := int(np.bincount(y_train, minlength=2).min())) < 5:
        return Missed(f"{fewest} training documents of a class are fewer than the five that attention pooling needs")
    train, test = _standardised(train, test)
    fitting, held_out = next(StratifiedKFold(5, shuffle=True, random_state=seed).split(y_train, y_train))
    parts = (train.take(fitting), train.take(held_out))
    aucs = _fit(parts[0], y_train[fitting], DECAYS).aucs(parts[1], y_train[held_out])
    best = int(np.argmax(aucs))
    return Shot(aucs[best], _fit(train, y_train, DECAYS[best : best + 1]).aucs(test, y_test)[0])


def max_pool(activations: ActivationSet, encode: Encode) -> Float[torch.Tensor, "docs width"]:
    """One vector per document: the maximum over its kept tokens; zeros where it has none.

    Args:
        activations: Kept tokens only.
        encode: What is pooled, latents for example.
    """
    one = encode(torch.zeros(1, activations.d_in))
    most = one.new_full((activations.n_documents, one.shape[1]), -torch.inf)
    for acts, document, _ in activations.chunks():
        index = torch.from_numpy(np.asarray(document, dtype=np.int64))
        for rows, of in zip(acts.split(ENCODE_ROWS), index.split(ENCODE_ROWS), strict=True):
            encoded = encode(rows)
            most.scatter_reduce_(0, of.to(encoded.device)[:, None].expand_as(encoded), encoded, "amax")
    return torch.where(most.isneginf(), 0.0, most).cpu()


def _standardised(train: Tokens, test: Tokens) -> tuple[Tokens, Tokens]:
    mean, deviation = train.acts.mean(0), train.acts.std(0).clamp(min=1e-6)
    first, second = (Tokens((part.acts - mean) / deviation, part.starts) for part in (train, test))
    return first, second


def _fit(tokens: Tokens, y: np.ndarray, decays: Sequence[float]) -> _Probes:
    """Fit one probe for each weight decay by AdamW on all documents at once, from zero: nothing in it is random."""
    weights = [torch.zeros(tokens.acts.shape[1], 2, requires_grad=True) for _ in decays]
    probes = _Probes(weights, torch.zeros(len(decays), requires_grad=True))
    targets = torch.from_numpy(y).float()[:, None].expand(-1, len(decays))
    groups = [{"params": [each], "weight_decay": decay} for each, decay in zip(weights, decays, strict=True)]
    optimizer = torch.optim.AdamW([*groups, {"params": [probes.bias], "weight_decay": 0.0}], lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = torch.nn.functional.binary_cross_entropy_with_logits(probes.logits(tokens), targets, reduction="none")
        losses.mean(0).sum().backward()  # no probe has a share in the gradient of another
        optimizer.step()
    return probes
