"""Our results in the format of SAEBench's eval outputs; `python -m sae_sanity.results.saebench_format` writes schemas.

One output per suite, arm and seed. Its keys are those that every eval of SAEBench writes, so that whatever reads
SAEBench's JSON files reads these. What is ours alone, the paired comparison with the baselines, is in
`eval_result_unstructured`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

from .design import ArmFacts
from .outcome import CheckReport, Skip, SuiteResult

SCHEMA_VERSION = 1
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


class SaebenchCell(Output):
    """One eval of SAEBench's own on one SAE, in short."""

    eval: str
    """Name of the eval."""
    arm: str
    """What was measured."""
    seed: int
    """Its seed."""
    metrics: dict[str, float | None]
    """SAEBench's main metrics; null for one that is not finite."""
    file: str
    """SAEBench's own JSON file, from the folder of the summary."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers must know."""


class SaebenchSummary(Output):
    """What a run of SAEBench's evals on the arms of a check left."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    target: str
    """What was checked."""
    cells: tuple[SaebenchCell, ...]
    """By eval, then in the order of the check's arms."""
    skipped: tuple[Skip, ...]
    """What could not be run, and why."""


def to_saebench(
    report: CheckReport,
    rows: pd.DataFrame,
    *,
    finished_millis: int,
    facts: Sequence[ArmFacts] = (),
    configs: Mapping[tuple[str, int], dict[str, Any]] | None = None,
) -> list[EvalOutput]:
    """Put a check into SAEBench's format.

    Args:
        report: What the check concluded.
        rows: Its score rows, columns as in `scores.COLUMNS`. References of a suite (`@...`) are no SAEs and left out.
        finished_millis: When it was finished, in milliseconds since 1970.
        facts: L0 and dead share of every arm and seed, where they are at hand.
        configs: `cfg.json` by arm and seed, where they are at hand.

    Returns:
        One output per suite, arm and seed, in the order of the report.

    Raises:
        ValueError: A score is not finite.
    """
    of_sae = {(f.arm, f.seed): {"l0": f.l0, "dead_share": f.dead_share} for f in facts}
    return [
        EvalOutput(
            **_of_suite(report, suite),
            datetime_epoch_millis=finished_millis,
            eval_result_metrics={"mean": _means(part), "sae": of_sae.get((arm, seed), {})},
            eval_result_details=_details(part),
            sae_lens_id=f"seed-{seed}",
            sae_lens_release_id=f"{report.target}_{arm}",
            sae_cfg_dict=(configs or {}).get((arm, seed)),
            eval_result_unstructured=_unstructured(suite, arm, seed),
        )
        for suite in report.suites
        for arm, seed, part in _parts(rows, suite.suite)
    ]


def _parts(rows: pd.DataFrame, suite: str) -> Iterator[tuple[str, int, pd.DataFrame]]:
    of_suite = rows[(rows["suite"] == suite) & ~rows["arm"].str.startswith("@")]
    for arm, seed in sorted(set(zip(of_suite["arm"], of_suite["seed"], strict=True))):
        part = of_suite.loc[(of_suite["arm"] == arm) & (of_suite["seed"] == seed)]
        yield str(arm), int(seed), part


def _of_suite(report: CheckReport, suite: SuiteResult) -> dict[str, Any]:
    """What is the same for every SAE."""
    versions = report.manifest.versions
    return {
        "eval_type_id": f"sae_sanity_{suite.suite}",
        "eval_config": _eval_config(report, suite),
        "eval_id": str(uuid.uuid5(_NAMESPACE, f"{report.manifest.config_hash}/{suite.suite}")),
        "sae_bench_commit_hash": f"sae-sanity {versions.get('sae-sanity', 'unknown')}",
        "sae_lens_version": versions.get("sae-lens"),
    }


def _eval_config(report: CheckReport, suite: SuiteResult) -> EvalConfig:
    return EvalConfig(
        suite=suite.suite,
        metric=suite.metric,
        margin=next((comparison.margin for comparison in suite.comparisons), None),
        unit=suite.unit,
        config_hash=report.manifest.config_hash,
        settings=dict(report.manifest.settings),
    )


def _means(rows: pd.DataFrame) -> dict[str, float]:
    # As in the report: items are averaged within their cluster first.
    by_cluster = rows.groupby(["metric", "cluster"])["value"].mean()
    return {str(metric): float(value) for metric, value in by_cluster.groupby(level="metric").mean().items()}


def _details(rows: pd.DataFrame) -> list[ResultDetail]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for item, cluster, metric, value in zip(rows["item"], rows["cluster"], rows["metric"], rows["value"], strict=True):
        found.setdefault((str(item), str(cluster)), {})[str(metric)] = float(value)
    return [ResultDetail(item=item, cluster=cluster, metrics=each) for (item, cluster), each in sorted(found.items())]


def _unstructured(suite: SuiteResult, arm: str, seed: int) -> Unstructured:
    with_trained = [c for c in suite.comparisons if arm in (c.baseline, "trained")]
    comparisons = [json.loads(c.model_dump_json()) for c in with_trained]
    return Unstructured(arm=arm, seed=seed, verdict=suite.verdict, comparisons=comparisons)


_FOLDER = Path("docs") / "schema"
SCHEMAS: dict[Path, type[Output]] = {
    _FOLDER / f"saebench-eval-v{SCHEMA_VERSION}.json": EvalOutput,
    _FOLDER / f"saebench-summary-v{SCHEMA_VERSION}.json": SaebenchSummary,
}
"""The published schemas, in a checkout."""


def to_json(output: EvalOutput | SaebenchSummary) -> str:
    """An output or a summary as pure JSON text, indented as SAEBench's files are."""
    return json.dumps(output.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def schema_text(model: type[Output] = EvalOutput) -> str:
    """The JSON schema of one kind of file as text, as it is published."""
    made = model.model_json_schema(mode="serialization")
    return json.dumps({"$schema": GenerateJsonSchema.schema_dialect, **made}, indent=2, ensure_ascii=False) + "\n"


def write_schemas(root: Path = Path()) -> None:
    """Write the schemas of both kinds of file below the root of a checkout."""
    for path, model in SCHEMAS.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(schema_text(model), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_schemas()
