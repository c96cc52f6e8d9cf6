"""Sparse probing, SCR and TPP: the evals whose numbers depend on whether the cache is cold.

The SAE that meets a cold cache also trains the language model's probes and so uses up random numbers; the same SAE
then gets other negatives than in a warm cache, and no arm is paired with it. Hence a throwaway SAE fills the cache.
"""

from __future__ import annotations

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from .contained import versioned
from .job import Found, Job, read_result
from .throwaway import throwaway_sae


def _main(module: str) -> Any:  # noqa: ANN401
    return import_module(f"sae_bench.evals.{module}.main")


def _run(module: str, job: Job, name: str, sae: Any, output: Path) -> None:  # noqa: ANN401
    main = _main(module)
    with versioned(main):
        main.run_eval(
            job.config,
            [(name, sae)],
            job.device,
            str(output),
            force_rerun=True,
            artifacts_path=str(job.artefacts),
        )


def _prepare(module: str, job: Job) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _run(module, job, "throwaway", throwaway_sae(job.sae), Path(folder))


def prepare_sparse_probing(job: Job) -> None:
    """Cache activations and the language model's probes."""
    _prepare("sparse_probing", job)


def run_sparse_probing(job: Job) -> Found:
    """Measure one SAE by SAEBench's sparse probing."""
    _run("sparse_probing", job, job.name, job.sae, job.output)
    return Found(job.result, read_result(job.result))


def prepare_scr_and_tpp(job: Job) -> None:
    """Cache activations and the probes that are ablated."""
    _prepare("scr_and_tpp", job)


def run_scr_and_tpp(job: Job) -> Found:
    """Measure one SAE by spurious correlation removal or targeted probe perturbation, as the configuration says."""
    # SAEBench adds a folder `scr` or `tpp` to the output, which is what `job.output` is called already.
    _run("scr_and_tpp", job, job.name, job.sae, job.output.parent)
    return Found(job.result, read_result(job.result))
