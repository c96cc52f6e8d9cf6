from __future__ import annotations

import pytest
import torch
import transformers as tf
from tiny_site import tiny_model
from zoo import ARCHITECTURES, random_model

from sae_sanity.suites.hooks import HookPoint, decoder_layers, resolve_hook

LAYERS = range(3)


def at(make_site, model, name, tokens):
    return make_site(model, name).activations(tokens)


# against the models themselves


def test_residual_hooks_against_output_hidden_states(any_model, make_site, tokens):
    with torch.no_grad():
        states = any_model(tokens, output_hidden_states=True).hidden_states
    for layer in LAYERS:
        torch.testing.assert_close(at(make_site, any_model, f"blocks.{layer}.hook_resid_pre", tokens), states[layer])
    # The last state of transformers has gone through the final norm: it is not the hook's.
    for layer in LAYERS[:-1]:
        post = at(make_site, any_model, f"blocks.{layer}.hook_resid_post", tokens)
        torch.testing.assert_close(post, states[layer + 1])


def test_a_block_adds_what_attention_and_mlp_put_out(any_model, make_site, tokens):
    for layer in LAYERS:
        pre, attention, mlp, post = (
            at(make_site, any_model, f"blocks.{layer}.hook_{kind}", tokens)
            for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        assert attention.norm() > 0.01
        assert mlp.norm() > 0.01
        torch.testing.assert_close(pre + attention + mlp, post, atol=1e-4, rtol=1e-4)


def test_the_last_block_feeds_the_final_norm(any_model, make_site, tokens):
    with torch.no_grad():
        final = any_model(tokens, output_hidden_states=True).hidden_states[-1]
        post = at(make_site, any_model, "blocks.2.hook_resid_post", tokens)
        assert any(_same(norm(post), final) for norm in any_model.modules() if _is_norm(norm, 16))


def _is_norm(module, width):
    weight = getattr(module, "weight", None)
    return weight is not None and tuple(weight.shape) == (width,)


def _same(one, other):
    return torch.allclose(one, other, atol=1e-5)


# against TransformerLens


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen3", "gemma2", "neox_parallel", "gpt2"])
@pytest.mark.parametrize("kind", ["resid_pre", "resid_post", "mlp_out", "attn_out"])
def test_against_transformer_lens(architecture, kind, make_site, tokens):
    from transformer_lens.model_bridge import TransformerBridge

    model = random_model(ARCHITECTURES[architecture]())
    site = make_site(model, f"blocks.1.hook_{kind}")
    mine = site.activations(tokens)
    # It reloads a tokenizer that has a BOS token by its name, which this one has not.
    wordlist = tf.PreTrainedTokenizerFast(tokenizer_object=site.tokenizer.backend_tokenizer, pad_token="<unk>")
    bridge = TransformerBridge.boot_transformers(
        "tiny", hf_model=model, tokenizer=wordlist, device="cpu", dtype=torch.float32
    )
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens, prepend_bos=False)
    torch.testing.assert_close(mine, cache[f"blocks.1.hook_{kind}"], atol=1e-4, rtol=1e-4)


# names


def test_paths_of_a_llama():
    model = tiny_model()
    assert resolve_hook(model, "blocks.2.hook_resid_post") == HookPoint("model.layers.2", "output")
    assert resolve_hook(model, "blocks.0.hook_resid_pre") == HookPoint("model.layers.0", "input")
    assert resolve_hook(model, "blocks.1.hook_mlp_out") == HookPoint("model.layers.1.mlp", "output")
    assert resolve_hook(model, "blocks.1.hook_attn_out") == HookPoint("model.layers.1.self_attn", "output")


def test_module_paths_mean_the_output_unless_they_say_input():
    model = tiny_model()
    assert resolve_hook(model, "model.layers.1.mlp.up_proj") == HookPoint("model.layers.1.mlp.up_proj", "output")
    assert resolve_hook(model, "model.layers.1.mlp.input") == HookPoint("model.layers.1.mlp", "input")


