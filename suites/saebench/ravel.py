"""RAVEL, which is written for transformers 4, huggingface_hub below 1 and two language models."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from transformers import PreTrainedTokenizerBase

from ..hooks import decoder_layers
from .contained import versioned
from .job import Found, Job, read_result, resid_post_only
from .language_model import LanguageModel, with_bos
from .unavailable import Unavailable

NOTES = ("RAVEL replaces the whole activation by the SAE's reconstruction: what the SAE does not explain is lost too",)
"""What a reader of the numbers must know."""


def prepare_ravel(job: Job) -> None:
    """Put the files that `artifact_dir` holds into the folder of this configuration.

    SAEBench's names of what it derives from them lack the dtype and the number of generated tokens.

    Raises:
        Unavailable: for an SAE on a hook, or of activations, that the eval does not read.
    """
    resid_post_only(job)
    if job.language.centre:
        raise Unavailable("it runs on transformers' model, and these SAEs read centred activations")
    given, folder = Path(job.config.artifact_dir), _folder(job)
    for file in sorted(given.glob("*.json")) + sorted(given.glob("base/*.json")):
        target = folder / file.relative_to(given)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    folder.mkdir(parents=True, exist_ok=True)


def run_ravel(job: Job) -> Found:
    """Measure one SAE by SAEBench's RAVEL.

    Raises:
        Unavailable: when the facts cannot be fetched, or the language model knows too few of them.
    """
    from sae_bench.evals.ravel import main

    config = copy.copy(job.config)
    config.artifact_dir = str(_folder(job))
    with versioned(main), mended(job.language, job.device):
        try:
            main.run_eval(
                config, [(job.name, job.sae)], job.device, str(job.output), True, artifacts_path=str(job.artefacts)
            )
        except (ValueError, IndexError, ZeroDivisionError) as error:
            if not _too_few(error):
                raise
            raise Unavailable(f"the language model knows too few of the facts ({error})") from None
    return Found(job.result, read_result(job.result), NOTES)


def _folder(job: Job) -> Path:
    return job.artefacts / "ravel"


def _too_few(error: Exception) -> bool:
    """Messages of empty lists: no prompt that is answered correctly, or none with another answer."""
    said = ("No prompts with different attribute label", "not enough values to unpack", "division by zero", "max()")
    return any(words in str(error) for words in said)


@contextmanager
def mended(language: LanguageModel, device: str) -> Iterator[None]:
    """Let SAEBench's RAVEL run on any language model, with transformers 5 and huggingface_hub 2."""
    from sae_bench.evals.ravel import instance, main
    from sae_bench.sae_bench_utils import activation_collection

    loader = SimpleNamespace(from_pretrained=lambda *_, **kwargs: _model(language, device, kwargs["torch_dtype"]))
    tokenizer = SimpleNamespace(from_pretrained=lambda *_, **__: _tokenizer(language))
    with ExitStack() as stack:
        for where, name, value in (
            # The configuration is given the mapped name, and a second call looks that one up.
            (main, "LLM_NAME_MAP", {language.name: language.name}),
            (main, "AutoModelForCausalLM", loader),
            (main, "AutoTokenizer", tokenizer),
            (activation_collection, "get_module", layer_with_tuples),
            (instance, "snapshot_download", _without_symlinks(instance.snapshot_download)),
        ):
            stack.enter_context(patch.object(where, name, value))
        yield


def layer_with_tuples(model: Any, layer: int) -> Any:  # noqa: ANN401
    """A decoder layer of any model, as SAEBench's hooks expect one: its output is a tuple."""
    path, _ = decoder_layers(model)
    return _TupleLayer(model.get_submodule(f"{path}.{layer}"))


class _TupleLayer:
    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def register_forward_hook(self, hook: Callable[..., Any]) -> Any:  # noqa: ANN401
        def around(module: Any, inputs: Any, output: Any) -> Any:  # noqa: ANN401
            if isinstance(output, tuple):
                return hook(module, inputs, output)
            changed = hook(module, inputs, (output,))
            return changed[0] if isinstance(changed, tuple) else changed

        return self.module.register_forward_hook(around)


def _model(language: LanguageModel, device: str, dtype: torch.dtype) -> Any:  # noqa: ANN401
    model = copy.deepcopy(language.model).to(device=device, dtype=dtype)  # pyright: ignore[reportCallIssue]
    # Only the mask is learned: gradients of the weights would take as much memory as the model.
    return model.requires_grad_(False)


def _tokenizer(language: LanguageModel) -> PreTrainedTokenizerBase:
    """A tokenizer whose BOS token is that of the SAEs' training and is never mistaken for padding.

    SAEBench places the entity at minus the length of the rest of the prompt, encoded alone: right where that has a
    BOS token of its own, else one too far.
    """
    tokenizer = with_bos(language)
    others = [t for t in (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token) if t is not None]
    tokenizer.pad_token = next((t for t in others if t != tokenizer.bos_token), tokenizer.bos_token)
    if language.bos_token_id is not None and not _adds_bos(tokenizer):
        encode, bos = tokenizer.encode, language.bos_token_id
        # A setting of the tokenizer would do, but not every class of tokenizers has it.
        vars(tokenizer)["encode"] = lambda text: [bos, *encode(text)]
    return tokenizer


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    return tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]


def _without_symlinks(download: Callable[..., Any]) -> Callable[..., Any]:
    def fetch(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        kwargs.pop("local_dir_use_symlinks", None)
        return download(*args, **kwargs)

    return fetch
