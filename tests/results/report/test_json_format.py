from __future__ import annotations

import json
from math import inf, isnan, nan
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from sae_sanity.results.report import from_json, to_json
from sae_sanity.results.report.schema import SCHEMA_FILE, schema, schema_text, write_schema

PUBLISHED = Path(__file__).parents[3] / SCHEMA_FILE


def broken(make):
    """A report with numbers that are not finite, where they may be missing and where they may not."""
    numbers = make.estimate(nan, 0.1, mde=inf, p_wilcoxon=-inf)
    arm = make.arm("trained", "trained", inf, secondary={"auc": nan, "n": 1.0}, l0=nan)
    suite = make.probing().model_copy(
        update={"arms": (arm,), "comparisons": (make.comparison("b", "INVALID", numbers),)}
    )
    return make.report(suites=(suite,))


def test_round_trip(report):
    assert from_json(to_json(report)) == report


def test_text_is_pure_and_stable(report):
    text = to_json(report)
    assert text.isascii()
    assert text.endswith("}\n")
    assert to_json(from_json(text)) == text
    assert list(json.loads(text))[:4] == ["schema_version", "target", "verdict", "exit_code"]


def test_floats_survive_bit_for_bit(make):
    value = 0.1 + 0.2
    back = from_json(to_json(make.report(suites=(make.probing().model_copy(update={"p": value}),))))
    assert back.suites[0].p == value


def test_not_finite_is_null(make):
    text = to_json(broken(make))
    assert not {"NaN", "Infinity", "-Infinity"} & set(text.replace(",", " ").split())
    json.loads(text, parse_constant=pytest.fail)
    arm = json.loads(text)["suites"][0]["arms"][0]
    assert (arm["score"], arm["l0"], arm["secondary"]) == (None, None, {"auc": None, "n": 1.0})


def test_null_comes_back_as_none_where_the_field_allows_it_else_nan(make):
    report = broken(make)
    suite = from_json(to_json(report)).suites[0]
    numbers = suite.comparisons[0].estimate
    assert isnan(numbers.difference)
    assert numbers.p_wilcoxon is None
    assert numbers.mde is None
    assert isnan(suite.arms[0].score)
    assert isnan(suite.arms[0].secondary["auc"])
    assert suite.arms[0].l0 is None
    assert to_json(from_json(to_json(report))) == to_json(report)


@pytest.mark.parametrize("name", ["[red]x", "\x1b[0m", "中", '"quoted"\n'])
def test_names_survive(make, name):
    assert from_json(to_json(make.report(target=name))).target == name


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 2}'])
def test_not_a_report(text):
    with pytest.raises(ValueError):
        from_json(text)


def test_unknown_field_and_null_verdict_are_refused(report):
    data = json.loads(to_json(report))
    for change in ({"surprise": 1}, {"verdict": None}, {"schema_version": 2}):
        with pytest.raises(ValidationError):
            from_json(json.dumps({**data, **change}))


def test_null_score_does_not_hide_another_mistake(make):
    data = json.loads(to_json(broken(make)))
    with pytest.raises(ValidationError, match="headline"):
        from_json(json.dumps({**data, "headline": 3}))


def test_published_schema_is_up_to_date():
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), "run python -m sae_sanity.results.report.schema"


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


def test_output_follows_the_published_schema(make, report):
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text(encoding="utf-8")))
    for one in (report, broken(make), make.report(suites=(), skipped=(), advice=())):
        validator.validate(json.loads(to_json(one)))


@pytest.mark.parametrize("change", [{"verdict": "MAYBE"}, {"surprise": 1}, {"exit_code": 2}, {"suites": None}])
def test_schema_refuses(report, change):
    validator = jsonschema.Draft202012Validator(schema())
    assert not validator.is_valid({**json.loads(to_json(report)), **change})


def test_every_field_is_described():
    for name, model in {**schema()["$defs"], "CheckReport": schema()}.items():
        for field, about in model.get("properties", {}).items():
            assert about.get("description"), f"{name}.{field}"


def test_write_schema(tmp_path):
    path = write_schema(tmp_path / "new" / "schema.json")
    assert json.loads(path.read_text(encoding="utf-8")) == schema()
