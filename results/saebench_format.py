"""Our results in the format of SAEBench's eval outputs; `python -m sae_sanity.results.saebench_format` writes the schema.

One output per suite, arm and seed. Its keys are those that every eval of SAEBench writes, so that whatever reads
SAEBench's JSON files reads these. What is ours alone, the paired comparison with the baselines, is in
`eval_result_unstructured`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

from .outcome import CheckReport, SuiteResult

SCHEMA_VERSION = 1
SCHEMA_FILE = Path("docs") / "schema" / f"saebench-eval-v{SCHEMA_VERSION}.json"
"""The published schema, in a checkout."""
_NAMESPACE = uuid.UUID("7d0e2f0a-5f0b-5c6e-9a53-2f6d1b7a4c11")
_SEPARATOR = "/"


class Output(BaseModel):
    """Base of the format: nothing unknown, every number finite, as JSON has no other."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class EvalConfig(Output):
    """How the suite was run."""

    suite: str
    """Name of the suite."""
    metric: str
    """Its primary metric, fixed before the run."""
    margin: float | None
    """Equivalence margin of the primary metric; null where no comparison was planned."""
    unit: str
    """What an item and a cluster are, in words."""
    config_hash: str
    """Hash of everything that decides the numbers and the verdict."""
    settings: dict[str, Any]
    """The settings of the check."""


class ResultDetail(Output):
    """The scores of one item."""

    item: str
    """The unit that is paired between arms: a document, a dataset."""
    cluster: str
    """What the item is nested in; the unit of the statistics."""
    metrics: dict[str, float]
    """Score by metric."""


class Unstructured(Output):
    """What SAEBench's format has no place for."""

    arm: str
    """What was measured: `trained`, `random`, ..."""
    seed: int
    """Its seed."""
    verdict: str
    """Verdict of the suite on the trained arm; the same in every arm's file."""
    comparisons: list[dict[str, Any]]
    """This arm against trained (for trained: all of its comparisons), as in the report."""


class EvalOutput(Output):
    """One suite on one SAE, in the keys of SAEBench's `BaseEvalOutput`."""

    eval_type_id: str = Field(pattern=r"^sae_sanity_[a-z0-9_]+$")
    """`sae_sanity_` and the name of the suite."""
    eval_config: EvalConfig
    """How the suite was run."""
    eval_id: str
    """UUID of this suite in this check: the same for all of its SAEs, and the same whenever it is written again."""
    datetime_epoch_millis: int = Field(ge=0, le=9_999_999_999_999)
    """When the check was finished, in milliseconds."""
    eval_result_metrics: dict[str, dict[str, float]]
    """Mean over clusters by metric, in the categories `mean` and `sae` (L0, share of dead latents)."""
    eval_result_details: list[ResultDetail]
    """One entry per item."""
    sae_bench_commit_hash: str
    """SAEBench measured nothing here; which sae-sanity did."""
    sae_lens_id: str | None
    """Seed of the arm, as `seed-0`."""
    sae_lens_release_id: str | None
    """What was checked, and the arm."""
    sae_lens_version: str | None
    """Version of SAELens."""
    sae_cfg_dict: dict[str, Any] | None
    """The SAE's `cfg.json`; null where it is not at hand."""
    eval_result_unstructured: Unstructured
    """What SAEBench's format has no place for."""

    @property
    def file_name(self) -> str:
        """The name that SAEBench gives such a file."""
        return f"{self.sae_lens_release_id}_{self.sae_lens_id}_eval_results.json".replace(_SEPARATOR, "_")


def to_saebench(
    report: CheckReport,
    rows: pd.DataFrame,
    *,
    finished_millis: int,
    configs: Mapping[tuple[str, int], dict[str, Any]] | None = None,
) -> list[EvalOutput]:
    """Put a check into SAEBench's format.

    Args:
        report: What the check concluded.
        rows: Its score rows, columns as in `scores.COLUMNS`. References of a suite (`@...`) are no SAEs and left out.
        finished_millis: When it was finished, in milliseconds since 1970.
        configs: `cfg.json` by arm and seed, where they are at hand.

    Returns:
        One output per suite, arm and seed, in the order of the report.

    Raises:
        ValueError: A score is not finite.
    """
    return [
        _output(report, suite, arm, seed, part, finished_millis, (configs or {}).get((arm, seed)))
        for suite in report.suites
        for arm, seed, part in _parts(rows, suite.suite)
    ]


