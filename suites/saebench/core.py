"""SAEBench's core eval, which logs its exceptions and goes on with an empty list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from .contained import versioned
from .job import Found, Job, read_result

NOTES = (
    "SAEBench 0.6 does not centre explained_variance and divides mse by the tokens of a batch; "
    "explained_variance_legacy is the one of the paper",
)
"""What a reader of the numbers must know; SAELens mended both (its issues 659, 665, 711)."""


def run_core(job: Job) -> Found:
    """Measure reconstruction and sparsity of one SAE by SAEBench's core eval.

    Raises:
        Exception: whatever SAEBench swallowed, or a RuntimeError with what it logged.
    """
    from sae_bench.evals.core import main

    opened = _Stores(main.ActivationsStore)
    with (
        versioned(main),
        patch.object(main, "ActivationsStore", SimpleNamespace(from_sae=opened.from_sae)),
        patch.object(main.logger, "error", opened.log),
    ):
        done = main.multiple_evals([(job.name, job.sae)], **_arguments(job))
    if not done:
        raise opened.error or RuntimeError(opened.said or "SAEBench's core eval returned nothing and did not say why")
    # It writes -1 for a number that is not one.
    found = {name: None if value == -1 else value for name, value in read_result(job.result).items()}
    return Found(job.result, found, NOTES)


class _Stores:
    """Opens activation stores and remembers what went wrong."""

    def __init__(self, cls: Any) -> None:  # noqa: ANN401
        self.cls = cls
        self.error: Exception | None = None
        self.said = ""

    def from_sae(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return self.cls.from_sae(*args, **kwargs)
        except Exception as error:
            self.error = error
            raise

    def log(self, message: str, *_: object) -> None:
        self.said = self.said or str(message)


def _arguments(job: Job) -> dict[str, Any]:
    """The function takes values one by one, under other names than its configuration has."""
    config = job.config
    same = (
        "n_eval_reconstruction_batches",
        "n_eval_sparsity_variance_batches",
        "compute_featurewise_density_statistics",
        "compute_featurewise_weight_based_metrics",
        "exclude_special_tokens_from_reconstruction",
        "dataset",
        "context_size",
        "verbose",
    )
    return {name: getattr(config, name) for name in same} | {
        "eval_batch_size_prompts": config.batch_size_prompts,
        "dtype": config.llm_dtype,
        "device": job.device,
        "output_folder": str(job.output),
        "force_rerun": True,
    }
