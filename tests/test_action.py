"""The GitHub Action: its script run with a runner's variables and a real `sae-sanity`, and the rules of its file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sae_sanity.harness.record import RunRecord, save_record
from sae_sanity.results.design import ArmFacts, Design, SuiteDesign
from sae_sanity.results.outcome import Manifest
from sae_sanity.results.policy import Policy
from sae_sanity.results.scores import COLUMNS
from sae_sanity.results.store import Store

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/action.sh"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = ACTION["runs"]["steps"]

SUITE = SuiteDesign(
    suite="probing",
    metric="accuracy",
    margin=0.02,
    unit="a dataset",
    required=("random",),
    controls=("permuted_decoder",),
    must_lose=("permuted_decoder",),
    chance="shuffled_labels",
    ceiling="dense_probe",
)


def finished_run(folder: Path, trained: float, *, policy: Policy | None = None, **changes) -> Path:
    """A results folder of 12 datasets, one SAE and five random ones."""
    rng = np.random.default_rng(0)
    means = {
        "trained": (trained, 1),
        "random": (0.6, 5),
        "permuted_decoder": (0.45, 1),
        "@shuffled_labels": (0.5, 1),
        "@dense_probe": (0.9, 1),
    }
    rows = [
        ("probing", "accuracy", f"i{i}", f"i{i}", arm, seed, float(mean + rng.normal(0, 0.004)))
        for arm, (mean, seeds) in means.items()
        for seed in range(seeds)
        for i in range(12)
    ]
    Store(folder).write("cell", pd.DataFrame(rows, columns=list(COLUMNS)), {})
    facts = [ArmFacts("trained", 0, 20.0, 20.0, 0.1), *(ArmFacts("random", s, 20.0, 20.0, 0.1) for s in range(5))]
    save_record(
        folder,
        RunRecord(
            target="::error::my-sae\n::add-mask::x",
            design=Design(suites=(replace(SUITE, **changes),), facts=tuple(facts), policy=policy or Policy()),
            cells=("cell",),
            manifest=Manifest(command="sae-sanity check my-sae", config_hash="0", settings={}, versions={}, hashes={}),
        ),
    )
    return folder


class Runner:
    """One step of a job: a folder for each thing that a runner gives a step."""

    def __init__(self, place: Path):
        self.place = place
        self.work, self.temp = place / "a workspace", place / "temp"
        self.work.mkdir()
        self.temp.mkdir()

    def environment(self, **gate: str) -> dict[str, str]:
        """What a runner sets, and the inputs as action.yml hands them on."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("GATE_", "SAE_SANITY_"))}
        inputs = {name: one["default"] for name, one in ACTION["inputs"].items()}
        inputs |= {name.replace("_", "-"): value for name, value in gate.items()}
        return {
            **own,
            **{f"GATE_{name.replace('-', '_').upper()}": value for name, value in inputs.items() if name != "cache"},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_OUTPUT": str(self.place / "output"),
            "GITHUB_STEP_SUMMARY": str(self.place / "summary"),
            "RUNNER_TEMP": str(self.temp),
        }

    def __call__(self, step: str = "run", *, and_: dict[str, str] | None = None, **gate: str):
        for name in ("output", "summary"):
            (self.place / name).write_text("")
        return subprocess.run(
            ["bash", "-euo", "pipefail", str(SCRIPT), step],
            cwd=self.work,
            env=self.environment(**gate) | (and_ or {}),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def outputs(self) -> dict[str, str]:
        """The file as the runner reads it: NAME<<MARK, lines, MARK."""
        lines = iter((self.place / "output").read_text().splitlines())
        found = {}
        for line in lines:
            name, mark = line.split("<<")
            value = []
            while (one := next(lines)) != mark:
                value.append(one)
            found[name] = "\n".join(value)
        return found

    def summary(self) -> str:
        return (self.place / "summary").read_text(encoding="utf-8")


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def commands(log: str) -> list[str]:
    """Workflow commands that a runner would obey, as its source has it: none between stop-commands and its mark."""
    found, mark = [], None
    for line in map(str.strip, log.splitlines()):
        if mark is not None:
            mark = None if line == f"::{mark}::" else mark
        elif stopped := re.fullmatch(r"::stop-commands::(.+)", line):
            mark = stopped[1]
        elif line.startswith("::") or "##[" in line:
            found.append(line)
    return found


CASES = {
    "pass": (0.7, {}, Policy(), ("PASS", "pass", 0, 0)),
    "fail": (0.6, {}, Policy(), ("FAIL", "fail", 1, 1)),
    "inconclusive": (0.6, {"margin": 0.0015}, Policy(), ("INCONCLUSIVE", "fail", 3, 3)),
    "inconclusive, warn": (0.6, {"margin": 0.0015}, Policy(on_inconclusive="warn"), ("INCONCLUSIVE", "warn", 3, 0)),
    "invalid": (0.7, {"ceiling": "nothing"}, Policy(), ("INVALID", "fail", 4, 4)),
    "invalid, warn": (0.7, {"ceiling": "nothing"}, Policy(on_invalid="warn"), ("INVALID", "warn", 4, 0)),
    "fail, whatever the policy": (0.58, {}, Policy(on_inconclusive="warn", on_invalid="warn"), ("FAIL", "fail", 1, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_finished_run_becomes_summary_annotations_files_and_an_exit_code(runner, case):
    trained, changes, policy, (verdict, decision, code, step) = CASES[case]
    finished_run(runner.work / "r", trained, policy=policy, **changes)
    done = runner(mode="report", results="r")
    assert done.returncode == step, done.stdout + done.stderr
    outputs = runner.outputs()
    report = Path(outputs.pop("report"))
    assert outputs == {"verdict": verdict, "decision": decision, "exit-code": str(code)}
    found = json.loads((report / "report.json").read_text())
    assert (found["verdict"], found["decision"]["action"], found["exit_code"]) == (verdict, decision, code)
    assert int(ET.fromstring((report / "report.xml").read_bytes()).get("tests")) >= 3  # noqa: S314
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    assert runner.summary() == (report / "report.md").read_text(encoding="utf-8")
    assert runner.summary().splitlines()[0] == f"## sae-sanity: {verdict}"
    level = {"pass": "notice", "warn": "warning", "fail": "error"}[decision]
    opened, closed, first, *_ = commands(done.stdout)
    assert (opened, closed) == ("::group::sae-sanity report", "::endgroup::")
    assert first.startswith(f"::{level} title=sae-sanity%3A {verdict}::")


def test_no_name_in_the_log_is_obeyed(runner):
    finished_run(runner.work / "r", 0.7)
    done = runner(mode="report", results="r")
    assert "::add-mask::x" in done.stdout
    assert {line.split("::")[1].split()[0] for line in commands(done.stdout)} == {"group", "endgroup", "notice"}
    assert not any(line.startswith("::error") for line in commands(done.stdout))


@pytest.mark.parametrize("config", ["", "gates/sae.toml"])
def test_a_finished_run_is_judged_by_the_policy_of_the_repository(runner, config):
    """A results folder that came from elsewhere may say what it likes of what follows from INVALID."""
    finished_run(runner.work / "r", 0.7, policy=Policy(on_invalid="warn"), ceiling="nothing")
    assert runner(mode="report", results="r").returncode == 0
    path = runner.work / (config or "sae-sanity.toml")
    path.parent.mkdir(exist_ok=True)
    path.write_text("[policy]\nrequire_lock = true\n")
    assert runner(mode="report", results="r", config=config).returncode == 4
    assert runner.outputs()["decision"] == "fail"
    assert f"judged by the policy of {config or path.name}" in runner.summary().replace("\\", "")


def test_each_use_in_a_job_has_a_report_of_its_own(runner):
    finished_run(runner.work / "r", 0.7)
    places = [(runner(mode="report", results="r"), runner.outputs()["report"])[1] for _ in range(2)]
    assert len(set(places)) == 2


HOSTILE = "$(touch x); touch x\n`touch x`\n&& touch x #"
INPUTS = ("target", "results", "config", "lock", "mode", "working-directory")


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, HOSTILE) for name in INPUTS), ("results", "--help"), ("working-directory", "-")],
)
def test_inputs_are_data(runner, name, value):
    finished_run(runner.work / "r", 0.7)
    before = sorted(path.name for path in runner.work.iterdir())
    given = {"mode": "check" if name in ("target", "config") else "report", "results": "r"}
    done = runner(**{**given, name.replace("-", "_"): value})
    assert done.returncode in (1, 2), done.stdout
    assert sorted(path.name for path in runner.work.iterdir()) == before
    assert not (runner.place / "x").exists()
    assert not list(runner.temp.rglob("x"))


