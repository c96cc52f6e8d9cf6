"""A tiny random language model with a word tokenizer, and texts for it: everything a check needs, in a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sae_sanity.harness.config import Settings
from sae_sanity.harness.progress import Progress
from sae_sanity.harness.subject import Subject, collect, describe
from sae_sanity.suites.site import Site
from sae_sanity.suites.texts import TextSet

# Matrices of a few rows: threads only wait for each other.
torch.set_num_threads(1)

WORDS = [f"w{i}" for i in range(150)]


def tiny_tokenizer(words: Sequence[str] = WORDS) -> PreTrainedTokenizerFast:
    vocabulary = {"<bos>": 0, "<unk>": 1} | {word: i + 2 for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", unk_token="<unk>")


def tiny_model(seed: int = 0) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=152,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.6,
    )
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return LlamaForCausalLM(config).eval()


def tiny_texts(name: str, n: int, seed: int, *, words: int = 20) -> TextSet:
    rng = np.random.default_rng(seed)
    return TextSet(name, tuple(" ".join(rng.choice(WORDS, words + i % 5)) for i in range(n)))


def tiny_site(cache: Path, hook_name: str = "blocks.1.hook_resid_post") -> Site:
    return Site(
        model=tiny_model(),
        tokenizer=tiny_tokenizer(),
        hook_name=hook_name,
        context_size=32,
        bos_token_id=0,
        cache=cache,
        batch_size=64,
    )


def tiny_subject(settings: Settings, cache: Path, progress: Progress) -> Subject:
    """What `harness.subject.demo` makes, on the tiny model."""
    site = tiny_site(cache / "activations", settings.hook_name)
    texts = {
        "train": tiny_texts("train", max(2, settings.tokens // 22), 1),
        "calibration": tiny_texts("calibration", max(2, settings.calibration_tokens // 22), 2),
        "held_out": tiny_texts("held_out", settings.held_out_documents, 3),
    }
    train = collect(site, texts["train"], None, progress)
    calibration, held_out = (collect(site, texts[n], train.norm_cap, progress) for n in ("calibration", "held_out"))
    return Subject(
        "tiny",
        "tiny-llama",
        site,
        train,
        calibration,
        texts["held_out"],
        held_out,
        interpretation=(texts["calibration"],),
        notes=(describe("train", train),),
    )


TINY = {
    "target": "tiny",
    "suites": ["reconstruction"],
    "hook_name": "blocks.1.hook_resid_post",
    "context_size": 32,
    "d_sae": 48,
    "l0": 4.0,
    "seeds": 2,
    "random_seeds": 3,
    "tokens": 4096,
    "batch_size": 256,
    "lr": 3e-3,
    "calibration_tokens": 6000,
    "held_out_documents": 100,
    "ce_documents": 5,
}
"""Flags of a check of the tiny subject that takes seconds."""
