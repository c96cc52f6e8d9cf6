from __future__ import annotations

import io
import json
import pickle
import warnings
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from hub_contents import D_IN, D_SAE, RES_JB, make_sae
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
from safetensors.torch import save_file

from sae_sanity.harness.errors import UsageError
from sae_sanity.harness.targets import locate, registry, releases, saes

X = torch.randn(20, D_IN, generator=torch.Generator().manual_seed(3))
SMALL = {"d_in": D_IN, "d_sae": D_SAE}


def refusal(action):
    with pytest.raises(UsageError) as error:
        action()
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1500
    return text


# listing


def test_all_releases_are_listed():
    found = dict(releases())
    assert set(found) == set(get_pretrained_saes_directory())
    assert found[RES_JB] == "gpt2-small; jbloom/GPT2-Small-SAEs-Reformatted; 13 SAEs"
    assert "skipped" in found["gemma-scope-2b-pt-transcoders"]
    assert "skipped" not in found["gemma-scope-2b-pt-res-canonical"]
    assert not [line for line in found.values() if "\n" in line]


def test_all_saes_of_a_release_are_listed():
    found = dict(saes("gemma-scope-2b-pt-res"))
    assert found["layer_12/width_16k/average_l0_82"] == "L0 82; layer_12/width_16k/average_l0_82"
    assert dict(saes("gpt2-small-attn-out-v5-128k"))["blocks.0.hook_attn_out"] == "L0 not recorded; v5_128k_layer_0"
    assert "did you mean 'gpt2-small-res-jb'" in str(refusal_of_saes("gpt2-small-res-jbb"))


def refusal_of_saes(name):
    with pytest.raises(UsageError) as error:
        list(saes(name))
    return error.value


def test_choosing_saes_of_a_release(hub):
    text = refusal(lambda: locate(RES_JB))
    assert text.startswith(
        "release gpt2-small-res-jb has 13 SAEs; choose with --sae-id, for example 'blocks.0.hook_resid"
    )
    assert text.endswith("; `sae-sanity list saes gpt2-small-res-jb` lists them")
    assert "did you mean 'blocks.11.hook_resid_post'" in refusal(lambda: locate(RES_JB, ["blocks.12.hook_resid_post"]))
    assert [found.name for found in locate(RES_JB, ["blocks.[01].*"])] == [f"blocks.{i}.hook_resid_pre" for i in (0, 1)]


# pickles, and what else is skipped


def uses_torch_load(name):
    import inspect

    return "torch.load(" in inspect.getsource(pretrained_sae_loaders.NAMED_PRETRAINED_SAE_LOADERS[name])


def test_every_converter_that_unpickles_is_skipped():
    loaders = pretrained_sae_loaders.NAMED_PRETRAINED_SAE_LOADERS
    assert {name for name in loaders if uses_torch_load(name)}.isdisjoint(registry._CONVERTED)
    # A converter that is new to us is not trusted either.
    assert not registry._CONVERTED - set(loaders)


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        ("deepseek-r1-distill-llama-8b-qresearch", "pickles"),
        ("goodfire-llama-3.1-8b-instruct", "pickles"),
        ("gpt2-small-hook-z-kk", "pickles"),
        ("temporal-sae-gemma-2-2b", "temporal SAEs are not supported"),
        ("gemma-scope-2b-pt-transcoders", "transcoders are not supported"),
    ],
)
def test_what_is_skipped_needs_no_download(hub, release, reason):
    for found in locate(release, ["*"]):
        assert reason in found.skip
        assert found.recipe.get("model_name")
    assert not hub.requests


def test_a_skipped_pickle_says_how_to_convert(hub):
    (found,) = locate("goodfire-llama-3.1-8b-instruct")
    assert f"SAE.from_pretrained('goodfire-llama-3.1-8b-instruct', {found.name!r}).save_model(FOLDER)" in found.skip


def test_every_release_can_be_located_as_far_as_the_hub_is_needed(hub):
    # Of each release one SAE: it is found or skipped, or its files are asked for, which this hub has not.
    for name, release in get_pretrained_saes_directory().items():
        sae_id = next(iter(release.saes_map))
        try:
            (found,) = locate(name, [sae_id])
        except UsageError as error:
            assert "no such repo" in str(error), name  # noqa: PT017
        else:
            assert found.name == sae_id
            assert found.recipe.get("model_name")


