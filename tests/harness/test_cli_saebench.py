from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from sae_sanity.harness.cli import main
from sae_sanity.harness.cli_saebench import exit_code, parse_options, tables
from sae_sanity.harness.errors import UsageError
from sae_sanity.results.outcome import Skip
from sae_sanity.results.saebench_format import SaebenchCell, SaebenchSummary


def test_options_are_json_or_text():
    found = parse_options(
        ["core.batch_size=4", "core.dataset=my texts", "sparse-probing.k_values=[1, 5]", "core.x=null"]
    )
    assert found == {
        "core": {"batch_size": 4, "dataset": "my texts", "x": None},
        "sparse_probing": {"k_values": [1, 5]},
    }


@pytest.mark.parametrize("text", ["core", "core=3", "core.x", ".x=3", "core.=3"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError, match=r"it must be EVAL\.FIELD=VALUE"):
        parse_options([text])


def cell(arm, **metrics):
    return SaebenchCell(eval="core", arm=arm, seed=0, metrics=metrics, file="x.json", notes=("not centred",))


def test_a_summary_is_a_table_per_eval_and_what_is_missing():
    skip = Skip(what="ravel", reason="no facts")
    summary = SaebenchSummary(target="t", cells=(cell("trained", ev=0.75), cell("random", ev=None)), skipped=(skip,))
    out = io.StringIO()
    for table in tables(summary):
        Console(file=out, width=100).print(table)
    for text in ("SAEBench core", "0.75", "–", "not centred", "ravel", "no facts"):
        assert text in out.getvalue()


def test_what_is_missing_shows_in_the_exit_code():
    skip = Skip(what="ravel", reason="no facts")
    assert exit_code(SaebenchSummary(target="t", cells=(cell("trained"),), skipped=())) == 0
    assert exit_code(SaebenchSummary(target="t", cells=(cell("trained"),), skipped=(skip,))) == 4
    assert exit_code(SaebenchSummary(target="t", cells=(), skipped=())) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["saebench", "cor", "--results", "results"], "did you mean 'core'"),
        (["saebench", "core", "--results", "nowhere"], "holds no finished run"),
        (["saebench", "core", "--results", "results", "--arms", "traind"], "did you mean 'trained'"),
        (["saebench", "core", "--results", "results", "--set", "core.nothing=1"], "nothing"),
        (["saebench", "core", "--results", "results", "--set", "nonsense"], "EVAL.FIELD=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(arguments, message, finished, capsys):
    _, folder = finished
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert message in err
    assert not (folder / "saebench").exists()


def test_report_writes_saebench_s_files_beside_what_it_prints(finished, tmp_path, capsys):
    report, folder = finished
    assert main(["report", str(folder), "--saebench", "out", "--json"]) == report.exit_code
    assert json.loads(capsys.readouterr().out)["verdict"] == report.verdict
    files = list((tmp_path / "out/sae_sanity_reconstruction").glob("*_eval_results.json"))
    assert len(files) == len(
        {
            (arm.arm, s)
            for arm in report.suites[0].arms
            if arm.role != "chance"
            for s in range(arm.seeds)
            if arm.arm[0] != "@"
        }
    )
