from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from sae_lens import SAE
from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

from sae_sanity.harness.arm_store import CONFIG, RECORD, WEIGHTS, ArmStore
from sae_sanity.harness.baseline_store import BaselineStore, differences, export, find_arms, fitting
from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.plan import ArmSeed
from sae_sanity.harness.shared_baselines import shared_arms
from sae_sanity.results.design import ArmFacts

RECIPE = {
    "model": "tiny",
    "model_sha256": "a",
    "hook_name": "blocks.1.hook_resid_post",
    "d_in": 6,
    "d_sae": 12,
    "architecture": "topk",
    "l0": 3.0,
    "texts": "0" * 64,
    "order": 0,
}


NAMES = ("retrained", "frozen_decoder@iso")


def fits(folder, recipe, names=NAMES):
    return fitting(tuple(find_arms(folder)), recipe, names, "shared")


def write(folder, arm="frozen_decoder@iso", seed=0, *, key="k0", recipe=RECIPE):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sae = TopKSAE(TopKSAEConfig(d_in=6, d_sae=12, k=3))
        torch.nn.init.normal_(sae.W_dec)
    store = ArmStore(folder)
    store.write(ArmFacts(arm, seed, 3.0, 3.0, 0.0), sae, key, {"recipe": recipe})
    return store.path(ArmSeed(arm, seed))


def test_what_is_kept_is_found_by_its_key_and_by_no_other(tmp_path):
    path, store = write(tmp_path / "arms"), BaselineStore(tmp_path / "kept")
    store.keep(path, "k0")
    found = store.find("k0")
    assert found is not None
    assert (found / WEIGHTS).read_bytes() == (path / WEIGHTS).read_bytes()
    assert store.find("k1") is None
    assert [(kept.arm, kept.seed) for kept in store.arms()] == [("frozen_decoder@iso", 0)]


@pytest.mark.parametrize("file", [RECORD, WEIGHTS])
def test_a_damaged_one_is_not_found_and_is_replaced(tmp_path, file):
    path, store = write(tmp_path / "arms"), BaselineStore(tmp_path / "kept")
    store.keep(path, "k0")
    found = store.find("k0")
    assert found is not None
    (found / file).unlink()
    (found / file).write_bytes(b"{}")
    assert store.find("k0") is None
    store.keep(path, "k0")
    assert store.find("k0") == found


def test_damage_to_what_is_kept_does_not_reach_the_results(tmp_path):
    path, store = write(tmp_path / "arms"), BaselineStore(tmp_path / "kept")
    store.keep(path, "k0")
    before = (path / WEIGHTS).read_bytes()
    store.keep(write(tmp_path / "other", seed=1, key="k0"), "k0")
    assert (path / WEIGHTS).read_bytes() == before


def test_no_folder_keeps_nothing(tmp_path):
    store = BaselineStore(None)
    store.keep(write(tmp_path / "arms"), "k0")
    assert store.find("k0") is None
    assert store.arms() == ()


def test_the_environment_names_the_folder_or_none(monkeypatch, tmp_path):
    monkeypatch.setenv("SAE_SANITY_BASELINES", str(tmp_path / "b"))
    assert BaselineStore.of_user().folder == tmp_path / "b"
    monkeypatch.setenv("SAE_SANITY_BASELINES", "none")
    assert BaselineStore.of_user().folder is None
    monkeypatch.delenv("SAE_SANITY_BASELINES")
    monkeypatch.setenv("SAE_SANITY_CACHE", str(tmp_path / "c"))
    assert BaselineStore.of_user().folder == tmp_path / "c/baselines"


def test_an_export_is_an_ordinary_sae_lens_folder(tmp_path):
    write(tmp_path / "arms", seed=0)
    path = write(tmp_path / "arms", seed=1)
    written = export(tuple(find_arms(tmp_path / "arms")), tmp_path / "out")
    assert [p.parent.name for p in written] == ["frozen_decoder-iso"] * 2
    assert len({p.parts[-3] for p in written}) == 1  # one recipe
    again = SAE.load_from_disk(written[1])
    assert torch.equal(again.W_dec, SAE.load_from_disk(path).W_dec)
    (written[1] / WEIGHTS).write_bytes(b"")
    assert (path / WEIGHTS).stat().st_size  # a copy


