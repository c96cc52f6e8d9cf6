from __future__ import annotations

import json

import pytest
import torch
from hub_contents import D_IN, D_SAE, RES_JB, RES_JB_REPO, make_sae, save_sae
from loopback_hub import TOKEN, Fault
from sae_lens import SAE

from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.targets import locate
from sae_sanity.harness.targets.hub import HubPath

X = torch.randn(20, D_IN, generator=torch.Generator().manual_seed(3))
WEIGHTS = "sae_weights.safetensors"


def locate_and_load(target, sae_ids):
    return [located.load() for located in locate(target, sae_ids)]


def refusal(target, *sae_ids, load=False):
    """The one line of an error."""
    with pytest.raises(UsageError) as error:
        locate_and_load(target, sae_ids) if load else locate(target, sae_ids)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    assert TOKEN not in text
    return text


# the same SAE, whatever the way


def test_release_hf_path_and_folder_are_the_same_sae(hub):
    folder = hub.repo(RES_JB_REPO) / "blocks.1.hook_resid_pre"
    ways = [
        locate(RES_JB, ["blocks.1.hook_resid_pre"]),
        locate(f"hf://{RES_JB_REPO}/blocks.1.hook_resid_pre"),
        locate(RES_JB_REPO, ["blocks.1.*"]),
        locate(str(folder)),
    ]
    assert [located.kind for (located,) in ways] == ["release", "hub", "hub", "folder"]
    assert [located.name for (located,) in ways] == ["blocks.1.hook_resid_pre", "", "blocks.1.hook_resid_pre", ""]
    artefacts = [located.load() for (located,) in ways]
    assert len({artefact.sha256 for artefact in artefacts}) == 1
    assert {artefact.name for artefact in artefacts} == {"blocks.1.hook_resid_pre"}
    assert all(torch.equal(artefact.sae.encode(X), artefacts[0].sae.encode(X)) for artefact in artefacts)


def test_against_sae_lens_own_loading(hub):
    theirs = SAE.from_pretrained(RES_JB, "blocks.1.hook_resid_pre")
    mine = locate(RES_JB, ["blocks.1.hook_resid_pre"])[0].load()
    assert torch.equal(mine.sae.encode(X), theirs.encode(X))
    assert torch.equal(mine.sae.decode(mine.sae.encode(X)), theirs(X))
    assert torch.equal(mine.sae.W_dec, make_sae(1).W_dec)


def test_the_recipe_of_a_release(hub):
    recipe = locate(RES_JB, ["blocks.0.hook_resid_pre"])[0].recipe
    assert (recipe.get("model_name"), recipe.get("hook_name")) == ("gpt2-small", "blocks.0.hook_resid_pre")
    assert (recipe.get("d_in"), recipe.get("d_sae")) == (D_IN, D_SAE)
    assert (recipe.get("lr"), recipe.get("tokens")) == (0.0004, 300000000)
    # cfg.json does not have it, the registry does.
    assert recipe.get("model_from_pretrained_kwargs") == {"center_writing_weights": True}
    assert recipe.source("model_from_pretrained_kwargs") == "registry"


def test_what_the_registry_knows_of_a_repo_is_known_by_hf_path_too(hub):
    (one,), (other,) = locate(RES_JB, ["blocks.1.*"]), locate(f"hf://{RES_JB_REPO}/blocks.1.hook_resid_pre")
    assert one.recipe == other.recipe == one.load().recipe == other.load().recipe


def test_what_the_registry_knows_beyond_the_repo(hub, add_release):
    facts = {"expected_l0": {"a": 5.5, "b": 0.0}, "norm_scaling_factor": {"a": 0.25}, "model": "gemma-2-2b"}
    add_release("tiny", "org/saes", {"a": "layer_0/width_48", "b": "layer_1/width_48"}, **facts)
    one, other = locate("tiny", ["*"])
    assert (one.recipe.get("l0"), one.recipe.get("norm_scaling_factor")) == (5.5, 0.25)
    assert {"l0", "norm_scaling_factor"}.isdisjoint(other.recipe.values)
    assert one.recipe.get("model_name") == "gpt2-small"  # of cfg.json, which knows better


def test_the_registry_names_the_model_where_cfg_json_does_not(hub, add_release):
    save_sae(hub.repo("org/anonymous") / "x", model_name=None)
    add_release("anonymous", "org/anonymous", {"x": "x"}, model="gemma-2-2b")
    (found,) = locate("anonymous")
    assert found.recipe.get("model_name") == found.load().recipe.get("model_name") == "gemma-2-2b"
    assert found.recipe.source("model_name") == "registry"