def test_a_name_in_an_error_is_neither_run_nor_obeyed(runner):
    done = runner(mode="report", results="$(id)\n::error::x")
    assert done.returncode == 2
    assert "$(id)" in done.stdout
    assert "uid=" not in done.stdout + done.stderr + runner.summary()
    assert [line.split("::")[1].split()[0] for line in commands(done.stdout)] == ["group", "endgroup", "error"]
    assert runner.summary().startswith("## sae-sanity: no report (exit code 2)\n\n    ")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("--nonsense", "No such option: --nonsense"),
        ("--help", ""),
        ("--json", "--json and --format github are two formats"),
        ("-- --help", ""),
    ],
)
def test_arguments_without_a_report_never_pass(runner, args, says):
    finished_run(runner.work / "r", 0.7)
    done = runner(mode="report", results="r", args=args)
    assert done.returncode == 2
    assert says in done.stdout
    assert runner.outputs()["verdict"] == ""
    assert (runner.outputs()["decision"], runner.outputs()["exit-code"]) == ("fail", "2")


def test_arguments_are_words_and_no_patterns(runner):
    finished_run(runner.work / "r", 0.7)
    done = runner(mode="report", results="r", args="  --output\n\t*.json --output $(id).json\n")
    assert done.returncode == 0
    assert (runner.work / "*.json").is_file()
    assert (runner.work / "$(id).json").is_file()