# formats that SAELens converts


@pytest.fixture
def gemma_scope(hub, add_release):
    """Gemma Scope's format, tiny: params.npz."""
    sae = make_sae(2, "jumprelu")
    names = {"W_enc": "W_enc", "W_dec": "W_dec", "b_enc": "b_enc", "b_dec": "b_dec", "threshold": "threshold"}
    path = hub.repo("google/gemma-scope-2b-pt-res") / "layer_1/width_16k/canonical/params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, **{name: sae.state_dict()[key].numpy() for name, key in names.items()})
    paths = {"layer_1/width_16k/canonical": "layer_1/width_16k/canonical"}
    add_release(
        "tiny-scope",
        "google/gemma-scope-2b-pt-res",
        paths,
        "gemma_2",
        config_overrides=SMALL,
        expected_l0={"layer_1/width_16k/canonical": 7.0},
        model="gemma-2-2b",
    )
    return path


def as_gemma_scope(sae):
    sae.cfg.apply_b_dec_to_input = False
    return sae


def test_gemma_scope(gemma_scope, hub):
    (found,) = locate("tiny-scope")
    assert hub.asked_for("params.npz") == 0
    expected = {"model_name": "gemma-2-2b", "hook_name": "blocks.1.hook_resid_post", "architecture": "jumprelu"}
    expected |= {"l0": 7.0, "context_size": 1024, "prepend_bos": True, "d_in": D_IN, "d_sae": D_SAE}
    assert {name: found.recipe.get(name) for name in expected} == expected
    assert found.recipe.source("hook_name") == "registry"
    artefact = found.load()
    assert torch.equal(artefact.sae.encode(X), SAE.from_pretrained("tiny-scope", found.name).encode(X))
    assert torch.equal(artefact.sae.encode(X), as_gemma_scope(make_sae(2, "jumprelu")).encode(X))
    assert artefact.recipe.get("l0") == 7.0


class Payload:
    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


@pytest.mark.parametrize("what", ["pickle", "object array", "garbage", "empty"])
def test_an_npz_that_is_none(gemma_scope, hub, tmp_path, what):
    if what == "object array":
        file = io.BytesIO()
        np.savez(file, W_enc=np.array([Payload()], dtype=object))
        raw = file.getvalue()
    else:
        raw = {"pickle": pickle.dumps(Payload()), "garbage": b"PK\x03\x04" + b"x" * 99, "empty": b""}[what]
    gemma_scope.write_bytes(raw)
    (found,) = locate("tiny-scope")
    assert "SAELens cannot convert it" in refusal(found.load)
    assert not (tmp_path / "executed").exists()


def test_nan_in_a_converted_sae(gemma_scope, hub):
    with np.load(gemma_scope) as file:
        arrays = dict(file)
    arrays["b_enc"][3] = np.nan
    np.savez(gemma_scope, **arrays)
    (found,) = locate("tiny-scope")
    assert "NaN" in refusal(found.load)


def test_other_bytes_of_a_converted_sae(gemma_scope, hub):
    from loopback_hub import Fault

    # A change of one byte of a weight, which no parser sees: the hash does.
    hub.faults["*/params.npz"] = Fault("corrupt", times=1)
    (found,) = locate("tiny-scope")
    assert refusal(found.load)
    assert found.load().sha256


@pytest.fixture
def llama_scope(hub, add_release):
    """Llama Scope's format, tiny: hyperparams.json and checkpoints/final.safetensors."""
    sae = make_sae(2, "jumprelu").state_dict()
    folder = hub.repo("fnlp/Llama3_1-8B-Base-LXR-8x") / "Llama3_1-8B-Base-L1R-8x"
    (folder / "checkpoints").mkdir(parents=True)
    config = {"d_model": D_IN, "d_sae": D_SAE, "jump_relu_threshold": 0.5, "hook_point_in": "blocks.1.hook_resid_post"}
    config |= {"dataset_average_activation_norm": {"in": 2.0}}
    (folder / "hyperparams.json").write_text(json.dumps(config))
    weights = {"encoder.weight": sae["W_enc"].T, "decoder.weight": sae["W_dec"].T}
    weights |= {"encoder.bias": sae["b_enc"], "decoder.bias": sae["b_dec"]}
    save_file({name: w.contiguous() for name, w in weights.items()}, folder / "checkpoints/final.safetensors")
    paths = {"l1r_8x": "Llama3_1-8B-Base-L1R-8x"}
    facts = {"norm_scaling_factor": {"l1r_8x": 2.0}, "model": "meta-llama/Llama-3.1-8B"}
    add_release("tiny-llama-scope", "fnlp/Llama3_1-8B-Base-LXR-8x", paths, "llama_scope", **facts)


