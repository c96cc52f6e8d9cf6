"""load_folder against SAELens' own loading, and each kind of bad file."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import warnings

import numpy as np
import pytest
import torch
from sae_lens.saes.sae import SAE
from safetensors.torch import load_file, save_file
from tiny_saes import D_IN, D_SAE, INFERENCE, TRAINING, activations, edit, make_sae, make_training_sae, save

from sae_sanity.baselines.wrap import BadSAE, load_folder, read_recipe, wrap_object

WEIGHTS = "sae_weights.safetensors"


def refused(folder, *words: str) -> str:
    """The one line that load_folder refuses a folder with; it holds all words."""
    with pytest.raises(BadSAE) as error:
        load_folder(folder, name="x")
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    for word in words:
        assert word in text
    return text


def change(folder, **tensors):
    """Replace tensors of the weights; None takes one away."""
    found = load_file(folder / WEIGHTS) | tensors
    save_file({n: t for n, t in found.items() if t is not None}, folder / WEIGHTS)
    return folder


def raw_file(folder, header: dict | bytes, data: bytes = b"", length: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    (folder / WEIGHTS).write_bytes(size.to_bytes(8, "little") + text + data)
    return folder


@pytest.mark.parametrize("architecture", TRAINING)
@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_the_same_bits_as_sae_lens(architecture, normalize, tmp_path):
    save(make_training_sae(architecture, normalize_activations=normalize), tmp_path)
    ours, theirs = load_folder(tmp_path, name="x").sae, SAE.load_from_disk(tmp_path)
    x = activations()
    acts = theirs.encode(x)
    assert type(ours) is type(theirs)
    assert (acts != 0).any()
    assert torch.equal(ours.encode(x), acts)
    assert torch.equal(ours.decode(acts), theirs.decode(acts))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes_are_measured_in_float32(dtype, tmp_path):
    sae = make_sae("standard")
    sae.to(dtype=getattr(torch, dtype))
    save(sae, tmp_path)
    artefact = load_folder(tmp_path, name="x")
    theirs = SAE.load_from_disk(tmp_path, dtype="float32")
    assert artefact.recipe.get("dtype") == dtype
    assert torch.equal(artefact.sae.encode(activations()), theirs.encode(activations()))


def test_an_old_format_with_its_scaling_factor(tmp_path):
    save(make_sae("standard"), tmp_path)
    old = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "torch.float32", "hook_point": "blocks.0.hook_resid_pre", "k": 3}
    (tmp_path / "cfg.json").write_text(json.dumps(old | {"activation_fn_str": "relu", "normalize_activations": False}))
    change(tmp_path, scaling_factor=torch.ones(D_SAE))
    ours, theirs = load_folder(tmp_path, name="x").sae, SAE.load_from_disk(tmp_path)
    assert torch.equal(ours.encode(activations()), theirs.encode(activations()))
    change(tmp_path, scaling_factor=torch.full((D_SAE,), 1.5))
    refused(tmp_path, "scaling_factor")


def test_nothing_is_warned_of_and_no_generator_moves(tmp_path):
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    save(make_sae("standard", metadata=metadata), tmp_path)
    state = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(tmp_path, name="x")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_single_threshold_tells_a_batchtopk_sae_of_an_old_version(tmp_path):
    save(make_training_sae("batchtopk"), tmp_path)
    cfg = json.loads((tmp_path / "cfg.json").read_text())
    for key in ("training_architecture", "training_architecture_details"):
        del cfg["metadata"][key]
    (tmp_path / "cfg.json").write_text(json.dumps(cfg))
    recipe = load_folder(tmp_path, name="x").recipe
    assert (recipe.get("architecture"), recipe.source("architecture")) == ("batchtopk", "weights")
    threshold = load_file(tmp_path / WEIGHTS)["threshold"]
    threshold[3] *= 1.01
    change(tmp_path, threshold=threshold)
    assert load_folder(tmp_path, name="x").recipe.get("architecture") == "jumprelu"
    # Thresholds of 0 are how a ReLU is written as a JumpReLU; no BatchTopK SAE has them.
    change(tmp_path, threshold=torch.zeros(D_SAE))
    assert load_folder(tmp_path, name="x").recipe.get("architecture") == "jumprelu"


def test_an_old_sae_that_a_new_version_saved_again(tmp_path):
    """SAELens 6 keeps the version of the old file and would read its own new file as an old one."""
    sae = make_sae("jumprelu", metadata={"sae_lens_version": "5.0.0", "hook_name": "blocks.7.hook_mlp_out"})
    artefact = load_folder(save(sae, tmp_path), name="x")
    assert artefact.recipe.get("hook_name") == artefact.sae.cfg.metadata.hook_name == "blocks.7.hook_mlp_out"
    assert artefact.recipe.get("sae_lens_version") == "5.0.0"
    assert wrap_object(sae, name="x").sha256 == artefact.sha256


def test_the_registry_corrects_cfg_json(tmp_path):
    save(make_sae("standard"), tmp_path)
    recipe = read_recipe(tmp_path, extra={"normalize_activations": "layer_norm"})
    assert load_folder(tmp_path, name="x", recipe=recipe).sae.cfg.normalize_activations == "layer_norm"


# --- files


def test_no_folder(tmp_path):
    refused(tmp_path / ("x" * 300), "cannot be read")
    refused(tmp_path / "a\0b", "no such folder")
    refused(tmp_path / "nothing", "no such folder")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "not a folder")


@pytest.mark.parametrize("name", ["cfg.json", WEIGHTS])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    refused(folder, f"no {name}")
    os.symlink(folder / "nothing", folder / name)
    refused(folder, "not a regular file")


@pytest.mark.parametrize("name", ["ae.pt", "x.bin", "params.npz", "sae.pkl"])
def test_pickles_are_never_read(folder, name):
    (folder / WEIGHTS).rename(folder / name)
    refused(folder, name, "never read", "save_model")


@pytest.mark.parametrize("name", ["cfg.json", WEIGHTS, "runner_cfg.json"])
def test_a_pipe_does_not_hang(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    refused(folder, name, "not a regular file")


@pytest.mark.parametrize("name", ["cfg.json", WEIGHTS, "runner_cfg.json"])
def test_a_link_out_of_the_folder(folder, tmp_path, name):
    target = tmp_path / "elsewhere"
    if (folder / name).exists():
        (folder / name).rename(target)
    else:
        target.write_text("{}")
    (folder / name).symlink_to(target)
    refused(folder, name, "out of the folder")


def test_a_loop_of_links(folder):
    (folder / "cfg.json").unlink()
    (folder / "cfg.json").symlink_to(folder / "cfg.json")
    refused(folder, "cfg.json")


def test_links_of_the_hub_cache_are_followed(folder, tmp_path):
    repository = tmp_path / "models--a--b"
    snapshot, blobs = repository / "snapshots" / ("c" * 40) / "layer_1", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, name in enumerate(("cfg.json", WEIGHTS)):
        shutil.copy(folder / name, blobs / (str(number) * 40))
        (snapshot / name).symlink_to(os.path.relpath(blobs / (str(number) * 40), snapshot))
    assert load_folder(snapshot, name="x").sha256 == load_folder(folder, name="x").sha256
    other = tmp_path / "models--c--d" / "blobs" / ("0" * 40)
    other.parent.mkdir(parents=True)
    shutil.copy(folder / "cfg.json", other)
    (snapshot / "cfg.json").unlink()
    (snapshot / "cfg.json").symlink_to(other)
    refused(snapshot, "out of the folder")


# --- cfg.json


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"", "not JSON"),
        (b"[1]", "JSON object"),
        (b"\xff\xfe{\x00", "not JSON"),
        (b'{"d_in": NaN}', "NaN"),
        (b'{"d_in": -Infinity}', "Infinity"),
        (b'{"d_in": 1e999}', "beyond any float"),
        (b'{"d_in": 9999999999999999999}', "64-bit"),
        (b'{"d_in": ' + b"9" * 5000 + b"}", "64-bit"),
        (b'{"d_in": 8, "d_in": 8}', "twice"),
        (b'{"a": ' * 20 + b"1" + b"}" * 20, "nested"),
        (b"[" * 100_000, "nested"),
        (b'{"model_name": "\\ud800"}', "surrogate"),
        (b" " * 1_000_001, "more than"),
    ],
)
def test_json_that_is_not_read(folder, text, word):
    (folder / "cfg.json").write_bytes(text)
    refused(folder, word, "cfg.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "jumprelo"}, ["did you mean 'jumprelu'"]),
        ({"architecture": "batchtopk"}, ["training checkpoint"]),
        ({"architecture": ["topk"]}, ["architecture"]),
        ({"architecture": None}, ["architecture"]),
        ({"architecture": "transcoder"}, ["transcoder SAEs are not supported"]),
        ({"architecture": "temporal"}, ["temporal"]),
        ({"architecture": "topk"}, ["no k"]),
        ({"architecture": "topk", "k": 21}, ["k is 21"]),
        ({"architecture": "topk", "k": 3.5}, ["k is 3.5"]),
        ({"architecture": "topk", "k": True}, ["k is True"]),
        ({"d_in": None}, ["no d_in"]),
        ({"d_sae": 0}, ["d_sae is 0"]),
        ({"d_sae": 2**40}, ["d_sae"]),
        ({"d_sae": "20"}, ["d_sae is '20'"]),
        ({"d_in": 9}, ["shape", "d_in 9"]),
        ({"dtype": "int8"}, ["dtype is 'int8'"]),
        ({"normalize_activations": "whatever"}, ["normalize_activations"]),
        ({"normalize_activations": "covariance_whitening"}, ["covariance_whitening"]),
        ({"apply_b_dec_to_input": 3}, ["apply_b_dec_to_input is 3"]),
        ({"reshape_activations": "hook_z"}, ["ends in _z"]),
        ({"sae_lens_version": "six"}, ["sae_lens_version is 'six'"]),
        ({"sae_lens_version": "9" * 5000}, ["sae_lens_version"]),
        ({"metadata": []}, ["metadata is"]),
        ({"metadata": {"sae_lens_version": 6}}, ["sae_lens_version is 6"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "to_dict": 1}}, ["to_dict"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "self": 1}}, ["self"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "__class__": 1}}, ["__class__"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_name": "a\x1b[31mb"}}, ["hook_name"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_head_index": 3}}, ["hook_head_index 3"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "context_size": "x"}}, ["metadata.context_size"]),
        ({"metadata": {"sae_lens_version": "6.0.0", "training_architecture_details": 3}}, ["details is 3"]),
    ],
)
def test_configurations_that_no_sae_has(folder, changes, words):
    refused(edit(folder, **changes), *words)


def test_endless_matching_pursuit(tmp_path):
    save(make_sae("matching_pursuit", max_iterations=81, residual_threshold=0.0), tmp_path)
    refused(tmp_path, "max_iterations is 81; at most 10 x d_in 8")


# --- weights


@pytest.mark.parametrize("architecture", INFERENCE)
def test_missing_unexpected_and_misshapen_tensors(architecture, tmp_path):
    folder = save(make_sae(architecture), tmp_path / "sae")
    for name, tensor in load_file(folder / WEIGHTS).items():
        change(folder, **{name: None})
        refused(folder, f"no tensor {name!r}", architecture)
        change(folder, **{name: tensor[:-1].clone()})
        refused(folder, f"tensor {name!r} has shape")
        for bad in (float("nan"), float("inf")):
            broken = tensor.clone()
            broken.view(-1)[-1] = bad
            change(folder, **{name: broken})
            refused(folder, repr(name), "1 NaN or Inf")
        change(folder, **{name: tensor, "extra": torch.ones(1)})
        refused(folder, "unexpected tensor 'extra'")
        change(folder, extra=None)
    load_folder(folder, name="x")


def test_numbers_that_overflow(folder, tmp_path):
    W_enc = load_file(folder / WEIGHTS)["W_enc"]
    refused(change(folder, W_enc=W_enc * 1e20), "'W_enc' reaches")
    change(folder, W_enc=torch.full((D_IN, D_SAE), 9e14))
    load_folder(folder, name="x")
    gated = save(make_sae("gated"), tmp_path / "gated")
    load_folder(change(gated, r_mag=torch.full((D_SAE,), -200.0)), name="x")
    refused(change(gated, r_mag=torch.full((D_SAE,), 90.0)), "'r_mag' reaches 90", "at most 40")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "too short"),
        (pickle.dumps({"a": 1}), "pickle"),
        (pickle.dumps({"a": 1}, protocol=0), "header claims"),
        (b"\x93NUMPY\x01\x00" + b"0" * 50, "NumPy"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\xff" * 64, "header claims"),
    ],
)
def test_something_else_in_place_of_safetensors(folder, content, word):
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, WEIGHTS, word)


def test_a_torch_file_in_place_of_safetensors(folder):
    torch.save({"W_enc": torch.ones(2)}, folder / WEIGHTS)
    refused(folder, "zip archive", "never read")


def test_npz_in_place_of_safetensors(folder):
    with (folder / WEIGHTS).open("wb") as file:
        np.savez(file, W_enc=np.ones(2))
    refused(folder, "zip archive")


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data", "length", "word"),
    [
        (b"{}", b"", 2**63, "header claims"),
        (b"{}" + b" " * 1_000_100, b"", None, "header claims"),
        (b"[]", b"", None, "JSON object"),
        (b'{"a":' * 50_000, b"", None, "nested"),
        (b'{"a": 1, "a": 2}', b"", None, "twice"),
        ({"a": 3}, b"", None, "dtype, shape and data_offsets"),
        ({"__metadata__": 3}, b"", None, "__metadata__"),
        ({"a": entry("I64")}, b"0" * 8, None, "I64"),
        ({"a": entry(shape=(2**62, 4))}, b"0" * 4, None, "need"),
        ({"a": entry(shape=(-1,))}, b"0" * 4, None, "sizes"),
        ({"a": entry(shape=(True,))}, b"0" * 4, None, "sizes"),
        ({"a": entry(shape=(1,) * 60)}, b"0" * 4, None, "sizes"),
        ({"a": entry(offsets=(0, 5))}, b"0" * 5, None, "need"),
        ({"a": entry(offsets=(4, 0))}, b"0" * 4, None, "need"),
        ({"a": entry(offsets=(2, 6))}, b"0" * 6, None, "0 would be right"),
        ({"a": entry(), "b": entry()}, b"0" * 4, None, "4 would be right"),
        ({"a": entry()}, b"0" * 3, None, "cut short"),
        ({"a": entry()}, b"0" * 5, None, "longer"),
        ({}, b"", None, "no tensor"),
    ],
)
def test_headers_that_lie(folder, header, data, length, word):
    started = time.monotonic()
    refused(raw_file(folder, header, data, length), WEIGHTS, word)
    assert time.monotonic() - started < 2


def test_a_sparse_file_of_absurd_size(folder):
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(2**39)
    refused(folder, WEIGHTS)


def test_more_memory_than_there_is(folder, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    refused(folder, "GB of memory")


def test_zero_rows_and_negative_thresholds_are_ordinary(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["W_dec"][3] = 0
    tensors["threshold"][2] = -1
    load_folder(change(folder, **tensors), name="x")


def test_the_hash_is_that_of_the_weights_and_of_what_they_are_used_for(folder, tmp_path):
    first = load_folder(folder, name="x").sha256
    assert load_folder(shutil.copytree(folder, tmp_path / "copy"), name="y").sha256 == first
    assert load_folder(edit(folder, apply_b_dec_to_input=False), name="x").sha256 != first
    edit(folder, apply_b_dec_to_input=True)
    tensors = load_file(folder / WEIGHTS)
    tensors["b_dec"][0] += 1e-6
    assert load_folder(change(folder, **tensors), name="x").sha256 != first