def test_corrections_of_the_registry_are_applied(hub, add_release):
    add_release(
        "rescaled", "org/saes", {"a": "layer_0/width_48"}, config_overrides={"normalize_activations": "layer_norm"}
    )
    (found,) = locate("rescaled")
    assert found.recipe.get("normalize_activations") == "layer_norm"
    assert found.load().sae.cfg.normalize_activations == "layer_norm"


def test_runner_cfg_is_read_where_there_is_one(hub):
    runner = {"lr": 0.007, "training_tokens": 12345, "sae": {"architecture": "topk"}}
    (hub.repo("org/saes") / "layer_0/width_48/runner_cfg.json").write_text(json.dumps(runner))
    one, other = locate("org/saes", ["*"])
    assert (one.recipe.get("lr"), one.recipe.source("lr")) == (0.007, "runner_cfg.json")
    assert "lr" not in other.recipe.values


# what is downloaded, and which revision


def test_locating_downloads_no_weights(hub):
    found = locate("org/saes", ["*"])
    assert (len(found), hub.asked_for(WEIGHTS)) == (2, 0)
    found[0].load()
    assert hub.asked_for(WEIGHTS) == 1
    found[0].load()
    assert hub.asked_for(WEIGHTS) == 1  # out of the cache


def test_what_is_loaded_is_what_was_located(hub):
    (found,) = locate("hf://org/saes/layer_0/width_48")
    save_sae(hub.repo("org/saes@old") / "layer_0/width_48", 0, "topk")
    before = make_sae(0, "topk").W_dec
    commit = hub.commit(hub.repo("org/saes"))
    hub.repo("org/saes").rename(hub.repo("org/elsewhere").parent / f"saes@{commit}")
    save_sae(hub.repo("org/saes") / "layer_0/width_48", 7, "topk")
    # The branch has moved on; the commit that was located is still there under its name (the tree is the same).
    hub.commit = lambda folder, real=hub.commit: commit if folder.name == f"saes@{commit}" else real(folder)
    assert torch.equal(found.load().sae.W_dec, before)


def test_a_revision(hub):
    save_sae(hub.repo("org/saes@v2") / "layer_0/width_48", 5, "topk")
    (found,) = locate("hf://org/saes/layer_0/width_48@v2")
    assert torch.equal(found.load().sae.W_dec, make_sae(5, "topk").W_dec)
    assert "no such revision" in refusal("hf://org/saes/layer_0/width_48@v3")


def test_the_root_of_a_repo(hub):
    save_sae(hub.repo("org/one"))
    (found,) = locate("org/one")
    assert (found.name, found.load().name) == ("", "one")
    save_sae(hub.repo("org/one") / "sub")
    assert [each.name for each in locate("org/one")] == [""]
    assert [each.name for each in locate("org/one", ["*"])] == [".", "sub"]
    assert [each.name for each in locate("hf://org/one/sub")] == [""]


def test_offline_out_of_the_cache(hub, monkeypatch):
    from huggingface_hub import constants

    online = [locate(RES_JB, ["blocks.1.*"])[0].load(), locate("hf://org/saes/layer_0")[0].load()]
    hub.die()
    assert locate("org/saes", ["*0*"])[0].load().sha256 == online[1].sha256  # no connection, but the cache has it
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = [locate(RES_JB, ["blocks.1.*"])[0].load(), locate("hf://org/saes/layer_0")[0].load()]
    assert [each.sha256 for each in offline] == [each.sha256 for each in online]
    assert "HF_HUB_OFFLINE is set" in refusal("org/other")
    assert "HF_HUB_OFFLINE is set" in refusal(RES_JB, "blocks.0.*")


# paths


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("hf://org/repo", HubPath("org/repo")),
        ("hf://org/repo/", HubPath("org/repo")),
        ("hf://org/re.po-1/a/b.c", HubPath("org/re.po-1", "a/b.c")),
        ("hf://org/repo@v1", HubPath("org/repo", "", "v1")),
        ("hf://org/repo/a/b@refs/pr/1", HubPath("org/repo", "a/b", "refs/pr/1")),
    ],
)
def test_parsing_a_hub_path(text, place):
    assert HubPath.parse(text) == place
    assert HubPath.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["hf://", "hf://org", "hf://org/repo/../../etc", "hf://org/repo/a//b", "hf://org/../x"]
)
def test_a_hub_path_that_cannot_be(hub, text):
    assert "must be hf://org/repo" in refusal(text)
    assert not hub.requests


