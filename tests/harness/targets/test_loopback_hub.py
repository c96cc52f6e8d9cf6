"""The hub of the tests against the real clients; the other tests of this folder use it for what it is for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import torch
from hub_contents import RES_JB, RES_JB_REPO, make_sae, save_sae
from huggingface_hub import HfApi, snapshot_download
from loopback_hub import TOKEN
from sae_lens import SAE
from transformers import AutoModelForCausalLM


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_snapshot_is_the_repo(hub):
    assert files(Path(snapshot_download("org/saes"))) == files(hub.repo("org/saes"))


def test_trees_and_paths(hub):
    api = HfApi()
    assert set(api.list_repo_files("org/saes")) == set(files(hub.repo("org/saes")))
    top = [entry.path for entry in api.list_repo_tree("org/saes")]
    assert top == ["layer_0", "layer_1"]
    below = [entry.path for entry in api.list_repo_tree("org/saes", "layer_0", recursive=True)]
    assert below == [f"layer_0/width_48{name}" for name in ("", "/cfg.json", "/sae_weights.safetensors")]
    (info,) = api.get_paths_info("org/saes", ["layer_0/width_48/sae_weights.safetensors", "nothing"])
    assert info.lfs.size == info.size
    assert api.file_exists("org/saes", "layer_0/width_48/cfg.json")
    assert not api.file_exists("org/saes", "cfg.json")
    assert api.repo_exists("org/saes")
    assert not api.repo_exists("org/nothing")


def test_a_part_of_a_file(hub):
    raw = files(hub.repo("org/saes"))["layer_0/width_48/sae_weights.safetensors"]
    with huggingface_hub.HfFileSystem().open("org/saes/layer_0/width_48/sae_weights.safetensors", "rb") as file:
        file.seek(100)
        assert file.read(50) == raw[100:150]


def test_an_upload_comes_back(hub, tmp_path):
    folder = save_sae(tmp_path / "upload/a")
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError):
        HfApi(token="hf_wrong").create_repo("tester/new")
    api = HfApi(token=TOKEN)
    assert api.whoami()["name"] == "tester"
    api.create_repo("tester/new")
    api.create_repo("tester/new", exist_ok=True)
    api.upload_folder(repo_id="tester/new", folder_path=folder.parent)
    assert files(hub.repo("tester/new")) == files(folder.parent)
    assert torch.equal(SAE.from_pretrained("tester/new", "a").W_dec, make_sae(0).W_dec)


def test_an_upload_of_one_file(hub, tmp_path):
    HfApi(token=TOKEN).upload_file(path_or_fileobj=b"hello", path_in_repo="a/b.txt", repo_id="org/saes")
    assert files(hub.repo("org/saes"))["a/b.txt"] == b"hello"


def test_models_and_datasets(hub):
    assert AutoModelForCausalLM.from_pretrained("gpt2").config.n_layer == 3
    (hub.repo("org/texts", "datasets") / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert [row["text"] for row in datasets.load_dataset("org/texts", split="train")] == ["a", "b"]


def test_a_fresh_process_needs_nothing_but_the_environment(hub, tmp_path):
    # No patch reaches it: what a user's process does, with SAELens' own registry and TransformerLens' own names.
    code = (
        "from pathlib import Path; from sae_sanity.harness.targets import locate;"
        "from sae_sanity.suites.language_model import load_site;"
        f"(found,) = locate({RES_JB!r}, ['blocks.1.hook_resid_pre']); name = found.recipe.get('model_name');"
        "site = load_site(name, hook_name='blocks.1.hook_resid_pre', context_size=16, prepend_bos=True, cache=Path());"
        "print(found.load().sha256, site.d_in)"
    )
    environment = os.environ | hub.environment(tmp_path / "other-home")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    from sae_sanity.harness.targets import locate

    (here,) = locate(f"{hub.repo(RES_JB_REPO)}/blocks.1.hook_resid_pre")
    assert done.stdout.split() == [here.load().sha256, "16"]
