"""Tiny random models of several architectures: three layers of width 16, 152 tokens."""

from __future__ import annotations

import torch
import transformers as tf

SIZES = {"vocab_size": 152, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
TOKENS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}

ARCHITECTURES = {
    "llama": lambda: tf.LlamaConfig(**SIZES, **HEADS),
    "mistral": lambda: tf.MistralConfig(**SIZES, **HEADS),
    "qwen3": lambda: tf.Qwen3Config(**SIZES, **HEADS),
    "gemma2": lambda: tf.Gemma2Config(**SIZES, **HEADS),
    "gemma3": lambda: tf.Gemma3TextConfig(**SIZES, **HEADS),
    "olmo2": lambda: tf.Olmo2Config(**SIZES, num_attention_heads=2, num_key_value_heads=1, pad_token_id=1),
    "glm4": lambda: tf.Glm4Config(**SIZES, **HEADS, **TOKENS),
    "neox_parallel": lambda: tf.GPTNeoXConfig(**SIZES, num_attention_heads=2),
    "neox_sequential": lambda: tf.GPTNeoXConfig(**SIZES, num_attention_heads=2, use_parallel_residual=False),
    "gpt2": lambda: tf.GPT2Config(vocab_size=152, n_embd=16, n_layer=3, n_head=2, **TOKENS),
    "gptj": lambda: tf.GPTJConfig(vocab_size=152, n_embd=16, n_layer=3, n_head=2, rotary_dim=4, **TOKENS),
    "opt": lambda: tf.OPTConfig(
        vocab_size=152, hidden_size=16, ffn_dim=32, num_hidden_layers=3, num_attention_heads=2, word_embed_proj_dim=16
    ),
}


def random_model(config):
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = tf.AutoModelForCausalLM.from_config(config)
        # Weights as they are initialised hardly change the stream, and every norm is the same one.
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()
