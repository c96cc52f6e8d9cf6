"""Converting a Llama-shaped GGUF file with SmolLM2's tokenizer into a folder that transformers loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, TokenType
from gguf.quants import dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# GGUF's names for the weights of a Llama block, and those of transformers.
_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def convert_llama_gguf(gguf: Path, folder: Path) -> None:
    """Write a Llama model with tied embeddings and the `smollm` tokenizer as bfloat16 safetensors.

    The weights equal those of `AutoModelForCausalLM.from_pretrained(..., gguf_file=...)` to the bit, at a third of
    its time: transformers parses the file several times over, and cannot save what it has loaded.

    Args:
        gguf: The file.
        folder: Where the model goes; it is made.
    """
    reader = GGUFReader(gguf)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    # Nothing is allocated or initialised that the file's weights would only replace.
    with torch.device("meta"):
        model = LlamaForCausalLM(_config(facts))
    weights = dict(_weights(reader, facts))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    tokens = facts["tokenizer.ggml.tokens"]
    kinds = zip(tokens, facts["tokenizer.ggml.token_type"], strict=True)
    smollm_tokenizer(
        tokens,
        facts["tokenizer.ggml.merges"],
        control=[token for token, kind in kinds if kind == TokenType.CONTROL],
        roles={role: tokens[facts[f"tokenizer.ggml.{key}_token_id"]] for role, key in _ROLES.items()},
        chat_template=facts["tokenizer.chat_template"],
    ).save_pretrained(folder)


def smollm_tokenizer(
    tokens: Sequence[str],
    merges: Sequence[str],
    *,
    control: Sequence[str],
    roles: Mapping[str, str],
    chat_template: str | None = None,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE that splits numbers into digits, as SmolLM2 was trained with.

    The conversion in transformers leaves the splitting of digits out, so that it disagrees with llama.cpp on every
    text with a longer number in it.

    Args:
        tokens: The vocabulary, in the order of the token ids.
        merges: Pairs in the order of their rank, each as `left right`.
        control: Tokens that are matched whole and stand for no text.
        roles: Which of them is `bos_token`, `eos_token`, `unk_token` and `pad_token`.
        chat_template: Jinja template of a conversation.
    """
    pairs = [(left, right) for left, right in (merge.split(" ", 1) for merge in merges)]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, pairs))
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **roles,
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


def _config(facts: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        max_position_embeddings=facts["llama.context_length"],
        rms_norm_eps=facts["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        bos_token_id=facts["tokenizer.ggml.bos_token_id"],
        eos_token_id=facts["tokenizer.ggml.eos_token_id"],
        pad_token_id=facts["tokenizer.ggml.padding_token_id"],
        tie_word_embeddings=True,
        dtype=torch.bfloat16,
    )


def _weights(reader: GGUFReader, facts: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    for tensor in reader.tensors:
        weight = dequantize(tensor.data, tensor.tensor_type)
        if (name := _OUTER.get(tensor.name)) is None:
            _, layer, kind, _ = tensor.name.split(".")
            name = f"model.layers.{layer}.{_BLOCK[kind]}.weight"
            if kind in heads:
                weight = _halves(weight, heads[kind])
        yield name, torch.tensor(weight).bfloat16()


def _halves(weight: np.ndarray, n_heads: int) -> np.ndarray:
    """Undo llama.cpp's order of the rows of a head: it rotates neighbours, transformers rotates halves."""
    return weight.reshape(n_heads, -1, 2, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)