def test_post_norms_of_gemma():
    model = random_model(ARCHITECTURES["gemma2"]())
    assert resolve_hook(model, "blocks.1.hook_mlp_out").module == "model.layers.1.post_feedforward_layernorm"
    assert resolve_hook(model, "blocks.1.hook_attn_out").module == "model.layers.1.post_attention_layernorm"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("blocks.1.hook_resid_pst", "did you mean 'blocks.1.hook_resid_post'"),
        ("blocks.3.hook_resid_post", "layers 0-2"),
        ("block.1.hook_resid_post", "did you mean 'blocks.1.hook_resid_post'"),
        ("model.layer.2", "did you mean 'model.layers.2'"),
        ("blocks.1.hook_resid_mid", "did you mean 'blocks.1.hook_resid_"),
        ("zzz", "try 'blocks.0.hook_resid_post' or 'model.layers.0'"),
        ("", "layers 0-2"),
        (".input", "layers 0-2"),
    ],
)
def test_an_unknown_hook_is_named_with_the_nearest_one(name, hint):
    with pytest.raises(ValueError, match="no such hook") as error:
        resolve_hook(tiny_model(), name)
    assert repr(name) in str(error.value)
    assert hint in str(error.value)


def test_sublayers_that_add_the_residual_themselves_are_refused():
    model = random_model(tf.BloomConfig(vocab_size=152, hidden_size=16, n_layer=2, n_head=2))
    assert resolve_hook(model, "blocks.1.hook_resid_post").module == "transformer.h.1"
    with pytest.raises(ValueError, match="BloomMLP adds the residual itself"):
        resolve_hook(model, "blocks.1.hook_mlp_out")


def test_a_block_without_attention_says_what_it_has():
    model = random_model(
        tf.MambaConfig(vocab_size=152, hidden_size=16, num_hidden_layers=2, state_size=4, use_mambapy=False)
    )
    with pytest.raises(ValueError, match="MambaBlock has norm, mixer"):
        resolve_hook(model, "blocks.1.hook_attn_out")


def test_decoder_layers(any_model):
    path, n_layers = decoder_layers(any_model)
    assert n_layers == 3
    assert len(any_model.get_submodule(path)) == 3


def test_a_vision_tower_of_the_same_depth_is_not_the_decoder():
    text = ARCHITECTURES["gemma3"]().to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    config = tf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    model = tf.Gemma3ForConditionalGeneration(config)
    assert decoder_layers(model) == ("model.language_model.layers", 3)


def test_a_model_without_a_list_of_layers():
    model = tiny_model()
    model.config.num_hidden_layers = 7
    with pytest.raises(ValueError, match="cannot find the 7 decoder layers of LlamaForCausalLM"):
        decoder_layers(model)


# what goes into attention's output projection


def test_hook_z_is_what_attention_projects(any_model, make_site, tokens):
    site = make_site(any_model, "blocks.1.attn.hook_z")
    z = site.activations(tokens)
    projection = any_model.get_submodule(site.hook.module)
    attention = any_model.get_submodule(site.hook.module.rsplit(".", 1)[0])
    with torch.no_grad():
        put_out = make_site(any_model, f"{site.hook.module}").activations(tokens)
        torch.testing.assert_close(projection(z.reshape(-1, z.shape[-1])).view_as(put_out), put_out)
    assert type(attention).__name__.endswith("Attention")


@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen3", "gemma2", "neox_parallel", "gpt2"])
def test_hook_z_against_transformer_lens(architecture, make_site, tokens):
    from transformer_lens.model_bridge import TransformerBridge

    model = random_model(ARCHITECTURES[architecture]())
    site = make_site(model, "blocks.1.attn.hook_z")
    mine = site.activations(tokens)
    wordlist = tf.PreTrainedTokenizerFast(tokenizer_object=site.tokenizer.backend_tokenizer, pad_token="<unk>")
    bridge = TransformerBridge.boot_transformers(
        "tiny", hf_model=model, tokenizer=wordlist, device="cpu", dtype=torch.float32
    )
    with torch.no_grad():
        _, cache = bridge.run_with_cache(tokens, prepend_bos=False)
    torch.testing.assert_close(mine, cache["blocks.1.attn.hook_z"].reshape(mine.shape), atol=1e-4, rtol=1e-4)


def test_an_edit_of_hook_z_is_seen_downstream(any_model, make_site, tokens):
    site = make_site(any_model, "blocks.1.attn.hook_z")
    where = torch.ones_like(tokens, dtype=torch.bool)
    clean = site.token_losses(tokens, None, where)
    torch.testing.assert_close(site.token_losses(tokens, lambda rows: rows, where), clean)
    assert (site.token_losses(tokens, torch.neg, where) - clean).abs().max() > 1e-3
