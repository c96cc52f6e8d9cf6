from __future__ import annotations

import pytest
from hub_contents import RES_JB_REPO, save_gpt2, save_old_sae, save_sae
from loopback_hub import loopback_hub
from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup, get_pretrained_saes_directory


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Every test runs in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with two SAEs of a real release, a repo of SAEs that is no release, and the tiny model."""
    root = tmp_path / "on-the-hub"
    for layer in (0, 1):
        hook_name = f"blocks.{layer}.hook_resid_pre"
        save_old_sae(root / "models" / RES_JB_REPO / hook_name, layer, hook_name)
    for layer in (0, 1):
        save_sae(root / "models/org/saes" / f"layer_{layer}/width_48", layer, "topk")
    save_gpt2(root / "models/gpt2")
    with loopback_hub(root) as served:
        served.patched(monkeypatch, tmp_path / "home")
        yield served


@pytest.fixture
def add_release(monkeypatch):
    """Add a release to SAELens' registry, for one test."""

    def add(name, repo_id, paths, conversion_func=None, **facts):
        empty = {"expected_var_explained": {}, "expected_l0": {}, "neuronpedia_id": {}, "norm_scaling_factor": {}}
        lookup = PretrainedSAELookup(
            release=name,
            repo_id=repo_id,
            model=facts.pop("model", "gpt2-small"),
            conversion_func=conversion_func,
            saes_map=paths,
            **(empty | {"config_overrides": None} | facts),
        )
        monkeypatch.setitem(get_pretrained_saes_directory(), name, lookup)

    return add
