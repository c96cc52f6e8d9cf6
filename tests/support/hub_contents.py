"""What a hub serves in tests: tiny SAEs in SAELens' formats, a tiny GPT-2, texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from sae_lens import SAE, JumpReLUSAE, JumpReLUSAEConfig, StandardSAE, StandardSAEConfig, TopKSAE, TopKSAEConfig
from sae_lens.saes.sae import SAEMetadata
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

D_IN, D_SAE = 16, 48
CLASSES = {
    "standard": (StandardSAE, StandardSAEConfig, {}),
    "topk": (TopKSAE, TopKSAEConfig, {"k": 4}),
    "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig, {}),
}
RES_JB = "gpt2-small-res-jb"
"""A release of SAELens' registry whose SAEs are small to imitate: standard, written before SAELens 6."""
RES_JB_REPO = "jbloom/GPT2-Small-SAEs-Reformatted"


def make_sae(seed: int = 0, architecture: str = "standard", **metadata: object) -> SAE:
    """A random SAE, as SAELens makes them."""
    made, config, options = CLASSES[architecture]
    facts = {"model_name": "gpt2-small", "hook_name": "blocks.1.hook_resid_pre", "context_size": 32}
    facts |= {"prepend_bos": True, "dataset_path": "org/texts"} | metadata
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        sae = made(config(d_in=D_IN, d_sae=D_SAE, metadata=SAEMetadata(**facts), **options))
        for name, tensor in sae.state_dict().items():
            # A threshold of its own for each latent: one for all would mean BatchTopK.
            tensor.copy_(torch.rand_like(tensor) if name == "threshold" else 0.3 * torch.randn_like(tensor))
    return sae


def save_sae(folder: Path, seed: int = 0, architecture: str = "standard", **metadata: object) -> Path:
    """The same, in SAELens' format of today."""
    folder.mkdir(parents=True, exist_ok=True)
    make_sae(seed, architecture, **metadata).save_model(folder)
    return folder


def save_old_sae(folder: Path, seed: int = 0, hook_name: str = "blocks.1.hook_resid_pre") -> Path:
    """A standard SAE as SAELens 2 wrote them: all of the training run in one flat cfg.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_name": "gpt2-small", "hook_point": hook_name, "hook_point_layer": 1, "hook_point_head_index": None}
    config |= {"dataset_path": "org/texts", "is_dataset_tokenized": False, "context_size": 32, "d_in": D_IN}
    config |= {"d_sae": D_SAE, "dtype": "torch.float32", "device": "cuda", "l1_coefficient": 8e-05, "lr": 0.0004}
    config |= {"training_tokens": 300000000, "train_batch_size": 4096, "seed": 42, "architecture": "standard"}
    (folder / "cfg.json").write_text(json.dumps(config))
    weights = {name: tensor.contiguous() for name, tensor in make_sae(seed).state_dict().items()}
    save_file(weights, folder / "sae_weights.safetensors")
    return folder


def save_gpt2(folder: Path, **settings: object) -> Path:
    """A tiny random GPT-2 with a word tokenizer: three layers of width 16, 152 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"vocab_size": 152, "n_positions": 64, "n_ctx": 64, "n_embd": D_IN, "n_layer": 3, "n_head": 2}
    config = GPT2Config(**(sizes | {"bos_token_id": 0, "eos_token_id": 0} | settings))
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        model = GPT2LMHeadModel(config)
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    vocabulary = {"<|endoftext|>": 0, "<unk>": 1} | {f"w{i}": i + 2 for i in range(150)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


def documents(n: int, seed: int = 0, words: int = 130) -> list[str]:
    """Different documents of that many words, about four letters each."""
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{i}" for i in rng.integers(0, 150, words)) for _ in range(n)]


def save_world(root: Path) -> Path:
    """A folder with a language model in models/gpt2 and its texts in texts.jsonl."""
    save_gpt2(root / "models/gpt2")
    (root / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents(700)))
    return root