def test_arms_without_a_recipe_are_no_baselines(tmp_path):
    path = write(tmp_path / "arms")
    record = json.loads((path / RECORD).read_text())
    del record["recipe"]
    (path / RECORD).write_text(json.dumps(record))
    (tmp_path / "arms/broken").mkdir()
    (tmp_path / "arms/broken" / RECORD).write_text("{")
    assert list(find_arms(tmp_path / "arms")) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_sha256": "b"}, "language model (sha256 of its weights) is 'a' there and 'b' here"),
        ({"hook_name": "blocks.2.hook_resid_post"}, "hook_name is 'blocks.1.hook_resid_post' there and"),
        ({"d_sae": 24}, "d_sae is 12 there and 24 here"),
        ({"l0": 4.0}, "l0 is 3.0 there and 4.0 here"),
        ({"texts": "1" * 64}, "training texts (sha256) is"),
    ],
)
def test_a_wrong_match_is_refused_with_the_difference(tmp_path, change, named):
    write(tmp_path / "arms")
    with pytest.raises(UsageError) as caught:
        fits(tmp_path / "arms", RECIPE | change)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_match_is_found_and_l0_has_its_tolerance(tmp_path):
    path = write(tmp_path / "arms")
    wanted = RECIPE | {"l0": 3.1}
    assert fits(tmp_path / "arms", wanted)["frozen_decoder@iso", 0].path == path
    assert differences(RECIPE, RECIPE | {"l0": 3.2}) == ("l0 is 3.0 there and 3.2 here",)


@pytest.mark.parametrize("name", ["random", "permuted_decoder", "trained", "../../victim", "frozen_decoder@../x"])
def test_a_stranger_s_record_cannot_name_another_arm_or_a_path(tmp_path, name):
    path = write(tmp_path / "arms")
    record = json.loads((path / RECORD).read_text())
    record["facts"]["arm"] = name
    (path / RECORD).write_text(json.dumps(record))
    assert list(find_arms(tmp_path / "arms")) == []


@pytest.mark.parametrize(
    "change", [{"seed": "x"}, {"l0": None}, {"l0": float("nan")}, {"arm": 3}, {"target_l0": "1"}, {"dead_share": []}]
)
def test_a_hostile_record_is_passed_over(tmp_path, change):
    path = write(tmp_path / "arms")
    record = json.loads((path / RECORD).read_text())
    record["facts"] |= change
    (path / RECORD).write_text(json.dumps(record))
    assert list(find_arms(tmp_path / "arms")) == []
    (path / RECORD).write_text("[" * 100_000)
    assert list(find_arms(tmp_path / "arms")) == []


def test_an_export_takes_no_links_and_nothing_damaged(tmp_path):
    path = write(tmp_path / "arms")
    (tmp_path / "secret").write_text((path / CONFIG).read_text())
    (path / CONFIG).unlink()
    (path / CONFIG).symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match=r"cfg.json is not what arm.json says"):
        export(find_arms(tmp_path / "arms"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_config_that_was_edited_is_not_used_again(tmp_path):
    """k is in cfg.json: weights alone do not say what is measured."""
    path, store = write(tmp_path / "arms"), BaselineStore(tmp_path / "kept")
    store.keep(path, "k0")
    cfg = json.loads((path / CONFIG).read_text())
    (path / CONFIG).write_text(json.dumps(cfg | {"k": 1}))
    found = store.find("k0")
    assert found is not None
    assert json.loads((found / CONFIG).read_text())["k"] == 3  # a copy, not a link
    (found / CONFIG).write_text(json.dumps(cfg | {"k": 1}))
    assert store.find("k0") is None
    with pytest.raises(UsageError, match=r"cfg.json is damaged"):
        ArmStore(tmp_path / "arms").load(ArmSeed("frozen_decoder@iso", 0))


def test_unfinished_folders_are_not_found(tmp_path):
    write(tmp_path / "arms")
    shutil.copytree(tmp_path / "arms/frozen_decoder@iso/seed-0", tmp_path / "arms/frozen_decoder@iso/.seed-1-xyz")
    assert len(list(find_arms(tmp_path / "arms"))) == 1


def test_two_processes_may_keep_the_same_arm(tmp_path):
    path = write(tmp_path / "arms")
    code = (
        "import sys; from pathlib import Path; from sae_sanity.harness.baseline_store import BaselineStore\n"
        "for i in range(60): BaselineStore(Path(sys.argv[1])).keep(Path(sys.argv[2]), f'k{i % 6}')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "kept"), str(path)]
    assert [p.wait() for p in [subprocess.Popen(command) for _ in range(2)]] == [0, 0]
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [f"k{i}" for i in range(6)]


def test_shared_arms_of_a_folder_that_is_not_there():
    with pytest.raises(UsageError, match="there is no such folder"):
        shared_arms("nowhere")


def test_the_same_model_under_another_name_fits(tmp_path):
    write(tmp_path / "arms")
    assert fits(tmp_path / "arms", RECIPE | {"model": "/some/folder"})


def test_a_folder_without_baselines_says_so(tmp_path):
    with pytest.raises(UsageError, match="holds no exported baselines"):
        fits(tmp_path, RECIPE)
