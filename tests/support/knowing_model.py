"""A tiny language model that has learned some facts by heart, and the facts in RAVEL's shape."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from tiny_site import tiny_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from sae_sanity.suites.causal_editing.ravel import RavelData
from sae_sanity.suites.site import Site

N_ENTITIES = 48
ATTRIBUTES = {"Country": "land", "Continent": "part", "Language": "tongue"}
"""Attribute: the word by which it is asked for."""
VALUES = {
    name: tuple(f"{word}{i}" for i in range(n)) for (name, word), n in zip(ATTRIBUTES.items(), (6, 3, 4), strict=True)
}
ENTITIES = tuple(f"E{i}" for i in range(N_ENTITIES))
FILLERS = ("the", "of", "is", "a", "so", "well")
WORDS = (*ENTITIES, *ATTRIBUTES.values(), *(v for some in VALUES.values() for v in some), *FILLERS)


def facts() -> dict[str, dict[str, str]]:
    """Every attribute drawn for itself, so that none tells of another."""
    rng = np.random.default_rng(0)
    return {entity: {name: str(rng.choice(some)) for name, some in VALUES.items()} for entity in ENTITIES}


def templates(word: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Templates for train and for test; the entity stands before what is asked."""
    return (f"the %s {word} is", f"so %s {word} is"), (f"well %s {word} is", f"a %s {word} is")


def ravel_data() -> RavelData:
    asked = {name: templates(word) for name, word in ATTRIBUTES.items()}
    split = {t: s for both in asked.values() for s, some in zip(("train", "test"), both, strict=True) for t in some}
    return RavelData(
        entity_type="thing",
        values=facts(),
        templates={name: (*train, *test) for name, (train, test) in asked.items()},
        entity_split={entity: "test" if i % 2 else "train" for i, entity in enumerate(ENTITIES)},
        template_split=split,
        sources=(),
    )


@lru_cache(maxsize=1)
def knowing_model() -> LlamaForCausalLM:
    """Trained in some seconds, until it answers every prompt correctly."""
    config = LlamaConfig(
        vocab_size=len(WORDS) + 2,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
    )
    with torch.random.fork_rng(), torch.enable_grad():
        torch.random.manual_seed(0)
        model = LlamaForCausalLM(config)
        tokens, answers = _lessons()
        adam = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(400):
            logits = model(tokens).logits[:, -1]
            loss = torch.nn.functional.cross_entropy(logits, answers)
            adam.zero_grad()
            loss.backward()
            adam.step()
            if loss < 0.02:
                break
    return model.requires_grad_(False).eval()


def _lessons() -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer, data = tiny_tokenizer(WORDS), ravel_data()
    prompts = [(t % e, data.values[e][name]) for name, some in data.templates.items() for t in some for e in ENTITIES]
    texts = tokenizer([f"<bos> {text}" for text, _ in prompts], add_special_tokens=False)["input_ids"]
    answers = tokenizer([value for _, value in prompts], add_special_tokens=False)["input_ids"]
    return torch.tensor(texts), torch.tensor(answers)[:, 0]


def knowing_site(cache: Path, hook_name: str = "blocks.0.hook_resid_pre") -> Site:
    return Site(
        model=knowing_model(),
        tokenizer=tiny_tokenizer(WORDS),
        hook_name=hook_name,
        context_size=16,
        bos_token_id=0,
        cache=cache,
        batch_size=64,
    )
