"""`sae-sanity synthetic` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from command_line import call
from tiny_worlds import flags_of

from sae_sanity.results.report import from_json

ROOT = Path(__file__).parents[3]


def test_json_figures_and_report_again(part, capsys, tmp_path):
    (part, report) = part
    mine = ["--results", str(part.folder)]
    code = call("synthetic", *flags_of(), *mine, "--json", "--figures", "a/b", "--output", "report.txt")
    out, err = capsys.readouterr()
    found = json.loads(out)
    jsonschema.validate(found, json.loads((ROOT / "docs/schema/report-v1.json").read_text()))
    assert from_json(out) == report
    assert code == report.exit_code == found["exit_code"]
    files = sorted((tmp_path / "a/b").iterdir())
    assert {f.suffix for f in files} == {".png", ".svg"}
    assert len(files) == 6
    assert all(f.name.startswith("variable-batchtopk") for f in files)
    assert f"wrote {len(files)} figures" in err
    kinds = {".png": b"\x89PNG", ".svg": b"<?xml"}
    assert all(f.read_bytes().startswith(kinds[f.suffix]) for f in files)
    assert call("report", str(part.folder), "--json") == code
    assert from_json(capsys.readouterr().out) == report
    assert call("report", str(part.folder), "--output", "again.txt") == code
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "report.txt").read_text()
    assert "batchtopk in variable worlds" in (tmp_path / "report.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "varible"], "no such world: 'varible'; did you mean 'variable'"),
        (["--preset", "smal"], "no such preset: 'smal'; did you mean 'small'"),
        (["--architecture", "topkk"], "no such architecture: 'topkk'; did you mean 'topk'"),
        (["--baselines", "randm"], "no such baseline: 'randm'; did you mean random"),
        (["--baselines", "trained"], "arm under test"),
        (["--n-features", "1000000000000"], "n_features is 1000000000000: this run would need about"),
        (["--samples", "5000", "--batch-size", "6000"], "samples is 5000; it must be at least batch_size, 6000"),
        (["--starts", "0"], "starts is '0'"),
        (["--tau", "0"], "tau.0 is '0'"),
        (["--lr", "nan"], "lr is 'nan'"),
        (["--world-l0", "5000"], "world_l0 is 5000.0; it must be above 0"),
        (["--device", "abacus"], "device is 'abacus'"),
        (["--output", "no/such/folder/x.json"], "there is no folder"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_2(arguments, message, capsys, tmp_path):
    assert call("synthetic", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.strip().splitlines()
    assert message in line
    if "n_features" in message:
        assert line.endswith("would fit")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("below", ["", "/figures"])
def test_figures_that_cannot_be_written_are_refused_before_anything_is_computed(below, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert call("synthetic", *flags_of(), "--figures", f"file{below}", "--results", "r") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--figures is file" in line
    assert not (tmp_path / "r").exists()


def test_a_folder_of_another_configuration_is_exit_2(part, capsys):
    (part, _) = part
    assert call("synthetic", *flags_of(starts=2), "--results", str(part.folder)) == 2
    assert "starts is 1 there and 2 here" in capsys.readouterr().err.strip().splitlines()[-1]


def test_ctrl_c_is_130(monkeypatch, capsys):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("sae_sanity.harness.synthetic.judge.run_synthetic", stopped)
    assert call("synthetic", *flags_of()) == 130
    assert "interrupted" in capsys.readouterr().err
