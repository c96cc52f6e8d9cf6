"""Sites on tiny random models."""

from __future__ import annotations

import pytest
import torch
from tiny_site import tiny_model, tiny_tokenizer
from zoo import ARCHITECTURES, random_model

from sae_sanity.suites.site import Site


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def any_model(request):
    """One tiny random model of each architecture."""
    return random_model(ARCHITECTURES[request.param]())


@pytest.fixture
def make_site(tmp_path):
    """Make a site on a tiny model, with settings of one's own."""

    def make(model=None, hook_name="blocks.1.hook_resid_post", **settings):
        settings = {"context_size": 32, "bos_token_id": 0, "cache": tmp_path, "batch_size": 4} | settings
        return Site(model=model or tiny_model(), tokenizer=tiny_tokenizer(), hook_name=hook_name, **settings)

    return make


@pytest.fixture
def tokens():
    """Three rows of eleven tokens."""
    return torch.randint(2, 152, (3, 11), generator=torch.Generator().manual_seed(1))
