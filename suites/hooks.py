"""Where a hook name lies in a Hugging Face model: TransformerLens names and plain module paths."""

from __future__ import annotations

import difflib
import inspect
import re
from dataclasses import dataclass
from typing import Literal

from torch import nn
from transformers import PreTrainedModel

_BLOCK_HOOK = re.compile(r"blocks\.(\d+)\.((?:attn\.)?hook_\w+)")
_ATTENTION = ("self_attn", "attention", "attn", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "fc2")
# (norm after attention, norm after the MLP) of blocks that normalise what they add to the residual
# stream. The pair decides: Llama also has a `post_attention_layernorm`, but it is the one before the MLP.
_POST_NORMS = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
)
_STREAM_KINDS = ("hook_resid_pre", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
_KINDS = (*_STREAM_KINDS, "attn.hook_z")
_OUTPUT_PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense", "wo")


@dataclass(frozen=True)
class HookPoint:
    """One place in a model whose activations can be read and replaced."""

    module: str
    """Path of the module inside the model, such as `model.layers.12`."""
    side: Literal["input", "output"]
    """Whether the activation is what goes into the module or what comes out of it."""


def resolve_hook(model: PreTrainedModel, name: str) -> HookPoint:
    """Find the place that a hook name means in a Hugging Face causal language model.

    Args:
        model: Any causal model of `transformers`.
        name: A TransformerLens name, `blocks.<layer>.hook_resid_pre`, `.hook_resid_post`, `.hook_attn_out`,
            `.hook_mlp_out` or `.attn.hook_z`; or the path of a module (its output), with `.input` for its input.

    Returns:
        The module's path and the side of it that is meant. As in TransformerLens, `hook_attn_out` and
        `hook_mlp_out` are what is added to the residual stream, hence after a post-norm (Gemma 2 and 3);
        `attn.hook_z` is what goes into attention's output projection, all heads in a row.

    Raises:
        ValueError: The model has no such hook; the message names the layers and the nearest name.
    """
    if match := _BLOCK_HOOK.fullmatch(name):
        return _block_hook(model, name, int(match[1]), match[2])
    path, side = (name[: -len(".input")], "input") if name.endswith(".input") else (name, "output")
    if path in dict(model.named_modules()) and path:
        return HookPoint(path, side)
    raise _no_such_hook(model, name)


def is_on_stream(name: str) -> bool:
    """Whether a hook is a TransformerLens name of the residual stream or of what is added to it (width `d_model`)."""
    match = _BLOCK_HOOK.fullmatch(name)
    return match is not None and match[2] in _STREAM_KINDS


def decoder_layers(model: PreTrainedModel) -> tuple[str, int]:
    """Path of the list of decoder layers of a causal model, and how many there are.

    Raises:
        ValueError: No list of modules has the length that the model's configuration gives.
    """
    n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    lists = [p for p, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    # A vision or audio tower can be as deep as the text decoder, and experts as many as layers (deeper paths).
    lists = [path for path in lists if not re.search("vision|visual|audio|encoder", path)] or lists
    if not lists:
        msg = f"cannot find the {n_layers} decoder layers of {type(model).__name__}; name the hook by module path"
        raise ValueError(msg)
    return min(lists, key=lambda path: path.count(".")), n_layers


def _block_hook(model: PreTrainedModel, name: str, layer: int, kind: str) -> HookPoint:
    path, n_layers = decoder_layers(model)
    if layer >= n_layers or kind not in _KINDS:
        raise _no_such_hook(model, name)
    path = f"{path}.{layer}"
    if kind == "hook_resid_pre":
        return HookPoint(path, "input")
    if kind == "hook_resid_post":
        return HookPoint(path, "output")
    block = model.get_submodule(path)
    if kind == "attn.hook_z":
        return HookPoint(f"{path}.{_output_projection(block, name)}", "input")
    return HookPoint(f"{path}.{_added_to_stream(block, name, kind)}", "output")


def _output_projection(block: nn.Module, name: str) -> str:
    """Path inside the block of the projection that attention ends with."""
    # Not always a child of the block's own attention: GPT-Neo wraps it once more (`attn.attention.out_proj`).
    for path, _ in block.named_modules():
        first, _, rest = path.partition(".")
        if first in _ATTENTION and rest.rsplit(".", 1)[-1] in _OUTPUT_PROJECTIONS:
            return path
    raise ValueError(f"no such hook {name!r}: no output projection of attention in {type(block).__name__}")


def _added_to_stream(block: nn.Module, name: str, kind: str) -> str:
    """Name of the child whose output the block adds to the residual stream."""
    children = dict(block.named_children())
    after_attention = kind == "hook_attn_out"
    for norms in _POST_NORMS:
        if set(norms) <= children.keys():
            return norms[0] if after_attention else norms[1]
    found = next((child for child in (_ATTENTION if after_attention else _MLP) if child in children), None)
    if found is None:
        raise ValueError(f"no such hook {name!r}: {type(block).__name__} has {', '.join(children)}")
    # Bloom's sublayers are handed the residual and return the sum, which is not what the hook means.
    if "residual" in inspect.signature(children[found].forward).parameters:
        raise ValueError(f"no such hook {name!r}: {type(children[found]).__name__} adds the residual itself")
    return found


def _no_such_hook(model: PreTrainedModel, name: str) -> ValueError:
    path, n_layers = decoder_layers(model)
    names = [f"blocks.{layer}.{kind}" for layer in range(n_layers) for kind in _KINDS]
    names += [f"{path}.{layer}" for layer in range(n_layers)]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"try 'blocks.0.hook_resid_post' or '{path}.0'"
    return ValueError(f"no such hook {name!r}; this model has layers 0-{n_layers - 1}; {hint}")
