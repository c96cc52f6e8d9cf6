"""Our results validate as outputs of SAEBench, by SAEBench's own class, and by the published schema."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from sae_sanity.results.analysis import analyse, conclude
from sae_sanity.results.design import ArmFacts, Design, SuiteDesign
from sae_sanity.results.outcome import Manifest, Skip
from sae_sanity.results.saebench_format import (
    SCHEMAS,
    EvalOutput,
    SaebenchCell,
    SaebenchSummary,
    schema_text,
    to_json,
    to_saebench,
)
from sae_sanity.results.scores import COLUMNS, Score

ROOT = Path(__file__).parents[2]
SUITE = "sparse_probing"
ARMS = {"trained": 0.9, "random": 0.6}
MILLIS = 1_795_000_000_000


def make_rows() -> pd.DataFrame:
    """Two items per cluster, but one in the last: a mean over rows would differ from one over clusters."""
    items = [(f"d{i}", f"family{i // 2}") for i in range(11)]
    rows = [
        Score(SUITE, metric, item, cluster, arm, seed, level + 0.01 * i + 0.003 * seed)
        for arm, level in {**ARMS, "@dense_probe": 0.95, "@shuffled_labels": 0.5}.items()
        for seed in ((0,) if arm.startswith("@") else (0, 1, 2))
        for i, (item, cluster) in enumerate(items)
        for metric in ("auc", "accuracy")
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


@pytest.fixture(scope="module")
def rows():
    return make_rows()


@pytest.fixture(scope="module")
def facts():
    return tuple(ArmFacts(arm, seed, 32.0 + seed / 2, 32.0, 0.1) for arm in ARMS for seed in range(3))


@pytest.fixture(scope="module")
def report(rows, facts):
    suite = SuiteDesign(
        SUITE, "auc", 0.02, "datasets in families", ("random",), chance="@shuffled_labels", ceiling="@dense_probe"
    )
    manifest = Manifest(
        command="sae-sanity check demo",
        config_hash="ab" * 32,
        settings={"seed": 0, "suites": [SUITE], "l0": None},
        versions={"sae-sanity": "0.1.0", "sae-lens": "6.54.12"},
        hashes={},
    )
    return conclude(analyse(rows, Design((suite,), facts=facts)), target="org/repo", skipped=(), manifest=manifest)


@pytest.fixture(scope="module")
def outputs(report, rows, facts):
    configs = {("trained", 0): {"d_in": 4, "architecture": "topk"}}
    return to_saebench(report, rows, finished_millis=MILLIS, facts=facts, configs=configs)


def of_saebench() -> TypeAdapter[Any]:
    """SAEBench's generic output class filled in as each of its evals fills it in, with our tables' fields."""
    from sae_bench.evals import base_eval_output as base

    @dataclass(config=ConfigDict(extra="forbid"))
    class Config(base.BaseEvalConfig):
        suite: str
        metric: str
        margin: float | None
        unit: str
        config_hash: str
        settings: dict[str, Any]

    @dataclass(config=ConfigDict(extra="forbid"))
    class Mean(base.BaseMetrics):
        auc: float
        accuracy: float

    @dataclass(config=ConfigDict(extra="forbid"))
    class Sae(base.BaseMetrics):
        l0: float
        dead_share: float

    @dataclass
    class Categories(base.BaseMetricCategories):
        mean: Mean
        sae: Sae

    @dataclass(config=ConfigDict(extra="forbid"))
    class Detail(base.BaseResultDetail):
        item: str
        cluster: str
        metrics: dict[str, float]

    @dataclass(config=ConfigDict(extra="forbid"))
    class Output(base.BaseEvalOutput[Config, Categories, Detail]):
        eval_config: Config
        eval_id: str
        datetime_epoch_millis: int
        eval_result_metrics: Categories
        eval_result_details: list[Detail]
        eval_type_id: str

    return TypeAdapter(Output)


def test_every_output_is_one_of_saebench(outputs):
    adapter = of_saebench()
    for output in outputs:
        adapter.validate_json(to_json(output))
    wrong = json.loads(to_json(outputs[0])) | {"datetime_epoch_millis": -1}
    with pytest.raises(ValidationError):
        adapter.validate_python(wrong)


def test_the_keys_are_those_of_saebench(outputs):
    from sae_bench.evals.base_eval_output import BaseEvalOutput

    assert {f.name for f in fields(BaseEvalOutput)} == set(EvalOutput.model_fields)
    theirs = json.loads(
        Path(__import__("sae_bench").__file__)
        .with_name("evals")
        .joinpath("sparse_probing/eval_output_schema_sparse_probing.json")
        .read_text()
    )
    assert set(theirs["properties"]) <= set(json.loads(to_json(outputs[0])))


def test_files_are_named_as_saebench_names_them(outputs):
    from sae_bench.sae_bench_utils.general_utils import get_results_filepath

    for output in outputs:
        theirs = get_results_filepath("", output.sae_lens_release_id, output.sae_lens_id)
        assert output.file_name == Path(theirs).name
    assert outputs[-1].file_name == "org_repo_trained_seed-2_eval_results.json"
    assert len({output.file_name for output in outputs}) == len(outputs) == 6


@pytest.mark.parametrize("path", SCHEMAS, ids=str)
def test_the_published_schema_is_that_of_the_code(path):
    assert (ROOT / path).read_text(encoding="utf-8") == schema_text(SCHEMAS[path])
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(SCHEMAS[path])))


def test_every_output_fits_the_schema(outputs):
    validator = jsonschema.Draft202012Validator(json.loads(schema_text(EvalOutput)))
    for output in outputs:
        validator.validate(json.loads(to_json(output)))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(json.loads(to_json(outputs[0])) | {"surprise": 1})


def test_means_are_those_of_the_report(report, outputs):
    for arm in ARMS:
        mine = [o.eval_result_metrics["mean"]["auc"] for o in outputs if o.eval_result_unstructured.arm == arm]
        (summary,) = (a for a in report.suites[0].arms if a.arm == arm)
        assert sum(mine) / len(mine) == pytest.approx(summary.score, rel=1e-12)


def test_what_an_output_holds(report, outputs):
    trained = next(o for o in outputs if o.eval_result_unstructured.arm == "trained")
    random = next(o for o in outputs if o.eval_result_unstructured.arm == "random")
    assert trained.eval_type_id == "sae_sanity_sparse_probing"
    assert trained.eval_result_metrics["sae"] == {"l0": 32.0, "dead_share": 0.1}
    assert trained.sae_cfg_dict == {"d_in": 4, "architecture": "topk"}
    assert random.sae_cfg_dict is None
    assert trained.eval_config.margin == 0.02
    assert trained.datetime_epoch_millis == MILLIS
    assert trained.eval_result_unstructured.comparisons == random.eval_result_unstructured.comparisons
    assert trained.eval_result_unstructured.verdict == report.suites[0].verdict
    assert len(trained.eval_result_details) == 11
    assert trained.eval_result_details[0].metrics == {"auc": 0.9, "accuracy": 0.9}


def test_ids_stay_and_differ_between_suites(report, rows, outputs):
    again = to_saebench(report, rows, finished_millis=MILLIS)
    assert [o.eval_id for o in again] == [o.eval_id for o in outputs]
    renamed = report.model_copy(update={"suites": (report.suites[0].model_copy(update={"suite": "other"}),)})
    other = to_saebench(renamed, rows.assign(suite="other"), finished_millis=MILLIS)
    assert other[0].eval_id != outputs[0].eval_id
    assert again[0].eval_result_metrics["sae"] == {}


def test_numbers_that_are_not_finite_are_refused(report, rows):
    with pytest.raises(ValueError, match="finite"):
        to_saebench(report, rows.assign(value=float("nan")), finished_millis=MILLIS)


def test_a_summary_fits_its_schema():
    cell = SaebenchCell(eval="core", arm="random", seed=1, metrics={"l0": 3.0, "mse": None}, file="core/x.json")
    summary = SaebenchSummary(target="demo", cells=(cell,), skipped=(Skip(what="ravel", reason="no facts"),))
    jsonschema.validate(json.loads(to_json(summary)), json.loads(schema_text(SaebenchSummary)))
    assert SaebenchSummary.model_validate_json(to_json(summary)) == summary