def test_llama_scope_is_folded_once(llama_scope):
    from sae_sanity.baselines.wrap import in_raw_space

    (found,) = locate("tiny-llama-scope")
    assert found.recipe.get("normalize_activations") == "expected_average_only_in"
    assert found.recipe.get("norm_scaling_factor") == 2.0
    artefact = in_raw_space(found.load(), 123.0)
    theirs = SAE.from_pretrained("tiny-llama-scope", "l1r_8x")
    assert artefact.recipe.get("normalize_activations") == "none"
    torch.testing.assert_close(artefact.sae.decode(artefact.sae.encode(X)), theirs(X))


def test_a_converter_reads_one_commit(llama_scope, hub):
    repo = "fnlp/Llama3_1-8B-Base-LXR-8x"
    commit = hub.commit(hub.repo(repo))
    locate("tiny-llama-scope")[0].load()
    asked = [line for line in hub.requests if line.startswith("GET") and repo in line]
    config, weights = (next(line for line in asked if line.endswith(n)) for n in ("hyperparams.json", "safetensors"))
    # Whatever main becomes in between, the weights are of the commit whose configuration was read.
    assert "/resolve/main/" in config
    assert f"/resolve/{commit}/" in weights
    assert pretrained_sae_loaders.hf_hub_download is huggingface_hub.hf_hub_download


@pytest.mark.parametrize("name", ["hyperparams.json", "final.safetensors"])
def test_other_bytes_are_refused_before_a_converter_reads_them(llama_scope, hub, monkeypatch, name):
    from loopback_hub import Fault

    def read(*args, **kwargs):
        raise AssertionError("it was read")

    hub.faults[f"*/{name}"] = Fault("corrupt", times=1)
    with monkeypatch.context() as patch:
        patch.setattr(pretrained_sae_loaders, "load_safetensors_weights", read)
        patch.setattr(pretrained_sae_loaders.json, "load", read if name.endswith("json") else json.load)
        text = refusal(lambda: locate("tiny-llama-scope")[0].load())
    assert name in text
    assert "do not have the hash" in text
    assert locate("tiny-llama-scope")[0].load().sha256


def test_gemma_3_reads_shapes_by_range(hub, add_release, monkeypatch):
    sae = make_sae(2, "jumprelu").state_dict()
    folder = hub.repo("google/gemma-scope-2-1b-pt") / "resid_post/layer_1_width_16k"
    folder.mkdir(parents=True)
    config = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt", "hf_hook_point_in": "model.layers.1.output"}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {"w_enc": sae["W_enc"], "w_dec": sae["W_dec"], "threshold": sae["threshold"]}
    weights |= {"b_enc": sae["b_enc"], "b_dec": sae["b_dec"]}
    save_file({name: w.contiguous() for name, w in weights.items()}, folder / "params.safetensors")
    add_release("tiny-scope-2", "google/gemma-scope-2-1b-pt", {"layer_1": "resid_post/layer_1_width_16k"}, "gemma_3")
    (found,) = locate("tiny-scope-2")
    assert (found.recipe.get("d_in"), found.recipe.get("model_name")) == (D_IN, "google/gemma-3-1b-pt")
    assert torch.equal(found.load().sae.encode(X), as_gemma_scope(make_sae(2, "jumprelu")).encode(X))


def test_a_converted_transcoder_is_skipped(hub, add_release, gemma_scope):
    paths = {"layer_1/width_16k/canonical": "layer_1/width_16k/canonical"}
    overrides = SMALL | {"architecture": "jumprelu_transcoder", "d_out": D_IN}
    add_release("odd", "google/gemma-scope-2b-pt-res", paths, "gemma_2", config_overrides=overrides)
    (found,) = locate("odd")
    assert "transcoder" in found.skip


def test_loading_says_nothing(gemma_scope, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locate("tiny-scope")[0].load()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