# everything that goes wrong on the hub, in one line


def test_no_such_repo(hub):
    assert "org/nothing: there is no such repo on the hub" in refusal("org/nothing")


def test_a_repo_without_saes(hub):
    (hub.repo("org/empty") / "README.md").write_text("hello")
    assert "no SAE in hf://org/empty" in refusal("org/empty")
    assert "no SAE in hf://org/saes/layer_7" in refusal("hf://org/saes/layer_7")


def test_a_registered_repo_in_another_format_names_its_release(hub, add_release):
    (hub.repo("org/scope") / "params.npz").write_bytes(b"")
    add_release("tiny-scope", "org/scope", {"a": "a"}, "gemma_2")
    assert "reads this repo as release 'tiny-scope'" in refusal("org/scope")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "has no such file"),
        ("gated", "gated; accept its licence on the hub and set HF_TOKEN"),
        ("forbidden", "gated"),
        ("error", "500"),
    ],
)
@pytest.mark.parametrize("file", ["cfg.json", WEIGHTS])
def test_answers_that_refuse(hub, monkeypatch, kind, message, file):
    monkeypatch.setenv("HF_TOKEN", TOKEN if kind == "forbidden" else "hf_wrongSECRET")
    hub.faults["*/" + file] = Fault(kind)
    text = refusal(RES_JB, "blocks.1.*", load=True)
    assert message in text
    assert file in text
    assert "SECRET" not in text


def test_a_gated_file_with_the_token(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults["*"] = Fault("gated")
    assert locate(RES_JB, ["blocks.1.*"])[0].load().sha256
    assert f"Bearer {TOKEN}" in hub.tokens


@pytest.mark.parametrize("file", ["cfg.json", WEIGHTS])
def test_a_truncated_download(hub, file):
    hub.faults["*/" + file] = Fault("truncated")
    assert "cut short" in refusal(RES_JB, "blocks.1.*", load=True)
    hub.faults.clear()
    assert locate(RES_JB, ["blocks.1.*"])[0].load().sha256  # nothing of it stayed in the cache


@pytest.mark.parametrize("file", ["cfg.json", WEIGHTS])
def test_other_bytes_than_promised(hub, file):
    # The size is right, so that the client itself takes them: the hash is looked at here.
    hub.faults["*/" + file] = Fault("corrupt", times=1)
    assert "do not have the hash" in refusal(RES_JB, "blocks.1.*", load=True)
    assert torch.equal(locate(RES_JB, ["blocks.1.*"])[0].load().sae.W_dec, make_sae(1).W_dec)


def test_a_slow_server(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.1)
    hub.faults["*/" + WEIGHTS] = Fault("slow", seconds=0.5)
    assert "did not answer in time" in refusal(RES_JB, "blocks.1.*", load=True)
    hub.faults["*/" + WEIGHTS] = Fault("slow", seconds=0.5, times=2)
    assert locate(RES_JB, ["blocks.1.*"])[0].load().sha256  # the client tries again


def test_a_dying_server(hub):
    hub.faults["*/" + WEIGHTS] = Fault("dying")
    assert "127.0.0.1 cannot be reached, or hung up" in refusal(RES_JB, "blocks.1.*", load=True)


def test_a_server_that_is_not_there(hub):
    hub.die()
    assert "127.0.0.1" in refusal(RES_JB, "blocks.1.*")
    assert "cannot be reached" in refusal("org/saes")


def test_a_refused_sae(hub):
    path = hub.repo("org/saes") / "layer_0/width_48" / WEIGHTS
    path.write_bytes(b"\x80\x04" + path.read_bytes())
    text = refusal("org/saes", "layer_0*", load=True)
    assert text.startswith("hf://org/saes/layer_0/width_48/sae_weights.safetensors: not safetensors but a pickle")
    (hub.repo("org/saes") / "layer_0/width_48/cfg.json").write_text("{")
    assert refusal("org/saes", "layer_0*").startswith("hf://org/saes/layer_0/width_48/cfg.json: ")


def test_a_bare_repo_name_without_weights(hub):
    (hub.repo("org/saes") / "layer_0/width_48" / WEIGHTS).unlink()
    assert f"{WEIGHTS} of org/saes: the repo has no such file" in refusal("org/saes", "layer_0*", load=True)
