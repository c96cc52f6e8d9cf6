from __future__ import annotations

import numpy as np
import pytest
import torch
from sae_lens.saes.batchtopk_sae import BatchTopK

from sae_sanity.baselines.batch_topk import PartitionBatchTopK, kth_largest


@pytest.mark.parametrize("k", [0.5, 3.0, 7.5, 40.0])
def test_against_saelens(k):
    x = torch.randn(64, 40, generator=torch.Generator().manual_seed(int(k * 10)))
    torch.testing.assert_close(PartitionBatchTopK(k)(x), BatchTopK(k)(x), rtol=0, atol=0)


def test_gradient_against_saelens():
    grads = []
    for layer in (PartitionBatchTopK(3.0), BatchTopK(3.0)):
        x = torch.randn(32, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
        layer(x).pow(2).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_fewer_positive_than_wanted_keeps_all_positive():
    x = torch.tensor([[1.0, -1.0, -2.0], [-1.0, -1.0, 2.0]])
    assert torch.equal(PartitionBatchTopK(2.0)(x), x.relu())


@pytest.mark.parametrize("k", [1, 2, 50, 100])
def test_kth_largest_against_sort(k):
    x = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    assert kth_largest(x, k) == pytest.approx(np.sort(x.flatten().numpy())[::-1][k - 1], abs=0)