def test_a_python_file_in_the_working_directory_is_not_run(runner):
    finished_run(runner.work / "r", 0.7)
    (runner.work / "json.py").write_text("raise SystemExit(9)")
    assert runner(mode="report", results="r").returncode == 0


def test_the_working_directory_is_where_files_are_looked_for(runner):
    finished_run(runner.work / "sub folder" / "r", 0.7)
    assert runner(mode="report", results="r").returncode == 2
    assert runner(mode="report", results="r", working_directory="sub folder").returncode == 0


def key(runner, **options):
    done = runner("key", **options)
    assert done.returncode == 0, done.stderr
    return runner.outputs()


def test_the_key_is_of_what_decides_the_results_folder(runner):
    first = key(runner)
    assert re.fullmatch(r"sae-sanity-\w+-[0-9a-f]{64}", first["key"])
    assert key(runner)["key"] == first["key"]
    (runner.work / "sae-sanity.toml").write_text("seeds = 3")
    changed = [key(runner), key(runner, target="x"), key(runner, args="--seeds 5"), key(runner, results="r")]
    changed.append(key(runner, and_={"SAE_SANITY_SEEDS": "7"}))
    assert len({one["key"] for one in (first, *changed)}) == 6


def test_the_cache_holds_the_results_and_the_cache_of_sae_sanity(runner):
    home = {"HOME": "/home/somebody"}
    found = key(runner, and_=home)
    assert found["paths"].splitlines() == [f"{runner.work}/sae-sanity-results", "/home/somebody/.cache/sae-sanity"]
    assert found["cache"] == "/home/somebody/.cache/sae-sanity"
    found = key(runner, and_=home | {"SAE_SANITY_CACHE": "here"}, results="/abs/r")
    assert found["paths"].splitlines() == ["/abs/r", f"{runner.work}/here"]


def test_none_installs_nothing(runner):
    done = runner("install", package="none")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_pip_in_the_workspace_is_not_run(runner):
    """An environment without pip: whatever pip answers here is the file of the checkout."""
    venv.create(runner.place / "venv", with_pip=False, symlinks=True)
    for name in ("pip.py", "json.py"):
        (runner.work / name).write_text(f"open({name + '.ran'!r}, 'w').close()")
    path = f"{runner.place}/venv/bin{os.pathsep}{os.environ['PATH']}"
    for target, package in (("x", "anything"), ("demo", "anything"), ("x", "")):
        done = runner("install", target=target, package=package, and_={"PATH": path})
        assert done.returncode != 0
        assert "No module named pip" in done.stderr
    assert not list(runner.work.glob("*.ran"))


def test_python_is_never_started_with_the_workspace_on_its_path():
    assert set(re.findall(r"python3 (-\w+)", SCRIPT.read_text(encoding="utf-8"))) == {"-I"}


@pytest.mark.parametrize("step", ["", "gate"])
def test_an_unknown_step_is_exit_2(runner, step):
    assert runner(step).returncode == 2


def test_no_expression_of_the_file_reaches_a_shell():
    shells = [step for step in STEPS if "run" in step]
    assert len(shells) == 3
    for step in shells:
        assert "${{" not in step["run"]
        assert step["shell"] == "bash"
        for name, value in step.get("env", {}).items():
            assert re.fullmatch(r"\$\{\{ (inputs|steps\.key\.outputs)\.[\w-]+ \}\}", value), name


def test_every_input_is_handed_on_and_every_variable_is_one_that_the_script_reads():
    script = SCRIPT.read_text(encoding="utf-8")
    handed = {name: value for step in STEPS for name, value in step.get("env", {}).items()}
    assert {name for name in handed if name not in script} == set()
    used = " ".join([*handed.values(), *(str(step.get("if", "")) + str(step.get("with", "")) for step in STEPS)])
    assert [name for name in ACTION["inputs"] if f"inputs.{name}" not in used] == []
    assert all(one.get("description") and isinstance(one["default"], str) for one in ACTION["inputs"].values())


def test_every_output_is_one_that_the_script_writes(runner):
    finished_run(runner.work / "r", 0.7)
    runner(mode="report", results="r")
    assert set(ACTION["outputs"]) == set(runner.outputs())
    for name, one in ACTION["outputs"].items():
        assert one["value"] == f"${{{{ steps.run.outputs.{name} }}}}"


def test_the_cache_is_saved_whatever_the_gate_says():
    (save,) = [step for step in STEPS if step.get("uses", "").startswith("actions/cache/save")]
    assert save["if"].startswith("always()")
    assert STEPS.index(save) > next(i for i, step in enumerate(STEPS) if step.get("id") == "run")