def _parts(rows: pd.DataFrame, suite: str) -> Iterator[tuple[str, int, pd.DataFrame]]:
    of_suite = rows[(rows["suite"] == suite) & ~rows["arm"].str.startswith("@")]
    for key, part in of_suite.groupby(["arm", "seed"], sort=True):
        arm, seed = key  # pyright: ignore[reportGeneralTypeIssues]  (a group's key is a tuple here)
        yield str(arm), int(seed), part


def _output(
    report: CheckReport,
    suite: SuiteResult,
    arm: str,
    seed: int,
    rows: pd.DataFrame,
    finished: int,
    config: dict[str, Any] | None,
) -> EvalOutput:
    manifest = report.manifest
    return EvalOutput(
        eval_type_id=f"sae_sanity_{suite.suite}",
        eval_config=_eval_config(report, suite),
        eval_id=str(uuid.uuid5(_NAMESPACE, f"{manifest.config_hash}/{suite.suite}")),
        datetime_epoch_millis=finished,
        eval_result_metrics=_metrics(suite, arm, rows),
        eval_result_details=_details(rows),
        sae_bench_commit_hash=f"sae-sanity {manifest.versions.get('sae-sanity', 'unknown')}",
        sae_lens_id=f"seed-{seed}",
        sae_lens_release_id=f"{report.target}_{arm}",
        sae_lens_version=manifest.versions.get("sae-lens"),
        sae_cfg_dict=config,
        eval_result_unstructured=Unstructured(
            arm=arm, seed=seed, verdict=suite.verdict, comparisons=_comparisons(suite, arm)
        ),
    )


def _eval_config(report: CheckReport, suite: SuiteResult) -> EvalConfig:
    return EvalConfig(
        suite=suite.suite,
        metric=suite.metric,
        margin=next((comparison.margin for comparison in suite.comparisons), None),
        unit=suite.unit,
        config_hash=report.manifest.config_hash,
        settings=dict(report.manifest.settings),
    )


def _metrics(suite: SuiteResult, arm: str, rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    # As in the report: items are averaged within their cluster first.
    by_cluster = rows.groupby(["metric", "cluster"])["value"].mean()
    means = {str(metric): float(value) for metric, value in by_cluster.groupby(level="metric").mean().items()}
    summary = next((a for a in suite.arms if a.arm == arm), None)
    facts = {"l0": summary.l0, "dead_share": summary.dead_share} if summary else {}
    return {"mean": means, "sae": {name: value for name, value in facts.items() if value is not None}}


def _details(rows: pd.DataFrame) -> list[ResultDetail]:
    return [
        ResultDetail(
            item=str(item), cluster=str(cluster), metrics=dict(zip(part["metric"], part["value"], strict=True))
        )
        for (item, cluster), part in rows.groupby(["item", "cluster"], sort=True)  # pyright: ignore[reportGeneralTypeIssues]
    ]


def _comparisons(suite: SuiteResult, arm: str) -> list[dict[str, Any]]:
    with_trained = [c for c in suite.comparisons if arm in (c.baseline, "trained")]
    return [json.loads(c.model_dump_json()) for c in with_trained]


def to_json(output: EvalOutput) -> str:
    """An output as pure JSON text, as SAEBench indents it."""
    return json.dumps(output.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON schema of one file."""
    made = EvalOutput.model_json_schema(mode="serialization")
    return {"$schema": GenerateJsonSchema.schema_dialect, **made}


def schema_text() -> str:
    """The schema as text, as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path = SCHEMA_FILE) -> Path:
    """Write the schema to `path`, whose folders are made, and return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(schema_text(), encoding="utf-8", newline="\n")
    return path


if __name__ == "__main__":
    write_schema()
