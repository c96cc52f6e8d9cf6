"""The language model at hand, lent to code that would fetch one by name."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import jaxtyping
import torch
import transformer_lens.loading_from_pretrained as loading
from transformer_lens import HookedTransformer
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..randomness import own_randomness
from .unavailable import Unavailable

_GUESSED = ("llama", "gemma", "bert", "t5")
"""Words from which TransformerLens guesses an architecture when they are in a path."""
_TOLERANCE = 1e-3
"""Largest difference of log-probabilities to transformers' own, in float32, at which a port counts as right."""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model of `transformers` and the name that SAEBench is told."""

    name: str
    """Written into SAEBench's configurations and paths: no slash."""
    model: PreTrainedModel
    """The model, in evaluation mode."""
    tokenizer: PreTrainedTokenizerBase
    """Its tokenizer."""
    bos_token_id: int | None = None
    """The token that the SAEs saw first, which need not be the tokenizer's BOS token; None for none."""
    centre: bool = False
    """Whether the SAEs saw activations minus their mean, as TransformerLens' `center_writing_weights` makes them.

    SAEBench's evals, but for core, give every SAE the model without; this one is lent as the SAEs saw it."""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ValueError(f"the language model's name is {self.name!r}; it must be usable as the name of a folder")


@contextmanager
def lent(language: LanguageModel, device: str = "cpu") -> Iterator[Lender]:
    """Give out `language` wherever `HookedTransformer.from_pretrained_no_processing` is called.

    Nothing is written to site-packages and nothing is fetched. Where TransformerLens has no right port of the
    architecture, a TransformerBridge is given out and jaxtyping's checks, which refuse it, are off until the end.
    """
    lender = Lender(language, device)
    disabled = jaxtyping.config.jaxtyping_disable
    try:
        with patch.object(HookedTransformer, "from_pretrained_no_processing", lender):
            yield lender
    finally:
        jaxtyping.config.update("jaxtyping_disable", disabled)


class Lender:
    """Stands in for `HookedTransformer.from_pretrained_no_processing`."""

    def __init__(self, language: LanguageModel, device: str) -> None:
        """Prepare; a model is made when one is asked for, once per dtype."""
        self.language, self.device = language, device
        self._made: dict[torch.dtype, tuple[Any, PreTrainedTokenizerBase]] = {}

    def __call__(self, *_: object, dtype: torch.dtype = torch.float32, **__: object) -> Any:  # noqa: ANN401
        """The model in `dtype`, whatever name is asked for."""
        if dtype not in self._made:
            made = hooked_model(self.language, self.device, dtype)
            self._made[dtype] = (made, copy.deepcopy(made.tokenizer))
        model, tokenizer = self._made[dtype]
        if not isinstance(model, HookedTransformer):
            jaxtyping.config.update("jaxtyping_disable", True)
        # sae-probes turns truncation to the left for good; the next eval has to find a tokenizer as it was.
        model.tokenizer = copy.deepcopy(tokenizer)
        return model


def hooked_model(language: LanguageModel, device: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Put a language model into TransformerLens: as a HookedTransformer where that computes the same, else a bridge.

    Returns:
        The model, called `language.name`, with a tokenizer that puts the BOS token first if there is one.
    """
    # Whatever a port draws before it has its weights: an eval without a seed must not see whether one was made.
    with _temporary_folder() as folder, own_randomness(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that HookedTransformer is deprecated, though SAEBench takes nothing else
        model = _prepared(language, folder, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        made = _hooked(model, tokenizer, folder, device, language.centre)
        if made is None and language.centre:
            raise Unavailable(
                f"the SAEs read centred activations, which TransformerLens cannot make of {language.name}"
            )
        made = made or TransformerBridge.boot_transformers(
            folder, hf_model=model, tokenizer=tokenizer, device=device, dtype=dtype
        )
    # Absorption makes a path of it.
    made.cfg.model_name = language.name
    return made


def with_bos(language: LanguageModel) -> PreTrainedTokenizerBase:
    """A copy of the tokenizer whose BOS token is the one that the SAEs saw."""
    tokenizer = copy.deepcopy(language.tokenizer)
    if language.bos_token_id is not None:
        tokenizer.bos_token = tokenizer.convert_ids_to_tokens(language.bos_token_id)
    return tokenizer


def _prepared(language: LanguageModel, folder: str, dtype: torch.dtype) -> PreTrainedModel:
    """A copy of the model, and its config and tokenizer in a folder: TransformerLens reads them from a path."""
    # A bridge rebuilds the model that it is given.
    model = copy.deepcopy(language.model).to(dtype)  # pyright: ignore[reportArgumentType]  (a decorator hides it)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    with_bos(language).save_pretrained(folder)
    return model


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """A folder for the time being, by a name that tells TransformerLens nothing: one random name in 200 holds `t5`."""
    with ExitStack() as stack:
        while True:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="saebench-"))
            if not _is_guessed(Path(folder).name):
                break
        yield folder


def _is_guessed(path: str) -> bool:
    return any(word in path.lower() for word in _GUESSED)


def _hooked(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str, device: str, centre: bool) -> Any:  # noqa: ANN401
    """A HookedTransformer that computes the same as the model, or None."""
    if _is_guessed(folder):
        return None
    names = [*loading.OFFICIAL_MODEL_NAMES, folder]  # pyright: ignore[reportPrivateImportUsage]
    try:
        # Under a name of its own, because TransformerLens takes no path here.
        with patch.object(loading, "OFFICIAL_MODEL_NAMES", names):
            made = HookedTransformer.from_pretrained(
                folder,
                hf_model=model,
                tokenizer=tokenizer,
                device=device,
                dtype=model.dtype,  # pyright: ignore[reportArgumentType]  (it takes both)
                fold_ln=False,
                center_writing_weights=centre,
                center_unembed=False,
                fold_value_biases=False,
            )
    except Exception:  # what fails depends on the architecture; the bridge takes all of them
        return None
    return made if _agrees(made, model.to(device)) else None  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def _agrees(made: HookedTransformer, model: PreTrainedModel) -> bool:
    """Whether a port computes what the model computes; in 16 bits the order of sums alone differs by more."""
    tokens = torch.arange(2, 18).unsqueeze(0).remainder(model.config.get_text_config().vocab_size).to(model.device)
    mine, theirs = (f(tokens).float().log_softmax(-1) for f in (made, lambda t: model(t).logits))
    tolerance = _TOLERANCE if model.dtype == torch.float32 else 0.5
    return bool((mine - theirs).abs().max() < tolerance)
