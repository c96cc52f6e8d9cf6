from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from sae_sanity.suites.hard_probing.arrows import Missed, Shot
from sae_sanity.suites.hard_probing.attention import DECAYS, Tokens, _fit, _Probes, max_pool, shoot_attention
from sae_sanity.suites.pooling import pool

WIDTH = 8


@dataclass
class FakeSet:
    """Activations in memory, in chunks of two documents."""

    documents: list[torch.Tensor]
    d_in: int = WIDTH

    @property
    def n_documents(self):
        return len(self.documents)

    def chunks(self, max_tokens=16384):
        for start in range(0, len(self.documents), 2):
            part = self.documents[start : start + 2]
            lengths = [len(d) for d in part]
            document = np.repeat(np.arange(start, start + len(part)), lengths)
            yield torch.cat(part), document, np.concatenate([np.arange(n) for n in lengths])


def ragged(n, seed=0, empty=()):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(0 if i in empty else 1 + i % 5, WIDTH, generator=generator) for i in range(n)]


def needles(n, seed, signal=4.0, length=12):
    """One token of twelve, marked by its last coordinate, knows the class; the mean drowns it, attention finds it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    documents = torch.from_numpy(rng.normal(size=(n, length, WIDTH)).astype(np.float32) * 2)
    documents[..., -1] = 0
    for i, label in enumerate(labels):
        place = int(rng.integers(length))
        documents[i, place, 0] = signal * (2 * int(label) - 1)
        documents[i, place, -1] = 4
    return Tokens.of(FakeSet(list(documents))), labels


# tokens


def test_tokens_are_those_of_the_set_document_by_document():
    documents = ragged(7, empty=(0, 3, 6))
    tokens = Tokens.of(FakeSet(documents))
    assert tokens.lengths.tolist() == [len(d) for d in documents]
    torch.testing.assert_close(tokens.acts, torch.cat(documents), rtol=0, atol=0)
    taken = tokens.take(np.array([5, 3, 1, 5]))
    torch.testing.assert_close(taken.acts, torch.cat([documents[i] for i in (5, 3, 1, 5)]), rtol=0, atol=0)
    assert taken.lengths.tolist() == [len(documents[i]) for i in (5, 3, 1, 5)]


def test_a_set_without_any_token():
    tokens = Tokens.of(FakeSet(ragged(2, empty=(0, 1))))
    assert tokens.lengths.tolist() == [0, 0]
    assert tokens.acts.shape == (0, WIDTH)
    assert tokens.take(np.array([1])).acts.shape == (0, WIDTH)


# the probe


def test_logits_are_softmax_attention_of_torch():
    documents = ragged(6, empty=(2,))
    weights = torch.randn(WIDTH, 2, generator=torch.Generator().manual_seed(9)) * 30  # a softmax that may overflow
    logits = _Probes([weights], torch.tensor([0.7])).logits(Tokens.of(FakeSet(documents)))[:, 0]
    for number, document in enumerate(documents):
        if not len(document):
            assert logits[number].item() == pytest.approx(0.7)
            continue
        attention = torch.nn.functional.scaled_dot_product_attention(
            weights[:, 0][None], document, (document @ weights[:, 1])[:, None], scale=1.0
        )
        torch.testing.assert_close(logits[number], attention.squeeze() + 0.7, rtol=1e-4, atol=1e-3)


def test_gradient_is_that_of_the_dense_formula():
    document = ragged(5)[4]
    weights = torch.randn(WIDTH, 2, generator=torch.Generator().manual_seed(9))
    ours, dense = weights.clone().requires_grad_(), weights.clone().requires_grad_()
    _Probes([ours], torch.zeros(1)).logits(Tokens.of(FakeSet([document]))).sum().backward()
    query, value = (document @ dense).unbind(1)
    (query.softmax(0) * value).sum().backward()
    torch.testing.assert_close(ours.grad, dense.grad)


def test_probes_that_are_fitted_together_are_those_of_one_after_another():
    train, y = needles(60, 3)
    together = _fit(train, y, DECAYS).logits(train).T
    for logits, decay in zip(together, DECAYS, strict=True):
        torch.testing.assert_close(logits, _fit(train, y, [decay]).logits(train)[:, 0], rtol=1e-4, atol=1e-4)
    assert (together[0] - together[-1]).abs().max() > 0.1  # each has its own decay


def test_finds_one_token_where_the_mean_does_not():
    (train, y), (test, y_test) = needles(200, 0), needles(200, 1)
    shot = shoot_attention(train, y, test, y_test, 42)
    assert isinstance(shot, Shot)
    assert shot.test_auc > 0.95
    assert shot.validation_auc > 0.9
    from sae_sanity.suites.hard_probing.arrows import shoot

    means = [t.acts.view(200, 12, WIDTH).mean(1).numpy() for t in (train, test)]
    mean = shoot("logreg", means[0], y, means[1], y_test, 42)
    assert isinstance(mean, Shot)
    assert mean.test_auc < shot.test_auc - 0.03


def test_finds_nothing_in_noise_and_validation_says_so():
    shots = [shoot_attention(*needles(80, s, 0.0), *needles(300, s + 50, 0.0), s) for s in range(6)]
    assert all(isinstance(shot, Shot) for shot in shots)
    assert abs(np.mean([shot.test_auc for shot in shots]) - 0.5) < 0.06  # type: ignore[union-attr]
    # the best of three decays, on sixteen rows each (sd .15)
    assert np.mean([shot.validation_auc for shot in shots]) < 0.75  # type: ignore[union-attr]


def test_validation_never_sees_the_test_rows_and_the_same_seed_gives_the_same_bits():
    (train, y), (test, y_test) = needles(60, 0), needles(60, 1)
    first, again = (shoot_attention(train, y, test, y_test, 1) for _ in range(2))
    other = shoot_attention(train, y, test, 1 - y_test, 1)
    assert isinstance(first, Shot)
    assert isinstance(other, Shot)
    assert first == again
    assert first.validation_auc == other.validation_auc
    assert other.test_auc == pytest.approx(1 - first.test_auc)


def test_what_cannot_be_shot_says_why():
    (train, y), (test, y_test) = needles(20, 0), needles(20, 1)
    assert shoot_attention(train, 0 * y, test, y_test, 1) == Missed("one class left in the training rows")
    few = train.take(np.arange(8))
    assert shoot_attention(few, y[:8], test, y_test, 1) == Missed(
        "4 training documents of a class are fewer than the five that attention pooling needs"
    )
    test.acts[0, 0] = torch.nan
    assert shoot_attention(train, y, test, y_test, 1) == Missed("NaN or infinite activations in the test rows")


# pooling


def encode(acts):
    return acts @ torch.arange(WIDTH * 3).float().view(WIDTH, 3).sin() - 1


def test_max_pooling_is_the_maximum_of_each_document():
    documents = ragged(9, empty=(0, 4))
    found = max_pool(FakeSet(documents), encode)
    expected = torch.stack([encode(d).amax(0) if len(d) else torch.zeros(3) for d in documents])
    torch.testing.assert_close(found, expected)
    broken = max_pool(FakeSet(documents), lambda acts: encode(acts).index_fill(1, torch.tensor([1]), torch.inf))
    assert broken[1].tolist()[1] == torch.inf  # no latent of a good SAE: it has to be seen
    single = FakeSet([d[:1] for d in documents])
    torch.testing.assert_close(max_pool(single, encode), pool(single, encode, "mean"))
