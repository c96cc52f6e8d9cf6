"""Sparse probing on the 113 datasets of sae-probes, which come with the package."""

from __future__ import annotations

import copy
import difflib
import json
import shutil
from collections.abc import Sequence

from .contained import versioned
from .job import Found, Job, read_result
from .unavailable import Unavailable


def run_sae_probes(job: Job) -> Found:
    """Measure one SAE on the datasets of sae-probes.

    Raises:
        Unavailable: for a dataset that sae-probes does not have.
        RuntimeError: when no dataset was measured.
    """
    from sae_bench.evals.sparse_probing_sae_probes import main

    _refuse_unknown(job.config.dataset_names)
    config = copy.copy(job.config)
    config.results_path, config.model_cache_path = str(job.artefacts / "results"), str(job.artefacts / "activations")
    # Results are reused by name even where `force_rerun` is set, so those of an earlier SAE of this name have to go.
    # The language model's own results lie beside them and are shared.
    shutil.rmtree(job.artefacts / "results" / f"{job.name}_custom_sae", ignore_errors=True)
    with versioned(main):
        main.run_eval(config, [(job.name, job.sae)], job.device, str(job.output), force_rerun=True)
    found = read_result(job.result)
    # With `binarize` SAEBench looks for files of another name than sae-probes writes, and averages over none.
    if not json.loads(job.result.read_text(encoding="utf-8"))["eval_result_details"]:
        raise RuntimeError("SAEBench found no dataset's result (it loses all of them where binarize is set)")
    return Found(job.result, found)


def _refuse_unknown(datasets: Sequence[str]) -> None:
    # It would show after the language model has read the dataset's prompts, as a KeyError.
    from sae_probes import DATASETS

    for name in datasets:
        if name not in DATASETS:
            close = difflib.get_close_matches(name, DATASETS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise Unavailable(f"sae-probes has no binary dataset {name!r}{hint}")
